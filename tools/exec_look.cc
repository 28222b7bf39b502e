#include "tools/exec_look.h"

#include <elf.h>
#include <fcntl.h>
#include <sys/auxv.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <string_view>

#include "capture/base/fd.h"
#include "tools/system_files.h"

namespace ringcap::tools {
namespace {

bool is_secure(const std::string& auxiliary) {
  for (size_t at = 0; at + sizeof(Elf64_auxv_t) <= auxiliary.size(); at += sizeof(Elf64_auxv_t)) {
    Elf64_auxv_t entry{};
    auxiliary.copy(reinterpret_cast<char*>(&entry), sizeof entry, at);
    if (entry.a_type == AT_SECURE) return entry.a_un.a_val != 0;
  }
  return false;
}

// Another module's than AppArmor's is in attr/current, too.
std::string label_of(const std::string& process) {
  auto label = read_text(process + "/attr/apparmor/current").value_or("");
  if (label.empty()) label = read_text(process + "/attr/current").value_or("");
  return label.substr(0, label.find_first_of(std::string_view("\n\0", 2)));
}

pid_t start_traced(const std::string& file) {
  const pid_t child = ::fork();
  if (child != 0) return child;
  char* arguments[] = {const_cast<char*>(file.c_str()), nullptr};
  char* nothing[] = {nullptr};
  if (::ptrace(PTRACE_TRACEME, 0, nullptr, nullptr) == 0) ::execve(file.c_str(), arguments, nothing);
  ::_exit(127);
}

int wait_for(pid_t child) {
  int status = 0;
  while (::waitpid(child, &status, 0) < 0)
    if (errno != EINTR) return 0;
  return status;
}

}  // namespace

std::optional<StartedAs> look_at_start(const std::string& file) {
  const pid_t child = start_traced(file);
  if (child < 0) return std::nullopt;
  const int status = wait_for(child);
  if (!WIFSTOPPED(status)) return std::nullopt;  // it has ended
  const auto process = "/proc/" + std::to_string(child);
  const auto auxiliary = read_text(process + "/auxv").value_or("");
  StartedAs found{.secure = is_secure(auxiliary), .label = label_of(process)};
  ::kill(child, SIGKILL);
  wait_for(child);
  if (WSTOPSIG(status) != SIGTRAP || auxiliary.empty()) return std::nullopt;
  return found;
}

std::string enforced_profile(const std::string& label) {
  for (const std::string_view mode : {" (enforce)", " (kill)"})
    if (label.ends_with(mode)) return label.substr(0, label.size() - mode.size());
  return {};
}

std::optional<uint32_t> allowed_mask(const std::string& answer) {
  unsigned allow = 0, deny = 0;
  if (std::sscanf(answer.c_str(), "allow 0x%x\ndeny 0x%x", &allow, &deny) != 2) return std::nullopt;
  return allow & ~deny;
}

// The question is "label", NUL, the profile, NUL, the class of what is asked for (2: files), and the path:
// see query_label() of security/apparmor/apparmorfs.c, and libapparmor's aa_query_label(2).
std::optional<bool> profile_allows(const std::string& profile, const std::string& path, uint32_t mask) {
  const Fd fd(::open("/sys/kernel/security/apparmor/.access", O_RDWR | O_CLOEXEC));
  if (!fd) return std::nullopt;
  const std::string question = std::string("label") + '\0' + profile + '\0' + '\2' + path;
  if (::write(fd.get(), question.data(), question.size()) != static_cast<ssize_t>(question.size()))
    return std::nullopt;
  char answer[512];
  const ssize_t bytes = ::read(fd.get(), answer, sizeof answer);
  if (bytes <= 0) return std::nullopt;
  const auto allowed = allowed_mask(std::string(answer, static_cast<size_t>(bytes)));
  if (!allowed) return std::nullopt;
  return (*allowed & mask) == mask;
}

}  // namespace ringcap::tools

#include "tools/run_checks.h"

#include <elf.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <optional>

#include "capture/base/fd.h"
#include "capture/base/run_dir.h"
#include "tools/exec_look.h"

namespace ringcap::tools {
namespace {

namespace fs = std::filesystem;

constexpr const char* kInstead =
    "run it as root, copy the program without these privileges (cp keeps none), link it with the shim's "
    "pcap-config, or put the shim first in the dynamic linker's cache: see docs/pcap.md";

// An ELF file of this machine's width that names no interpreter: the dynamic linker never sees it.
bool is_static(const std::string& file) {
  const Fd fd(::open(file.c_str(), O_RDONLY | O_CLOEXEC));
  Elf64_Ehdr header{};
  if (!fd || ::read(fd.get(), &header, sizeof header) != sizeof header) return false;
  if (std::string_view(reinterpret_cast<const char*>(header.e_ident), SELFMAG) != ELFMAG ||
      header.e_ident[EI_CLASS] != ELFCLASS64)
    return false;
  for (unsigned i = 0; i < header.e_phnum; ++i) {
    Elf64_Phdr segment{};
    const auto at = static_cast<off_t>(header.e_phoff + uint64_t{i} * header.e_phentsize);
    if (::pread(fd.get(), &segment, sizeof segment, at) != sizeof segment) return false;
    if (segment.p_type == PT_INTERP) return false;
  }
  return true;
}

std::unexpected<Error> has_privileges(const std::string& file, std::string_view what) {
  return fail(Code::kPermission,
              fmt::format("{} {}: the dynamic linker ignores LD_LIBRARY_PATH and LD_PRELOAD, so it would get "
                          "the system's libpcap",
                          file, what),
              kInstead);
}

bool apparmor_enabled() {
  std::ifstream enabled("/sys/module/apparmor/parameters/enabled");
  return enabled.get() == 'Y';
}

// What a confined program needs, in the words of a profile.
struct Rule {
  std::string path;  // an example of what `text` matches
  uint32_t mask;
  std::string text;
  bool always;  // every kernel asks for it
};

std::vector<Rule> needed_rules(const std::string& shim) {
  const auto dir = run_dirs().front();
  return {{shim, kMayRead | kMayMapCode, shim + " mr,", true},
          {dir + "/", kMayRead, dir + "/ r,", true},
          {dir + "/x.lock", kMayRead | kMayLock, dir + "/*.lock rk,", true},
          {dir + "/x.sock", kMayRead | kMayWrite, dir + "/*.sock rw,", false}};
}

std::string all_rules(const std::string& shim) {
  std::string text;
  for (const auto& rule : needed_rules(shim)) text += (text.empty() ? "" : " ") + rule.text;
  return text;
}

// What a profile lacks.
struct Lacking {
  std::string rules;     // ready to be added to it; "": nothing
  bool certain = false;  // without them it cannot work, by whatever kernel
};

// Nothing: the kernel does not say.
std::optional<Lacking> lacking_rules(const std::string& profile, const std::string& shim) {
  Lacking lacking;
  for (const auto& rule : needed_rules(shim)) {
    const auto allows = profile_allows(profile, rule.path, rule.mask);
    if (!allows) return std::nullopt;
    if (*allows) continue;
    lacking.rules += (lacking.rules.empty() ? "" : " ") + rule.text;
    lacking.certain |= rule.always;
  }
  return lacking;
}

// The name of a program's profile in /etc/apparmor.d, by Debian's custom: usr.bin.tcpdump. "": it has none
// there.
std::string policy_file(const std::string& file) {
  std::error_code ignored;
  std::string name = fs::canonical(file, ignored).string();
  if (name.empty()) return {};
  name.erase(0, 1);
  std::ranges::replace(name, '/', '.');
  return fs::exists("/etc/apparmor.d/" + name, ignored) ? name : "";
}

// The command that adds rules to a profile.
std::string adding(const std::string& policy, const std::string& rules) {
  if (policy.empty()) return fmt::format("add to its profile: {}", rules);
  return fmt::format("echo '{0}' >> /etc/apparmor.d/local/{1} && apparmor_parser -r /etc/apparmor.d/{1}",
                     rules, policy);
}

}  // namespace

std::vector<std::string> programs_of(const std::string& file) {
  std::vector<std::string> files{file};
  const std::string name = fs::path(file).filename();
  if (name == "tshark" || name == "wireshark") {
    const auto dumpcap = fs::path(file).parent_path() / "dumpcap";
    std::error_code ignored;
    if (fs::exists(dumpcap, ignored)) files.push_back(dumpcap);
  }
  return files;
}

Result<void> check_program(const std::string& file) {
  struct stat status{};
  if (::stat(file.c_str(), &status) != 0) return fail_system("cannot look at " + file);
  const auto start = look_at_start(file);
  const bool other_user = (status.st_mode & S_ISUID) != 0 && status.st_uid != ::getuid();
  const bool other_group = (status.st_mode & S_ISGID) != 0 && status.st_gid != ::getgid();
  // Not where the kernel takes no notice of it: a mount with nosuid, a process without new privileges.
  if ((other_user || other_group) && (!start || start->secure))
    return has_privileges(file, other_user ? "is set-user-ID" : "is set-group-ID");
  if (::getuid() != 0 && ::getxattr(file.c_str(), "security.capability", nullptr, 0) > 0)
    return has_privileges(file, "has file capabilities");
  if (start && start->secure) return has_privileges(file, "is started by the kernel with other privileges");
  if (is_static(file))
    return fail(
        Code::kUsage, fmt::format("{} is linked statically: no library can be put in libpcap's place", file),
        "use one that is linked dynamically, or build it with the shim's pcap-config: see docs/pcap.md");
  return {};
}

Result<std::string> confinement(const std::string& file, const std::string& shim) {
  if (!apparmor_enabled()) return "";
  const auto start = look_at_start(file);
  const auto profile = start ? enforced_profile(start->label) : "";
  if (start && profile.empty()) return "";
  const auto lacking = lacking_rules(profile, shim);
  if (lacking && lacking->rules.empty()) return "";
  const auto policy = policy_file(file);
  if (lacking && lacking->certain)
    return fail(Code::kPermission,
                fmt::format("AppArmor's profile {} keeps {} from the shim, or from engines", profile, file),
                "as root: " + adding(policy, lacking->rules));
  if (policy.empty() && profile.empty()) return "";
  return fmt::format(
      "AppArmor may keep {} from the shim, or from engines; if it cannot open them, as root: {}", file,
      adding(policy, lacking ? lacking->rules : all_rules(shim)));
}

}  // namespace ringcap::tools

#include "tools/guard.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <syslog.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <fstream>
#include <vector>

namespace ringcap::tools {
namespace {

struct Range {
  uintptr_t start = 0;
  uintptr_t end = 0;
};

// Registers of devices (which keep the device open) and shared memory (which stays allocated).
std::vector<Range> foreign_mappings() {
  std::vector<Range> found;
  std::ifstream in("/proc/self/maps");
  for (std::string line; std::getline(in, line);) {
    Range range;
    char permissions[5] = {};
    if (std::sscanf(line.c_str(), "%lx-%lx %4s", &range.start, &range.end, permissions) != 3) continue;
    const auto names = {" /memfd:", " /dev/", " anon_inode:", " /anon_hugepage"};
    const bool foreign =
        std::ranges::any_of(names, [&](const char* name) { return line.find(name) != std::string::npos; });
    if (permissions[3] == 's' && foreign) found.push_back(range);
  }
  return found;
}

void drop_mappings() {
  for (const Range& range : foreign_mappings()) {
    // NOLINTNEXTLINE(performance-no-int-to-ptr): the kernel gives addresses as text
    ::munmap(reinterpret_cast<void*>(range.start), range.end - range.start);
  }
}

void keep_only(std::span<const int> kept) {
  ::closelog();
  const int null = ::open("/dev/null", O_RDWR);
  for (int fd = 0; null >= 0 && fd <= 2; ++fd) ::dup2(null, fd);
  // Out of the way first: one may have another's new number.
  std::vector<int> high;
  for (const int fd : kept) high.push_back(::fcntl(fd, F_DUPFD, 64));
  int next = 3;
  for (const int fd : high) ::dup2(fd, next++);
  ::close_range(static_cast<unsigned>(next), ~0U, 0);
}

// What gives the network back is the last to be ended where memory is short.
void stay_when_memory_is_short() { std::ofstream("/proc/self/oom_score_adj") << "-1000" << std::flush; }

// Away from the terminal and from whoever ends the process that we come from.
void detach(std::span<const int> kept) {
  ::setsid();
  for (const int number : {SIGHUP, SIGINT, SIGTERM, SIGPIPE}) ::signal(number, SIG_IGN);
  sigset_t none;
  sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  ::prctl(PR_SET_NAME, "ringcap-guard");
  ::prctl(PR_SET_PDEATHSIG, 0);
  (void)!::chdir("/");
  keep_only(kept);
  drop_mappings();
  stay_when_memory_is_short();
}

}  // namespace

Result<void> run_as_guard(std::span<const int> kept, const std::function<void()>& guard) {
  const pid_t child = ::fork();
  if (child < 0) return fail_system("cannot start the guard");
  if (child == 0) {
    detach(kept);
    const pid_t own = ::fork();
    if (own == 0) guard();
    ::_exit(own < 0 ? 1 : 0);
  }
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
    return fail(Code::kSystem, "cannot start the guard: no process could be made");
  return {};
}

void give_back(const BindPlace& place, const std::string& address, const std::string& why) {
  const auto problems = unbind_nic(place, address);
  if (!problems) {
    ::syslog(LOG_ERR, "ringcap: %s %s, and %s", address.c_str(), why.c_str(),
             problems.error().message().c_str());
    return;
  }
  const std::string rest = problems->empty() ? "" : fmt::format(", but: {}", fmt::join(*problems, "; "));
  ::syslog(LOG_WARNING, "ringcap: %s %s: given back%s", address.c_str(), why.c_str(), rest.c_str());
}

std::string unless_kept(const std::string& address, std::chrono::milliseconds patience) {
  return fmt::format("it goes back by itself in {:.4g} s, unless: ringcap bind --keep {}",
                     static_cast<double>(patience.count()) / 1e3, address);
}

}  // namespace ringcap::tools

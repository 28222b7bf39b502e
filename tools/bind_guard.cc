#include "tools/bind_guard.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <sys/wait.h>
#include <syslog.h>
#include <unistd.h>

#include <csignal>
#include <thread>

#include "tools/bind_record.h"

namespace ringcap::tools {
namespace {

// Away from the terminal: a session of its own, no signal of a closing one, no descriptor of it.
void detach() {
  ::setsid();
  ::signal(SIGHUP, SIG_IGN);
  (void)!::chdir("/");
  const int null = ::open("/dev/null", O_RDWR | O_CLOEXEC);
  for (int fd = 0; null >= 0 && fd <= 2; ++fd) ::dup2(null, fd);
}

void give_back(const BindPlace& place, const std::string& address) {
  const auto problems = unbind_nic(place, address);
  if (!problems) {
    ::syslog(LOG_ERR, "ringcap: %s was not confirmed, and %s", address.c_str(),
             problems.error().message().c_str());
    return;
  }
  const std::string rest = problems->empty() ? "" : fmt::format(", but: {}", fmt::join(*problems, "; "));
  ::syslog(LOG_WARNING, "ringcap: %s was not confirmed: given back%s", address.c_str(), rest.c_str());
}

void guard(const BindPlace& place, const std::string& address, std::chrono::milliseconds patience) {
  const auto deadline = std::chrono::steady_clock::now() + patience;
  while (std::chrono::steady_clock::now() < deadline) {
    if (!confirmation_pending(place.run_dir, address)) return;
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
  }
  if (take_confirmation(place.run_dir, address)) give_back(place, address);
}

}  // namespace

Result<void> start_guard(const BindPlace& place, const std::string& address,
                         std::chrono::milliseconds patience) {
  if (auto made = make_confirmation(place.run_dir, address); !made) return made;
  const pid_t child = ::fork();
  if (child < 0) return fail_system("cannot start the guard");
  if (child == 0) {
    detach();
    if (::fork() == 0)
      guard(place, address, patience);  // no child of whoever ran `bind`: nobody has to reap it
    ::_exit(0);
  }
  ::waitpid(child, nullptr, 0);
  return {};
}

}  // namespace ringcap::tools

#include "tools/privileges.h"

#include <fmt/format.h>
#include <grp.h>
#include <pwd.h>
#include <spdlog/spdlog.h>
#include <sys/prctl.h>
#include <unistd.h>

namespace ringcap::tools {

Result<void> become_user(const std::string& user, bool asked) {
  if (user.empty() || ::geteuid() != 0) return {};
  const passwd* entry = ::getpwnam(user.c_str());
  if (entry == nullptr) {
    if (asked)
      return fail(Code::kNotFound, fmt::format("there is no user {} to run as", user),
                  fmt::format("as root: useradd --system {} , or --user \"\" to stay root", user));
    spdlog::info("no user {}: the engine keeps running as root (useradd --system {})", user, user);
    return {};
  }
  // Groups first: a process that has become the user may not change them any more.
  if (::initgroups(entry->pw_name, entry->pw_gid) != 0 || ::setgid(entry->pw_gid) != 0 ||
      ::setuid(entry->pw_uid) != 0)
    return fail_system(fmt::format("cannot become user {}", user));
  if (::setuid(0) == 0)
    return fail(Code::kSystem, fmt::format("became user {}, but could become root again", user));
  ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
  spdlog::info("running as user {} from here on", user);
  return {};
}

}  // namespace ringcap::tools

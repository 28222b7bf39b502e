#include "capture/base/run_dir.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <poll.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <filesystem>

namespace ringcap {
namespace fs = std::filesystem;

namespace {
constexpr int kLockTries = 100;  // a millisecond apart

// EWOULDBLOCK: an engine called `name` holds its lock. Else what was found instead: an errno, 0 a free lock.
int look_for_engine(const std::string& dir, const std::string& name) {
  const Fd fd(::open(lock_path(dir, name).c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
  if (!fd) return errno;
  return ::flock(fd.get(), LOCK_SH | LOCK_NB) == 0 ? 0 : errno;  // and let go of with the descriptor
}
}  // namespace

std::vector<std::string> run_dirs() {
  if (const char* dir = ::secure_getenv("RINGCAP_RUN_DIR"); dir != nullptr && *dir != 0) return {dir};
  std::vector<std::string> dirs{"/run/ringcap"};
  if (const char* dir = ::secure_getenv("XDG_RUNTIME_DIR"); dir != nullptr && *dir != 0)
    dirs.push_back(std::string(dir) + "/ringcap");
  return dirs;
}

Result<std::string> writable_run_dir() {
  for (const auto& dir : run_dirs()) {
    if (::mkdir(dir.c_str(), 0755) != 0 && errno != EEXIST) continue;
    if (::access(dir.c_str(), W_OK | X_OK) == 0) return dir;
  }
  return fail(Code::kPermission,
              fmt::format("no run directory can be written: tried {}", fmt::join(run_dirs(), ", ")),
              "as root: install -d -m 0755 /run/ringcap , or set RINGCAP_RUN_DIR to a directory of yours");
}

Result<Fd> lock_engine(const std::string& dir, const std::string& name) {
  const auto path = lock_path(dir, name);
  Fd fd(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644));
  if (!fd) return fail_system("cannot open " + path);
  // Who looks whether the engine runs (engine_runs()) holds the lock for a moment, too: only a lock that
  // stays is an engine's.
  for (int tries = 0; tries < kLockTries; ++tries) {
    if (::flock(fd.get(), LOCK_EX | LOCK_NB) == 0) return fd;
    if (errno != EWOULDBLOCK) return fail_system("cannot lock " + path);
    ::poll(nullptr, 0, 1);
  }
  return fail(Code::kUsage, fmt::format("an engine called {} runs already", name),
              fmt::format("choose another --name, or end it: ringcap down {}", name));
}

bool engine_runs(const std::string& dir, const std::string& name) {
  return look_for_engine(dir, name) == EWOULDBLOCK;
}

std::vector<std::string> list_engines() {
  std::vector<std::string> names;
  for (const auto& dir : run_dirs()) {
    std::error_code ignored;
    for (const auto& entry : fs::directory_iterator(dir, ignored)) {
      if (entry.path().extension() != ".lock") continue;
      const std::string name = entry.path().stem();
      if (engine_runs(dir, name)) names.push_back(name);
    }
  }
  std::ranges::sort(names);
  names.erase(std::ranges::unique(names).begin(), names.end());
  return names;
}

Result<std::string> find_engine(const std::string& name) {
  std::string refused;
  for (const auto& dir : run_dirs()) {
    const int found = look_for_engine(dir, name);
    if (found == EWOULDBLOCK) return dir;
    if (found == EACCES || found == EPERM) refused = lock_path(dir, name);
  }
  if (!refused.empty())
    return fail(
        Code::kPermission,
        fmt::format("cannot look whether engine {} runs ({}: permission denied)", name, refused),
        "look at the modes of that directory; AppArmor may keep this program from it, too: see docs/pcap.md");
  const auto names = list_engines();
  return fail(Code::kNotFound, fmt::format("no engine called {} runs", name),
              names.empty() ? "none runs at all; start one: ringcap up PORT --name " + name
                            : fmt::format("running: {}", fmt::join(names, ", ")));
}

Result<Fd> connect_engine(const std::string& name) {
  const auto dir = find_engine(name);
  if (!dir) return std::unexpected(dir.error());
  const auto path = socket_path(*dir, name);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path)
    return fail(Code::kUsage, fmt::format("the socket's path is too long: {}", path));
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  Fd fd(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
  if (!fd) return fail_system("cannot make a socket");
  if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0) return fd;
  const int number = errno;
  return fail_system(
      fmt::format("cannot connect to engine {} ({})", name, path), number,
      number == EACCES ? "become a member of the engine's group (ringcap up --group), or root" : "");
}

}  // namespace ringcap

#include "tools/adopt_guard.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <syslog.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <vector>

#include "tools/bind_record.h"
#include "tools/guard.h"
#include "tools/nic.h"

namespace ringcap::tools {
namespace {

using std::chrono::milliseconds;
using Clock = std::chrono::steady_clock;

constexpr milliseconds kTermPatience{5'000};
constexpr milliseconds kGroupPatience{10'000};
constexpr milliseconds kGuardPatience{20'000};
constexpr milliseconds kLook{100};
constexpr milliseconds kForEver{-1};
constexpr int kEngine = 3;  // the guard's descriptors: of the engine's process
constexpr int kRecord = 4;  // and of the record, locked

// Whether the engine's process has ended; its descriptors are closed then.
bool has_ended(milliseconds patience) {
  pollfd engine{.fd = kEngine, .events = POLLIN, .revents = 0};
  int ready = 0;
  while ((ready = ::poll(&engine, 1, static_cast<int>(patience.count()))) < 0 && errno == EINTR) {
  }
  return ready > 0;
}

void signal_engine(int number) { ::syscall(SYS_pidfd_send_signal, kEngine, number, nullptr, 0); }

void end_engine() {
  signal_engine(SIGTERM);
  if (!has_ended(kTermPatience)) signal_engine(SIGKILL);
}

// True: the time is over, and nobody confirmed.
bool came_too_late(const BindPlace& place, const std::string& address, milliseconds patience) {
  const auto deadline = Clock::now() + patience;
  while (Clock::now() < deadline) {
    if (!confirmation_pending(place.run_dir, address) || has_ended(kLook)) return false;
  }
  return take_back(place.run_dir, address);
}

// Who has the NIC's VFIO group open.
std::vector<std::string> holders_of_group(const BindPlace& place, const std::string& address) {
  const auto nic = read_nic(place.roots, address);
  if (!nic || nic->iommu_group.empty()) return {};
  return holders_of(place.roots, place.roots.dev + "/vfio/" + nic->iommu_group);
}

// Those who still have it after a while: not our engine, which has ended.
std::vector<std::string> others_of_group(const BindPlace& place, const std::string& address) {
  std::vector<std::string> holders;
  (void)wait_until([&] { return (holders = holders_of_group(place, address)).empty(); }, kGroupPatience);
  return holders;
}

// Somebody gave the NIC back (a binding that failed undoes itself); by now it may be another engine's.
bool is_back() {
  struct stat record{};
  return ::fstat(kRecord, &record) == 0 && record.st_nlink == 0;
}

void guard(const BindPlace& place, const std::string& address, std::optional<milliseconds> confirm) {
  const bool undone = confirm && came_too_late(place, address, *confirm);
  if (undone) end_engine();
  (void)has_ended(kForEver);
  if (is_back()) return;
  if (const auto others = others_of_group(place, address); !others.empty()) {
    (void)take_confirmation(place.run_dir, address);
    ::syslog(LOG_ERR, "ringcap: %s is not given back: %s uses it; when that has ended: ringcap unbind %s",
             address.c_str(), others.front().c_str(), address.c_str());
    return;
  }
  give_back(place, address, undone ? "was not confirmed" : "was given to an engine that has ended");
}

Result<void> check(const BindPlace& place, const std::string& address) {
  const auto record = read_record(place.run_dir, address);
  if (!record && record.error().code == Code::kNotFound)
    return fail(
        Code::kNotFound, fmt::format("nobody knows what {} was to the kernel", address),
        fmt::format("give it back and bind it anew: ringcap unbind {0} && ringcap bind {0}", address));
  if (!record) return std::unexpected(record.error());
  if (confirmation_pending(place.run_dir, address))
    return fail(Code::kUsage, fmt::format("the binding of {} waits to be confirmed", address),
                fmt::format("first: ringcap bind --keep {}", address));
  return {};
}

// One guard a NIC: the guard has the record locked while it lives. (The record goes when the NIC goes back.)
Result<Fd> lock_record(const BindPlace& place, const std::string& address) {
  const std::string path = record_path(place.run_dir, address);
  Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd) return fail_system("cannot open " + path);
  if (::flock(fd.get(), LOCK_EX | LOCK_NB) == 0) return fd;
  return fail(Code::kUsage,
              fmt::format("{} is an engine's that has adopted it, or is just being given back", address),
              "`ringcap devices` shows whose it is; try again when it is the kernel's");
}

// Whether a guard has it: it is locked.
bool is_guarded(const BindPlace& place, const std::string& address) {
  const Fd fd(::open(record_path(place.run_dir, address).c_str(), O_RDONLY | O_CLOEXEC));
  return fd && ::flock(fd.get(), LOCK_SH | LOCK_NB) != 0;
}

}  // namespace

Result<void> wait_for_guard(const BindPlace& place, const std::string& address) {
  const auto over = [&] { return !is_guarded(place, address) || !holders_of_group(place, address).empty(); };
  if (wait_until(over, kGuardPatience)) return {};
  return fail(Code::kSystem, fmt::format("{} is still being given back to the kernel", address),
              "the system's log says what keeps it: journalctl -t ringcap, or /var/log/syslog");
}

Result<Fd> start_adopt_guard(const BindPlace& place, const std::string& address,
                             std::optional<milliseconds> confirm) {
  if (auto good = check(place, address); !good) return std::unexpected(good.error());
  const auto lock = lock_record(place, address);
  if (!lock) return std::unexpected(lock.error());
  const Fd engine(static_cast<int>(::syscall(SYS_pidfd_open, ::getpid(), 0)));
  int ends[2];
  if (!engine || ::pipe2(ends, O_CLOEXEC) != 0) return fail_system("cannot start the guard");
  Fd ours(ends[0]);
  const Fd its(ends[1]);
  if (confirm) {
    if (auto made = make_confirmation(place.run_dir, address); !made) return std::unexpected(made.error());
  }
  const std::array kept{engine.get(), lock->get(), its.get()};
  if (auto run = run_as_guard(kept, [&] { guard(place, address, confirm); }); !run)
    return std::unexpected(run.error());
  return ours;
}

}  // namespace ringcap::tools

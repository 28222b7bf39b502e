// The guard of `ringcap up --adopt`: a process of its own that gives the NIC back to the kernel, as it was
// before it was bound, when the engine's process has ended, however it did: told to, killed, or crashed, also
// in the middle of binding it. It knows only that.
//
//   waits for                                        then
//   the end of the engine's process (a pidfd)        gives the NIC back
//   with `confirm`: that, or the time                not confirmed: SIGTERM to the engine, SIGKILL 5 s later
//   the VFIO group to be nobody's, 10 s              unbind_nic: driver, name, addresses, routes, ...
//                                                    still somebody's: not given back, and syslog says whose
//                                                    the record is gone: somebody gave it back already
//
// The TAP goes with the engine's descriptors, so the interface's name is free by then (unless the TAP is
// persistent: see TapPort::persistent()). What the guard did is in syslog. Under a service manager that kills
// a service's processes after a while, that while must be longer than giving back takes (a few seconds).
#pragma once

#include <chrono>
#include <optional>
#include <string>

#include "capture/base/error.h"
#include "capture/base/fd.h"
#include "tools/binding.h"

namespace ringcap::tools {

// Called by the process that is or becomes the engine, with all privileges, while it has one thread, when the
// NIC's record is written; before or after the NIC is bound, ports and memory are opened. From then on the
// NIC goes back when this process ends, also if that is because something else could not be opened. There is
// no way to call it off. The descriptor is readable when the guard has ended before its time (somebody killed
// it): nobody gives the NIC back then.
//
// `confirm`: the NIC goes back after this time, and the engine ends, unless `ringcap bind --keep ADDRESS`
// comes before; unless_kept() in guard.h is the text that says so.
//
// Errors: kNotFound (nobody wrote down what the NIC was: it must be bound by `ringcap bind`), kUsage (its
// binding still waits to be confirmed, or there is a guard already), kSystem.
Result<Fd> start_adopt_guard(const BindPlace& place, const std::string& address,
                             std::optional<std::chrono::milliseconds> confirm = std::nullopt);

// Before the NIC is looked at or bound: waits until a guard has given it back, for an engine that is started
// again right after the last one's end. Returns at once where no guard is, or where its engine still runs.
// Error (kSystem): it takes longer than 20 s.
Result<void> wait_for_guard(const BindPlace& place, const std::string& address);

}  // namespace ringcap::tools

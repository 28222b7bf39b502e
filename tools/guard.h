// What the guards have in common (bind_guard.h, adopt_guard.h): small processes that outlive what started
// them, give a NIC back, and say so to syslog.
#pragma once

#include <chrono>
#include <functional>
#include <span>
#include <string>

#include "capture/base/error.h"
#include "capture/base/fd.h"
#include "tools/binding.h"

namespace ringcap::tools {

// Runs `guard` in a process of its own, with the privileges of this one; returns when it has been started.
// Called in a process with one thread. The guard is nobody's child that would have to be reaped; it has a
// session of its own, ignores SIGHUP, SIGINT and SIGTERM, and keeps no descriptor but `kept` (3, 4, ...
// there, in this order), none of the mappings of devices and shared memory, and no working directory, and the
// kernel does not end it where memory is short. It must
// not touch what other threads or libraries of this process had open.
Result<void> run_as_guard(std::span<const int> kept, const std::function<void()>& guard);

// In a guard: gives the NIC back, and tells syslog: "ADDRESS WHY: given back", or what stays to be done.
void give_back(const BindPlace& place, const std::string& address, const std::string& why);

// For people: how to make a binding stay that waits to be confirmed.
std::string unless_kept(const std::string& address, std::chrono::milliseconds patience);

}  // namespace ringcap::tools

// The guard of `ringcap bind --confirm SECONDS`: a process of its own that gives the NIC back unless
// `ringcap bind --keep` comes in time. It outlives the terminal and the ssh session (that is its purpose),
// says what it did to syslog, and ends at the latest when the time is over.
#pragma once

#include <chrono>
#include <string>

#include "capture/base/error.h"
#include "tools/binding.h"

namespace ringcap::tools {

// Called by `bind` when the NIC is bound, in a process with one thread. Returns at once.
Result<void> start_guard(const BindPlace& place, const std::string& address,
                         std::chrono::milliseconds patience);

}  // namespace ringcap::tools

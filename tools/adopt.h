// Transparent mode's --adopt: the TAP takes the place that the NIC's interface had in the host's network
// before the NIC was bound. Called by `up`, with all privileges, before the engine becomes another user.
//
//   1. start_adopt_guard (adopt_guard.h)    from here on everything goes back when this process ends; a NIC
//                                           that the kernel has is bound then (bind_nic's `recorded`)
//   2. adopted_interface(place, address)    what the NIC's interface was
//   3. open_tap_port(adopting_tap(state))   a TAP of the same name, number, address and MTU, still down
//   4. restore_interface(state.name, state) (interface_state.h): up, neighbours, addresses, routes, groups
#pragma once

#include "capture/base/error.h"
#include "driver/tap/port.h"
#include "tools/binding.h"
#include "tools/interface_state.h"

namespace ringcap::tools {

// The first interface of the NIC, as it was when `ringcap bind` took it. Errors: kNotFound (not bound by
// `ringcap bind`, or it had no interface), kSystem (a damaged record).
Result<InterfaceState> adopted_interface(const BindPlace& place, const std::string& address);

// For open_tap_port(): the TAP that takes the interface's place. Not persistent, so that it goes with the
// engine; the caller refuses one that is there already (TapPort::persistent()).
TapOptions adopting_tap(const InterfaceState& state, uint32_t queues = 1);

}  // namespace ringcap::tools

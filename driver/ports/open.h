// Opens a port by its address: the one place that knows all kinds of port. Called by the engine's control
// thread (or the tool, before the engine runs), with the privileges that the kind needs.
#pragma once

#include <memory>

#include "capture/base/error.h"
#include "capture/port/port.h"
#include "driver/ports/address.h"

namespace ringcap {

// What the engine does with the port besides receiving.
struct PortUse {
  bool sends = false;  // a NIC's port has a transmit queue then, and the device may read the arena
};

// The port is closed, and its device given back, when it is destroyed.
Result<std::unique_ptr<Port>> open_port(const PortAddress& address, const PortUse& use = {});

}  // namespace ringcap

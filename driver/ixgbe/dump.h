// The registers that `ringcap devices ADDRESS --registers` shows of an 82599, X540 or X550, with queue 0's.
// Not among them: what reading clears or takes (EICR, statistics, semaphores).
#pragma once

#include "driver/pci/dump.h"

namespace ringcap::ixgbe {

Result<std::vector<pci::RegisterValue>> dump(pci::Function& function);

}  // namespace ringcap::ixgbe

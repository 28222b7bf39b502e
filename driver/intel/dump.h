// The registers that `ringcap devices ADDRESS --registers` shows of Intel's gigabit NICs. Not among them:
// what reading clears (ICR, statistics).
#pragma once

#include "driver/pci/dump.h"

namespace ringcap::intel {

Result<std::vector<pci::RegisterValue>> dump_8254x(pci::Function& function);
Result<std::vector<pci::RegisterValue>> dump_82574(pci::Function& function);
// 82576 and later, with queue 0's.
Result<std::vector<pci::RegisterValue>> dump_igb(pci::Function& function);

}  // namespace ringcap::intel

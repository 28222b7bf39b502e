// The PHY that an X540 or X550 has on its chip, behind MDIO (IEEE 802.3, clause 45). Control thread; the
// caller owns the PHY (driver/intel/ownership.h).
#pragma once

#include <cstdint>

#include "driver/intel/access.h"

namespace ringcap::ixgbe {

// Link comes by negotiation: started if the PHY sleeps (a kernel driver does that to an idle interface), has
// not negotiated, or offers pause frames. Otherwise the link stays as it is; and so it does where no PHY
// answers, because the firmware keeps it to itself.
void negotiate(const intel::Registers& registers);

}  // namespace ringcap::ixgbe

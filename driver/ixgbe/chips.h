// The chips of the ixgbe family and what they differ in. All of it is used while a port is set up or counted;
// receiving and sending are the same for all of them.
#pragma once

#include <cstdint>

#include "driver/intel/ownership.h"
#include "driver/intel/port.h"

namespace ringcap::ixgbe {

struct Chip {
  intel::ChipFacts facts;
  intel::Semaphores semaphores;
  uint32_t receive_kib = 0;  // of packet buffer to receive into
  bool copper = false;       // a PHY on the chip, behind MDIO; else a cage for SFP+
  bool wide_table = false;   // RSS: 512 entries, not 128
};

// By PCI device id (vendor 8086); nullptr: none of the family.
const Chip* find_chip(uint32_t device);

}  // namespace ringcap::ixgbe

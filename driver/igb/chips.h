// The chips of the igb family and what they differ in. All of it is used while a port is set up or counted;
// receiving and sending are the same for all of them.
#pragma once

#include <cstdint>
#include <span>

#include "driver/intel/port.h"

namespace ringcap::igb {

struct Chip {
  intel::ChipFacts facts;
  // IVAR: the 82576 has queues 0 to 7 and 8 to 15 side by side, later chips two queues a word.
  bool vectors_by_pairs = true;
  bool crc_by_queue = true;        // the CRC is stripped where RCTL and the queue's DVMOLR say so
  bool drops_keep = false;         // RQDPC is not cleared by reading
  uint32_t loopback_register = 0;  // of the PHY, beside its control register; 0: none
  bool stamps_need_room = false;   // timestamps need room in the packet buffer, by RXPBS
};

// By PCI device id (vendor 8086); nullptr: none of the family.
const Chip* find_chip(uint32_t device);

}  // namespace ringcap::igb

// Receive-side scaling as Intel's NICs have it: the registers that driver/pci/rss.h's key and table go into.
// Control thread, while a port starts.
#pragma once

#include "driver/intel/access.h"
#include "driver/pci/rss.h"

namespace ringcap::intel {

// Writes key and table; an entry of the table is the queue's number << `shift`.
void program_rss(const Registers& registers, const pci::RssKey& key, uint32_t queues, unsigned shift);

}  // namespace ringcap::intel

// What keeps a NIC's interrupts apart, as `ringcap stat` says it.
#pragma once

#include <string>

#include "capture/ledger/ledger.h"

namespace ringcap::tools {

// "at least 10 us apart", "at least 10, 250 us apart, queue by queue", "as they come", ...; "": the port has
// none that could be kept apart.
std::string moderation_text(const ledger::Port& port);

}  // namespace ringcap::tools

// PCI addresses as people write them ("3:00.0") and as sysfs does ("0000:03:00.0").
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace ringcap::pci {

// DOMAIN:BUS:DEVICE.FUNCTION in hexadecimal, the domain may be left out; empty if it is none.
std::optional<std::string> normal_address(std::string_view text);

}  // namespace ringcap::pci

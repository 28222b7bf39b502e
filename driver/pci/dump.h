// The registers of a NIC, by name, for people: `ringcap devices ADDRESS --registers`. Only such that reading
// does not change. Control thread; nobody else may be driving the function.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "driver/pci/function.h"

namespace ringcap::pci {

struct RegisterName {
  const char* name;
  uint32_t offset;
};

struct RegisterValue {
  std::string name;
  uint32_t offset = 0;  // in the BAR
  uint32_t value = 0;
};

// 32 bits each.
Result<std::vector<RegisterValue>> read_registers(Function& function, std::span<const RegisterName> names,
                                                  uint32_t bar_index = 0);

}  // namespace ringcap::pci

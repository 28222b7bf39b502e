#include "driver/pci/dump.h"

#include <fmt/format.h>

namespace ringcap::pci {

Result<std::vector<RegisterValue>> read_registers(Function& function, std::span<const RegisterName> names,
                                                  uint32_t bar_index) {
  Result<std::unique_ptr<Bar>> bar = function.bar(bar_index);
  if (!bar) return std::unexpected(bar.error());
  std::vector<RegisterValue> values;
  for (const RegisterName& each : names) {
    if (each.offset + 4 > (*bar)->bytes())
      return fail(Code::kSystem, fmt::format("BAR {} has {} bytes: {} would lie behind it", bar_index,
                                             (*bar)->bytes(), each.name));
    values.push_back({each.name, each.offset, (*bar)->read32(each.offset)});
  }
  return values;
}

}  // namespace ringcap::pci

#include "driver/pci/dump.h"

#include <fmt/format.h>

namespace ringcap::pci {

Result<std::vector<RegisterValue>> read_registers(Function& function, std::span<const RegisterName> names) {
  Result<std::unique_ptr<Bar>> bar = function.bar(0);
  if (!bar) return std::unexpected(bar.error());
  std::vector<RegisterValue> values;
  for (const RegisterName& each : names) {
    if (each.offset + 4 > (*bar)->bytes())
      return fail(Code::kSystem,
                  fmt::format("BAR 0 has {} bytes: {} would lie behind it", (*bar)->bytes(), each.name));
    values.push_back({each.name, each.offset, (*bar)->read32(each.offset)});
  }
  return values;
}

}  // namespace ringcap::pci

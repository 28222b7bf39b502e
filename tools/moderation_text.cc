#include "tools/moderation_text.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "driver/pci/moderation_names.h"

namespace ringcap::tools {

std::string moderation_text(const ledger::Port& port) {
  std::vector<uint64_t> times, levels;
  for (const auto& [name, value] : port.statistics) {
    if (name.ends_with(pci::kModerationUs)) times.push_back(value);
    if (name.ends_with(pci::kModerationLevel)) levels.push_back(value);
  }
  const auto all = [](const std::vector<uint64_t>& values, uint64_t value) {
    return std::ranges::all_of(values, [&](uint64_t each) { return each == value; });
  };
  if (times.empty() && levels.empty()) return "";
  if (all(times, 0) && all(levels, 0)) return "as they come";
  if (times.empty()) return fmt::format("as far apart as the device chooses (level {})", levels.front());
  if (all(times, times.front())) return fmt::format("at least {} us apart", times.front());
  return fmt::format("at least {} us apart, queue by queue", fmt::join(times, ", "));
}

}  // namespace ringcap::tools

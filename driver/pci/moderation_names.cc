#include "driver/pci/moderation_names.h"

#include <fmt/format.h>

#include <algorithm>
#include <string>
#include <vector>

namespace ringcap::pci {
namespace {

constexpr uint32_t kMostQueues = 64;

std::vector<std::string> make_names(std::string_view suffix) {
  std::vector<std::string> made(kMostQueues);
  for (size_t i = 0; i < made.size(); ++i) made[i] = fmt::format("rx_queue_{}{}", i, suffix);
  return made;
}

}  // namespace

const char* moderation_us_name(uint32_t queue) {
  static const auto names = make_names(kModerationUs);
  return names[std::min(queue, kMostQueues - 1)].c_str();
}

const char* moderation_level_name(uint32_t queue) {
  static const auto names = make_names(kModerationLevel);
  return names[std::min(queue, kMostQueues - 1)].c_str();
}

}  // namespace ringcap::pci

// How a NIC's port says among its statistics what keeps the interrupts of its receive queues apart, and how
// `ringcap stat` finds it there again.
#pragma once

#include <cstdint>
#include <string_view>

namespace ringcap::pci {

// "rx_queue_3_moderation_us": the least time between two, in microseconds; 0: they come as they do.
const char* moderation_us_name(uint32_t queue);
// "rx_queue_3_moderation_level": of a device that knows levels and no times; 0: they come as they do.
const char* moderation_level_name(uint32_t queue);

inline constexpr std::string_view kModerationUs = "_moderation_us", kModerationLevel = "_moderation_level";

}  // namespace ringcap::pci

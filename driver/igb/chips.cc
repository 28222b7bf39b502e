#include "driver/igb/chips.h"

#include "driver/igb/registers.h"

namespace ringcap::igb {
namespace {

// The chips take frames of 9,728 bytes; 9,216 are what the other end of the link usually can.
constexpr uint32_t kGreatestMtu = 9216, kTwoTags = 22;
constexpr uint32_t kLoopbackOf82580 = 19;  // of its PHY

constexpr intel::ChipFacts facts(const char* chip, uint32_t queues, uint32_t vectors,
                                 const intel::ClockShape* clock = &intel::kFortyBits) {
  return {.driver = "igb",
          .chip = chip,
          .queues = queues,
          .vectors = vectors,
          .greatest_mtu = kGreatestMtu,
          .longest_sent = kGreatestMtu + kTwoTags,
          .receive_block = RECEIVE_BLOCK,
          .receive_stride = RECEIVE_STRIDE,
          .transmit_block = TRANSMIT_BLOCK,
          .longest_overhead = kTwoTags,
          .clock = clock};
}

constexpr Chip k82576{facts("82576", 16, 10, nullptr), false, false, false};
constexpr Chip k82580{facts("82580", 8, 10), true, false, false, kLoopbackOf82580};
constexpr Chip kI350{facts("I350", 8, 10), true, true, false, kLoopbackOf82580};
constexpr Chip kI354{facts("I354", 8, 10), true, true, false};
constexpr Chip kI210{facts("I210", 4, 5, &intel::kSeconds), true, true, true, 0, true};
constexpr Chip kI211{facts("I211", 2, 5, &intel::kSeconds), true, true, true, 0, true};

}  // namespace

const Chip* find_chip(uint32_t device) {
  switch (device) {
    case 0x10c9:  // copper
    case 0x10e8:  // four ports
    case 0x1526:  // four ports, ET2
      return &k82576;
    case 0x150e:  // copper
    case 0x1516:  // two ports
      return &k82580;
    case 0x1521:
      return &kI350;
    case 0x1f41:
      return &kI354;
    case 0x1533:
    case 0x157b:  // without flash
      return &kI210;
    case 0x1539:
      return &kI211;
    default:
      return nullptr;
  }
}

}  // namespace ringcap::igb

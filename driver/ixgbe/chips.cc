#include "driver/ixgbe/chips.h"

#include "driver/ixgbe/registers.h"

namespace ringcap::ixgbe {
namespace {

// "Jumbo frames": 15.5 KiB with the CRC. The MTU leaves room for a header with two VLAN tags.
constexpr uint32_t kLongest = 15872, kCrc = 4, kTwoTags = 22;

// RSS has 16 queues (X550: 64), and so many have counters of their own.
constexpr intel::ChipFacts facts(const char* chip, const intel::ClockShape* clock = nullptr) {
  return {.driver = "ixgbe",
          .chip = chip,
          .queues = 16,
          .vectors = 64,
          .greatest_mtu = kLongest - kCrc - kTwoTags,
          .longest_sent = kLongest - kCrc,
          .receive_block = RECEIVE_BLOCK,
          .receive_stride = RECEIVE_STRIDE,
          .transmit_block = TRANSMIT_BLOCK,
          .longest_overhead = kTwoTags,
          .clock = clock};
}

constexpr intel::Semaphores semaphores(bool by_reading) {
  return {.swsm = SWSM, .sw_fw_sync = SW_FW_SYNC, .firmware_shift = 5, .by_reading = by_reading};
}

constexpr Chip k82599{facts("82599"), semaphores(false), 512, false, false};
constexpr Chip kX540{facts("X540"), semaphores(true), 384, true, false};
constexpr Chip kX550{facts("X550", &intel::kSeconds), semaphores(true), 384, true, true};

}  // namespace

const Chip* find_chip(uint32_t device) {
  switch (device) {
    case 0x10fb:  // SFP+: X520
    case 0x154d:  // SFP+, X520-2
    case 0x154a:  // SFP+, four ports
    case 0x1557:  // 82599EN, one port
      return &k82599;
    case 0x1528:  // two ports
    case 0x1560:  // one port
      return &kX540;
    case 0x1563:  // two ports
    case 0x15d1:  // one port
      return &kX550;
    default:
      return nullptr;
  }
}

}  // namespace ringcap::ixgbe

// Registers and bits that the 8254x have beside those that all of Intel's gigabit NICs have, by their names
// in "PCI/PCI-X Family of Gigabit Ethernet Controllers Software Developer's Manual" (317453), chapter 13.
#pragma once

#include <cstdint>

#include "driver/intel/registers.h"

namespace ringcap::e1000 {

using namespace intel;  // NOLINT: the shared registers, under these chips' name, too

inline constexpr uint32_t ITR = 0x00C4;  // interrupt moderation, 256 ns
inline constexpr uint32_t PBA = 0x1000;  // packet buffer: KiB for receiving

// Flow control
inline constexpr uint32_t FCAL = 0x0028, FCAH = 0x002C, FCT = 0x0030;  // address and type of pause frames
inline constexpr uint32_t FCTTV = 0x0170;                              // how long to pause

// Queues: one each
inline constexpr uint32_t RECEIVE_BLOCK = 0x2800, RECEIVE_STRIDE = 0x100, TRANSMIT_BLOCK = 0x3800;
inline constexpr uint32_t RDTR = 0x20;  // of the receive queue: interrupt delay
inline constexpr uint32_t RADV = 0x2C;  // absolute interrupt delay; not the 82544

namespace ctrl {
using namespace intel::ctrl;
inline constexpr uint32_t LRST = 1u << 3, ILOS = 1u << 7, PHY_RST = 1u << 31;
}  // namespace ctrl
namespace dctl {  // RXDCTL and TXDCTL
using namespace intel::dctl;
inline constexpr uint32_t GRAN = 1u << 24;  // thresholds count descriptors
}  // namespace dctl

}  // namespace ringcap::e1000

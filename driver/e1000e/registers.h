// Registers and bits that the 82574L has beside those that all of Intel's gigabit NICs have, by their names
// in its datasheet ("Intel 82574 GbE Controller Family Datasheet", revision 3.4, chapter "Driver Programming
// Interface").
#pragma once

#include <cstdint>

#include "driver/intel/registers.h"

namespace ringcap::e1000e {

using namespace intel;  // NOLINT: the shared registers, under this chip's name, too

inline constexpr uint32_t EXTCNF_CTRL = 0x0F00;  // who may use MDIC
inline constexpr uint32_t PBA = 0x1000;          // packet buffer: KiB for receiving
inline constexpr uint32_t GCR = 0x5B00;          // PCIe control

// Interrupts
inline constexpr uint32_t ITR = 0x00C4;   // moderation without MSI-X, 256 ns
inline constexpr uint32_t EIAC = 0x00DC;  // causes that MSI-X clears by itself
inline constexpr uint32_t IVAR = 0x00E4;  // cause to vector
inline constexpr uint32_t EITR = 0x00E8;  // moderation of vector 0, 256 ns; one every 4 bytes

// Queues
inline constexpr uint32_t RECEIVE_BLOCK = 0x2800, RECEIVE_STRIDE = 0x100, TRANSMIT_BLOCK = 0x3800;
inline constexpr uint32_t RDTR = 0x20;  // of a receive queue: interrupt delay
inline constexpr uint32_t RADV = 0x2C;  // absolute interrupt delay
inline constexpr uint32_t TARC = 0x40;  // of a transmit queue: arbitration

namespace extcnf_ctrl {
inline constexpr uint32_t MDIO_SW_OWNERSHIP = 1u << 5;
}
namespace interrupt {  // bits of ICR, IMS, IMC, EIAC
using namespace intel::interrupt;
inline constexpr uint32_t RXQ0 = 1u << 20, RXQ1 = 1u << 21, OTHER = 1u << 24;
}  // namespace interrupt
namespace ivar {
inline constexpr uint32_t VALID = 8;
inline constexpr unsigned BITS = 4, OTHER_SHIFT = 16;  // a queue's bits, from RXQ0 at 0 on
}  // namespace ivar
namespace reta {
inline constexpr unsigned QUEUE_SHIFT = 7;
}
namespace mrqc {
using namespace intel::mrqc;
inline constexpr uint32_t RSS = 1;
}  // namespace mrqc
namespace dctl {  // RXDCTL and TXDCTL
using namespace intel::dctl;
inline constexpr uint32_t TX_COUNT_DESC = 1u << 22, GRAN = 1u << 24;  // GRAN: thresholds count descriptors
}  // namespace dctl
namespace tctl {
using namespace intel::tctl;
inline constexpr uint32_t MULR = 1u << 28;
}  // namespace tctl

}  // namespace ringcap::e1000e

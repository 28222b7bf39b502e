// Registers and bits that the 82576 and its successors have beside those that all of Intel's gigabit NICs
// have, by their names in the datasheets (82576EB: revision 2.7, I350: 2.7, I210: 3.7).
#pragma once

#include <cstdint>

#include "driver/intel/registers.h"

namespace ringcap::igb {

using namespace intel;  // NOLINT: the shared registers, under these chips' name, too

inline constexpr uint32_t SWSM = 0x5B50;        // semaphore between drivers, and between them and firmware
inline constexpr uint32_t SW_FW_SYNC = 0x5B5C;  // who has what; under that semaphore

// Interrupts with MSI-X
inline constexpr uint32_t GPIE = 0x1514;  // general: before all others, or they have no effect
inline constexpr uint32_t EICS = 0x1520;  // cause set: as if it had happened
inline constexpr uint32_t EIMS = 0x1524;  // mask set, a bit per vector
inline constexpr uint32_t EIMC = 0x1528;  // mask clear
inline constexpr uint32_t EIAC = 0x152C;  // vectors whose cause clears by itself
inline constexpr uint32_t EICR = 0x1580;  // cause; writing a one clears it
inline constexpr uint32_t EITR = 0x1680;  // moderation of vector 0; one every 4 bytes
inline constexpr uint32_t IVAR = 0x1700;  // queue to vector, 8 words
inline constexpr uint32_t IVAR_MISC = 0x1740;

// Receive
inline constexpr uint32_t RLPML = 0x5004;  // longest frame, CRC included
inline constexpr uint32_t UTA = 0xA000;    // unicast table, 128 words

// Timestamps; 82580 and later
inline constexpr uint32_t RXPBS = 0x2404;    // I210: packet buffer, and room for timestamps in it
inline constexpr uint32_t SYSTIML = 0xB600;  // the clock
inline constexpr uint32_t SYSTIMH = 0xB604;
inline constexpr uint32_t TIMINCA = 0xB608;     // its rate
inline constexpr uint32_t TSYNCRXCTL = 0xB620;  // which frames are stamped
inline constexpr uint32_t TSAUXC = 0xB640;      // whether the clock runs
inline constexpr uint32_t SYSTIMR = 0xB6F8;     // fractions of it: reading them latches the others

// Queues
inline constexpr uint32_t RECEIVE_BLOCK = 0xC000, RECEIVE_STRIDE = 0x40, TRANSMIT_BLOCK = 0xE000;
inline constexpr uint32_t SRRCTL = 0x0C;  // of a receive queue: buffers and descriptors
inline constexpr uint32_t RQDPC = 0x30;   // frames dropped for want of a descriptor
inline constexpr uint32_t DVMOLR = 0x38;  // 82580 and later: what is done to its frames

namespace swsm {
inline constexpr uint32_t SMBI = 1u << 0, SWESMBI = 1u << 1;
}
namespace gpie {
inline constexpr uint32_t NSICR = 1u << 0, MSIX_MODE = 1u << 4, EIAME = 1u << 30, PBA = 1u << 31;
}
namespace eitr {
inline constexpr unsigned INTERVAL_SHIFT = 2;  // microseconds
inline constexpr uint32_t MOST = 0x1fff;
inline constexpr uint32_t CNT_IGNR = 1u << 31;  // the count is not written
}  // namespace eitr
namespace ivar {
inline constexpr uint32_t VALID = 0x80;
inline constexpr unsigned OTHER_SHIFT = 8;  // of IVAR_MISC
}  // namespace ivar
namespace srrctl {
inline constexpr uint32_t ADVANCED_ONE_BUFFER = 1u << 25, TIMESTAMP = 1u << 30, DROP_EN = 1u << 31;
inline constexpr uint32_t BUFFER_UNIT = 1024;
}  // namespace srrctl
namespace rxpbs {
inline constexpr uint32_t CFG_TS_EN = 1u << 31;
}
namespace tsyncrxctl {
inline constexpr uint32_t TYPE_ALL = 4u << 1, EN = 1u << 4;
}
namespace tsauxc {
inline constexpr uint32_t DISABLE_SYSTIME = 1u << 31;
}
namespace dvmolr {
inline constexpr uint32_t STRCRC = 1u << 31;
}
namespace dctl {  // RXDCTL and TXDCTL
using namespace intel::dctl;
inline constexpr uint32_t ENABLE = 1u << 25;
}  // namespace dctl
namespace mrqc {
using namespace intel::mrqc;
inline constexpr uint32_t RSS = 2, TCP_IPV6 = 1u << 21, UDP_IPV4 = 1u << 22, UDP_IPV6 = 1u << 23;
}  // namespace mrqc

}  // namespace ringcap::igb

// The registers, commands and descriptors of a vmxnet3 device, revision 1, as far as ringcap uses them.
// VMware has published no datasheet: names and numbers are those of the interface as Linux's vmxnet3
// (vmxnet3_defs.h, upt1_defs.h), DPDK's and QEMU's device have it. Everything is little-endian.
#pragma once

#include <cstdint>

namespace ringcap::vmxnet3 {

// BAR 0: what is written while the device runs. One register each 8 bytes.
namespace pt {
inline constexpr uint32_t IMR = 0x000;      // of each interrupt: 1 masks it
inline constexpr uint32_t TXPROD = 0x600;   // of each transmit queue: the next slot that is not filled
inline constexpr uint32_t RXPROD = 0x800;   // of each receive queue's first ring, the same
inline constexpr uint32_t RXPROD2 = 0xA00;  // of its second ring
inline constexpr uint32_t STRIDE = 8, BYTES = 4096;
}  // namespace pt

// BAR 1: set-up.
namespace vd {
inline constexpr uint32_t VRRS = 0x00;  // read: the device's revisions, a bit each; written: the one chosen
inline constexpr uint32_t UVRS = 0x08;  // the same, of the "UPT" part
inline constexpr uint32_t DSAL = 0x10, DSAH = 0x18;  // where Shared is (structures.h)
inline constexpr uint32_t CMD = 0x20;                // written: a command; then read: its result
inline constexpr uint32_t MACL = 0x28, MACH = 0x30;
inline constexpr uint32_t ICR = 0x38;  // reading takes the interrupt line back (INTx)
inline constexpr uint32_t ECR = 0x40;  // written: events that were seen
inline constexpr uint32_t BYTES = 4096;
}  // namespace vd

namespace command {
inline constexpr uint32_t ACTIVATE_DEV = 0xCAFE0000, QUIESCE_DEV = 0xCAFE0001, RESET_DEV = 0xCAFE0002,
                          UPDATE_RX_MODE = 0xCAFE0003, UPDATE_VLAN_FILTERS = 0xCAFE0005;
inline constexpr uint32_t GET_STATS = 0xF00D0001, GET_LINK = 0xF00D0002, GET_CONF_INTR = 0xF00D0008;
}  // namespace command

// Shared::ecr
namespace event {
inline constexpr uint32_t RQERR = 1, TQERR = 2, LINK = 4, DIC = 8, DEBUG = 16;
}

// RxFilterConf::rxMode
namespace mode {
inline constexpr uint32_t UCAST = 1, MCAST = 2, BCAST = 4, ALL_MULTI = 8, PROMISC = 16;
}

// IntrConf::modLevels
namespace moderation {
inline constexpr uint8_t NONE = 0, ADAPTIVE = 8;
}

inline constexpr uint32_t kLinkUp = 1, kLinkSpeedShift = 16;  // GET_LINK: up, Mbit/s
inline constexpr uint32_t kMaskModeShift = 2, kMaskAuto = 0;  // GET_CONF_INTR

inline constexpr uint32_t kRingStep = 32;        // descriptors: rings are a multiple of it
inline constexpr uint32_t kGreatestRing = 4096;  // of a receive or transmit ring
inline constexpr uint32_t kMostBuffer = (1 << 14) - 1;

// What the driver gives. Who has a slot is told by its generation bit, which turns over with each lap.
struct Descriptor {
  uint64_t address;
  uint32_t word;
  uint32_t more;
};
static_assert(sizeof(Descriptor) == 16);

namespace rxd {  // Descriptor::word of a receive ring; the length is in bits 0 to 13
inline constexpr uint32_t GEN = 1u << 31;
}
namespace txd {  // of a transmit ring, the same
inline constexpr uint32_t GEN = 1u << 14;
inline constexpr uint32_t EOP = 1u << 12, CQ = 1u << 13;  // Descriptor::more
}  // namespace txd

// What the device gives back, in rings of their own.
struct Completion {
  uint32_t words[4];

  // words[1], a hash, is never looked at.
  uint32_t index() const { return words[0] & 0xfff; }  // of the descriptor
  uint32_t type() const { return words[3] >> 24 & 0x7f; }

  // ---- received frames
  bool end() const { return words[0] >> 14 & 1; }           // EOP
  bool begin() const { return words[0] >> 15 & 1; }         // SOP
  uint32_t ring() const { return words[0] >> 16 & 0x3ff; }  // rqID: queue, then queue of the second rings
  uint32_t length() const { return words[2] & 0x3fff; }     // bytes in this descriptor's buffer
  bool error() const { return words[2] >> 14 & 1; }         // ERR
  bool tag_stripped() const { return words[2] >> 15 & 1; }  // TS
  bool crc_correct() const { return words[3] >> 23 & 1; }   // FCS: of use with ERR only
  // A whole frame in the descriptor of this index, of `longest` bytes at most (less than 2^14), as it was on
  // the wire.
  bool plain(uint32_t index, uint32_t longest) const {
    constexpr uint32_t kWhere = 0xfff | 3u << 14 | 0x3ff << 16, kWhole = 3u << 14;  // and ring 0
    constexpr uint32_t kLengthErrTs = 0xffff;  // either bit makes it longer than any frame
    const bool here = (words[0] & kWhere) == (kWhole | index);
    return here && (words[2] & kLengthErrTs) - 1 < longest && type() != kMerged;
  }
  static constexpr uint32_t kGeneration = 1u << 31;  // words[3]
  static constexpr uint32_t kMerged = 4;             // type: several frames made one (LRO)
};
static_assert(sizeof(Completion) == 16);

}  // namespace ringcap::vmxnet3

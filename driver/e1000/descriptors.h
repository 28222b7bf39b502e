// The descriptors that the 82574L and this driver hand each other in memory. 16 bytes each.
//
// Receive: extended (RFCTL.EXTEN), datasheet "Extended Rx Descriptor". The driver writes the address and
// a zero; the device writes the second word last. Everything that matters is in that one word, so that one
// 64-bit load sees a frame either not at all or whole. Transmit: legacy, datasheet "Legacy Transmit
// Descriptor Format"; the device sets DD in those that asked for it (RS).
#pragma once

#include <atomic>
#include <cstdint>

namespace ringcap::e1000 {

struct ReceiveDescriptor {
  uint64_t address;  // written back: RSS hash or checksum, which are not used
  uint64_t word;     // 0; written back: extended status and error 32 | length 16 | VLAN tag 16
};
static_assert(sizeof(ReceiveDescriptor) == 16);

namespace receive {

inline constexpr uint64_t kDone = 1 << 0;            // DD
inline constexpr uint64_t kEndOfPacket = 1 << 1;     // EOP
inline constexpr uint64_t kCrcError = 1 << 24;       // CE
inline constexpr uint64_t kSymbolError = 1 << 25;    // SE
inline constexpr uint64_t kSequenceError = 1 << 26;  // SEQ
inline constexpr uint64_t kCarrierError = 1 << 28;   // CXE
inline constexpr uint64_t kDataError = 1u << 31;     // RXE
inline constexpr uint64_t kErrors = kCrcError | kSymbolError | kSequenceError | kCarrierError | kDataError;

inline uint32_t length(uint64_t word) { return static_cast<uint16_t>(word >> 32); }

// Pairs with the device's write-back: after it, the frame's bytes can be read.
inline uint64_t load(ReceiveDescriptor& descriptor) {
  return std::atomic_ref(descriptor.word).load(std::memory_order_acquire);
}

// Hands the buffer at `address` to the device, as soon as the tail moves past it.
inline void give(ReceiveDescriptor& descriptor, uint64_t address) {
  std::atomic_ref(descriptor.word).store(0, std::memory_order_relaxed);
  descriptor.address = address;
}

}  // namespace receive

struct TransmitDescriptor {
  uint64_t address;
  uint64_t word;  // length 16 | checksum offset 8 | command 8 | status 8 | checksum start 8 | VLAN tag 16
};
static_assert(sizeof(TransmitDescriptor) == 16);

namespace transmit {

inline constexpr uint64_t kEndOfPacket = uint64_t{1} << 24;   // EOP
inline constexpr uint64_t kInsertCrc = uint64_t{1} << 25;     // IFCS
inline constexpr uint64_t kReportStatus = uint64_t{1} << 27;  // RS
inline constexpr uint64_t kDone = uint64_t{1} << 32;          // DD

// Pairs with the device's write-back: after it, the frame's memory is ours again.
inline bool done(TransmitDescriptor& descriptor) {
  return std::atomic_ref(descriptor.word).load(std::memory_order_acquire) & kDone;
}
inline void give(TransmitDescriptor& descriptor, uint64_t address, uint64_t word) {
  descriptor.address = address;
  std::atomic_ref(descriptor.word).store(word, std::memory_order_relaxed);
}

}  // namespace transmit
}  // namespace ringcap::e1000

// The descriptors that Intel's NICs and their drivers hand each other in memory. 16 bytes each.
//
// Receive: legacy (8254x) has status and errors in the second word, too, at other places. Extended (82574)
// and advanced with one buffer (82576 and later) are the same to a driver that leaves the hash and checksum
// in the first word alone. The driver writes the address and a zero; the device writes the second word last.
// Everything that matters is in that one word, so that one 64-bit load sees a frame either not at all or
// whole. Transmit: legacy (8254x, 82574), advanced data (82576 and later). The device sets DD in those that
// asked for it. A codec is what a queue is a template over; it has no state.
#pragma once

#include <atomic>
#include <cstdint>

namespace ringcap::intel {

struct Descriptor {
  uint64_t address;  // receive, written back: hash or checksum, which are not used
  uint64_t word;
};
static_assert(sizeof(Descriptor) == 16);

// What all kinds of receive descriptor have.
struct Receive {
  // Whether frames may come with a timestamp of the NIC's, and where it is: so many bytes of the buffer
  // before the frame, or behind it. The descriptor's length has them, too.
  static constexpr bool kStamps = false;
  static constexpr uint64_t kStamped = 0;  // in the word: this one did
  static constexpr uint32_t kStampBefore = 0, kStampBytes = 0, kStampLow = 0;

  // Pairs with the device's write-back: after it, the frame's bytes can be read.
  static uint64_t load(Descriptor& descriptor) {
    return std::atomic_ref(descriptor.word).load(std::memory_order_acquire);
  }
  // Hands the buffer at `address` to the device, as soon as the tail moves past it.
  static void give(Descriptor& descriptor, uint64_t address) {
    std::atomic_ref(descriptor.word).store(0, std::memory_order_relaxed);
    descriptor.address = address;
  }
};

// 8254x: "Receive Descriptor Format". The second word, written back:
// length 16 | packet checksum 16 | status 8 | errors 8 | special 16.
struct LegacyReceive : Receive {
  static constexpr uint64_t kDone = uint64_t{1} << 32;           // DD
  static constexpr uint64_t kEndOfPacket = uint64_t{1} << 33;    // EOP
  static constexpr uint64_t kCrcError = uint64_t{1} << 40;       // CE
  static constexpr uint64_t kSymbolError = uint64_t{1} << 41;    // SE
  static constexpr uint64_t kSequenceError = uint64_t{1} << 42;  // SEQ
  static constexpr uint64_t kCarrierError = uint64_t{1} << 44;   // CXE
  static constexpr uint64_t kDataError = uint64_t{1} << 47;      // RXE
  static constexpr uint64_t kErrors = kCrcError | kSymbolError | kSequenceError | kCarrierError | kDataError;

  static constexpr uint32_t length(uint64_t word) { return static_cast<uint16_t>(word); }
};

// 82574: "Extended Rx Descriptor"; 82576: "Advanced Receive Descriptors", DESCTYPE 001b.
// The second word, written back: extended status and error 32 | length 16 | VLAN tag 16.
struct ExtendedReceive : Receive {
  static constexpr uint64_t kDone = 1 << 0;            // DD
  static constexpr uint64_t kEndOfPacket = 1 << 1;     // EOP
  static constexpr uint64_t kCrcError = 1 << 24;       // CE
  static constexpr uint64_t kSymbolError = 1 << 25;    // SE
  static constexpr uint64_t kSequenceError = 1 << 26;  // SEQ
  static constexpr uint64_t kCarrierError = 1 << 28;   // CXE
  static constexpr uint64_t kDataError = 1u << 31;     // RXE
  static constexpr uint64_t kErrors = kCrcError | kSymbolError | kSequenceError | kCarrierError | kDataError;

  static constexpr uint32_t length(uint64_t word) { return static_cast<uint16_t>(word >> 32); }
};

// 82599 and later: "Advanced Receive Descriptors". The same but for the errors: what the gigabit families
// call a data error is a wrong IP checksum here, and no reason to doubt the frame.
struct TenGigabitReceive : ExtendedReceive {
  static constexpr uint64_t kCrcError = 1 << 24;     // CE
  static constexpr uint64_t kLengthError = 1 << 25;  // LE
  static constexpr uint64_t kPacketError = 1 << 27;  // PE
  static constexpr uint64_t kOversize = 1 << 28;     // OSE
  static constexpr uint64_t kMacError = 1 << 29;     // RXE: any of what the MAC finds
  static constexpr uint64_t kErrors = kCrcError | kLengthError | kPacketError | kOversize | kMacError;
};

// The timestamp is {SYSTIML, SYSTIMH}, in the buffer.
//
// 82580 and later: "Packet Timestamp". 16 bytes before the frame, of which the first 8 are reserved.
struct StampedReceive : ExtendedReceive {
  static constexpr bool kStamps = true;
  static constexpr uint64_t kStamped = 1 << 15;  // TSIP
  static constexpr uint32_t kStampBefore = 16, kStampBytes = 16;
  static constexpr uint32_t kStampLow = 8;  // of the low word, from the buffer's beginning
};

// X550: "Time Stamp in Packet". 8 bytes behind the frame.
struct StampedTenGigabitReceive : TenGigabitReceive {
  static constexpr bool kStamps = true;
  static constexpr uint64_t kStamped = 1 << 15;  // TSIP
  static constexpr uint32_t kStampBefore = 0, kStampBytes = 8;
  static constexpr uint32_t kStampLow = 0;  // of the low word, from the frame's end
};

// What both kinds of transmit descriptor have at the same place.
struct Transmit {
  static constexpr uint64_t kEndOfPacket = uint64_t{1} << 24;   // EOP
  static constexpr uint64_t kInsertCrc = uint64_t{1} << 25;     // IFCS
  static constexpr uint64_t kReportStatus = uint64_t{1} << 27;  // RS
  static constexpr uint64_t kDone = uint64_t{1} << 32;          // DD

  // Pairs with the device's write-back: after it, the frame's memory is ours again.
  static bool done(Descriptor& descriptor) {
    return std::atomic_ref(descriptor.word).load(std::memory_order_acquire) & kDone;
  }
  static void give(Descriptor& descriptor, uint64_t address, uint64_t word) {
    descriptor.address = address;
    std::atomic_ref(descriptor.word).store(word, std::memory_order_relaxed);
  }
};

// length 16 | checksum offset 8 | command 8 | status 8 | checksum start 8 | VLAN tag 16
struct LegacyTransmit : Transmit {
  static uint64_t whole_frame(uint32_t length) { return length | kEndOfPacket | kInsertCrc; }
};

// length 16 | MAC and type 8 | command 8 | status 4, index 4, options 6 | payload length 18
struct AdvancedTransmit : Transmit {
  static constexpr uint64_t kData = uint64_t{3} << 20;      // DTYP
  static constexpr uint64_t kAdvanced = uint64_t{1} << 29;  // DEXT
  static constexpr unsigned kPayloadShift = 46;             // PAYLEN
  static uint64_t whole_frame(uint32_t length) {
    return length | kData | kAdvanced | kEndOfPacket | kInsertCrc | uint64_t{length} << kPayloadShift;
  }
};

}  // namespace ringcap::intel

// What ringcap_flood sends: Ethernet, IPv4, UDP, with a sequence number behind the UDP header. Used by the
// sender and by tests that look at what arrived.
#pragma once

#include <arpa/inet.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

namespace ringcap::test {

inline constexpr uint32_t kSmallestTraffic = 50;  // headers and sequence number
inline constexpr uint32_t kSequenceOffset = 42;   // u64, big-endian: 0 for the first frame, then 1 more each
inline constexpr uint32_t kFlowOffset = 28;       // in the source address and port

// Writes a frame of flow `flow` (below 65,536) with the sequence number 0 into all of `frame` (at least
// kSmallestTraffic bytes). Checksums: IPv4's is right, UDP's is 0 (not used).
inline void make_traffic(std::span<std::byte> frame, uint32_t flow) {
  std::memset(frame.data(), 0, frame.size());
  const auto put8 = [&](size_t at, uint32_t value) { frame[at] = static_cast<std::byte>(value); };
  const auto put16 = [&](size_t at, uint32_t value) {
    put8(at, value >> 8);
    put8(at + 1, value);
  };
  const auto size = static_cast<uint32_t>(frame.size());
  put8(0, 0x02);  // locally administered addresses
  put8(5, 0x02);
  put8(6, 0x02);
  put8(11, 0x01);
  put16(12, 0x0800);
  put8(14, 0x45);
  put16(16, size - 14);
  put8(22, 64);
  put8(23, 17);
  put8(26, 10);  // 10.0.x.y to 10.128.0.1
  put16(28, flow);
  put8(30, 10);
  put8(31, 128);
  put8(33, 1);
  put16(34, 1024 + flow % 60000);
  put16(36, 9);  // discard
  put16(38, size - 34);
  uint32_t sum = 0;
  for (size_t i = 14; i < 34; i += 2) {
    sum += static_cast<uint32_t>(frame[i]) << 8 | static_cast<uint32_t>(frame[i + 1]);
  }
  sum = (sum & 0xffff) + (sum >> 16);
  sum = (sum & 0xffff) + (sum >> 16);
  put16(24, ~sum & 0xffff);
}

inline void set_sequence(std::byte* frame, uint64_t sequence) {
  const uint64_t wire = __builtin_bswap64(sequence);
  std::memcpy(frame + kSequenceOffset, &wire, sizeof(wire));
}

inline uint64_t sequence_of(const std::byte* frame) {
  uint64_t wire = 0;
  std::memcpy(&wire, frame + kSequenceOffset, sizeof(wire));
  return __builtin_bswap64(wire);
}

}  // namespace ringcap::test

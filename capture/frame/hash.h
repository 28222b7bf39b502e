// The flow hash: the number that decides which member of a cluster gets a frame. Lower half, used by
// workers (through parse.h) and by tests; anyone else can compute it from docs/hash.md, and
// tests/unit/capture/frame/flow_hash.py does, in a few lines.
//
// What it promises: both directions of a flow get the same value; all 32 bits depend on all bits of
// the tuple and of the key; without the key nobody can aim flows at one member. It is not a
// cryptographic hash.
//
// docs/hash.md defines it: how it is computed, and of what for each kind of balance. Here are the pieces;
// packet.h puts them together.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

namespace ringcap {

// 128 bits. The engine draws one at its start; tests use a fixed one.
struct HashKey {
  uint64_t k0 = 0;
  uint64_t k1 = 0;

  static HashKey from_bytes(std::span<const std::byte, 16> bytes) {
    HashKey key;
    std::memcpy(&key.k0, bytes.data(), 8);
    std::memcpy(&key.k1, bytes.data() + 8, 8);
    return key;
  }
  // From the kernel's random numbers. Blocks only on a machine that has just booted.
  static HashKey random();
};

namespace flow_hash {

inline constexpr uint64_t kMultiplier = 0x9e3779b97f4a7c15;  // 2^64 / golden ratio, odd
inline constexpr uint32_t kKindMac = 0x10000;
inline constexpr uint32_t kKindVlan = 0x20000;
inline constexpr uint32_t kKindIpv4 = 0x40000;
inline constexpr uint32_t kKindIpv6 = 0x60000;

__extension__ using Wide = unsigned __int128;

inline uint64_t mum(uint64_t a, uint64_t b) {
  const Wide product = Wide{a} * b;
  return static_cast<uint64_t>(product) ^ static_cast<uint64_t>(product >> 64);
}

// Unaligned loads in the machine's order, which is little-endian: see the layout.
template <typename T>
inline T load(const std::byte* at) {
  T value;
  std::memcpy(&value, at, sizeof value);
  return value;
}

inline uint64_t end_ipv4(uint32_t address, uint16_t port) { return address | uint64_t{port} << 32; }

// `address`: 16 bytes.
inline uint64_t end_ipv6(const std::byte* address, uint16_t port, const HashKey& key) {
  return mum(load<uint64_t>(address) ^ key.k0, load<uint64_t>(address + 8) ^ key.k1) ^ port;
}

// `address`: 6 bytes.
inline uint64_t end_mac(const std::byte* address) {
  return load<uint32_t>(address) | uint64_t{load<uint16_t>(address + 4)} << 32;
}

// Orders without a branch: which of two ends is smaller is a coin toss that no predictor wins, and g++
// makes jumps of std::min() and std::max() here.
inline uint32_t finish(uint64_t one_end, uint64_t other_end, uint32_t kind, const HashKey& key) {
  const uint64_t swap = (one_end ^ other_end) & -uint64_t{other_end < one_end};
  const uint64_t low = one_end ^ swap;
  const uint64_t high = other_end ^ swap;
  const uint64_t h = mum(mum(low ^ key.k0, high ^ key.k1) ^ kind, kMultiplier);
  return static_cast<uint32_t>(h ^ h >> 32);
}

}  // namespace flow_hash
}  // namespace ringcap

// The generator's frames: the first 64 bytes of one frame of each flow, made once at the start.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace ringcap::gen {

enum class Mix { kIpv4, kIpv6, kVlan, kAll };  // protocols of the frames
enum class Write { kNothing, kHead, kAll };  // what of each frame is written anew: the first 64 bytes, or all

struct alignas(64) Template {
  std::array<std::byte, 64> bytes;
};

inline constexpr uint32_t kSequenceOffset = 56;
inline constexpr uint32_t kSequenceOffsetIpv6 = 62;

struct Templates {
  std::vector<Template> frames;  // by flow
  std::vector<uint8_t> ipv6;     // by flow: 1 where the sequence number is short
};

// `flows` templates for frames of `length` bytes; addresses and ports follow from `seed`.
Templates make_templates(Mix mix, uint64_t flows, uint32_t length, uint64_t seed);

// The lengths of imix, a cycle of 12: seven of 64, four of 594, one of 1,514 bytes.
inline constexpr std::array<uint32_t, 12> kImixLengths{64, 64, 594, 64, 64, 594, 64, 1514, 64, 594, 64, 594};

}  // namespace ringcap::gen

// The one copy of `packet:`: from the kernel's block into a buffer of the arena. Worker only.
#pragma once

#include <arpa/inet.h>

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace ringcap::packet {

inline constexpr uint32_t kLine = 64;
inline constexpr uint32_t kAddressesBytes = 12;  // two MAC addresses; the tag comes after them
inline constexpr uint32_t kTagBytes = 4;

// Copies `bytes` bytes. May read up to `readable` bytes (at least `bytes`) and write up to `room` bytes
// (at least `bytes`): whole lines where there is room, which for a small frame is one load and store of
// known size in place of a call that looks at the length.
inline void copy_bytes(std::byte* to, const std::byte* from, uint32_t bytes, uint32_t readable,
                       uint32_t room) {
  const size_t lines = (size_t{bytes} + kLine - 1) / kLine;
  if (lines <= 4 && lines * kLine <= readable && lines * kLine <= room) {
    for (size_t i = 0; i < lines; ++i) std::memcpy(to + i * kLine, from + i * kLine, kLine);
  } else {
    std::memcpy(to, from, bytes);
  }
}

// Copies an Ethernet frame of `bytes` bytes (at least kAddressesBytes) and puts the tag back that the
// kernel took out, in front of what the two addresses are followed by. Writes at most `room` bytes, at
// least kAddressesBytes + kTagBytes of them available; returns how many are the frame's.
inline uint32_t copy_with_tag(std::byte* to, const std::byte* from, uint32_t bytes, uint16_t tpid,
                              uint16_t tci, uint32_t room) {
  const uint16_t tag[2] = {htons(tpid), htons(tci)};
  uint32_t rest = bytes - kAddressesBytes;
  if (rest > room - kAddressesBytes - kTagBytes) rest = room - kAddressesBytes - kTagBytes;
  std::memcpy(to, from, kAddressesBytes);
  std::memcpy(to + kAddressesBytes, tag, kTagBytes);
  std::memcpy(to + kAddressesBytes + kTagBytes, from + kAddressesBytes, rest);
  return kAddressesBytes + kTagBytes + rest;
}

}  // namespace ringcap::packet

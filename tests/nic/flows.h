// Frames of flows, for tests of RSS, and a Toeplitz hash that is written from Microsoft's description ("RSS
// Hashing Functions") and shares nothing with the driver's.
#pragma once

#include <array>
#include <cstdint>
#include <cstring>
#include <random>
#include <vector>

namespace ringcap::nic {

enum class Protocol : uint8_t { kTcp = 6, kUdp = 17, kIcmp = 1 };

struct Flow {
  bool ipv6 = false;
  Protocol protocol = Protocol::kTcp;
  std::array<uint8_t, 16> source{}, destination{};  // IPv4: the first four
  uint16_t source_port = 0, destination_port = 0;

  size_t address_bytes() const { return ipv6 ? 16 : 4; }
  // What is hashed: addresses, with or without ports.
  std::vector<uint8_t> tuple(bool ports) const {
    std::vector<uint8_t> bytes(source.begin(), source.begin() + static_cast<int>(address_bytes()));
    bytes.insert(bytes.end(), destination.begin(), destination.begin() + static_cast<int>(address_bytes()));
    if (!ports) return bytes;
    for (const uint16_t port : {source_port, destination_port}) {
      bytes.push_back(static_cast<uint8_t>(port >> 8));
      bytes.push_back(static_cast<uint8_t>(port));
    }
    return bytes;
  }
};

inline Flow random_flow(std::mt19937& random) {
  Flow flow;
  flow.ipv6 = random() % 2;
  constexpr Protocol kProtocols[] = {Protocol::kTcp, Protocol::kUdp, Protocol::kIcmp};
  flow.protocol = kProtocols[random() % (flow.ipv6 ? 2 : 3)];
  for (auto* address : {&flow.source, &flow.destination})
    for (uint8_t& byte : *address) byte = static_cast<uint8_t>(random());
  flow.source[0] = flow.destination[0] = 0x20;  // no multicast, no loopback
  flow.source_port = static_cast<uint16_t>(random());
  flow.destination_port = static_cast<uint16_t>(random());
  return flow;
}

// `length` at least 78; `vlan`: a tag of that number. `number` is in the last four bytes.
inline std::vector<uint8_t> flow_frame(const Flow& flow, uint32_t number, uint32_t length,
                                       uint16_t vlan = 0) {
  std::vector<uint8_t> frame = {0x02, 0, 0, 0, 0, 1, 0x02, 0, 0, 0, 0, 2};
  const auto add16 = [&](uint32_t value) {
    frame.push_back(static_cast<uint8_t>(value >> 8));
    frame.push_back(static_cast<uint8_t>(value));
  };
  if (vlan != 0) {
    add16(0x8100);
    add16(vlan);
  }
  add16(flow.ipv6 ? 0x86dd : 0x0800);
  const auto rest = length - static_cast<uint32_t>(frame.size());
  const auto protocol = static_cast<uint8_t>(flow.protocol);
  if (flow.ipv6) {
    frame.insert(frame.end(), {0x60, 0, 0, 0});
    add16(rest - 40);
    frame.insert(frame.end(), {protocol, 64});
  } else {
    frame.insert(frame.end(), {0x45, 0});
    add16(rest);
    frame.insert(frame.end(), {0, 1, 0, 0, 64, protocol, 0, 0});
  }
  const std::vector<uint8_t> addresses = flow.tuple(false);
  frame.insert(frame.end(), addresses.begin(), addresses.end());
  add16(flow.source_port);
  add16(flow.destination_port);
  if (flow.protocol == Protocol::kTcp) {
    frame.insert(frame.end(), {0, 0, 0, 1, 0, 0, 0, 1, 0x50, 0x10, 0, 0});
  } else {
    add16(rest - (flow.ipv6 ? 40 : 20));
    add16(0);
  }
  frame.resize(length);
  std::memcpy(frame.data() + length - 4, &number, 4);
  return frame;
}

// The key as one long number, shifted left by one for each bit of the input.
inline uint32_t software_toeplitz(std::array<uint8_t, 40> key, const std::vector<uint8_t>& input) {
  uint32_t hash = 0;
  for (const uint8_t byte : input) {
    for (uint32_t mask = 0x80; mask != 0; mask >>= 1) {
      if (byte & mask)
        hash ^= uint32_t{key[0]} << 24 | uint32_t{key[1]} << 16 | uint32_t{key[2]} << 8 | key[3];
      for (size_t i = 0; i < key.size(); ++i)
        key[i] = static_cast<uint8_t>(key[i] << 1 | (i + 1 < key.size() ? key[i + 1] >> 7 : 0));
    }
  }
  return hash;
}

}  // namespace ringcap::nic

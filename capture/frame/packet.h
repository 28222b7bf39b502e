// A packet: one set of headers, from Ethernet (where there is one) to transport. A frame has an outer one
// and, where that is a tunnel, an inner one. What the hashes are computed from. Lives no longer than the
// look at one frame: it points into the frame's bytes.
#pragma once

#include <cstddef>
#include <cstdint>

#include "capture/frame/hash.h"
#include "capture/frame/headers.h"

namespace ringcap {

struct Packet {
  const std::byte* mac = nullptr;  // destination and source, 12 bytes; null: no Ethernet header
  const std::byte* ip = nullptr;   // the IPv4 or IPv6 header's fixed part; null: none
  uint32_t l3 = 0;                 // offset of `ip` in the frame
  uint32_t l4 = 0;                 // of the transport header; 0: none, or less than 4 bytes of it captured
  uint32_t ports = 0;              // as they lie there, source first; 0 without
  uint32_t identification = 0;     // of a fragment's datagram
  uint16_t type = kTypeNone;       // the last EtherType
  uint8_t version = 0;             // 4, 6; 0: no IP
  uint8_t protocol = 0;            // after all extension headers; in IPv6 fragments but the first: what the
                                   // fragment header names
  bool fragment = false;
  bool later_fragment = false;  // not the first of its datagram: there is no transport header
  Next inside;                  // what it carries, where it is a tunnel; else kTypeNone

  bool found() const { return mac != nullptr || version != 0; }
};

// The values of hash.h for a packet. What a kind's tuple does not include is 0.
inline uint32_t hash_tuple(const Packet& packet, uint32_t ports, uint32_t number, const HashKey& key) {
  using namespace flow_hash;
  const auto source_port = static_cast<uint16_t>(ports);
  const auto target_port = static_cast<uint16_t>(ports >> 16);
  if (packet.version == 4)
    return finish(end_ipv4(load<uint32_t>(packet.ip + 12), source_port),
                  end_ipv4(load<uint32_t>(packet.ip + 16), target_port), kKindIpv4 | number, key);
  if (packet.version == 6)
    return finish(end_ipv6(packet.ip + 8, source_port, key), end_ipv6(packet.ip + 24, target_port, key),
                  kKindIpv6 | number, key);
  return finish(end_mac(packet.mac + 6), end_mac(packet.mac), kKindMac | number, key);
}

inline uint32_t hash_flow5(const Packet& packet, const HashKey& key) {
  const uint32_t type = packet.type < kFirstType ? 0 : packet.type;
  return hash_tuple(packet, packet.ports, packet.version != 0 ? packet.protocol : type, key);
}
inline uint32_t hash_flow4(const Packet& packet, const HashKey& key) {
  return hash_tuple(packet, packet.ports, 0, key);
}
inline uint32_t hash_flow2(const Packet& packet, const HashKey& key) { return hash_tuple(packet, 0, 0, key); }

// One end alone, by its address: the same value whether it is source or destination.
struct EndHashes {
  uint32_t source;
  uint32_t target;
};
EndHashes hash_ends(const Packet& packet, const HashKey& key);

// Every hash of a packet: what is remembered of a datagram's first fragment. No initialisers: most walks
// reserve room for some and use none.
struct PacketHashes {
  uint32_t flow5;
  uint32_t flow4;
  uint32_t flow2;
  EndHashes ends;
  uint8_t version;
  uint8_t protocol;
};
PacketHashes hash_packet(const Packet& packet, const HashKey& key);

// Names a fragment's datagram, by addresses, identification and (IPv4) protocol: RFC 791, 3.2; RFC 8200,
// 4.5. 64 bits by the key, so that nobody can make two alike. For packets with `fragment` only.
uint64_t datagram_id(const Packet& packet, const HashKey& key);

}  // namespace ringcap

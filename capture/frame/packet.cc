#include "capture/frame/packet.h"

namespace ringcap {

EndHashes hash_ends(const Packet& packet, const HashKey& key) {
  using namespace flow_hash;
  uint64_t source = 0;
  uint64_t target = 0;
  uint32_t kind = kKindMac;
  if (packet.version == 4) {
    source = end_ipv4(load<uint32_t>(packet.ip + 12), 0);
    target = end_ipv4(load<uint32_t>(packet.ip + 16), 0);
    kind = kKindIpv4;
  } else if (packet.version == 6) {
    source = end_ipv6(packet.ip + 8, 0, key);
    target = end_ipv6(packet.ip + 24, 0, key);
    kind = kKindIpv6;
  } else {
    source = end_mac(packet.mac + 6);
    target = end_mac(packet.mac);
  }
  return {finish(source, source, kind, key), finish(target, target, kind, key)};
}

PacketHashes hash_packet(const Packet& packet, const HashKey& key) {
  return {.flow5 = hash_flow5(packet, key),
          .flow4 = hash_flow4(packet, key),
          .flow2 = hash_flow2(packet, key),
          .ends = hash_ends(packet, key),
          .version = packet.version,
          .protocol = packet.protocol};
}

uint64_t datagram_id(const Packet& packet, const HashKey& key) {
  using namespace flow_hash;
  uint64_t addresses = 0;
  uint64_t rest = uint64_t{packet.version} << 40 | packet.identification;
  if (packet.version == 4) {
    addresses = mum(load<uint32_t>(packet.ip + 12) ^ key.k0, load<uint32_t>(packet.ip + 16) ^ key.k1);
    rest |= uint64_t{load<uint8_t>(packet.ip + 9)} << 32;
  } else {
    addresses = mum(end_ipv6(packet.ip + 8, 0, key) ^ key.k0, end_ipv6(packet.ip + 24, 0, key) ^ key.k1);
  }
  return mum(addresses ^ rest, kMultiplier) ^ key.k0;
}

}  // namespace ringcap

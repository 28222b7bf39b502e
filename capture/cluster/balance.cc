#include "capture/cluster/balance.h"

#include "capture/frame/packet.h"
#include "capture/frame/walk.h"

namespace ringcap::cluster {
namespace {

using flow_hash::load;

// What the ports and the protocol are of: the packet of one level, where parse_frame() left enough in the
// frame to find it without a walk. Its type is not filled in: flow5 of other frames is the frame's hash.
bool quick_packet(Level level, const Frame& frame, Packet& packet) {
  if ((frame.flags & layout::kFragment) != 0) return false;
  const bool tunnel = (frame.flags & layout::kTunnel) != 0;
  const bool inner = tunnel && level == Level::kInner;
  packet.l3 = inner ? frame.inner_l3 : frame.l3_half * 2U;
  packet.l4 = inner ? frame.inner_l4 : frame.l4_half * 2U;
  if (packet.l3 == 0) {
    packet.mac = frame.data;
    return !tunnel;
  }
  packet.ip = frame.data + packet.l3;
  packet.version = load<uint8_t>(packet.ip) >> 4;
  if (packet.version == 4) {
    if ((load<uint16_t>(packet.ip + 6) & 0xff3f) != 0) return false;  // a fragment: little-endian, as loaded
    packet.protocol = load<uint8_t>(packet.ip + 9);
  } else {
    if (packet.version != 6 || packet.l4 != packet.l3 + 40) return false;
    packet.protocol = load<uint8_t>(packet.ip + 6);
  }
  if (packet.l4 != 0 && has_ports(packet.protocol)) packet.ports = load<uint32_t>(frame.data + packet.l4);
  return true;
}

// `packet` may be a Packet or the PacketHashes that are remembered of one.
template <typename P>
bool by_flow5(Kind kind, const P& packet) {
  if (kind == Kind::kTcp5) return packet.version != 0 && packet.protocol == kTcp;
  if (kind == Kind::kIp5) return packet.version != 0;
  return kind == Kind::kFlow5;
}

uint32_t hash_by(Kind kind, const Packet& packet, const HashKey& key) {
  if (by_flow5(kind, packet)) return hash_flow5(packet, key);
  return kind == Kind::kFlow4 ? hash_flow4(packet, key) : hash_flow2(packet, key);
}

uint32_t hash_by(Kind kind, const PacketHashes& packet) {
  if (by_flow5(kind, packet)) return packet.flow5;
  return kind == Kind::kFlow4 ? packet.flow4 : packet.flow2;
}

uint32_t hash_vlan(uint16_t vlan, const HashKey& key) {
  return flow_hash::finish(vlan, vlan, flow_hash::kKindVlan, key);
}

std::pair<uint32_t, uint32_t> walked_ends(Level level, const Frame& frame, const HashKey& key,
                                          const FragmentTable& fragments) {
  Walk walk;
  walk_frame(frame, key, walk);
  if (!walk.outer.found()) return {0, 0};
  const Packet& packet = level == Level::kOuter ? walk.outer : walk.innermost();
  const Datagram* const known = find_datagram(walk, fragments, key, frame.timestamp_ns);
  const bool remembered = known != nullptr && packet.later_fragment && level == Level::kInner;
  const EndHashes ends = remembered ? known->innermost.ends : hash_ends(packet, key);
  return {ends.source, ends.target};
}

// Untagged, or one tag: which needs no walk.
bool quick_vlan(const Frame& frame, uint16_t& vlan) {
  vlan = 0;
  if ((frame.flags & (layout::kTunnel | layout::kFragment)) != 0) return false;
  if ((frame.flags & layout::kVlan) == 0) return true;
  if (frame.captured < 18) return false;
  vlan = __builtin_bswap16(load<uint16_t>(frame.data + 14)) & 0xfff;
  return !is_vlan(__builtin_bswap16(load<uint16_t>(frame.data + 16)));
}

}  // namespace

uint32_t walked_balance_hash(Kind kind, Level level, const Frame& frame, const HashKey& key,
                             const FragmentTable& fragments) {
  if ((frame.flags & layout::kHashValid) == 0) return 0;
  Walk walk;
  walk_frame(frame, key, walk);
  if (!walk.outer.found()) return 0;
  const Packet& packet = level == Level::kOuter ? walk.outer : walk.innermost();
  const Datagram* known = find_datagram(walk, fragments, key, frame.timestamp_ns);
  if (!packet.later_fragment) known = nullptr;  // of the other level
  if (kind == Kind::kVlan) {
    if (level == Level::kOuter) return hash_vlan(walk.first_vlan, key);
    return hash_vlan(known != nullptr ? known->inner_vlan : walk.last_vlan, key);
  }
  if (known == nullptr) return hash_by(kind, packet, key);
  return hash_by(kind, level == Level::kOuter ? known->self : known->innermost);
}

uint32_t other_balance_hash(Kind kind, Level level, const Frame& frame, const HashKey& key,
                            const FragmentTable& fragments) {
  if ((frame.flags & layout::kHashValid) == 0) return 0;
  if (kind == Kind::kVlan) {
    uint16_t vlan = 0;
    return quick_vlan(frame, vlan) ? hash_vlan(vlan, key)
                                   : walked_balance_hash(kind, level, frame, key, fragments);
  }
  Packet packet;
  if (!quick_packet(level, frame, packet)) return walked_balance_hash(kind, level, frame, key, fragments);
  const bool own = level == Level::kInner || (frame.flags & layout::kTunnel) == 0;
  if (own && by_flow5(kind, packet)) return frame.hash;
  return hash_by(kind, packet, key);
}

std::pair<uint32_t, uint32_t> ends_hashes(Level level, const Frame& frame, const HashKey& key,
                                          const FragmentTable& fragments) {
  if ((frame.flags & layout::kHashValid) == 0) return {0, 0};
  Packet packet;
  if (!quick_packet(level, frame, packet)) return walked_ends(level, frame, key, fragments);
  const EndHashes ends = hash_ends(packet, key);
  return {ends.source, ends.target};
}

}  // namespace ringcap::cluster

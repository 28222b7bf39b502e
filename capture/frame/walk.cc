#include "capture/frame/walk.h"

#include "capture/frame/tunnels.h"

namespace ringcap {
namespace {

using flow_hash::load;

constexpr uint32_t kEthernetBytes = 14;

// ---- up to the network header --------------------------------------------------------------------------

// Past all VLAN tags (IEEE 802.1Q, clause 9).
Next skip_vlans(Bytes& bytes, Next link, bool outermost, Walk& walk) {
  while (is_vlan(link.type)) {
    const bool first = outermost && !walk.tagged;
    if (outermost) walk.tagged = true;
    if (!bytes.has(link.offset, 4) || !bytes.may_walk()) break;
    walk.last_vlan = bytes.be16(link.offset) & 0xfff;
    if (first) walk.first_vlan = walk.last_vlan;
    link = {link.offset + 4, bytes.be16(link.offset + 2)};
  }
  return link;
}

// Past the six bytes of PPPoE's session stage (RFC 2516, 4), if IP or MPLS follows.
Next skip_pppoe(Bytes& bytes, Next link) {
  if (link.type == kTypePpp) return ppp_next(bytes, link.offset);
  if (link.type != kTypePppoe || !bytes.has(link.offset, 8) || !bytes.may_walk()) return link;
  if (bytes.be16(link.offset) != 0x1100) return link;
  const Next next = ppp_next(bytes, link.offset + 6);
  return next.type == kTypeNone ? link : next;
}

// What is under a label stack: its bottom does not say. The first four bits tell IPv4 and IPv6 (RFC 4928,
// 3); 0 may be the control word of a pseudowire (RFC 4385), or a MAC address. `link` is what it was.
Next under_labels(const Bytes& bytes, uint32_t offset, Next link, Packet& packet) {
  if (!bytes.has(offset, 1)) return link;
  const uint8_t first_bits = bytes.u8(offset) >> 4;
  if (first_bits == 4) return {offset, kTypeIpv4};
  if (first_bits == 6) return {offset, kTypeIpv6};
  if (first_bits == 0 && looks_like_ethernet(bytes, offset + 4))
    packet.inside = {offset + 4, kTypeEthernet};
  else if (looks_like_ethernet(bytes, offset))
    packet.inside = {offset, kTypeEthernet};
  return link;
}

// Past the label stack (RFC 3032, 2.1).
Next skip_labels(Bytes& bytes, Next link, Packet& packet) {
  if (!is_mpls(link.type)) return link;
  uint32_t offset = link.offset;
  bool bottom = false;
  while (!bottom) {
    if (!bytes.has(offset, 4) || !bytes.may_walk()) return link;
    bottom = (bytes.u8(offset + 2) & 1) != 0;
    offset += 4;
  }
  return under_labels(bytes, offset, link, packet);
}

// ---- IP ------------------------------------------------------------------------------------------------

// Notes the transport header at `offset` if its first 4 bytes are captured, and what it carries.
void walk_transport(Bytes& bytes, uint32_t offset, Packet& packet) {
  if (!bytes.has(offset, 4) || packet.protocol == kNoNextHeader) return;
  packet.l4 = offset;
  if (has_ports(packet.protocol)) packet.ports = load<uint32_t>(bytes.at(offset));
  packet.inside = tunnel_next(bytes, packet);
}

// RFC 791, 3.1.
void walk_ipv4(Bytes& bytes, uint32_t offset, Packet& packet) {
  if (!bytes.has(offset, 20) || !bytes.may_walk()) return;
  const uint32_t header_bytes = (bytes.u8(offset) & 0xf) * 4;
  if (bytes.u8(offset) >> 4 != 4 || header_bytes < 20) return;
  packet.l3 = offset;
  packet.ip = bytes.at(offset);
  packet.version = 4;
  packet.protocol = bytes.u8(offset + 9);
  const uint16_t fragment = bytes.be16(offset + 6);
  packet.later_fragment = (fragment & 0x1fff) != 0;
  packet.fragment = (fragment & 0x3fff) != 0;
  packet.identification = bytes.be16(offset + 4);
  if (!packet.later_fragment) walk_transport(bytes, offset + header_bytes, packet);
}

// The walk over IPv6 extension headers (RFC 8200, 4; lengths by RFC 6564 and, for AH, RFC 4302, 2.2).
// packet.protocol names the header at `offset`.
struct Extensions {
  uint32_t offset;
  bool cut = false;  // an extension header that is not captured, or one too many
};

bool has_common_form(uint8_t protocol) {
  return protocol == kHopByHop || protocol == kRouting || protocol == kDestinationOptions ||
         protocol == kMobility || protocol == kHostIdentity || protocol == kShim6;
}

// False after a later fragment's, behind which there are no headers.
bool walk_fragment_header(const Bytes& bytes, Extensions& walk, Packet& packet) {
  const uint16_t fragment = bytes.be16(walk.offset + 2);
  const uint32_t identification = bytes.be32(walk.offset + 4);
  packet.protocol = bytes.u8(walk.offset);
  walk.offset += 8;
  if ((fragment & 0xfff9) == 0) return true;  // an atomic fragment is a whole datagram (RFC 6946)
  if (!packet.fragment) packet.identification = identification;
  packet.fragment = true;
  packet.later_fragment = (fragment & 0xfff8) != 0;
  return !packet.later_fragment;
}

// One header on; false at the last one.
bool step(Bytes& bytes, Extensions& walk, Packet& packet) {
  const bool fragment = packet.protocol == kFragmentHeader;
  const bool authentication = packet.protocol == kAuthentication;
  if (!fragment && !authentication && !has_common_form(packet.protocol)) return false;
  walk.cut = !bytes.has(walk.offset, 8) || !bytes.may_walk();
  if (walk.cut) return false;
  if (fragment) return walk_fragment_header(bytes, walk, packet);
  const uint32_t length = bytes.u8(walk.offset + 1);
  packet.protocol = bytes.u8(walk.offset);
  walk.offset += authentication ? (length + 2) * 4 : (length + 1) * 8;
  return true;
}

void walk_ipv6(Bytes& bytes, uint32_t offset, Packet& packet) {
  if (!bytes.has(offset, 40) || !bytes.may_walk()) return;
  if (bytes.u8(offset) >> 4 != 6) return;
  packet.l3 = offset;
  packet.ip = bytes.at(offset);
  packet.version = 6;
  packet.protocol = bytes.u8(offset + 6);
  Extensions walk{.offset = offset + 40};
  while (step(bytes, walk, packet)) {
  }
  if (!packet.later_fragment && !walk.cut) walk_transport(bytes, walk.offset, packet);
}

// ---- packets -------------------------------------------------------------------------------------------

void walk_packet(Bytes& bytes, Next link, Packet& packet, Walk& walk) {
  if (link.type == kTypeEthernet) {
    if (!bytes.has(link.offset, kEthernetBytes) || !bytes.may_walk()) return;
    packet.mac = bytes.at(link.offset);
    link = {link.offset + kEthernetBytes, bytes.be16(link.offset + 12)};
  }
  link = skip_labels(bytes, skip_pppoe(bytes, skip_vlans(bytes, link, &packet == &walk.outer, walk)), packet);
  packet.type = link.type;
  if (link.type == kTypeIpv4) walk_ipv4(bytes, link.offset, packet);
  if (link.type == kTypeIpv6) walk_ipv6(bytes, link.offset, packet);
}

void note_first_fragment(const Packet& packet, const HashKey& key, Walk& walk) {
  if (!packet.fragment || packet.later_fragment || walk.first_fragments == kMaxFirstFragments) return;
  walk.firsts[walk.first_fragments++] = {datagram_id(packet, key), hash_packet(packet, key)};
}

}  // namespace

// Ends, because no packet without at least one header that may_walk() allowed has something inside.
void walk_frame(const Frame& frame, const HashKey& key, Walk& walk) {
  Bytes bytes(frame);
  walk_packet(bytes, {0, kTypeEthernet}, walk.outer, walk);
  note_first_fragment(walk.outer, key, walk);
  uint16_t vlan = walk.last_vlan;  // tags that no packet follows do not count
  for (Next link = walk.outer.inside; link.type != kTypeNone;) {
    Packet packet;
    walk_packet(bytes, link, packet, walk);
    link = packet.inside;
    if (!packet.found()) continue;  // labels with a pseudowire under them, straight in a tunnel; or no packet
    note_first_fragment(packet, key, walk);
    vlan = walk.last_vlan;
    walk.inner = packet;
    walk.tunnel = true;
  }
  walk.last_vlan = vlan;
}

}  // namespace ringcap

#include "capture/frame/parse.h"

#include <optional>

namespace ringcap {
namespace {

using flow_hash::load;
using frame_detail::kEthernetBytes;

enum EtherType : uint16_t {
  kTypeIpv4 = 0x0800,
  kTypeVlan = 0x8100,
  kTypeIpv6 = 0x86dd,
  kTypeMpls = 0x8847,
  kTypeMplsMulticast = 0x8848,
  kTypeServiceVlan = 0x88a8,
  kTypeOldStackedVlan = 0x9100,
  kFirstType = 0x0600,  // smaller values are IEEE 802.3 lengths
};

// https://www.iana.org/assignments/protocol-numbers
enum Protocol : uint8_t {
  kHopByHop = 0,
  kTcp = 6,
  kUdp = 17,
  kRouting = 43,
  kFragmentHeader = 44,
  kAuthentication = 51,
  kNoNextHeader = 59,
  kDestinationOptions = 60,
  kSctp = 132,
  kMobility = 135,
  kHostIdentity = 139,
  kShim6 = 140,
};

bool has_ports(uint8_t protocol) { return protocol == kTcp || protocol == kUdp || protocol == kSctp; }

// The captured bytes of one frame, and how many headers may still be walked.
class Bytes {
 public:
  explicit Bytes(const Frame& frame) : data_(frame.data), end_(frame.captured) {}

  bool has(uint32_t offset, uint32_t bytes) const { return offset <= end_ && bytes <= end_ - offset; }
  // For each of these has() was asked before.
  const std::byte* at(uint32_t offset) const { return data_ + offset; }
  uint8_t u8(uint32_t offset) const { return load<uint8_t>(at(offset)); }
  uint16_t be16(uint32_t offset) const { return __builtin_bswap16(load<uint16_t>(at(offset))); }

  // To be asked before each header: bounds depth and work.
  bool may_walk() {
    if (headers_left_ == 0) return false;
    --headers_left_;
    return true;
  }

 private:
  const std::byte* data_;
  uint32_t end_;
  uint32_t headers_left_ = kMaxHeaders;
};

// What the walk has found so far. Tunnels will walk again from an inner header with the same Bytes.
struct Found {
  uint32_t l3 = 0;
  uint32_t l4 = 0;
  uint16_t flags = 0;
  std::optional<uint32_t> hash;
};

// Where the walk stands: the next header begins at `offset` and is of `type`.
struct Link {
  uint32_t offset;
  uint16_t type;
};

bool is_vlan(uint16_t type) {
  return type == kTypeVlan || type == kTypeServiceVlan || type == kTypeOldStackedVlan;
}

// Past all VLAN tags (IEEE 802.1Q, clause 9).
Link skip_vlans(Bytes& bytes, Link link, Found& found) {
  while (is_vlan(link.type)) {
    found.flags |= layout::kVlan;
    if (!bytes.has(link.offset, 4) || !bytes.may_walk()) break;
    link = {link.offset + 4, bytes.be16(link.offset + 2)};
  }
  return link;
}

// Past the label stack (RFC 3032, 2.1), whose bottom does not say what follows: the first four bits
// tell IPv4 and IPv6 (RFC 4928, 3); anything else stays MPLS.
Link skip_labels(Bytes& bytes, Link link) {
  if (link.type != kTypeMpls && link.type != kTypeMplsMulticast) return link;
  uint32_t offset = link.offset;
  bool bottom = false;
  while (!bottom) {
    if (!bytes.has(offset, 4) || !bytes.may_walk()) return link;
    bottom = (bytes.u8(offset + 2) & 1) != 0;
    offset += 4;
  }
  if (!bytes.has(offset, 1)) return link;
  const uint8_t version = bytes.u8(offset) >> 4;
  if (version == 4) return {offset, kTypeIpv4};
  if (version == 6) return {offset, kTypeIpv6};
  return link;
}

// Notes the transport header at `offset` if its first 4 bytes are captured; its ports as one load, if it
// has any.
std::optional<uint32_t> transport(const Bytes& bytes, uint32_t offset, uint8_t protocol, Found& found) {
  if (!bytes.has(offset, 4) || protocol == kNoNextHeader) return std::nullopt;
  found.l4 = offset;
  if (!has_ports(protocol)) return std::nullopt;
  return load<uint32_t>(bytes.at(offset));
}

uint16_t source_port(uint32_t ports) { return static_cast<uint16_t>(ports); }
uint16_t target_port(uint32_t ports) { return static_cast<uint16_t>(ports >> 16); }

// RFC 791, 3.1.
void walk_ipv4(Bytes& bytes, uint32_t offset, const HashKey& key, Found& found) {
  if (!bytes.has(offset, 20) || !bytes.may_walk()) return;
  const uint32_t header_bytes = (bytes.u8(offset) & 0xf) * 4;
  if (bytes.u8(offset) >> 4 != 4 || header_bytes < 20) return;
  found.l3 = offset;
  const uint16_t fragment = bytes.be16(offset + 6);
  const bool later = (fragment & 0x1fff) != 0;
  const bool more = (fragment & 0x2000) != 0;
  if (later || more) found.flags |= layout::kFragment;
  if (more && !later) found.flags |= layout::kFirstFragment;
  const uint8_t protocol = bytes.u8(offset + 9);
  uint32_t ports = 0;
  if (!later) ports = transport(bytes, offset + header_bytes, protocol, found).value_or(0);
  if (more) ports = 0;
  found.hash =
      flow_hash::finish(flow_hash::end_ipv4(load<uint32_t>(bytes.at(offset + 12)), source_port(ports)),
                        flow_hash::end_ipv4(load<uint32_t>(bytes.at(offset + 16)), target_port(ports)),
                        flow_hash::kKindIpv4 | protocol, key);
}

// The walk over IPv6 extension headers (RFC 8200, 4; lengths by RFC 6564 and, for AH, RFC 4302, 2.2).
struct Extensions {
  uint32_t offset;  // of the header that `protocol` names
  uint8_t protocol;
  bool cut = false;  // an extension header that is not captured, or one too many
  bool fragment = false;
  bool later_fragment = false;
  uint8_t fragment_protocol = 0;  // what the fragment header names: the same in every fragment
};

bool has_common_form(uint8_t protocol) {
  return protocol == kHopByHop || protocol == kRouting || protocol == kDestinationOptions ||
         protocol == kMobility || protocol == kHostIdentity || protocol == kShim6;
}

void walk_fragment_header(const Bytes& bytes, Extensions& walk) {
  const uint16_t fragment = bytes.be16(walk.offset + 2);
  const bool later = (fragment & 0xfff8) != 0;
  const bool more = (fragment & 1) != 0;
  walk.protocol = bytes.u8(walk.offset);
  walk.offset += 8;
  if (!later && !more) return;  // an atomic fragment is a whole datagram (RFC 6946)
  if (!walk.fragment) walk.fragment_protocol = walk.protocol;
  walk.fragment = true;
  walk.later_fragment = later;
}

// One header on; false at the last one.
bool step(Bytes& bytes, Extensions& walk) {
  const bool fragment = walk.protocol == kFragmentHeader;
  const bool authentication = walk.protocol == kAuthentication;
  if (!fragment && !authentication && !has_common_form(walk.protocol)) return false;
  walk.cut = !bytes.has(walk.offset, 8) || !bytes.may_walk();
  if (walk.cut) return false;
  if (fragment) {
    walk_fragment_header(bytes, walk);
    return !walk.later_fragment;
  }
  const uint32_t length = bytes.u8(walk.offset + 1);
  walk.protocol = bytes.u8(walk.offset);
  walk.offset += authentication ? (length + 2) * 4 : (length + 1) * 8;
  return true;
}

void walk_ipv6(Bytes& bytes, uint32_t offset, const HashKey& key, Found& found) {
  if (!bytes.has(offset, 40) || !bytes.may_walk()) return;
  if (bytes.u8(offset) >> 4 != 6) return;
  found.l3 = offset;
  Extensions walk{.offset = offset + 40, .protocol = bytes.u8(offset + 6)};
  while (step(bytes, walk)) {
  }
  if (walk.fragment) found.flags |= layout::kFragment;
  if (walk.fragment && !walk.later_fragment) found.flags |= layout::kFirstFragment;
  uint32_t ports = 0;
  if (!walk.later_fragment && !walk.cut)
    ports = transport(bytes, walk.offset, walk.protocol, found).value_or(0);
  if (walk.fragment) ports = 0;
  const uint8_t protocol = walk.fragment ? walk.fragment_protocol : walk.protocol;
  found.hash = flow_hash::finish(flow_hash::end_ipv6(bytes.at(offset + 8), source_port(ports), key),
                                 flow_hash::end_ipv6(bytes.at(offset + 24), target_port(ports), key),
                                 flow_hash::kKindIpv6 | protocol, key);
}

uint32_t hash_by_mac(const Bytes& bytes, uint16_t type, const HashKey& key) {
  if (type < kFirstType) type = 0;
  return flow_hash::finish(flow_hash::end_mac(bytes.at(0)), flow_hash::end_mac(bytes.at(6)),
                           flow_hash::kKindMac | type, key);
}

void walk_ethernet(Bytes& bytes, const HashKey& key, Found& found) {
  if (!bytes.has(0, kEthernetBytes)) return;
  Link link{kEthernetBytes, bytes.be16(12)};
  link = skip_labels(bytes, skip_vlans(bytes, link, found));
  if (link.type == kTypeIpv4) walk_ipv4(bytes, link.offset, key, found);
  if (link.type == kTypeIpv6) walk_ipv6(bytes, link.offset, key, found);
  if (!found.hash) found.hash = hash_by_mac(bytes, link.type, key);
}

uint8_t half(uint32_t offset) { return offset <= 510 ? static_cast<uint8_t>(offset / 2) : uint8_t{0}; }

}  // namespace

void parse_other(Frame& frame, const HashKey& key) {
  Bytes bytes(frame);
  Found found;
  walk_ethernet(bytes, key, found);
  if (found.hash) found.flags |= layout::kHashValid;
  frame.flags |= found.flags;
  frame.hash = found.hash.value_or(0);
  frame.l3_half = half(found.l3);
  frame.l4_half = half(found.l4);
}

}  // namespace ringcap

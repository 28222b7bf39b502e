#include "capture/frame/tunnels.h"

#include <iterator>

namespace ringcap {
namespace {

constexpr uint32_t kUdpBytes = 8;

// ---- GRE ---------------------------------------------------------------------------------------------

enum GreFlag : uint16_t {
  kGreChecksum = 0x8000,
  kGreRouting = 0x4000,
  kGreKey = 0x2000,
  kGreSequence = 0x1000,
  kGreAcknowledgement = 0x0080,  // version 1
  kGreVersion = 0x0007,
};

// ERSPAN type III: 12 bytes, and 8 more of the platform's if the last bit says so.
Next erspan3(const Bytes& bytes, uint32_t offset) {
  if (!bytes.has(offset, 12)) return {};
  const uint32_t platform_bytes = (bytes.u8(offset + 11) & 1) != 0 ? 8 : 0;
  return {offset + 12 + platform_bytes, kTypeEthernet};
}

Next gre(const Bytes& bytes, uint32_t offset) {
  const uint16_t flags = bytes.be16(offset);
  const uint16_t type = bytes.be16(offset + 2);
  const uint32_t version = flags & kGreVersion;
  if (version > 1 || (flags & kGreRouting) != 0 || (version == 1) != (type == kTypePpp)) return {};
  uint32_t header_bytes = 4;
  for (const uint16_t field : {kGreChecksum, kGreKey, kGreSequence})
    if ((flags & field) != 0) header_bytes += 4;
  if (version == 1 && (flags & kGreAcknowledgement) != 0) header_bytes += 4;
  const uint32_t payload = offset + header_bytes;
  // Type I has no header of its own, and no sequence numbers.
  if (type == kTypeErspan) return {(flags & kGreSequence) != 0 ? payload + 8 : payload, kTypeEthernet};
  if (type == kTypeErspan3) return erspan3(bytes, payload);
  if (version == 1) return ppp_next(bytes, payload);
  return {payload, type};
}

// ---- over UDP ----------------------------------------------------------------------------------------

// The flag I, and nothing that is reserved, but for the group policy's bits (G, D, A).
Next vxlan(const Bytes& bytes, uint32_t offset) {
  if (!bytes.has(offset, 8)) return {};
  if ((bytes.be16(offset) & ~0x8048) != 0x0800 || bytes.u8(offset + 7) != 0) return {};
  return {offset + 8, kTypeEthernet};
}

uint16_t gpe_type(uint8_t protocol) {
  constexpr uint16_t kTypes[] = {kTypeNone, kTypeIpv4, kTypeIpv6, kTypeEthernet, kTypeNone, kTypeMpls};
  return protocol < std::size(kTypes) ? kTypes[protocol] : uint16_t{kTypeNone};
}

// Version 0, flag I; flag P: there is a next protocol, else it is Ethernet; flag O: not data.
Next vxlan_gpe(const Bytes& bytes, uint32_t offset) {
  if (!bytes.has(offset, 8)) return {};
  const uint8_t flags = bytes.u8(offset);
  if ((flags & 0xf9) != 0x08 || bytes.u8(offset + 7) != 0) return {};
  const bool has_next = (flags & 0x04) != 0;
  return {offset + 8, has_next ? gpe_type(bytes.u8(offset + 3)) : uint16_t{kTypeEthernet}};
}

// Version 0, nothing reserved; flag O: not data.
Next geneve(const Bytes& bytes, uint32_t offset) {
  constexpr uint8_t kCritical = 0x40;
  if (!bytes.has(offset, 8)) return {};
  const uint8_t version_length = bytes.u8(offset);
  if (version_length >> 6 != 0 || (bytes.u8(offset + 1) & ~kCritical) != 0 || bytes.u8(offset + 7) != 0)
    return {};
  return {offset + 8 + (version_length & 0x3f) * 4U, bytes.be16(offset + 2)};
}

uint16_t ip_type(const Bytes& bytes, uint32_t offset) {
  if (!bytes.has(offset, 1)) return kTypeNone;
  const uint8_t version = bytes.u8(offset) >> 4;
  return version == 4 ? kTypeIpv4 : version == 6 ? kTypeIpv6 : kTypeNone;
}

// The chain of extension headers: length in words of 4 bytes first, the next one's type last.
Next gtp_extensions(Bytes& bytes, uint32_t offset, uint8_t next) {
  while (next != 0) {
    if (!bytes.has(offset, 1) || !bytes.may_walk()) return {};
    const uint32_t extension_bytes = bytes.u8(offset) * 4U;
    if (extension_bytes == 0 || !bytes.has(offset, extension_bytes)) return {};
    next = bytes.u8(offset + extension_bytes - 1);
    offset += extension_bytes;
  }
  return {offset, ip_type(bytes, offset)};
}

// Version 1, not GTP'; a G-PDU. One of the flags E, S, PN: four bytes more, whose last counts with E only.
Next gtp_u(Bytes& bytes, uint32_t offset) {
  if (!bytes.has(offset, 8)) return {};
  const uint8_t flags = bytes.u8(offset);
  if ((flags & 0xf8) != 0x30 || bytes.u8(offset + 1) != 0xff) return {};
  if ((flags & 0x07) == 0) return {offset + 8, ip_type(bytes, offset + 8)};
  if (!bytes.has(offset + 8, 4)) return {};
  const uint8_t next = (flags & 0x04) != 0 ? bytes.u8(offset + 11) : uint8_t{0};
  return gtp_extensions(bytes, offset + 12, next);
}

// ---- L2TP --------------------------------------------------------------------------------------------

// A cookie of 0, 4 or 8 bytes and a sublayer of 0 or 4 stand before the Ethernet header: nothing in the
// frame says which.
Next l2tpv3_payload(const Bytes& bytes, uint32_t offset) {
  for (const uint32_t skipped : {0U, 4U, 8U, 12U})
    if (looks_like_ethernet(bytes, offset + skipped)) return {offset + skipped, kTypeEthernet};
  return {};
}

// Over IP: the session's number, 0 for control messages.
Next l2tpv3(const Bytes& bytes, uint32_t offset) {
  if (bytes.be32(offset) == 0) return {};
  return l2tpv3_payload(bytes, offset + 4);
}

enum L2tpFlag : uint16_t {
  kL2tpControl = 0x8000,
  kL2tpLength = 0x4000,
  kL2tpSequence = 0x0800,
  kL2tpOffset = 0x0200,
  kL2tpReserved = 0x34f0,
  kL2tpVersion = 0x000f,
};

Next l2tpv2(const Bytes& bytes, uint32_t offset, uint16_t flags) {
  uint32_t at =
      offset + 2 + ((flags & kL2tpLength) != 0 ? 2 : 0) + 4 + ((flags & kL2tpSequence) != 0 ? 4 : 0);
  if ((flags & kL2tpOffset) != 0) {
    if (!bytes.has(at, 2)) return {};
    at += 2U + bytes.be16(at);
  }
  return ppp_next(bytes, at);
}

Next l2tp_over_udp(const Bytes& bytes, uint32_t offset) {
  if (!bytes.has(offset, 8)) return {};
  const uint16_t flags = bytes.be16(offset);
  if ((flags & kL2tpControl) != 0 || (flags & kL2tpReserved) != 0) return {};
  if ((flags & kL2tpVersion) == 2) return l2tpv2(bytes, offset, flags);
  if (flags == 3 && bytes.be32(offset + 4) != 0) return l2tpv3_payload(bytes, offset + 8);
  return {};
}

Next udp(Bytes& bytes, const Packet& packet) {
  const uint32_t payload = packet.l4 + kUdpBytes;
  const uint16_t source = __builtin_bswap16(static_cast<uint16_t>(packet.ports));
  const uint16_t target = __builtin_bswap16(static_cast<uint16_t>(packet.ports >> 16));
  switch (target) {
    case kPortVxlan:
    case kPortOldVxlan:
      return vxlan(bytes, payload);
    case kPortVxlanGpe:
      return vxlan_gpe(bytes, payload);
    case kPortGeneve:
      return geneve(bytes, payload);
    case kPortGtpU:
      return gtp_u(bytes, payload);
    default:
      return target == kPortL2tp || source == kPortL2tp ? l2tp_over_udp(bytes, payload) : Next{};
  }
}

}  // namespace

Next tunnel_next(Bytes& bytes, const Packet& packet) {
  switch (packet.protocol) {
    case kUdp:
      return udp(bytes, packet);
    case kIpv4InIp:
      return {packet.l4, kTypeIpv4};
    case kIpv6InIp:
      return {packet.l4, kTypeIpv6};
    case kGre:
      return gre(bytes, packet.l4);
    case kL2tp:
      return l2tpv3(bytes, packet.l4);
    default:
      return {};
  }
}

bool looks_like_ethernet(const Bytes& bytes, uint32_t offset) {
  if (!bytes.has(offset, 16)) return false;
  const uint16_t type = bytes.be16(offset + 12);
  const uint16_t next = bytes.be16(offset + 14);
  if (type == kTypeIpv4) return next >> 12 == 4 && (next >> 8 & 0xf) >= 5;
  if (type == kTypeIpv6) return next >> 12 == 6;
  if (type == kTypeArp) return next == 1;         // hardware type Ethernet
  if (type == kTypePppoe) return next == 0x1100;  // version, type, code
  return is_vlan(type) || is_mpls(type);
}

Next ppp_next(const Bytes& bytes, uint32_t offset) {
  if (!bytes.has(offset, 2)) return {};
  if (bytes.be16(offset) == 0xff03) offset += 2;
  if (!bytes.has(offset, 2)) return {};
  // An odd first byte is a whole protocol number whose leading zero was left out.
  const bool compressed = (bytes.u8(offset) & 1) != 0;
  const uint16_t protocol = compressed ? bytes.u8(offset) : bytes.be16(offset);
  offset += compressed ? 1 : 2;
  switch (protocol) {
    case 0x0021:
      return {offset, kTypeIpv4};
    case 0x0057:
      return {offset, kTypeIpv6};
    case 0x0281:
      return {offset, kTypeMpls};
    default:
      return {};
  }
}

}  // namespace ringcap

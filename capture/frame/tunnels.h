// Tunnels: what a packet carries, by its transport header. Part of the walk.
//
//   by protocol   IPv4 and IPv6 in IP; GRE with checksum, key and sequence (RFC 2784, 2890), with NVGRE
//                 (RFC 7637), ERSPAN types I, II and III, PPTP (RFC 2637); L2TPv3 (RFC 3931)
//   by UDP port   VXLAN (RFC 7348), VXLAN-GPE, Geneve (RFC 8926), GTP-U (3GPP TS 29.281), L2TPv2 (RFC 2661)
//                 and L2TPv3
//   under MPLS    Ethernet pseudowires, with control word and without (RFC 4448)
//
// A tunnel's header must say what it is (flags, version, reserved bits); a packet to a tunnel's port with
// something else in it is an ordinary one. L2TPv3 and pseudowires do not say what they carry: they are
// entered only where an Ethernet header with a known type and its next header stand at a possible place.
#pragma once

#include "capture/frame/headers.h"
#include "capture/frame/packet.h"

namespace ringcap {

// What the packet's transport header, at packet.l4, says that follows it; kTypeNone: no tunnel.
// packet.l4 is not 0, so 4 bytes of it are captured.
Next tunnel_next(Bytes& bytes, const Packet& packet);

// Whether an Ethernet header may be at `offset`: known type, and what follows agrees with it.
bool looks_like_ethernet(const Bytes& bytes, uint32_t offset);

// Past PPP's address and control field, where it has one, and its protocol field (RFC 1661, 1662).
Next ppp_next(const Bytes& bytes, uint32_t offset);

}  // namespace ringcap

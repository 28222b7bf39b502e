// The frame parser: finds the headers of each frame once, so that nobody downstream has to. Called by
// the worker for every frame that passed the engine's filter, and by tests. Ethernet frames only.
//
// It reads Ethernet II, stacked VLAN tags (0x8100, 0x88a8, 0x9100), PPPoE, MPLS label stacks, IPv4 with
// options, IPv6 with extension headers, TCP, UDP, UDP-Lite, DCCP, SCTP and ICMP, and goes into the tunnels
// that tunnels.h lists, whatever they stand on, to the innermost packet.
//
// Frames are hostile input: every load is checked against `captured`, and a frame costs at most
// kMaxHeaders (headers.h) steps. What cannot be read ends the walk; what was found until then stands. Lengths
// that headers claim (IPv4's total length, UDP's length) are not believed and not needed.
//
// Two ways through: parse_plain() is inlined into the loop and takes the frame that nearly all traffic
// is made of; parse_other() is out of line and takes everything. Both give the same result where
// both apply; a test says so.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

#ifdef __SSE2__
#include <emmintrin.h>
#endif

#include "capture/frame/fragments.h"
#include "capture/frame/hash.h"
#include "capture/frame/headers.h"
#include "capture/layout/layout.h"
#include "capture/port/port.h"

namespace ringcap {

// The general parser, for any frame. See parse_frame() for what it sets.
void parse_other(Frame& frame, const HashKey& key, FragmentTable& fragments);

namespace frame_detail {

using flow_hash::load;

inline constexpr uint32_t kEthernetBytes = 14;
inline constexpr uint32_t kTaggedBytes = 18;  // with one VLAN tag

// TCP or UDP, without a branch that a mix of the two would make the processor guess.
inline bool is_tcp_or_udp(uint32_t protocol) {
  return ((uint64_t{1} << 6 | uint64_t{1} << 17) >> (protocol & 63) & (protocol < 64)) != 0;
}

// Whether the ports (as they lie in the frame, source first) may be a tunnel's: then parse_other() looks. In
// a few instructions for all of them: a compare and a jump for each would cost more than that.
inline bool may_be_tunnel(uint32_t ports) {
#ifdef __SSE2__
  constexpr auto swapped = [](uint16_t port) { return static_cast<short>(__builtin_bswap16(port)); };
  constexpr short kL2tp = swapped(kPortL2tp);
  const __m128i both = _mm_set1_epi32(static_cast<int>(ports));
  const __m128i some = _mm_setr_epi16(kL2tp, swapped(kPortVxlan), kL2tp, swapped(kPortVxlanGpe), kL2tp,
                                      swapped(kPortGeneve), kL2tp, swapped(kPortGtpU));
  const __m128i others =
      _mm_setr_epi16(kL2tp, swapped(kPortOldVxlan), kL2tp, kL2tp, kL2tp, kL2tp, kL2tp, kL2tp);
  return _mm_movemask_epi8(_mm_or_si128(_mm_cmpeq_epi16(both, some), _mm_cmpeq_epi16(both, others))) != 0;
#else
  const uint16_t source = __builtin_bswap16(static_cast<uint16_t>(ports));
  const uint16_t target = __builtin_bswap16(static_cast<uint16_t>(ports >> 16));
  return source == kPortL2tp || target == kPortL2tp || target == kPortVxlan || target == kPortVxlanGpe ||
         target == kPortGeneve || target == kPortGtpU || target == kPortOldVxlan;
#endif
}

// captured, flags and the two offsets lie in eight bytes: one load and one store for all of them.
inline void set_plain(Frame& frame, uint32_t hash, uint32_t l3_offset, uint32_t l4_offset) {
  static_assert(offsetof(Frame, flags) == offsetof(Frame, captured) + 2 &&
                offsetof(Frame, l3_half) == offsetof(Frame, captured) + 4 &&
                offsetof(Frame, l4_half) == offsetof(Frame, captured) + 5 &&
                std::endian::native == std::endian::little);
  constexpr uint64_t kOffsets = uint64_t{0xffff} << 32;
  auto* tail = reinterpret_cast<std::byte*>(&frame) + offsetof(Frame, captured);
  uint64_t fields = load<uint64_t>(tail) & ~kOffsets;
  fields |=
      uint64_t{layout::kHashValid} << 16 | uint64_t{l3_offset / 2} << 32 | uint64_t{l4_offset / 2} << 40;
  std::memcpy(tail, &fields, sizeof fields);
  frame.hash = hash;
}

// The functions below take the frame if its IP header begins at kL3 and it is plain. Their constants are
// header bytes as a little-endian load sees them. `data`: frame.data.
template <uint32_t kL3>
inline bool parse_plain_ipv4(Frame& frame, const std::byte* data, const HashKey& key) {
  constexpr uint32_t kL4 = kL3 + 20;
  if (frame.captured < kL4 + 4) return false;
  const uint32_t fragment_ttl_protocol = load<uint32_t>(data + kL3 + 6);
  const uint32_t protocol = fragment_ttl_protocol >> 24;
  if ((fragment_ttl_protocol & 0xff3f) != 0 || !is_tcp_or_udp(protocol)) return false;
  if (may_be_tunnel(load<uint32_t>(data + kL4))) return false;
  const uint64_t source = flow_hash::end_ipv4(load<uint32_t>(data + kL3 + 12), load<uint16_t>(data + kL4));
  const uint64_t target =
      flow_hash::end_ipv4(load<uint32_t>(data + kL3 + 16), load<uint16_t>(data + kL4 + 2));
  set_plain(frame, flow_hash::finish(source, target, flow_hash::kKindIpv4 | protocol, key), kL3, kL4);
  return true;
}

template <uint32_t kL3>
inline bool parse_plain_ipv6(Frame& frame, const std::byte* data, const HashKey& key) {
  constexpr uint32_t kL4 = kL3 + 40;
  if (frame.captured < kL4 + 4) return false;
  const uint32_t protocol = load<uint8_t>(data + kL3 + 6);
  if (!is_tcp_or_udp(protocol) || may_be_tunnel(load<uint32_t>(data + kL4))) return false;
  const uint64_t source = flow_hash::end_ipv6(data + kL3 + 8, load<uint16_t>(data + kL4), key);
  const uint64_t target = flow_hash::end_ipv6(data + kL3 + 24, load<uint16_t>(data + kL4 + 2), key);
  set_plain(frame, flow_hash::finish(source, target, flow_hash::kKindIpv6 | protocol, key), kL3, kL4);
  return true;
}

// `type_version`: the EtherType before kL3 and the first two bytes of IP.
template <uint32_t kL3>
inline bool parse_plain_ip(Frame& frame, const std::byte* data, uint32_t type_version, const HashKey& key) {
  if ((type_version & 0xffffff) == 0x450008) return parse_plain_ipv4<kL3>(frame, data, key);
  if ((type_version & 0xf0ffff) == 0x60dd86) return parse_plain_ipv6<kL3>(frame, data, key);
  return false;
}

// IPv4 without options and fragmentation, or IPv6 without extension headers, with TCP or UDP but no
// tunnel's port, untagged or with one 0x8100 tag. False, and nothing changed, for any other frame.
inline bool parse_plain(Frame& frame, const HashKey& key) {
  if (frame.captured < kTaggedBytes + 2) return false;
  const std::byte* data = frame.data;
  const uint32_t type_version = load<uint32_t>(data + 12);
  if (parse_plain_ip<kEthernetBytes>(frame, data, type_version, key)) return true;
  if ((type_version & 0xffff) != 0x0081) return false;
  if (!parse_plain_ip<kTaggedBytes>(frame, data, load<uint32_t>(data + 16), key)) return false;
  frame.flags |= layout::kVlan;
  return true;
}

}  // namespace frame_detail

// Sets in each frame:
//   l3_half   offset of the outer IPv4 or IPv6 header / 2
//   l4_half   offset of the outer transport header / 2, where at least 4 bytes of it are captured; 0 in later
//             fragments, which have none
//             (both 0 where there is none, or where it begins beyond byte 510)
//   inner_l3  with kTunnel only: offset of the innermost network header, in bytes; 0: what the tunnel carries
//   inner_l4  is not IP. The same for its transport header.
//   hash      of the innermost packet's flow (hash.h), with kHashValid; 0 without it for what is shorter
//             than an Ethernet header. Of a fragment: that of its flow, see fragments.h
//   flags     kVlan, kFragment (every fragment), kFirstFragment (offset 0 and more to come), all three of
//             the outer packet; kTunnel (there is a packet in a packet) and kHashValid are added to what
//             the queue set
// Reads `data`, `captured` and, of fragments, `timestamp_ns`. `fragments` is touched by fragments only.
inline void parse_frame(Frame& frame, const HashKey& key, FragmentTable& fragments) {
  if (!frame_detail::parse_plain(frame, key)) [[unlikely]]
    parse_other(frame, key, fragments);
}

// The same for a burst.
inline void parse_burst(std::span<Frame> frames, const HashKey& key, FragmentTable& fragments) {
  const HashKey local = key;  // a copy that the stores into the frames cannot change
  for (Frame& frame : frames) parse_frame(frame, local, fragments);
}

}  // namespace ringcap

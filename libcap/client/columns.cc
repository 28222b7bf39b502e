#include "libcap/client/columns.h"

#include <algorithm>
#include <cstring>

#include "capture/frame/parse.h"
#include "capture/frame/walk.h"

namespace ringcap::client {
namespace {

using flow_hash::load;

// Frames ahead that are fetched from memory: their headers are on another core's, or nobody's, cache lines.
constexpr size_t kAhead = 8;

// What the parser found of one frame's packet, the outer or the innermost one.
struct Found {
  Packet packet;
  uint16_t vlan = 0;
  bool tagged = false;
  bool tunnel = false;
};

// A bit of `valid`, if it is so.
inline uint32_t bit(bool there, uint32_t value) { return there ? value : 0; }
uint16_t be16(const std::byte* p) { return __builtin_bswap16(load<uint16_t>(p)); }
uint32_t be32(const std::byte* p) { return __builtin_bswap32(load<uint32_t>(p)); }

// Plain frames (parse.h): everything is where it always is.
inline bool find_plain(Frame& frame, Found& found) {
  if (!frame_detail::parse_plain(frame, HashKey{})) return false;
  Packet& packet = found.packet;
  packet.mac = frame.data;
  packet.l3 = frame.l3_half * 2U;
  packet.l4 = frame.l4_half * 2U;
  packet.ip = frame.data + packet.l3;
  packet.version = static_cast<uint8_t>(load<uint8_t>(packet.ip) >> 4);
  packet.protocol = load<uint8_t>(packet.ip + (packet.version == 4 ? 9 : 6));
  packet.type = packet.version == 4 ? kTypeIpv4 : kTypeIpv6;
  packet.ports = load<uint32_t>(frame.data + packet.l4);
  found.tagged = (frame.flags & layout::kVlan) != 0;
  if (found.tagged) found.vlan = be16(frame.data + 14) & 0xfff;
  return true;
}

void find_any(const Frame& frame, bool inner, Found& found) {
  Walk walk;
  walk_frame(frame, HashKey{}, walk);
  found.tunnel = walk.tunnel;
  if (inner) {
    if (walk.tunnel) found.packet = walk.inner;
    return;
  }
  found.packet = walk.outer;
  found.tagged = walk.tagged && frame.captured >= frame_detail::kTaggedBytes;
  found.vlan = walk.first_vlan;
}

template <typename T>
inline void put(T* column, size_t i, T value) {
  if (column != nullptr) column[i] = value;
}

inline void put_bytes(uint8_t* column, size_t i, size_t bytes, const std::byte* from) {
  if (column == nullptr) return;
  if (from != nullptr)
    std::memcpy(column + i * bytes, from, bytes);
  else
    std::memset(column + i * bytes, 0, bytes);
}

inline uint32_t store_ethernet(const Found& found, const ringcap_columns& to, size_t i) {
  const Packet& packet = found.packet;
  const bool there = packet.mac != nullptr;
  put_bytes(to.ethernet_destination, i, 6, packet.mac);
  put_bytes(to.ethernet_source, i, 6, there ? packet.mac + 6 : nullptr);
  put(to.ethernet_type, i, there ? packet.type : uint16_t{0});
  put(to.vlan, i, found.tagged ? found.vlan : uint16_t{0});
  return bit(there, RINGCAP_HAS_ETHERNET) | bit(found.tagged, RINGCAP_HAS_VLAN);
}

inline uint32_t store_ip(const Packet& packet, const ringcap_columns& to, size_t i) {
  const bool v4 = packet.version == 4;
  const bool v6 = packet.version == 6;
  put(to.ip_version, i, packet.version);
  put(to.protocol, i, packet.version != 0 ? packet.protocol : uint8_t{0});
  put(to.ip_source, i, v4 ? be32(packet.ip + 12) : 0U);
  put(to.ip_destination, i, v4 ? be32(packet.ip + 16) : 0U);
  put_bytes(to.ipv6_source, i, 16, v6 ? packet.ip + 8 : nullptr);
  put_bytes(to.ipv6_destination, i, 16, v6 ? packet.ip + 24 : nullptr);
  if (packet.version == 0) return 0;
  return RINGCAP_HAS_IP | (v4 ? RINGCAP_HAS_IPV4 : RINGCAP_HAS_IPV6);
}

// End of the IP packet within the frame: what comes after it is Ethernet's padding, and no header (RFC
// 791, 3.1; RFC 8200, 3). A length of 0 says nothing (segmentation offload, jumbograms).
inline uint32_t packet_end(const Packet& packet, uint32_t captured) {
  if (packet.version == 0) return captured;
  const uint32_t length = be16(packet.ip + (packet.version == 4 ? 2 : 4));
  if (length == 0) return captured;
  return std::min(captured, packet.l3 + length + (packet.version == 6 ? 40U : 0U));
}

// From here on `end` is packet_end().
inline uint32_t store_ports(const Packet& packet, uint32_t end, const ringcap_columns& to, size_t i) {
  const bool there = packet.l4 != 0 && packet.l4 + 4 <= end && has_ports(packet.protocol);
  const uint32_t ports = there ? packet.ports : 0;
  put(to.source_port, i, __builtin_bswap16(static_cast<uint16_t>(ports)));
  put(to.destination_port, i, __builtin_bswap16(static_cast<uint16_t>(ports >> 16)));
  return bit(there, RINGCAP_HAS_PORTS);
}

// Where UDP's payload ends (RFC 768); lengths below 8 say nothing (jumbograms, RFC 2675, 4). What is behind
// it may be options (RFC 9868). UDP-Lite has another field in its place (RFC 3828, 3.1).
inline uint32_t payload_end(const Packet& packet, const std::byte* data, uint32_t start, uint32_t end) {
  if (packet.protocol != kUdp || start == 0) return end;
  const uint32_t length = be16(data + packet.l4 + 4);
  return length < 8 ? end : std::min(end, packet.l4 + length);
}

// Where the payload of TCP or UDP begins; 0: none that we know, or not captured.
inline uint32_t payload_start(const Packet& packet, const std::byte* data, uint32_t end) {
  if (packet.protocol == kUdp || packet.protocol == kUdpLite) return packet.l4 + 8 <= end ? packet.l4 + 8 : 0;
  if (packet.protocol != kTcp || packet.l4 + 20 > end) return 0;
  const uint32_t header_bytes = (load<uint8_t>(data + packet.l4 + 12) >> 4) * 4U;
  const uint32_t start = packet.l4 + header_bytes;
  return header_bytes >= 20 && start <= end ? start : 0;
}

inline uint32_t store_transport(const Packet& packet, const std::byte* data, uint32_t end,
                                const ringcap_columns& to, size_t i) {
  const bool l4 = packet.l4 != 0;
  const bool tcp = l4 && packet.protocol == kTcp;
  const bool numbers = tcp && packet.l4 + 12 <= end;
  const bool flags = tcp && packet.l4 + 14 <= end;
  put(to.tcp_sequence, i, numbers ? be32(data + packet.l4 + 4) : 0U);
  put(to.tcp_acknowledgement, i, numbers ? be32(data + packet.l4 + 8) : 0U);
  put(to.tcp_flags, i, flags ? load<uint8_t>(data + packet.l4 + 13) : uint8_t{0});
  const uint32_t start = l4 ? payload_start(packet, data, end) : 0;
  put(to.payload_offset, i, static_cast<uint16_t>(start));
  put(to.payload_length, i,
      static_cast<uint16_t>(start != 0 ? payload_end(packet, data, start, end) - start : 0));
  return bit(numbers, RINGCAP_HAS_SEQUENCE) | bit(flags, RINGCAP_HAS_TCP_FLAGS) |
         bit(start != 0, RINGCAP_HAS_PAYLOAD);
}

inline void parse_one(const layout::Descriptor& d, std::span<const std::byte> arena, bool inner,
                      const ringcap_columns& to, size_t i) {
  const uint64_t offset = layout::frame_offset(d);
  const bool inside = offset <= arena.size() && d.captured <= arena.size() - offset;
  Frame frame;
  frame.timestamp_ns = d.timestamp_ns;
  frame.captured = inside ? d.captured : uint16_t{0};
  frame.data = const_cast<std::byte*>(arena.data() + (inside ? offset : 0));  // read only
  Found found;
  if (!find_plain(frame, found))
    find_any(frame, inner, found);
  else if (inner)
    found = {};
  uint32_t valid = bit(found.tunnel, RINGCAP_HAS_INNER);
  valid |= store_ethernet(found, to, i);
  valid |= store_ip(found.packet, to, i);
  const uint32_t end = packet_end(found.packet, frame.captured);
  valid |= store_ports(found.packet, end, to, i);
  valid |= store_transport(found.packet, frame.data, end, to, i);
  put(to.valid, i, static_cast<uint16_t>(valid));
}

void fetch(const layout::Descriptor& d, std::span<const std::byte> arena) {
  const std::byte* data = arena.data() + layout::frame_offset(d);
  __builtin_prefetch(data);
  __builtin_prefetch(data + 64);
}

}  // namespace

void parse_columns(std::span<const layout::Descriptor> frames, std::span<const std::byte> arena, bool inner,
                   const ringcap_columns& to) {
  const ringcap_columns columns = to;  // a copy that the stores cannot change
  for (size_t i = 0; i < std::min(kAhead, frames.size()); ++i) fetch(frames[i], arena);
  for (size_t i = 0; i < frames.size(); ++i) {
    if (i + kAhead < frames.size()) fetch(frames[i + kAhead], arena);
    parse_one(frames[i], arena, inner, columns, i);
  }
}

}  // namespace ringcap::client

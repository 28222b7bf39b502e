#include "driver/gen/frames.h"

#include <algorithm>
#include <cstring>

namespace ringcap::gen {
namespace {

// SplitMix64 (Steele, Lea, Flood 2014): a stream of well-mixed numbers from any seed.
uint64_t mix_number(uint64_t& state) {
  uint64_t z = (state += 0x9e3779b97f4a7c15);
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
  z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
  return z ^ (z >> 31);
}

// Writes header fields in network byte order, one after the other.
class HeaderWriter {
 public:
  explicit HeaderWriter(Template& to) : to_(to.bytes.data()) {}
  HeaderWriter& u8(uint8_t v) { return put(&v, 1); }
  HeaderWriter& u16(uint16_t v) { return u8(static_cast<uint8_t>(v >> 8)).u8(static_cast<uint8_t>(v)); }
  HeaderWriter& u32(uint32_t v) { return u16(static_cast<uint16_t>(v >> 16)).u16(static_cast<uint16_t>(v)); }
  HeaderWriter& u64(uint64_t v) { return u32(static_cast<uint32_t>(v >> 32)).u32(static_cast<uint32_t>(v)); }
  uint32_t at() const { return at_; }

 private:
  HeaderWriter& put(const void* from, uint32_t bytes) {
    std::memcpy(to_ + at_, from, bytes);
    at_ += bytes;
    return *this;
  }
  std::byte* to_;
  uint32_t at_ = 0;
};

uint16_t ipv4_checksum(const std::byte* header) {
  uint32_t sum = 0;
  for (int i = 0; i < 20; i += 2)
    sum += std::to_integer<uint32_t>(header[i]) << 8 | std::to_integer<uint32_t>(header[i + 1]);
  while (sum >> 16 != 0) sum = (sum & 0xffff) + (sum >> 16);
  return static_cast<uint16_t>(~sum);
}

struct Ends {
  uint32_t source, target;  // in 198.18.0.0/15, which RFC 2544 keeps for benchmarks
  uint16_t source_port, target_port;
};

void write_udp(HeaderWriter& w, const Ends& ends, uint32_t bytes) {
  w.u16(ends.source_port).u16(ends.target_port).u16(static_cast<uint16_t>(bytes)).u16(0);  // no checksum
}

void write_ipv4(Template& to, HeaderWriter& w, const Ends& ends, uint32_t length) {
  const uint32_t start = w.at();
  const uint32_t bytes = length - start;
  w.u16(0x4500)
      .u16(static_cast<uint16_t>(bytes))
      .u32(0x4000)
      .u8(64)
      .u8(17)
      .u16(0)
      .u32(ends.source)
      .u32(ends.target);
  const uint16_t sum = ipv4_checksum(to.bytes.data() + start);
  to.bytes[start + 10] = static_cast<std::byte>(sum >> 8);
  to.bytes[start + 11] = static_cast<std::byte>(sum);
  write_udp(w, ends, bytes - 20);
}

void write_ipv6(HeaderWriter& w, const Ends& ends, uint32_t length) {
  const uint32_t bytes = length - w.at() - 40;
  w.u32(0x60000000).u16(static_cast<uint16_t>(bytes)).u8(17).u8(64);
  w.u64(0x2001000200000000)
      .u64(ends.source)
      .u64(0x2001000200000000)
      .u64(ends.target);  // 2001:2::/48, RFC 5180
  write_udp(w, ends, bytes);
}

Template make_template(Mix mix, const Ends& ends, uint32_t length, uint64_t flow) {
  Template t{};
  HeaderWriter w(t);
  w.u16(0x0200).u32(ends.target).u16(0x0200).u32(ends.source);  // locally administered addresses
  if (mix == Mix::kVlan) w.u16(0x8100).u16(static_cast<uint16_t>(1 + flow % 4094));
  if (mix == Mix::kIpv6) {
    w.u16(0x86dd);
    write_ipv6(w, ends, length);
  } else {
    w.u16(0x0800);
    write_ipv4(t, w, ends, length);
  }
  return t;
}

Mix mix_of(Mix mix, uint64_t flow) {
  if (mix != Mix::kAll) return mix;
  constexpr Mix kinds[] = {Mix::kIpv4, Mix::kIpv6, Mix::kVlan};
  return kinds[flow % 3];
}

}  // namespace

Templates make_templates(Mix mix, uint64_t flows, uint32_t length, uint64_t seed) {
  Templates templates;
  uint64_t state = seed;
  for (uint64_t flow = 0; flow < flows; ++flow) {
    const uint64_t a = mix_number(state);
    const uint64_t b = mix_number(state);
    const Ends ends{static_cast<uint32_t>(0xc6120000 | (a & 0xffff)),
                    static_cast<uint32_t>(0xc6130000 | (a >> 16 & 0xffff)),
                    static_cast<uint16_t>(1024 + b % 60000), static_cast<uint16_t>(1024 + (b >> 32) % 60000)};
    const Mix kind = mix_of(mix, flow);
    templates.frames.push_back(make_template(kind, ends, std::max(length, 64u), flow));
    templates.ipv6.push_back(kind == Mix::kIpv6 ? 1 : 0);
  }
  return templates;
}

}  // namespace ringcap::gen

// Builds frames header by header for tests: FrameBuilder().ethernet().vlan(10).ipv4({...}).udp(1, 2).
// Each header fills in what the one before it says about it (EtherType, protocol), unless told otherwise.
// Checksums stay 0: nothing here looks at them.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "capture/port/port.h"

namespace ringcap::test {

using Address4 = std::array<uint8_t, 4>;
using Address6 = std::array<uint8_t, 16>;
using Mac = std::array<uint8_t, 6>;

inline constexpr Mac kMacA{2, 0, 0, 0, 0, 0xa};
inline constexpr Mac kMacB{2, 0, 0, 0, 0, 0xb};

struct Ipv4 {
  Address4 source{10, 0, 0, 1};
  Address4 target{192, 168, 0, 2};
  uint8_t option_words = 0;  // of 4 bytes each
  uint16_t fragment = 0;     // flags and offset, as in the header
};

struct Ipv6 {
  Address6 source{0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1};
  Address6 target{0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2};
};

class FrameBuilder {
 public:
  FrameBuilder& ethernet(Mac source = kMacA, Mac target = kMacB, uint16_t type = 0xffff) {
    add(target);
    add(source);
    next_ = bytes_.size();
    next_bytes_ = 2;
    return be16(type);
  }
  FrameBuilder& vlan(uint16_t id, uint16_t tpid = 0x8100) {
    say(tpid);
    be16(id);
    next_ = bytes_.size();
    return be16(0xffff);
  }
  FrameBuilder& mpls(uint32_t label, bool bottom) {
    if (!in_labels_) say(0x8847);
    in_labels_ = !bottom;
    next_bytes_ = 0;
    return be32(label << 12 | uint32_t{bottom} << 8 | 64);
  }
  FrameBuilder& ipv4(const Ipv4& header = {}) {
    say(0x0800);
    l3_ = bytes_.size();
    u8(static_cast<uint8_t>(0x45 + header.option_words)).u8(0).be16(60).be16(7).be16(header.fragment).u8(64);
    next_ = bytes_.size();
    next_bytes_ = 1;
    u8(255).be16(0).add(header.source).add(header.target);
    for (int i = 0; i < header.option_words; ++i) be32(0x01010101);
    return *this;
  }
  FrameBuilder& ipv6(const Ipv6& header = {}) {
    say(0x86dd);
    l3_ = bytes_.size();
    be32(0x60000000).be16(40);
    next_ = bytes_.size();
    next_bytes_ = 1;
    return u8(255).u8(64).add(header.source).add(header.target);
  }
  // An IPv6 extension header of 8 + 8 * more bytes in the common form.
  FrameBuilder& extension(uint8_t protocol, uint8_t more = 0) {
    chain(protocol).u8(more);
    for (int i = 0; i < 6 + 8 * more; ++i) u8(0);
    return *this;
  }
  FrameBuilder& authentication() {
    chain(51).u8(4).be16(0);  // (4 + 2) * 4 bytes
    for (int i = 0; i < 5; ++i) be32(1);
    return *this;
  }
  // `fragment`: 13 bits offset, 2 reserved, 1 more.
  FrameBuilder& fragment_header(uint16_t fragment) { return chain(44).u8(0).be16(fragment).be32(99); }
  FrameBuilder& tcp(uint16_t source, uint16_t target) {
    return transport(6).be16(source).be16(target).be32(1).be32(2).be32(0x50100000).be32(0);
  }
  FrameBuilder& udp(uint16_t source, uint16_t target) {
    return transport(17).be16(source).be16(target).be16(20).be16(0);
  }
  FrameBuilder& sctp(uint16_t source, uint16_t target) {
    return transport(132).be16(source).be16(target).be32(5).be32(0);
  }
  FrameBuilder& icmp(uint8_t protocol = 1) {
    return transport(protocol).u8(8).u8(0).be16(0).be16(77).be16(1);
  }
  FrameBuilder& protocol(uint8_t number) { return transport(number); }
  FrameBuilder& type(uint16_t ethertype) {
    say(ethertype);
    return *this;
  }
  FrameBuilder& payload(size_t count, uint8_t value = 0xee) {
    bytes_.insert(bytes_.end(), count, std::byte{value});
    return *this;
  }

  const std::vector<std::byte>& bytes() const { return bytes_; }
  // Where the last network header and the last transport header begin.
  uint32_t l3() const { return static_cast<uint32_t>(l3_); }
  uint32_t l4() const { return static_cast<uint32_t>(l4_); }

 private:
  FrameBuilder& u8(uint8_t value) {
    bytes_.push_back(std::byte{value});
    return *this;
  }
  FrameBuilder& be16(uint16_t value) {
    return u8(static_cast<uint8_t>(value >> 8)).u8(static_cast<uint8_t>(value));
  }
  FrameBuilder& be32(uint32_t value) {
    return be16(static_cast<uint16_t>(value >> 16)).be16(static_cast<uint16_t>(value));
  }
  FrameBuilder& add(std::span<const uint8_t> values) {
    for (const uint8_t value : values) u8(value);
    return *this;
  }
  // Writes what follows into the header before it: an EtherType, a protocol, or nothing after labels.
  void say(uint16_t what) {
    if (next_bytes_ == 2) bytes_[next_] = std::byte(what >> 8), bytes_[next_ + 1] = std::byte(what & 0xff);
    if (next_bytes_ == 1) bytes_[next_] = std::byte(what & 0xff);
  }
  FrameBuilder& chain(uint8_t protocol) {
    say(protocol);
    next_ = bytes_.size();
    next_bytes_ = 1;
    return u8(255);
  }
  FrameBuilder& transport(uint8_t protocol) {
    say(protocol);
    l4_ = bytes_.size();
    return *this;
  }

  std::vector<std::byte> bytes_;
  size_t next_ = 0;
  size_t next_bytes_ = 0;
  size_t l3_ = 0;
  size_t l4_ = 0;
  bool in_labels_ = false;
};

// One of everything that the parser knows.
inline std::vector<FrameBuilder> every_kind() {
  return {
      FrameBuilder().ethernet().ipv4().udp(1000, 53),
      FrameBuilder().ethernet().ipv6().udp(1000, 53),
      FrameBuilder().ethernet().ipv4().tcp(1, 2).payload(40),
      FrameBuilder().ethernet().ipv6().tcp(1, 2).payload(40),
      FrameBuilder().ethernet().ipv4().sctp(1, 2),
      FrameBuilder().ethernet().ipv4().icmp(),
      FrameBuilder().ethernet().ipv6().icmp(58),
      FrameBuilder().ethernet().ipv4({.option_words = 10}).udp(1, 2),
      FrameBuilder().ethernet().ipv4({.fragment = 0x2000}).udp(1, 2),
      FrameBuilder().ethernet().ipv4({.fragment = 0x0010}).protocol(17).payload(30),
      FrameBuilder().ethernet().vlan(10).ipv4().udp(1, 2),
      FrameBuilder().ethernet().vlan(10, 0x88a8).vlan(20).vlan(30, 0x9100).ipv6().tcp(1, 2),
      FrameBuilder().ethernet().mpls(16, true).ipv4().udp(1, 2),
      FrameBuilder().ethernet().vlan(10).mpls(16, false).mpls(17, true).ipv6().udp(1, 2),
      FrameBuilder().ethernet().ipv6().extension(0).extension(43, 2).extension(60).authentication().tcp(1, 2),
      FrameBuilder().ethernet().ipv6().fragment_header(1).udp(1, 2),
      FrameBuilder().ethernet().ipv6().extension(0).fragment_header(0x0100).protocol(17).payload(30),
      FrameBuilder().ethernet().type(0x0806).payload(28),
      FrameBuilder().ethernet({2}, {4}, 38).payload(38),
  };
}

// A Frame over a copy of `bytes` that ends where the allocation ends, so that the address sanitizer
// sees the first byte read too many.
class HeldFrame {
 public:
  explicit HeldFrame(std::span<const std::byte> bytes) : bytes_(new std::byte[bytes.size()]) {
    std::copy(bytes.begin(), bytes.end(), bytes_.get());
    frame.data = bytes_.get();
    frame.captured = static_cast<uint16_t>(bytes.size());
    frame.length = frame.captured;
  }
  Frame frame;

 private:
  std::unique_ptr<std::byte[]> bytes_;
};

}  // namespace ringcap::test

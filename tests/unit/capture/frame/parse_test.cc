#include "capture/frame/parse.h"

#include <gtest/gtest.h>

#include <random>

#include "tests/unit/capture/frame/frame_builder.h"

namespace ringcap {
namespace {

using layout::kFirstFragment;
using layout::kFragment;
using layout::kHashValid;
using layout::kVlan;
using test::every_kind;
using test::FrameBuilder;
using test::HeldFrame;
using test::Ipv4;
using test::Ipv6;

constexpr HashKey kKey{0x0011223344556677, 0x8899aabbccddeeff};

// Fragments of one datagram are to be given the same table.
Frame parsed(std::span<const std::byte> bytes, FragmentTable& fragments) {
  HeldFrame held(bytes);
  parse_burst({&held.frame, 1}, kKey, fragments);
  held.frame.data = nullptr;
  return held.frame;
}
Frame parsed(std::span<const std::byte> bytes) {
  FragmentTable fragments(1);
  return parsed(bytes, fragments);
}
Frame parsed(const FrameBuilder& builder) { return parsed(builder.bytes()); }

uint32_t hash_of(const FrameBuilder& builder) { return parsed(builder).hash; }

void expect_headers(const FrameBuilder& builder, uint32_t flags) {
  const Frame frame = parsed(builder);
  EXPECT_EQ(frame.l3_half * 2U, builder.l3());
  EXPECT_EQ(frame.l4_half * 2U, builder.l4());
  EXPECT_EQ(frame.flags, flags);
}

FrameBuilder udp4(const Ipv4& header = {}) { return FrameBuilder().ethernet().ipv4(header).udp(1000, 53); }
FrameBuilder udp6(const Ipv6& header = {}) { return FrameBuilder().ethernet().ipv6(header).udp(1000, 53); }

TEST(FrameParser, finds_the_headers_of_plain_frames) {
  expect_headers(udp4(), kHashValid);
  expect_headers(udp6(), kHashValid);
  expect_headers(FrameBuilder().ethernet().ipv4().tcp(1, 2), kHashValid);
  expect_headers(FrameBuilder().ethernet().ipv6().tcp(1, 2), kHashValid);
}

TEST(FrameParser, finds_the_transport_header_behind_ipv4_options) {
  expect_headers(FrameBuilder().ethernet().ipv4({.option_words = 1}).tcp(1, 2), kHashValid);
  expect_headers(FrameBuilder().ethernet().ipv4({.option_words = 10}).tcp(1, 2), kHashValid);
}

TEST(FrameParser, goes_through_stacked_vlan_tags) {
  expect_headers(FrameBuilder().ethernet().vlan(10).ipv4().udp(1, 2), kHashValid | kVlan);
  expect_headers(FrameBuilder().ethernet().vlan(10, 0x88a8).vlan(20).ipv6().udp(1, 2), kHashValid | kVlan);
  expect_headers(FrameBuilder().ethernet().vlan(1, 0x9100).vlan(2, 0x9100).vlan(3).ipv4().tcp(1, 2),
                 kHashValid | kVlan);
}

TEST(FrameParser, tells_ip_under_mpls_labels_by_its_version) {
  expect_headers(FrameBuilder().ethernet().mpls(16, true).ipv4().udp(1, 2), kHashValid);
  expect_headers(FrameBuilder().ethernet().vlan(5).mpls(16, false).mpls(17, true).ipv6().tcp(1, 2),
                 kHashValid | kVlan);
}

TEST(FrameParser, leaves_a_pseudowire_under_mpls_alone) {
  const Frame frame = parsed(FrameBuilder().ethernet().mpls(16, true).payload(60, 0));
  EXPECT_EQ(frame.l3_half, 0);
  EXPECT_EQ(frame.l4_half, 0);
  EXPECT_EQ(frame.flags, kHashValid);
}

TEST(FrameParser, walks_ipv6_extension_headers) {
  expect_headers(FrameBuilder().ethernet().ipv6().extension(0).tcp(1, 2), kHashValid);
  expect_headers(
      FrameBuilder().ethernet().ipv6().extension(0, 1).extension(43, 3).extension(60).authentication().udp(1,
                                                                                                           2),
      kHashValid);
  expect_headers(FrameBuilder().ethernet().ipv6().extension(135).extension(139).extension(140).sctp(1, 2),
                 kHashValid);
}

TEST(FrameParser, finds_no_transport_header_after_no_next_header) {
  const Frame frame = parsed(FrameBuilder().ethernet().ipv6().protocol(59).payload(20));
  EXPECT_EQ(frame.l3_half, 7);
  EXPECT_EQ(frame.l4_half, 0);
}

TEST(FrameParser, flags_ipv4_fragments) {
  expect_headers(FrameBuilder().ethernet().ipv4({.fragment = 0x2000}).udp(1, 2),
                 kHashValid | kFragment | kFirstFragment);
  const Frame middle = parsed(FrameBuilder().ethernet().ipv4({.fragment = 0x2010}).protocol(17).payload(20));
  EXPECT_EQ(middle.flags, kHashValid | kFragment);
  EXPECT_EQ(middle.l4_half, 0);
  const Frame last = parsed(FrameBuilder().ethernet().ipv4({.fragment = 0x0010}).protocol(17).payload(20));
  EXPECT_EQ(last.flags, kHashValid | kFragment);
  EXPECT_EQ(parsed(udp4({.fragment = 0x4000})).flags, kHashValid) << "do not fragment";
}

TEST(FrameParser, flags_ipv6_fragments_but_not_atomic_ones) {
  expect_headers(FrameBuilder().ethernet().ipv6().fragment_header(1).extension(60).udp(1, 2),
                 kHashValid | kFragment | kFirstFragment);
  const Frame last =
      parsed(FrameBuilder().ethernet().ipv6().fragment_header(0x0100).protocol(17).payload(30));
  EXPECT_EQ(last.flags, kHashValid | kFragment);
  EXPECT_EQ(last.l4_half, 0);
  expect_headers(FrameBuilder().ethernet().ipv6().fragment_header(0).udp(1, 2), kHashValid);
}

TEST(FrameParser, hash_is_that_of_the_packet_whatever_it_is_wrapped_in) {
  const uint32_t plain = hash_of(udp4());
  EXPECT_EQ(hash_of(FrameBuilder().ethernet().vlan(10).ipv4().udp(1000, 53)), plain);
  EXPECT_EQ(hash_of(FrameBuilder().ethernet().mpls(16, true).ipv4().udp(1000, 53)), plain);
  EXPECT_EQ(hash_of(FrameBuilder().ethernet().ipv4({.option_words = 3}).udp(1000, 53)), plain);
  EXPECT_EQ(hash_of(FrameBuilder().ethernet().ipv6().extension(0).udp(1000, 53)), hash_of(udp6()));
  EXPECT_EQ(hash_of(FrameBuilder().ethernet().ipv6().fragment_header(0).udp(1000, 53)), hash_of(udp6()));
}

TEST(FrameParser, hash_of_other_frames_is_by_mac_addresses_and_type) {
  const auto arp = [](test::Mac from, test::Mac to) {
    return FrameBuilder().ethernet(from, to).type(0x0806);
  };
  const uint32_t one = hash_of(arp(test::kMacA, test::kMacB));
  EXPECT_EQ(hash_of(arp(test::kMacB, test::kMacA).payload(30)), one);
  EXPECT_NE(hash_of(arp(test::kMacA, {2, 0, 0, 0, 0, 0xc})), one);
  EXPECT_NE(hash_of(FrameBuilder().ethernet().type(0x88cc)), one);
  EXPECT_EQ(hash_of(FrameBuilder().ethernet().vlan(3).type(0x0806)), one);
}

TEST(FrameParser, ieee_802_3_frames_of_any_length_share_a_hash) {
  EXPECT_EQ(hash_of(FrameBuilder().ethernet(test::kMacA, test::kMacB, 38).payload(38)),
            hash_of(FrameBuilder().ethernet(test::kMacB, test::kMacA, 1500).payload(1500)));
}

TEST(FrameParser, less_than_an_ethernet_header_has_no_hash) {
  const std::vector<std::byte> bytes = udp4().bytes();
  for (size_t captured = 0; captured < 14; ++captured) {
    const Frame frame = parsed(std::span(bytes).first(captured));
    EXPECT_EQ(frame.flags, 0);
    EXPECT_EQ(frame.hash, 0U);
    EXPECT_EQ(frame.l3_half, 0);
  }
}

TEST(FrameParser, an_ip_header_that_is_cut_or_broken_is_none) {
  const FrameBuilder whole = udp4();
  EXPECT_EQ(parsed(std::span(whole.bytes()).first(14 + 19)).l3_half, 0);
  EXPECT_EQ(parsed(std::span(whole.bytes()).first(14 + 20)).l3_half, 7);
  FrameBuilder wrong_version = FrameBuilder().ethernet().type(0x0800).payload(60, 0x65);
  EXPECT_EQ(parsed(wrong_version).l3_half, 0);
  FrameBuilder short_header = FrameBuilder().ethernet().type(0x0800).payload(60, 0x44);
  EXPECT_EQ(parsed(short_header).l3_half, 0);
  EXPECT_EQ(parsed(short_header).flags, kHashValid);
}

TEST(FrameParser, ports_that_are_not_captured_count_as_zero) {
  const FrameBuilder whole = udp4();
  const Frame cut = parsed(std::span(whole.bytes()).first(whole.l4() + 3));
  EXPECT_EQ(cut.l3_half, 7);
  EXPECT_EQ(cut.l4_half, 0);
  EXPECT_EQ(cut.hash, hash_of(FrameBuilder().ethernet().ipv4().udp(0, 0)));
}

TEST(FrameParser, an_offset_beyond_510_is_none) {
  FrameBuilder near = FrameBuilder().ethernet().ipv6().extension(60, 56).udp(1, 2);
  EXPECT_EQ(near.l4(), 510U);
  EXPECT_EQ(parsed(near).l4_half, 255);
  FrameBuilder far = FrameBuilder().ethernet().ipv6().extension(60, 57).udp(1, 2);
  EXPECT_EQ(parsed(far).l3_half, 7);
  EXPECT_EQ(parsed(far).l4_half, 0);
  EXPECT_EQ(parsed(far).hash, parsed(near).hash);
}

TEST(FrameParser, work_is_bounded_however_many_headers_a_frame_has) {
  FrameBuilder tags = FrameBuilder().ethernet();
  for (int i = 0; i < 1000; ++i) tags.vlan(1);
  tags.ipv4().udp(1, 2);
  EXPECT_EQ(parsed(tags).l3_half, 0);
  EXPECT_EQ(parsed(tags).flags, kHashValid | kVlan);
  FrameBuilder extensions = FrameBuilder().ethernet().ipv6();
  for (int i = 0; i < 1000; ++i) extensions.extension(60);
  extensions.udp(1, 2);
  EXPECT_EQ(parsed(extensions).l3_half, 7);
  EXPECT_EQ(parsed(extensions).l4_half, 0);
}

TEST(FrameParser, keeps_the_flags_that_the_queue_set) {
  HeldFrame held(udp4().bytes());
  held.frame.flags = layout::kTruncated | layout::kBadCrc;
  FragmentTable fragments(1);
  parse_burst({&held.frame, 1}, kKey, fragments);
  EXPECT_EQ(held.frame.flags, layout::kTruncated | layout::kBadCrc | kHashValid);
}

TEST(FrameParser, parses_each_frame_of_a_burst) {
  std::vector<HeldFrame> held;
  std::vector<Frame> frames;
  for (const FrameBuilder& builder : every_kind()) frames.push_back(held.emplace_back(builder.bytes()).frame);
  FragmentTable fragments(64);
  parse_burst(frames, kKey, fragments);
  FragmentTable others(64);
  size_t i = 0;
  for (const FrameBuilder& builder : every_kind()) {
    const Frame alone = parsed(builder.bytes(), others);
    EXPECT_EQ(frames[i].hash, alone.hash);
    EXPECT_EQ(frames[i].flags, alone.flags);
    EXPECT_EQ(frames[i].l4_half, alone.l4_half);
    ++i;
  }
}

// Both ways through the parser say the same of a frame; true if the plain one took it.
bool both_ways_agree(std::span<const std::byte> bytes) {
  HeldFrame plain(bytes);
  if (!frame_detail::parse_plain(plain.frame, kKey)) return false;
  HeldFrame other(bytes);
  FragmentTable fragments(1);
  parse_other(other.frame, kKey, fragments);
  EXPECT_EQ(plain.frame.hash, other.frame.hash);
  EXPECT_EQ(plain.frame.flags, other.frame.flags);
  EXPECT_EQ(plain.frame.l3_half, other.frame.l3_half);
  EXPECT_EQ(plain.frame.l4_half, other.frame.l4_half);
  return true;
}

TEST(FrameParser, plain_path_takes_plain_frames_and_agrees_with_the_general_one) {
  EXPECT_TRUE(both_ways_agree(udp4().bytes()));
  EXPECT_TRUE(both_ways_agree(udp6().bytes()));
  EXPECT_TRUE(both_ways_agree(FrameBuilder().ethernet().vlan(10).ipv4().tcp(1, 2).bytes()));
  EXPECT_TRUE(both_ways_agree(FrameBuilder().ethernet().vlan(10).ipv6().udp(1, 2).bytes()));
  EXPECT_FALSE(both_ways_agree(FrameBuilder().ethernet().vlan(10).vlan(11).ipv4().tcp(1, 2).bytes()));
  EXPECT_FALSE(both_ways_agree(FrameBuilder().ethernet().ipv4().icmp().payload(50).bytes()));
  EXPECT_FALSE(both_ways_agree(FrameBuilder().ethernet().ipv4({.option_words = 1}).udp(1, 2).bytes()));
  EXPECT_FALSE(both_ways_agree(FrameBuilder().ethernet().ipv4({.fragment = 0x2000}).udp(1, 2).bytes()));
}

TEST(FrameParser, plain_path_leaves_every_tunnels_port_to_the_general_one) {
  for (uint32_t port = 0; port <= 0xffff; ++port) {
    const auto number = static_cast<uint16_t>(port);
    const bool tunnel = port == kPortL2tp || port == kPortGtpU || port == kPortVxlan ||
                        port == kPortVxlanGpe || port == kPortGeneve || port == kPortOldVxlan;
    const FrameBuilder to = FrameBuilder().ethernet().ipv4().udp(40000, number);
    EXPECT_EQ(both_ways_agree(to.bytes()), !tunnel) << port;
    const FrameBuilder from = FrameBuilder().ethernet().ipv6().udp(number, 40000);
    EXPECT_EQ(both_ways_agree(from.bytes()), port != kPortL2tp) << port;
  }
}

TEST(FrameParser, every_prefix_and_every_byte_changed_stays_within_the_captured_bytes) {
  std::mt19937 random(20240607);
  for (const FrameBuilder& builder : every_kind()) {
    std::vector<std::byte> bytes = builder.bytes();
    for (size_t captured = 0; captured <= bytes.size(); ++captured) {
      const Frame frame = parsed(std::span(bytes).first(captured));
      EXPECT_TRUE(frame.l3_half * 2U < captured || frame.l3_half == 0);
      EXPECT_TRUE(frame.l4_half * 2U + 4 <= captured || frame.l4_half == 0);
      both_ways_agree(std::span(bytes).first(captured));
    }
    for (int i = 0; i < 2000; ++i) {
      std::vector<std::byte> changed = bytes;
      for (int j = 0; j < 3; ++j) changed[random() % changed.size()] = static_cast<std::byte>(random());
      parsed(changed);
      both_ways_agree(changed);
    }
  }
}

}  // namespace
}  // namespace ringcap

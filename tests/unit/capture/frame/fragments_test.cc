#include "capture/frame/fragments.h"

#include <gtest/gtest.h>

#include "capture/frame/parse.h"
#include "tests/unit/capture/frame/frame_builder.h"

namespace ringcap {
namespace {

using test::FrameBuilder;
using test::HeldFrame;

constexpr HashKey kKey{0x0123456789abcdef, 0xfedcba9876543210};
constexpr uint64_t kSecond = 1'000'000'000;

uint32_t hash_of(const FrameBuilder& builder, FragmentTable& fragments, uint64_t now_ns = kSecond) {
  HeldFrame held(builder.bytes());
  held.frame.timestamp_ns = now_ns;
  parse_frame(held.frame, kKey, fragments);
  return held.frame.hash;
}

uint32_t flow4() {
  FragmentTable none(1);
  return hash_of(FrameBuilder().ethernet().ipv4().udp(1000, 53), none);
}
uint32_t flow6() {
  FragmentTable none(1);
  return hash_of(FrameBuilder().ethernet().ipv6().udp(1000, 53), none);
}

FrameBuilder first4() { return FrameBuilder().ethernet().ipv4({.fragment = 0x2000}).udp(1000, 53); }
FrameBuilder later4(uint16_t fragment = 0x2010) {
  return FrameBuilder().ethernet().ipv4({.fragment = fragment}).protocol(17).payload(20);
}
FrameBuilder first6() { return FrameBuilder().ethernet().ipv6().fragment_header(1).udp(1000, 53); }
FrameBuilder later6(uint8_t next = 17) {
  return FrameBuilder().ethernet().ipv6().fragment_header(0x0100).protocol(next).payload(30);
}

TEST(Fragments, have_the_hash_of_their_flows_whole_frames) {
  FragmentTable table;
  EXPECT_EQ(hash_of(first4(), table), flow4());
  EXPECT_EQ(hash_of(later4(), table), flow4());
  EXPECT_EQ(hash_of(later4(0x0020), table), flow4()) << "the last one";
  EXPECT_EQ(hash_of(first6(), table), flow6());
  EXPECT_EQ(hash_of(later6(), table), flow6());
  EXPECT_EQ(table.unplaced(), 0U);
}

TEST(Fragments, of_ipv6_find_their_flow_behind_extension_headers) {
  FragmentTable table;
  EXPECT_EQ(
      hash_of(FrameBuilder().ethernet().ipv6().extension(0).fragment_header(1).extension(60).udp(1000, 53),
              table),
      flow6());
  EXPECT_EQ(hash_of(later6(60), table), flow6());
  EXPECT_EQ(table.unplaced(), 0U);
}

TEST(Fragments, whose_first_one_has_no_room_for_the_ports_share_a_hash) {
  FragmentTable table;
  FrameBuilder tiny = FrameBuilder().ethernet().ipv4({.fragment = 0x2000}).protocol(17).payload(2);
  const uint32_t hash = hash_of(tiny, table);
  EXPECT_EQ(hash_of(later4(), table), hash);
  EXPECT_EQ(table.unplaced(), 0U);
}

TEST(Fragments, that_come_before_their_first_one_are_counted_and_share_a_hash) {
  FragmentTable table;
  FragmentTable other;
  const uint32_t by_addresses = hash_of(later4(), table);
  EXPECT_EQ(hash_of(later4(0x2020), table), by_addresses);
  EXPECT_EQ(by_addresses, hash_of(FrameBuilder().ethernet().ipv4().udp(0, 0), other));
  EXPECT_EQ(table.unplaced(), 2U);
  EXPECT_EQ(hash_of(first4(), table), flow4());
  EXPECT_EQ(hash_of(later4(0x2020), table), flow4()) << "from then on they go with their flow";
  EXPECT_EQ(table.unplaced(), 2U);
}

TEST(Fragments, of_another_datagram_are_told_apart) {
  FragmentTable table;
  hash_of(first4(), table);
  const auto later = [](const test::Ipv4& header, uint8_t protocol = 17) {
    return FrameBuilder().ethernet().ipv4(header).protocol(protocol).payload(20);
  };
  hash_of(later({.source = {10, 0, 0, 2}, .fragment = 0x10}), table);
  hash_of(later({.target = {10, 0, 0, 2}, .fragment = 0x10}), table);
  hash_of(later({.source = {192, 168, 0, 2}, .target = {10, 0, 0, 1}, .fragment = 0x10}), table);
  hash_of(later({.fragment = 0x10}, 6), table);
  EXPECT_EQ(table.unplaced(), 4U);
  std::vector<std::byte> bytes = later4().bytes();
  bytes[14 + 5] = std::byte{8};  // the identification
  HeldFrame held(bytes);
  held.frame.timestamp_ns = kSecond;
  parse_frame(held.frame, kKey, table);
  EXPECT_EQ(table.unplaced(), 5U);
}

TEST(Fragments, that_come_long_after_their_first_one_are_another_datagrams) {
  FragmentTable table;
  hash_of(first4(), table, 100 * kSecond);
  EXPECT_EQ(hash_of(later4(), table, 101 * kSecond), flow4());
  EXPECT_NE(hash_of(later4(), table, 103 * kSecond), flow4());
  EXPECT_EQ(table.unplaced(), 1U);
  hash_of(first4(), table, 103 * kSecond);
  EXPECT_EQ(hash_of(later4(), table, 103 * kSecond), flow4());
  EXPECT_EQ(hash_of(later4(), table, 102 * kSecond), flow4()) << "a clock that goes back a little";
}

Datagram datagram(uint32_t hash) {
  Datagram d{};
  d.innermost.flow5 = hash;
  return d;
}

TEST(FragmentTable, is_bounded_and_forgets_the_oldest_of_a_set) {
  FragmentTable table(FragmentTable::kWays);  // one set
  for (uint32_t i = 1; i <= 4; ++i) table.remember(i, datagram(i), i * 10'000'000);
  for (uint32_t i = 1; i <= 4; ++i) ASSERT_NE(table.find(i, 50'000'000), nullptr) << i;
  table.remember(5, datagram(5), 50'000'000);
  EXPECT_EQ(table.find(1, 50'000'000), nullptr);
  for (uint32_t i = 2; i <= 5; ++i) EXPECT_EQ(table.find(i, 50'000'000)->innermost.flow5, i);
}

TEST(FragmentTable, remembers_the_newest_first_fragment_of_an_identification) {
  FragmentTable table;
  table.remember(7, datagram(1), kSecond);
  table.remember(7, datagram(2), kSecond);
  EXPECT_EQ(table.find(7, kSecond)->innermost.flow5, 2U);
}

TEST(FragmentTable, keeps_as_many_datagrams_as_it_was_made_for) {
  FragmentTable table;
  uint32_t kept = 0;
  const uint32_t half = FragmentTable::kDatagrams / 2;
  const auto id = [](uint32_t i) { return flow_hash::mum(i + 1, flow_hash::kMultiplier) * 3; };
  for (uint32_t i = 0; i < half; ++i) table.remember(id(i), datagram(i), kSecond);
  for (uint32_t i = 0; i < half; ++i) kept += table.find(id(i), kSecond) != nullptr;
  EXPECT_GT(kept, half * 9 / 10);  // sets fill unevenly
}

TEST(FragmentTable, takes_any_id_and_any_time) {
  FragmentTable table(1);
  EXPECT_EQ(table.find(0, 0), nullptr);
  table.remember(0, datagram(9), 0);
  EXPECT_EQ(table.find(0, 0)->innermost.flow5, 9U);
  table.remember(~uint64_t{0}, datagram(8), ~uint64_t{0});
  EXPECT_EQ(table.find(~uint64_t{0}, ~uint64_t{0})->innermost.flow5, 8U);
}

}  // namespace
}  // namespace ringcap

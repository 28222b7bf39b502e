#include "capture/cluster/balance.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <random>
#include <vector>

#include "capture/frame/parse.h"
#include "tests/unit/capture/frame/frame_builder.h"

namespace ringcap::cluster {
namespace {

using test::Address4;
using test::Address6;
using test::FrameBuilder;
using test::HeldFrame;

constexpr HashKey kKey{0x0123456789abcdef, 0xfedcba9876543210};

// A frame that was parsed, and the table that it was parsed with.
class Parsed {
 public:
  explicit Parsed(const FrameBuilder& builder) : held_(builder.bytes()), fragments_(1) {
    parse_frame(held_.frame, kKey, fragments_);
  }
  uint32_t operator()(Kind kind, Level level = Level::kInner) const {
    return balance_hash(kind, level, held_.frame, kKey, fragments_);
  }
  std::pair<uint32_t, uint32_t> ends(Level level = Level::kInner) const {
    return ends_hashes(level, held_.frame, kKey, fragments_);
  }

 private:
  HeldFrame held_;
  FragmentTable fragments_;
};

struct Host {
  Address4 address;
  uint16_t port;
};
constexpr Host kClient{{10, 0, 0, 1}, 1000};
constexpr Host kServer{{192, 168, 0, 2}, 80};

FrameBuilder tcp(Host from, Host to) {
  return FrameBuilder()
      .ethernet()
      .ipv4({.source = from.address, .target = to.address})
      .tcp(from.port, to.port);
}
FrameBuilder udp(Host from, Host to) {
  return FrameBuilder()
      .ethernet()
      .ipv4({.source = from.address, .target = to.address})
      .udp(from.port, to.port);
}

Host with_port(Host host, uint16_t port) { return {host.address, port}; }
Host with_address(Host host, Address4 address) { return {address, host.port}; }

TEST(Balance, by_flow5_tells_addresses_ports_and_protocol_apart) {
  const uint32_t flow = Parsed(tcp(kClient, kServer))(Kind::kFlow5);
  EXPECT_EQ(Parsed(tcp(kServer, kClient))(Kind::kFlow5), flow);
  EXPECT_NE(Parsed(udp(kClient, kServer))(Kind::kFlow5), flow);
  EXPECT_NE(Parsed(tcp(with_port(kClient, 1001), kServer))(Kind::kFlow5), flow);
  EXPECT_NE(Parsed(tcp(with_address(kClient, {10, 0, 0, 2}), kServer))(Kind::kFlow5), flow);
}

TEST(Balance, by_flow4_does_not_look_at_the_protocol) {
  const uint32_t flow = Parsed(tcp(kClient, kServer))(Kind::kFlow4);
  EXPECT_EQ(Parsed(tcp(kServer, kClient))(Kind::kFlow4), flow);
  EXPECT_EQ(Parsed(udp(kClient, kServer))(Kind::kFlow4), flow);
  EXPECT_NE(Parsed(tcp(with_port(kClient, 1001), kServer))(Kind::kFlow4), flow);
  EXPECT_NE(Parsed(tcp(with_address(kClient, {10, 0, 0, 2}), kServer))(Kind::kFlow4), flow);
}

TEST(Balance, by_flow2_looks_at_addresses_only) {
  const uint32_t flow = Parsed(tcp(kClient, kServer))(Kind::kFlow2);
  EXPECT_EQ(Parsed(udp(kServer, with_port(kClient, 1001)))(Kind::kFlow2), flow);
  EXPECT_NE(Parsed(tcp(with_address(kClient, {10, 0, 0, 2}), kServer))(Kind::kFlow2), flow);
}

TEST(Balance, by_tcp5_takes_tcp_by_ports_and_the_rest_by_addresses) {
  EXPECT_NE(Parsed(tcp(kClient, kServer))(Kind::kTcp5),
            Parsed(tcp(with_port(kClient, 9), kServer))(Kind::kTcp5));
  EXPECT_EQ(Parsed(udp(kClient, kServer))(Kind::kTcp5),
            Parsed(udp(with_port(kClient, 9), kServer))(Kind::kTcp5));
  EXPECT_EQ(Parsed(udp(kClient, kServer))(Kind::kTcp5),
            Parsed(FrameBuilder().ethernet().ipv4().icmp().payload(30))(Kind::kTcp5));
}

TEST(Balance, by_ip5_takes_what_is_not_ip_by_mac_addresses_alone) {
  const auto frame = [](uint16_t type) { return FrameBuilder().ethernet().type(type).payload(40); };
  EXPECT_EQ(Parsed(frame(0x0806))(Kind::kIp5), Parsed(frame(0x88cc))(Kind::kIp5));
  EXPECT_NE(Parsed(frame(0x0806))(Kind::kFlow5), Parsed(frame(0x88cc))(Kind::kFlow5))
      << "flow5 looks at the type";
  EXPECT_EQ(Parsed(tcp(kClient, kServer))(Kind::kIp5), Parsed(tcp(kClient, kServer))(Kind::kFlow5));
}

TEST(Balance, by_vlan_looks_at_the_identifier_of_the_first_or_the_last_tag) {
  const auto tagged = [](uint16_t outer, uint16_t inner, uint16_t port) {
    return Parsed(FrameBuilder().ethernet().vlan(outer, 0x88a8).vlan(inner).ipv4().udp(port, 2));
  };
  EXPECT_EQ(tagged(5, 6, 1)(Kind::kVlan), tagged(7, 6, 9)(Kind::kVlan));
  EXPECT_NE(tagged(5, 6, 1)(Kind::kVlan), tagged(5, 7, 1)(Kind::kVlan));
  EXPECT_EQ(tagged(5, 6, 1)(Kind::kVlan, Level::kOuter), tagged(5, 7, 9)(Kind::kVlan, Level::kOuter));
  EXPECT_NE(tagged(5, 6, 1)(Kind::kVlan, Level::kOuter), tagged(7, 6, 1)(Kind::kVlan, Level::kOuter));
}

TEST(Balance, by_vlan_does_not_look_at_the_tags_priority_and_takes_no_tag_for_0) {
  const auto tagged = [](uint16_t tag) {
    return Parsed(FrameBuilder().ethernet().vlan(tag).ipv4().udp(1, 2));
  };
  EXPECT_EQ(tagged(0xe005)(Kind::kVlan), tagged(5)(Kind::kVlan));
  EXPECT_EQ(tagged(0xe000)(Kind::kVlan), Parsed(udp(kClient, kServer))(Kind::kVlan));
}

TEST(Balance, of_ends_is_one_value_for_a_host_whatever_it_does) {
  const auto there = Parsed(tcp(kClient, kServer)).ends();
  const auto back = Parsed(udp(with_port(kServer, 7), kClient)).ends();
  EXPECT_EQ(there.first, back.second);
  EXPECT_EQ(there.second, back.first);
  EXPECT_NE(there.first, there.second);
}

TEST(Balance, of_frames_without_a_hash_is_0) {
  const FrameBuilder whole = tcp(kClient, kServer);
  HeldFrame cut(std::span(whole.bytes()).first(13));
  FragmentTable fragments(1);
  parse_frame(cut.frame, kKey, fragments);
  for (const Level level : {Level::kInner, Level::kOuter}) {
    for (const Kind kind : {Kind::kFlow5, Kind::kFlow4, Kind::kFlow2, Kind::kTcp5, Kind::kIp5, Kind::kVlan})
      EXPECT_EQ(balance_hash(kind, level, cut.frame, kKey, fragments), 0U);
    EXPECT_EQ(ends_hashes(level, cut.frame, kKey, fragments), std::make_pair(0U, 0U));
  }
}

TEST(Balance, of_an_unplaced_fragment_is_by_its_own_header) {
  const Parsed later(FrameBuilder().ethernet().ipv4({.fragment = 0x10}).protocol(17).payload(30));
  EXPECT_EQ(later(Kind::kFlow2), Parsed(udp(kClient, kServer))(Kind::kFlow2));
  EXPECT_EQ(later(Kind::kFlow5), Parsed(udp(with_port(kClient, 0), with_port(kServer, 0)))(Kind::kFlow5));
  EXPECT_EQ(later.ends(), Parsed(udp(kClient, kServer)).ends());
}

// ---- address plans
// -----------------------------------------------------------------------------------------

Address4 address4(uint32_t value) {
  return {static_cast<uint8_t>(value >> 24), static_cast<uint8_t>(value >> 16),
          static_cast<uint8_t>(value >> 8), static_cast<uint8_t>(value)};
}

Address6 address6(uint16_t subnet, uint32_t host) {
  return {0x20, 1, 0xd, 0xb8, 0, 0, static_cast<uint8_t>(subnet >> 8), static_cast<uint8_t>(subnet),
          0,    0, 0,   0,    0, 0, static_cast<uint8_t>(host >> 8),   static_cast<uint8_t>(host)};
}

struct Plan {
  const char* name;
  bool addresses;  // every flow has addresses of its own, else only ports
  std::function<FrameBuilder(uint32_t)> frame;
};

uint16_t low(uint32_t i) { return static_cast<uint16_t>(i); }

std::vector<Plan> plans() {
  return {
      {"sequential hosts", true,
       [](uint32_t i) { return tcp({address4(0x0a000000 + i), 40000}, {{10, 9, 0, 1}, 443}); }},
      {"paired subnets", true,
       [](uint32_t i) { return tcp({address4(0x0a010000 + i), 40000}, {address4(0x0a020000 + i), 443}); }},
      {"one port on both sides", true,
       [](uint32_t i) { return tcp({address4(0xac100000 + i), 5060}, {address4(0xac110000 + i), 5060}); }},
      {"hosts a /20 apart", true,
       [](uint32_t i) { return tcp({address4(i << 12), 1}, {{10, 9, 0, 1}, 443}); }},
      {"a NAT pool of 8 addresses", false,
       [](uint32_t i) {
         return tcp({address4(0xc6336400 + i % 8), low(1024 + i / 8)}, {{203, 0, 113, 5}, 443});
       }},
      {"one pair of hosts", false, [](uint32_t i) { return tcp({{10, 0, 0, 1}, low(1024 + i)}, kServer); }},
      {"IPv6, paired subnets", true,
       [](uint32_t i) {
         return FrameBuilder().ethernet().ipv6({address6(1, i), address6(2, i)}).tcp(40000, 443);
       }},
      {"IPv6, sequential subnets", true,
       [](uint32_t i) {
         return FrameBuilder().ethernet().ipv6({address6(low(i), 1), address6(9, 2)}).tcp(40000, 443);
       }},
  };
}

// The largest of `members` members, over the mean: by slots, as clusters do it.
double imbalance(const std::vector<uint32_t>& hashes, uint32_t members) {
  std::vector<uint32_t> flows(members);
  for (const uint32_t hash : hashes) ++flows[(hash >> 20) % members];
  return *std::ranges::max_element(flows) * double{1} * members / static_cast<double>(hashes.size());
}

TEST(Balance, of_10000_flows_gives_no_member_more_than_115_percent_of_the_mean) {
  constexpr uint32_t kFlows = 10'000;
  for (const Plan& plan : plans())
    for (const Kind kind : {Kind::kFlow5, Kind::kFlow4, Kind::kFlow2, Kind::kTcp5, Kind::kIp5}) {
      if (kind == Kind::kFlow2 && !plan.addresses) continue;  // too few distinct tuples: 8, 1
      std::vector<uint32_t> hashes;
      for (uint32_t i = 0; i < kFlows; ++i) hashes.push_back(Parsed(plan.frame(i))(kind));
      for (const uint32_t members : {4U, 7U, 16U})
        EXPECT_LE(imbalance(hashes, members), 1.15)
            << plan.name << ", " << kind_name(kind) << ", " << members;
    }
}

TEST(Balance, of_10000_hosts_gives_no_member_more_than_115_percent_of_the_mean_by_ends) {
  std::vector<uint32_t> hashes;
  for (uint32_t i = 0; i < 10'000; ++i)
    hashes.push_back(Parsed(tcp({address4(0x0a000000 + i), 1}, kServer)).ends().first);
  for (const uint32_t members : {4U, 7U, 16U}) EXPECT_LE(imbalance(hashes, members), 1.15) << members;
}

// No 10,000 of them: 4,094 identifiers are all there are.
TEST(Balance, of_all_vlans_gives_no_member_of_4_more_than_115_percent_of_the_mean) {
  std::vector<uint32_t> hashes;
  for (uint16_t vlan = 1; vlan < 4095; ++vlan)
    hashes.push_back(Parsed(FrameBuilder().ethernet().vlan(vlan).ipv4().udp(1, 2))(Kind::kVlan));
  EXPECT_LE(imbalance(hashes, 4), 1.15);
}

}  // namespace
}  // namespace ringcap::cluster

#include "tools/transparent.h"

#include <gtest/gtest.h>

#include "tools/filter_text.h"
#include "tools/forward_claims.h"

namespace ringcap::tools {
namespace {

constexpr uint32_t kEthernet = 1;

filter::Program login_program(const std::vector<std::string>& addresses) {
  auto instructions = compile_filter({login_filter(addresses)}, "", kEthernet);
  EXPECT_TRUE(instructions) << instructions.error().message();
  auto program = filter::validate(*instructions);
  EXPECT_TRUE(program);
  return std::move(*program);
}

// An Ethernet frame of `type`, with a VLAN tag before it if asked for.
std::vector<std::byte> frame_of(uint16_t type, std::initializer_list<uint8_t> payload, bool tagged = false) {
  std::vector<std::byte> frame(12);
  const auto put = [&](uint8_t byte) { frame.push_back(std::byte{byte}); };
  if (tagged)
    for (const int byte : {0x81, 0x00, 0x00, 0x05}) put(static_cast<uint8_t>(byte));
  put(static_cast<uint8_t>(type >> 8));
  put(static_cast<uint8_t>(type));
  for (const uint8_t byte : payload) put(byte);
  frame.resize(std::max<size_t>(frame.size(), 100));
  return frame;
}

bool passes(const filter::Program& program, const std::vector<std::byte>& frame) {
  const auto length = static_cast<uint32_t>(frame.size());
  return filter::run(program, frame.data(), length, length) != 0;
}

constexpr uint8_t kTcp = 6, kUdp = 17, kIcmp = 1;
std::vector<std::byte> ip_frame(uint8_t protocol, uint8_t last_of_source, uint8_t last_of_destination,
                                uint8_t port, bool tagged = false) {
  return frame_of(0x0800, {0x45, 0,        0, 40,
                           0,    0,        0, 0,
                           64,   protocol, 0, 0,
                           10,   0,        0, last_of_source,
                           10,   0,        0, last_of_destination,
                           0,    port,     0, port},
                  tagged);
}

TEST(LoginFilter, passes_what_a_remote_login_needs_and_nothing_else) {
  const filter::Program program = login_program({"10.0.0.7", "fe80::1"});
  for (const bool tagged : {false, true}) {
    EXPECT_TRUE(passes(program, frame_of(0x0806, {0, 1}, tagged)));  // ARP
    EXPECT_TRUE(passes(program, ip_frame(kIcmp, 1, 2, 0, tagged)));
    EXPECT_TRUE(passes(program, ip_frame(kUdp, 1, 2, 67, tagged)));  // DHCP
    EXPECT_TRUE(passes(program, ip_frame(kUdp, 1, 2, 68, tagged)));
    EXPECT_TRUE(passes(program, ip_frame(kTcp, 1, 7, 22, tagged)));  // to the host
    EXPECT_TRUE(passes(program, ip_frame(kTcp, 7, 1, 22, tagged)));
    EXPECT_FALSE(passes(program, ip_frame(kTcp, 1, 2, 22, tagged)));
    EXPECT_FALSE(passes(program, ip_frame(kUdp, 1, 2, 53, tagged)));
    EXPECT_FALSE(passes(program, frame_of(0x88cc, {0, 1}, tagged)));  // LLDP
  }
}

TEST(LoginFilter, compiles_for_a_host_without_addresses_and_with_many) {
  login_program({});
  std::vector<std::string> many;
  for (int i = 0; i < 100; ++i) many.push_back("10.1.0." + std::to_string(i));
  const filter::Program program = login_program(many);
  EXPECT_FALSE(passes(program, ip_frame(kTcp, 1, 2, 22)));
}

TEST(TransparentMode, has_names_and_pf_rings_numbers) {
  EXPECT_EQ(*parse_transparent("off"), Transparent::kOff);
  EXPECT_EQ(*parse_transparent("2"), Transparent::kOff);
  EXPECT_EQ(*parse_transparent("both"), Transparent::kBoth);
  EXPECT_EQ(*parse_transparent("1"), Transparent::kBoth);
  EXPECT_EQ(*parse_transparent("filter"), Transparent::kFilter);
  EXPECT_EQ(*parse_transparent("kernel-first"), Transparent::kKernelFirst);
  EXPECT_EQ(*parse_transparent("0"), Transparent::kKernelFirst);
  EXPECT_FALSE(parse_transparent("on"));
}

TEST(ForwardClaims, an_edge_between_places_that_are_joined_closes_a_circle) {
  EXPECT_TRUE(closing_edges({{"a", "b"}, {"b", "c"}, {"d", "e"}}).empty());
  EXPECT_EQ(closing_edges({{"a", "a"}}).size(), 1u);
  EXPECT_EQ(closing_edges({{"a", "b"}, {"b", "a"}}), (std::vector<Edge>{{"b", "a"}}));
  EXPECT_EQ(closing_edges({{"a", "b"}, {"c", "d"}, {"b", "c"}, {"d", "a"}}), (std::vector<Edge>{{"d", "a"}}));
}

TEST(ForwardClaims, a_nics_place_is_its_address_without_the_options) {
  EXPECT_EQ(node_of_port("vfio:0000:03:00.0,queues=4"), "vfio:0000:03:00.0");
}

}  // namespace
}  // namespace ringcap::tools

#include "capture/frame/hash.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <netinet/ether.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <random>
#include <sstream>

#include "capture/frame/parse.h"
#include "tests/unit/capture/frame/frame_builder.h"

namespace ringcap {
namespace {

using test::Address4;
using test::Address6;
using test::FrameBuilder;
using test::HeldFrame;

const std::string kFolder = RINGCAP_SOURCE_DIR "/tests/unit/capture/frame/";
constexpr HashKey kKey{0xb5b3a8d1f06e4c27, 0x90112233a5c4e7f9};

uint32_t hash_of(const FrameBuilder& builder, const HashKey& key = kKey) {
  HeldFrame held(builder.bytes());
  FragmentTable none(1);
  parse_burst({&held.frame, 1}, key, none);
  return held.frame.hash;
}

// ---- known answers -------------------------------------------------------------------------------

struct Vector {
  std::string key, kind, family, protocol, source, source_port, target, target_port, hash;
};

std::vector<Vector> read_vectors() {
  std::ifstream file(kFolder + "flow_hash_vectors.txt");
  std::vector<Vector> vectors;
  for (std::string line; std::getline(file, line);) {
    Vector v;
    std::istringstream words(line);
    if (line.starts_with("#")) continue;
    words >> v.key >> v.kind >> v.family >> v.protocol >> v.source >> v.source_port >> v.target >>
        v.target_port >> v.hash;
    vectors.push_back(v);
  }
  return vectors;
}

HashKey key_of(const std::string& hex) {
  std::array<std::byte, 16> bytes;
  for (size_t i = 0; i < 16; ++i)
    bytes[i] = static_cast<std::byte>(std::stoul(hex.substr(2 * i, 2), nullptr, 16));
  return HashKey::from_bytes(bytes);
}

template <typename Address>
Address address_of(int family, const std::string& text) {
  Address address;
  EXPECT_EQ(inet_pton(family, text.c_str(), address.data()), 1) << text;
  return address;
}

test::Mac mac_of(const std::string& text) {
  ether_addr ether{};
  EXPECT_NE(ether_aton_r(text.c_str(), &ether), nullptr) << text;
  test::Mac mac;
  std::ranges::copy(ether.ether_addr_octet, mac.begin());
  return mac;
}

FrameBuilder frame_of(const Vector& v) {
  const auto number = static_cast<uint16_t>(std::stoul(v.protocol, nullptr, 0));
  const auto protocol = static_cast<uint8_t>(number);
  const auto source_port = static_cast<uint16_t>(std::stoul(v.source_port));
  const auto target_port = static_cast<uint16_t>(std::stoul(v.target_port));
  FrameBuilder builder;
  if (v.family == "mac") return builder.ethernet(mac_of(v.source), mac_of(v.target)).type(number).payload(50);
  if (v.family == "4")
    builder.ethernet().ipv4({.source = address_of<Address4>(AF_INET, v.source),
                             .target = address_of<Address4>(AF_INET, v.target)});
  else
    builder.ethernet().ipv6({.source = address_of<Address6>(AF_INET6, v.source),
                             .target = address_of<Address6>(AF_INET6, v.target)});
  if (protocol == 6) return builder.tcp(source_port, target_port);
  if (protocol == 17) return builder.udp(source_port, target_port);
  if (protocol == 132) return builder.sctp(source_port, target_port);
  return builder.protocol(protocol).payload(20);
}

TEST(FlowHash, frames_have_the_values_of_the_vectors) {
  const std::vector<Vector> vectors = read_vectors();
  ASSERT_GT(vectors.size(), 50U);
  for (const Vector& v : vectors)
    EXPECT_EQ(fmt::format("{:08x}", hash_of(frame_of(v), key_of(v.key))), v.hash)
        << v.family << ' ' << v.source << ' ' << v.target;
}

TEST(FlowHash, another_program_computes_the_same_from_the_document) {
  const std::string command = "python3 -B " + kFolder + "flow_hash.py " + kFolder + "flow_hash_vectors.txt";
  EXPECT_EQ(std::system(command.c_str()), 0);
}

TEST(FlowHash, random_keys_differ) {
  const HashKey one = HashKey::random();
  const HashKey other = HashKey::random();
  EXPECT_NE(one.k0, other.k0);
  EXPECT_NE(one.k1, other.k1);
  EXPECT_NE(one.k0, one.k1);
}

// ---- flows, made by number ---------------------------------------------------------------------------

struct Flow {
  Address4 source{10, 0, 0, 1};
  Address4 target{192, 168, 0, 2};
  uint16_t source_port = 1000;
  uint16_t target_port = 80;
};

Address4 address4(uint32_t value) {
  return {static_cast<uint8_t>(value >> 24), static_cast<uint8_t>(value >> 16),
          static_cast<uint8_t>(value >> 8), static_cast<uint8_t>(value)};
}

uint32_t hash4(const Flow& flow, const HashKey& key = kKey) {
  return hash_of(FrameBuilder()
                     .ethernet()
                     .ipv4({.source = flow.source, .target = flow.target})
                     .tcp(flow.source_port, flow.target_port),
                 key);
}

uint32_t hash6(Address6 source, Address6 target, uint16_t source_port, const HashKey& key = kKey) {
  return hash_of(FrameBuilder().ethernet().ipv6({.source = source, .target = target}).udp(source_port, 443),
                 key);
}

Address6 address6(uint64_t subnet, uint64_t host) {
  Address6 address{};
  for (size_t i = 0; i < 8; ++i) {
    address[i] = static_cast<uint8_t>(subnet >> (56 - 8 * i));
    address[8 + i] = static_cast<uint8_t>(host >> (56 - 8 * i));
  }
  return address;
}

struct Pattern {
  const char* name;
  std::function<uint32_t(uint32_t)> hash;  // of flow number i
};

// Address plans as networks have them, which is where weak hashes show.
std::vector<Pattern> patterns() {
  constexpr uint64_t kSubnet = 0x20010db800000000;
  return {
      {"sequential sources", [](uint32_t i) { return hash4({.source = address4(0x0a000000 + i)}); }},
      {"paired addresses, same low bits in both subnets",
       [](uint32_t i) {
         return hash4({.source = address4(0x0a000000 + i), .target = address4(0x0a010000 + i)});
       }},
      {"paired addresses and one port on both sides",
       [](uint32_t i) { return hash4({address4(0xac100000 + i), address4(0xac110000 + i), 5060, 5060}); }},
      {"only the source port varies",
       [](uint32_t i) { return hash4({.source_port = static_cast<uint16_t>(1024 + i)}); }},
      {"a pool of 8 translated addresses, ports in turn",
       [](uint32_t i) {
         return hash4(
             {.source = address4(0xc6336400 + i % 8), .source_port = static_cast<uint16_t>(1024 + i / 8)});
       }},
      {"sources a power of two apart", [](uint32_t i) { return hash4({.source = address4(i << 12)}); }},
      {"ipv6, sequential hosts",
       [](uint32_t i) { return hash6(address6(kSubnet, i), address6(kSubnet, 1ULL << 32), 1); }},
      {"ipv6, paired hosts in two subnets",
       [](uint32_t i) { return hash6(address6(kSubnet, i), address6(kSubnet + 1, i), 443); }},
      {"ipv6, sequential subnets",
       [](uint32_t i) { return hash6(address6(kSubnet + i, 1), address6(kSubnet, 2), 443); }},
      {"ipv6, only the source port varies",
       [](uint32_t i) {
         return hash6(address6(kSubnet, 1), address6(kSubnet, 2), static_cast<uint16_t>(1024 + i));
       }},
  };
}

// ---- quality ------------------------------------------------------------------------------------------

// The value that chi-square with `degrees` degrees of freedom exceeds once in a million (Wilson and
// Hilferty).
double once_in_a_million(double degrees) {
  const double part = 2.0 / (9.0 * degrees);
  return degrees * std::pow(1.0 - part + 4.75 * std::sqrt(part), 3);
}

double chi_square(const std::vector<uint32_t>& counts, double expected) {
  double sum = 0;
  for (const uint32_t count : counts) sum += (count - expected) * (count - expected) / expected;
  return sum;
}

// How many of `hashes` each of `members` gets: by remainder, or by the top 12 bits as 4,096 slots in turn.
std::vector<uint32_t> shares(const std::vector<uint32_t>& hashes, uint32_t members, bool slots) {
  std::vector<uint32_t> counts(members);
  for (const uint32_t hash : hashes) ++counts[(slots ? hash >> 20 : hash) % members];
  return counts;
}

TEST(FlowHash, balance_is_that_of_chance_for_every_address_plan) {
  constexpr uint32_t kFlows = 20000;
  for (const Pattern& pattern : patterns()) {
    std::vector<uint32_t> hashes(kFlows);
    for (uint32_t i = 0; i < kFlows; ++i) hashes[i] = pattern.hash(i);
    for (const uint32_t members : {2U, 3U, 4U, 7U, 8U, 16U, 32U, 64U})
      for (const bool slots : {false, true})
        EXPECT_LT(
            chi_square(shares(hashes, members, slots), double{kFlows} / members),
            once_in_a_million(members - 1) * (slots ? 1.1 : 1.0))  // 4,096 slots are no multiple of 3 and 7
            << pattern.name << ", " << members << " members" << (slots ? ", by slots" : "");
  }
}

TEST(FlowHash, flows_of_every_address_plan_hardly_ever_collide) {
  constexpr uint32_t kFlows = 20000;
  for (const Pattern& pattern : patterns()) {
    std::vector<uint32_t> hashes(kFlows);
    for (uint32_t i = 0; i < kFlows; ++i) hashes[i] = pattern.hash(i);
    std::ranges::sort(hashes);
    const auto same = std::ranges::unique(hashes);
    EXPECT_LE(same.size(), 3U) << pattern.name;  // 0.05 by chance
  }
}

TEST(FlowHash, largest_member_gets_at_most_115_percent_of_the_mean) {
  constexpr uint32_t kFlows = 10000;
  for (const Pattern& pattern : patterns()) {
    std::vector<uint32_t> hashes(kFlows);
    for (uint32_t i = 0; i < kFlows; ++i) hashes[i] = pattern.hash(i);
    for (const uint32_t members : {4U, 7U, 16U}) {
      const std::vector<uint32_t> counts = shares(hashes, members, true);
      EXPECT_LE(*std::ranges::max_element(counts) * members, 1.15 * kFlows)
          << pattern.name << ", " << members;
    }
  }
}

TEST(FlowHash, both_directions_have_one_value) {
  std::mt19937 random(7);
  for (int i = 0; i < 1000; ++i) {
    const Flow there{address4(static_cast<uint32_t>(random())), address4(static_cast<uint32_t>(random())),
                     static_cast<uint16_t>(random()), static_cast<uint16_t>(random())};
    const Flow back{there.target, there.source, there.target_port, there.source_port};
    EXPECT_EQ(hash4(there), hash4(back));
    const Flow crossed{there.source, there.target, there.target_port, there.source_port};
    EXPECT_NE(hash4(there), hash4(crossed)) << "the ports belong to their addresses";
  }
  EXPECT_EQ(hash_of(FrameBuilder().ethernet().ipv6({address6(1, 2), address6(3, 4)}).tcp(5, 6)),
            hash_of(FrameBuilder().ethernet().ipv6({address6(3, 4), address6(1, 2)}).tcp(6, 5)));
}

TEST(FlowHash, protocols_are_told_apart) {
  EXPECT_NE(hash_of(FrameBuilder().ethernet().ipv4().tcp(1, 2)),
            hash_of(FrameBuilder().ethernet().ipv4().udp(1, 2)));
  EXPECT_NE(hash_of(FrameBuilder().ethernet().ipv6().tcp(1, 2)),
            hash_of(FrameBuilder().ethernet().ipv6().udp(1, 2)));
}

// Flips each of the first `bits` bits of the input and counts how often each of the 32 result bits follows.
void expect_avalanche(size_t bits, const std::function<uint32_t(const std::array<uint8_t, 48>&)>& hash) {
  constexpr int kRounds = 800;
  std::mt19937 random(11);
  std::array<uint8_t, 48> input{};
  for (size_t bit = 0; bit < bits; ++bit) {
    std::array<int, 32> flips{};
    for (int round = 0; round < kRounds; ++round) {
      for (uint8_t& byte : input) byte = static_cast<uint8_t>(random());
      const uint32_t before = hash(input);
      input[bit / 8] ^= static_cast<uint8_t>(1 << bit % 8);
      const uint32_t changed = before ^ hash(input);
      for (size_t out = 0; out < 32; ++out) flips[out] += changed >> out & 1;
    }
    for (size_t out = 0; out < 32; ++out) {  // 6 standard deviations are 0.106
      EXPECT_NEAR(flips[out] / double{kRounds}, 0.5, 0.11) << "bit " << bit << " of the input, " << out;
    }
  }
}

template <size_t kBytes>
std::array<uint8_t, kBytes> part(const std::array<uint8_t, 48>& input, size_t from) {
  std::array<uint8_t, kBytes> out;
  std::copy_n(input.begin() + static_cast<ptrdiff_t>(from), kBytes, out.begin());
  return out;
}
uint16_t port(const std::array<uint8_t, 48>& input, size_t at) {
  return static_cast<uint16_t>(input[at] << 8 | input[at + 1]);
}

TEST(FlowHash, each_bit_of_an_ipv4_tuple_moves_each_bit_of_the_value) {
  expect_avalanche(
      96, [](const auto& in) { return hash4({part<4>(in, 0), part<4>(in, 4), port(in, 8), port(in, 10)}); });
}

TEST(FlowHash, each_bit_of_an_ipv6_tuple_moves_each_bit_of_the_value) {
  expect_avalanche(272,
                   [](const auto& in) { return hash6(part<16>(in, 0), part<16>(in, 16), port(in, 32)); });
}

TEST(FlowHash, each_bit_of_the_key_moves_each_bit_of_the_value) {
  expect_avalanche(128, [](const auto& in) {
    return hash4({}, HashKey::from_bytes(std::as_bytes(std::span(in)).template first<16>()));
  });
}

}  // namespace
}  // namespace ringcap

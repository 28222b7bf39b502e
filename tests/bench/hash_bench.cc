// Parse and hash, by kind of frame, and what a kind of balance costs beside it. Frames are in cache, bursts
// of 256 with addresses, ports and protocols in random order. Peers: DPDK's CRC32C hash over the same fields
// after the same checks, and its Toeplitz hash with GFNI, where libdpdk-dev is installed
// (dpdk_hash.cc).
#include <benchmark/benchmark.h>

#include <array>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <vector>

#include "capture/cluster/balance.h"
#include "capture/frame/parse.h"
#include "tests/bench/dpdk_hash.h"
#include "tests/unit/capture/frame/frame_builder.h"

namespace ringcap {
namespace {

using cluster::Kind;
using cluster::Level;
using test::FrameBuilder;
using Data = std::vector<std::byte>;

constexpr size_t kBurst = 256;
constexpr HashKey kKey{0x0123456789abcdef, 0xfedcba9876543210};

// Which end is the smaller, and what is TCP, is random: a branch on it would show.
uint8_t scatter(size_t i) { return static_cast<uint8_t>(static_cast<uint32_t>(i) * 2654435761U >> 24); }
test::Ipv4 addresses4(size_t n) {
  const uint8_t i = scatter(n);
  return {.source = {i, 0, 0, 7}, .target = {static_cast<uint8_t>(i ^ 0x5a), 168, i, 1}};
}
test::Ipv6 addresses6(size_t n) {
  test::Ipv6 header;
  header.source[15] = scatter(n);
  header.target[15] = scatter(n + 1);
  return header;
}
FrameBuilder transport(FrameBuilder builder, size_t n) {
  const auto port = static_cast<uint16_t>(1024 + scatter(n));
  return scatter(n) % 3 != 0 ? builder.tcp(port, 80) : builder.udp(port, 53);
}
Data joined(const FrameBuilder& outer, std::initializer_list<int> header, const FrameBuilder& inner) {
  Data bytes = outer.bytes();
  for (const int byte : header) bytes.push_back(static_cast<std::byte>(byte));
  bytes.insert(bytes.end(), inner.bytes().begin(), inner.bytes().end());
  return bytes;
}

Data udp4(size_t n) {
  return FrameBuilder()
      .ethernet()
      .ipv4(addresses4(n))
      .udp(static_cast<uint16_t>(1024 + scatter(n)), 53)
      .bytes();
}
Data mixed4(size_t n) { return transport(FrameBuilder().ethernet().ipv4(addresses4(n)), n).bytes(); }
Data mixed6(size_t n) { return transport(FrameBuilder().ethernet().ipv6(addresses6(n)), n).bytes(); }
Data vlan(size_t n) { return transport(FrameBuilder().ethernet().vlan(10).ipv4(addresses4(n)), n).bytes(); }
Data qinq(size_t n) {
  return transport(FrameBuilder().ethernet().vlan(9, 0x88a8).vlan(10).ipv4(addresses4(n)), n).bytes();
}
Data mpls(size_t n) {
  return transport(FrameBuilder().ethernet().mpls(16, true).ipv4(addresses4(n)), n).bytes();
}
Data gre(size_t n) {
  return joined(FrameBuilder().ethernet().ipv4().protocol(47), {0, 0, 8, 0},
                transport(FrameBuilder().ipv4(addresses4(n)), n));
}
Data vxlan(size_t n) {
  return joined(FrameBuilder().ethernet().ipv4().udp(50000, 4789), {8, 0, 0, 0, 0, 0, 42, 0},
                transport(FrameBuilder().ethernet().ipv4(addresses4(n)), n));
}
Data arp(size_t) { return FrameBuilder().ethernet().type(0x0806).payload(46).bytes(); }
// A first fragment and one later fragment of each datagram, in turn.
Data fragments(size_t n) {
  test::Ipv4 header = addresses4(n / 2);
  header.fragment = n % 2 == 0 ? 0x2000 : 0x0010;
  FrameBuilder builder = FrameBuilder().ethernet().ipv4(header);
  return (n % 2 == 0 ? builder.udp(1000, 53) : builder.protocol(17).payload(26)).bytes();
}

struct Traffic {
  explicit Traffic(Data (*make)(size_t)) {
    for (size_t i = 0; i < kBurst; ++i) {
      const Data data = make(i);
      std::ranges::copy(data, bytes[i].begin());
      frames[i].data = bytes[i].data();
      frames[i].captured = static_cast<uint16_t>(std::max<size_t>(data.size(), 64));
      frames[i].length = frames[i].captured;
    }
  }
  void parse() {
    for (Frame& frame : frames) frame.flags = 0;
    parse_burst(frames, kKey, table);
  }
  std::array<std::array<std::byte, 128>, kBurst> bytes{};
  std::array<Frame, kBurst> frames;
  FragmentTable table;
};

void count_frames(benchmark::State& state) {
  state.counters["frames"] =
      benchmark::Counter(static_cast<double>(state.iterations() * kBurst), benchmark::Counter::kIsRate);
}

void parse_hash_ringcap(benchmark::State& state, Data (*make)(size_t)) {
  const auto traffic = std::make_unique<Traffic>(make);
  for (auto _ : state) {
    parse_burst(traffic->frames, kKey, traffic->table);
    benchmark::ClobberMemory();
  }
  count_frames(state);
}
BENCHMARK_CAPTURE(parse_hash_ringcap, udp4, udp4);
BENCHMARK_CAPTURE(parse_hash_ringcap, mixed4, mixed4);
BENCHMARK_CAPTURE(parse_hash_ringcap, mixed6, mixed6);
BENCHMARK_CAPTURE(parse_hash_ringcap, vlan, vlan);
BENCHMARK_CAPTURE(parse_hash_ringcap, qinq, qinq);
BENCHMARK_CAPTURE(parse_hash_ringcap, mpls, mpls);
BENCHMARK_CAPTURE(parse_hash_ringcap, gre, gre);
BENCHMARK_CAPTURE(parse_hash_ringcap, vxlan, vxlan);
BENCHMARK_CAPTURE(parse_hash_ringcap, fragments, fragments);
BENCHMARK_CAPTURE(parse_hash_ringcap, arp, arp);

#ifdef RINGCAP_BENCH_DPDK
void parse_hash_peer(benchmark::State& state, bench::PeerHash hash, Data (*make)(size_t)) {
  const auto traffic = std::make_unique<Traffic>(make);
  std::array<const std::byte*, kBurst> frames;
  std::array<uint32_t, kBurst> hashes{};
  for (size_t i = 0; i < kBurst; ++i) frames[i] = traffic->bytes[i].data();
  for (auto _ : state) {
    hash(frames.data(), kBurst, hashes.data());
    benchmark::ClobberMemory();
  }
  count_frames(state);
}
void parse_hash_dpdk(benchmark::State& state, Data (*make)(size_t)) {
  parse_hash_peer(state, bench::dpdk_crc32c, make);
}
void parse_hash_dpdk_toeplitz(benchmark::State& state, Data (*make)(size_t)) {
  if (!bench::dpdk_has_toeplitz()) return state.SkipWithError("this processor has no GFNI");
  parse_hash_peer(state, bench::dpdk_toeplitz, make);
}
BENCHMARK_CAPTURE(parse_hash_dpdk, udp4, udp4);
BENCHMARK_CAPTURE(parse_hash_dpdk, mixed4, mixed4);
BENCHMARK_CAPTURE(parse_hash_dpdk_toeplitz, udp4, udp4);
#endif

// Beside parse and hash, which were done before.
void balance(benchmark::State& state, Kind kind, Level level, Data (*make)(size_t)) {
  const auto traffic = std::make_unique<Traffic>(make);
  traffic->parse();
  for (auto _ : state)
    for (const Frame& frame : traffic->frames)
      benchmark::DoNotOptimize(cluster::balance_hash(kind, level, frame, kKey, traffic->table));
  count_frames(state);
}
BENCHMARK_CAPTURE(balance, flow5, Kind::kFlow5, Level::kInner, mixed4);
BENCHMARK_CAPTURE(balance, flow4, Kind::kFlow4, Level::kInner, mixed4);
BENCHMARK_CAPTURE(balance, flow2, Kind::kFlow2, Level::kInner, mixed4);
BENCHMARK_CAPTURE(balance, tcp5, Kind::kTcp5, Level::kInner, mixed4);
BENCHMARK_CAPTURE(balance, ip5, Kind::kIp5, Level::kInner, mixed4);
BENCHMARK_CAPTURE(balance, vlan, Kind::kVlan, Level::kInner, vlan);
BENCHMARK_CAPTURE(balance, flow2_vxlan_inner, Kind::kFlow2, Level::kInner, vxlan);
BENCHMARK_CAPTURE(balance, flow2_vxlan_outer, Kind::kFlow2, Level::kOuter, vxlan);
BENCHMARK_CAPTURE(balance, flow2_fragments, Kind::kFlow2, Level::kInner, fragments);

void balance_ends(benchmark::State& state) {
  const auto traffic = std::make_unique<Traffic>(mixed4);
  traffic->parse();
  for (auto _ : state)
    for (const Frame& frame : traffic->frames)
      benchmark::DoNotOptimize(cluster::ends_hashes(Level::kInner, frame, kKey, traffic->table));
  count_frames(state);
}
BENCHMARK(balance_ends);

}  // namespace
}  // namespace ringcap

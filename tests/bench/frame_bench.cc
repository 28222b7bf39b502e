// What the worker pays for each frame before the rings: parse and hash (filters: filter_bench.cc). Frames are
// in L1, bursts of 256 with addresses in random order.
#include <benchmark/benchmark.h>

#include <array>
#include <cstdint>
#include <cstring>

#include "capture/frame/parse.h"

namespace ringcap {
namespace {

constexpr size_t kBurst = 256;
constexpr HashKey kKey{0x0123456789abcdef, 0xfedcba9876543210};

using Bytes = std::array<std::byte, 128>;

void put(Bytes& bytes, size_t offset, std::initializer_list<int> values) {
  for (const int value : values) bytes[offset++] = static_cast<std::byte>(value);
}

// Each frame has ports and addresses of its own, and its protocol and which end is the smaller are
// random: a branch on them would show.
int scatter(int i) { return static_cast<int>(static_cast<uint32_t>(i) * 2654435761U >> 24); }

Bytes ipv4_frame(int n) {
  const int i = scatter(n);
  Bytes bytes{};
  put(bytes, 0,
      {2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0, 0x45, 0, 0, 46, 0, 0, 0x40, 0, 64, i % 3 ? 6 : 17});
  put(bytes, 26, {i, 0, 0, 7, i ^ 0x5a, 168, i, 1, i, 80, 0, 80});
  return bytes;
}

Bytes ipv6_frame(int n) {
  const int i = scatter(n);
  Bytes bytes{};
  put(bytes, 0, {2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x86, 0xdd, 0x60, 0, 0, 0, 0, 20, i % 3 ? 6 : 17, 64});
  put(bytes, 22, {0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, i});
  put(bytes, 38, {0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, i, 1, i, 80, 0, 80});
  return bytes;
}

Bytes vlan_frame(int i) {
  Bytes bytes = ipv4_frame(i);
  std::memmove(bytes.data() + 16, bytes.data() + 12, 64);
  put(bytes, 12, {0x81, 0, 0, 10});
  return bytes;
}

Bytes arp_frame(int i) {
  Bytes bytes{};
  put(bytes, 0, {2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, i, 8, 6});
  return bytes;
}

struct Traffic {
  explicit Traffic(Bytes (*make)(int)) {
    for (size_t i = 0; i < kBurst; ++i) {
      bytes[i] = make(static_cast<int>(i));
      frames[i].data = bytes[i].data();
      frames[i].captured = 64;
      frames[i].length = 64;
    }
  }
  std::array<Bytes, kBurst> bytes;
  std::array<Frame, kBurst> frames;
};

void count_frames(benchmark::State& state) {
  const auto frames = static_cast<double>(state.iterations() * kBurst);
  state.counters["frames"] = benchmark::Counter(frames, benchmark::Counter::kIsRate);
  state.counters["per_frame"] =
      benchmark::Counter(frames, benchmark::Counter::kIsRate | benchmark::Counter::kInvert);
}

void parse(benchmark::State& state, Bytes (*make)(int)) {
  Traffic traffic(make);
  FragmentTable fragments;
  for (auto _ : state) {
    parse_burst(traffic.frames, kKey, fragments);
    benchmark::ClobberMemory();
  }
  count_frames(state);
}
BENCHMARK_CAPTURE(parse, ipv4, ipv4_frame);
BENCHMARK_CAPTURE(parse, ipv6, ipv6_frame);
BENCHMARK_CAPTURE(parse, vlan_ipv4, vlan_frame);
BENCHMARK_CAPTURE(parse, arp, arp_frame);

}  // namespace
}  // namespace ringcap

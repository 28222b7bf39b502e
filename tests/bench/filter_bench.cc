// What a filter costs a frame: compiled and interpreted, beside libpcap's bpf_filter() and the JIT compiler
// of DPDK's rte_bpf. Half of the frames are TCP over IPv4, the others UDP, IPv6 and ARP, in random order;
// some of each match. Two numbers of frames: 256, all in L1 and so few that the processor learns their order
// by heart, and 8,192, in L2, of which it learns what can be learnt.
#include <benchmark/benchmark.h>
#include <pcap/pcap.h>

#include <array>
#include <cstdint>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "capture/filter/program.h"
#include "capture/port/port.h"
#ifdef RINGCAP_BENCH_DPDK
#include "tests/bench/dpdk_filter.h"
#endif

namespace ringcap {
namespace {

constexpr size_t kFrameBytes = 64;
using Bytes = std::array<uint8_t, kFrameBytes>;

void put(Bytes& bytes, size_t offset, std::initializer_list<int> values) {
  for (const int value : values) bytes[offset++] = static_cast<uint8_t>(value);
}

// One address in eight is 10.0.0.7, one in eight is one of the fifty; half of the others are in 10.0.0.0/8.
void put_address(Bytes& bytes, size_t offset, std::mt19937& random) {
  const int host = static_cast<int>(random() % 50);
  switch (random() % 8) {
    case 0:
      return put(bytes, offset, {10, 0, 0, 7});
    case 1:
      return put(bytes, offset, {10, 1, host, 1});
    default:
      return put(
          bytes, offset,
          {random() % 2 ? 10 : 172, 99, static_cast<int>(random() % 256), static_cast<int>(random() % 256)});
  }
}

void put_ports(Bytes& bytes, size_t offset, std::mt19937& random) {
  const int other = static_cast<int>(random() % 256);
  if (random() % 2)
    put(bytes, offset, {0, random() % 3 ? 80 : 22, 200, other});
  else
    put(bytes, offset, {200, other, 0, random() % 3 ? 80 : 22});
}

Bytes random_frame(std::mt19937& random) {
  Bytes bytes{};
  put(bytes, 0, {2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2});
  const uint32_t kind = static_cast<uint32_t>(random()) % 8;
  if (kind == 0) {
    put(bytes, 12, {8, 6, 0, 1, 8, 0, 6, 4, 0, 1});
  } else if (kind == 1) {
    put(bytes, 12, {0x86, 0xdd, 0x60, 0, 0, 0, 0, 10, 6, 64, 0x20, 1, 0xd, 0xb8});
    put_ports(bytes, 54, random);
  } else {
    put(bytes, 12, {8, 0, 0x45, 0, 0, 50, 0, 0, 0x40, 0, 64, kind < 6 ? 6 : 17});
    put_address(bytes, 26, random);
    put_address(bytes, 30, random);
    put_ports(bytes, 34, random);
    put(bytes, 46, {0x50, random() % 4 ? 0x10 : 2});
  }
  return bytes;
}

struct Traffic {
  explicit Traffic(size_t count) : bytes(count), frames(count) {
    std::mt19937 random(1);
    for (size_t i = 0; i < count; ++i) {
      bytes[i] = random_frame(random);
      frames[i].data = reinterpret_cast<std::byte*>(bytes[i].data());
      frames[i].captured = kFrameBytes;
      frames[i].length = kFrameBytes;
    }
  }
  std::vector<Bytes> bytes;
  std::vector<Frame> frames;
};

struct Compiled : bpf_program {
  explicit Compiled(const std::string& expression) : bpf_program{} {
    pcap_t* dead = pcap_open_dead(DLT_EN10MB, 262144);
    if (pcap_compile(dead, this, expression.c_str(), 1, PCAP_NETMASK_UNKNOWN) != 0) bf_len = 0;
    pcap_close(dead);
  }
  Compiled(const Compiled&) = delete;
  Compiled& operator=(const Compiled&) = delete;
  ~Compiled() { pcap_freecode(this); }

  std::vector<filter::Instruction> instructions() const {
    const auto* first = reinterpret_cast<const filter::Instruction*>(bf_insns);
    return {first, first + bf_len};
  }
};

// `verdict(i)` says 0 or not for frame i; the counter `matched` is the share that it does not refuse.
template <typename Verdict>
void measure(benchmark::State& state, size_t frames, Verdict verdict) {
  uint64_t matched = 0;
  for (auto _ : state) {
    uint64_t sum = 0;
    for (size_t i = 0; i < frames; ++i) sum += verdict(i) != 0;
    benchmark::DoNotOptimize(sum);
    matched = sum;
  }
  const auto all = static_cast<double>(state.iterations() * frames);
  state.counters["frames"] = benchmark::Counter(all, benchmark::Counter::kIsRate);
  state.counters["per_frame"] =
      benchmark::Counter(all, benchmark::Counter::kIsRate | benchmark::Counter::kInvert);
  state.counters["matched"] = static_cast<double>(matched) / static_cast<double>(frames);
}

void filter_ringcap(benchmark::State& state, const std::string& expression) {
  const Traffic traffic(static_cast<size_t>(state.range(0)));
  auto program = filter::validate(Compiled(expression).instructions());
  if (!program) return state.SkipWithError(program.error().message().c_str());
  if (auto compiled = program->compile(); !compiled)
    return state.SkipWithError(compiled.error().message().c_str());
  measure(state, traffic.frames.size(), [&](size_t i) {
    const Frame& frame = traffic.frames[i];
    return filter::run(*program, frame.data, frame.length, frame.captured);
  });
}

void filter_interpreted(benchmark::State& state, const std::string& expression) {
  const Traffic traffic(static_cast<size_t>(state.range(0)));
  const auto program = filter::validate(Compiled(expression).instructions());
  if (!program) return state.SkipWithError(program.error().message().c_str());
  measure(state, traffic.frames.size(), [&](size_t i) {
    const Frame& frame = traffic.frames[i];
    return filter::interpret(*program, frame.data, frame.length, frame.captured);
  });
}

void filter_libpcap(benchmark::State& state, const std::string& expression) {
  const Traffic traffic(static_cast<size_t>(state.range(0)));
  const Compiled program(expression);
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"  // pcap_offline_filter() calls it, a detour
  measure(state, traffic.frames.size(), [&](size_t i) {
    const Frame& frame = traffic.frames[i];
    return bpf_filter(program.bf_insns, reinterpret_cast<const u_char*>(frame.data), frame.length,
                      frame.captured);
  });
}

#ifdef RINGCAP_BENCH_DPDK
void filter_dpdk(benchmark::State& state, const std::string& expression) {
  if (dpdk_filter_start() != 0) return state.SkipWithError("DPDK does not start");
  const Traffic traffic(static_cast<size_t>(state.range(0)));
  const Compiled program(expression);
  const dpdk_filter filter = dpdk_filter_load(&program);
  if (filter == nullptr) return state.SkipWithError("DPDK cannot compile it");
  std::vector<void*> mbufs;
  for (const Frame& frame : traffic.frames) {
    mbufs.push_back(dpdk_filter_mbuf(frame.data, static_cast<uint16_t>(frame.captured)));
    if (mbufs.back() == nullptr) return state.SkipWithError("no memory for mbufs");
  }
  measure(state, mbufs.size(), [&](size_t i) { return filter(mbufs[i]); });
}
#define RINGCAP_FILTER_DPDK(name, expression) \
  BENCHMARK_CAPTURE(filter_dpdk, name, std::string(expression))->Arg(256)->Arg(8192)
#else
#define RINGCAP_FILTER_DPDK(name, expression) static_assert(true)
#endif

std::string fifty_hosts() {
  std::string text;
  for (int i = 0; i < 50; ++i) text += (i ? " or host 10.1." : "host 10.1.") + std::to_string(i) + ".1";
  return text;
}

#define RINGCAP_FILTER_BESIDE_LIBPCAP(name, expression)                                      \
  BENCHMARK_CAPTURE(filter_ringcap, name, std::string(expression))->Arg(256)->Arg(8192);     \
  BENCHMARK_CAPTURE(filter_interpreted, name, std::string(expression))->Arg(256)->Arg(8192); \
  BENCHMARK_CAPTURE(filter_libpcap, name, std::string(expression))->Arg(256)->Arg(8192)

RINGCAP_FILTER_BESIDE_LIBPCAP(ip, "ip");
RINGCAP_FILTER_DPDK(ip, "ip");
RINGCAP_FILTER_BESIDE_LIBPCAP(tcp_port_80, "tcp port 80");
RINGCAP_FILTER_DPDK(tcp_port_80, "tcp port 80");
RINGCAP_FILTER_BESIDE_LIBPCAP(host_and_port, "host 10.0.0.7 and tcp port 80");
RINGCAP_FILTER_DPDK(host_and_port, "host 10.0.0.7 and tcp port 80");
RINGCAP_FILTER_BESIDE_LIBPCAP(fifty_hosts, fifty_hosts());
RINGCAP_FILTER_DPDK(fifty_hosts, fifty_hosts());
// DPDK 22.11's crashes on this one.
RINGCAP_FILTER_BESIDE_LIBPCAP(net_and_syn, "net 10.0.0.0/8 and tcp[tcpflags] & tcp-syn != 0");

}  // namespace
}  // namespace ringcap

// What a frame costs the worker, and the worker and a consumer together, in one thread: instructions and
// cycles without the traffic between two caches. The whole path between two processes is tests/bench/run's.
#include <benchmark/benchmark.h>
#include <pcap/pcap.h>

#include <cstring>

#include "tests/unit/capture/engine/one_worker.h"

namespace ringcap {
namespace {

// The consumer's part: descriptor and first cache line of each frame.
uint64_t read_frames(test::OneWorker& engine, test::Attached& consumer) {
  auto& ring = consumer.ring();
  const uint64_t head = ring.head();
  uint64_t sum = 0;
  for (uint64_t position = ring.next; position != head; ++position) {
    uint64_t sequence = 0;
    std::memcpy(&sequence, engine.frame(*ring.at(position)) + 56, sizeof sequence);
    sum += sequence;
  }
  ring.next = head;
  ring.give_back(head);
  return sum;
}

void worker_without_takers(benchmark::State& state) {
  test::OneWorker engine("gen:", uint64_t{64} << 20, engine::Poll::kBusy, layout::MemoryKind::kMemfd);
  uint64_t frames = 0;
  for (auto _ : state) frames += engine.round();
  state.SetItemsProcessed(static_cast<int64_t>(frames));
}
BENCHMARK(worker_without_takers);

void worker_and_consumers(benchmark::State& state) {
  test::OneWorker engine("gen:", uint64_t{64} << 20, engine::Poll::kBusy, layout::MemoryKind::kMemfd);
  std::vector<test::Attached> consumers;
  for (int64_t i = 0; i < state.range(0); ++i) consumers.push_back(engine.attach(256));
  uint64_t frames = 0;
  for (auto _ : state) {
    frames += engine.round();
    for (auto& consumer : consumers) benchmark::DoNotOptimize(read_frames(engine, consumer));
  }
  state.SetItemsProcessed(static_cast<int64_t>(frames));
}
BENCHMARK(worker_and_consumers)->Arg(1)->Arg(2)->Arg(4)->Arg(16)->Arg(64);

// A round in which each frame goes to one of so many members of a cluster, which give it back unread. With 0:
// what finding the slot costs, and nobody is there.
void worker_and_members(benchmark::State& state) {
  test::OneWorker engine("gen:flows=10000", uint64_t{64} << 20, engine::Poll::kBusy,
                         layout::MemoryKind::kMemfd);
  std::vector<test::Attached> members;
  const test::Attached first = engine.attach(256, {}, "members", "first");
  for (int64_t i = 0; i < state.range(0); ++i) members.push_back(engine.attach(256, {}, "members"));
  engine.leave(first);
  uint64_t frames = 0;
  for (auto _ : state) {
    frames += engine.round();
    for (auto& member : members) member.drain();
  }
  state.SetItemsProcessed(static_cast<int64_t>(frames));
}
BENCHMARK(worker_and_members)->Arg(0)->Arg(1)->Arg(4)->Arg(16);

// `udp port N`, as libpcap makes it, for IPv4: no frame of gen: matches, and all of it is evaluated.
std::vector<filter::Instruction> udp_port(uint32_t port) {
  return {{0x28, 0, 0, 12},   {0x15, 0, 8, 0x0800}, {0x30, 0, 0, 23}, {0x15, 0, 6, 17},
          {0x28, 0, 0, 20},   {0x45, 4, 0, 0x1fff}, {0xb1, 0, 0, 14}, {0x48, 0, 0, 16},
          {0x15, 0, 1, port}, {0x06, 0, 0, 0xffff}, {0x06, 0, 0, 0}};
}

// Sixteen consumers: without filters that match nothing (arg 0: they cost what a taker costs), with one
// program that all of them have, and with one of its own for each.
void worker_and_filters(benchmark::State& state) {
  test::OneWorker engine("gen:mix=ipv4", uint64_t{64} << 20, engine::Poll::kBusy, layout::MemoryKind::kMemfd);
  std::vector<test::Attached> consumers;
  const std::vector<filter::Instruction> nothing{{0x06, 0, 0, 0}};
  for (uint32_t i = 0; i < 16; ++i)
    consumers.push_back(engine.attach(128, state.range(0) == 0   ? nothing
                                           : state.range(0) == 1 ? udp_port(1)
                                                                 : udp_port(1 + i)));
  uint64_t frames = 0;
  for (auto _ : state) frames += engine.round();
  state.SetItemsProcessed(static_cast<int64_t>(frames));
}
BENCHMARK(worker_and_filters)->Arg(0)->Arg(1)->Arg(16);

// What `--transparent filter` passes by default, for a host with one address: none of gen:'s frames.
std::vector<filter::Instruction> login_filter() {
  const std::string passes =
      "arp or icmp or icmp6 or udp port 67 or udp port 68 or udp port 546 or udp port 547 or host 192.0.2.1";
  pcap_t* dead = ::pcap_open_dead(DLT_EN10MB, 65535);
  bpf_program program{};
  const std::string text = passes + " or (vlan and (" + passes + "))";
  if (::pcap_compile(dead, &program, text.c_str(), 1, PCAP_NETMASK_UNKNOWN) != 0) std::abort();
  const auto* first = reinterpret_cast<const filter::Instruction*>(program.bf_insns);
  std::vector<filter::Instruction> instructions(first, first + program.bf_len);
  ::pcap_freecode(&program);
  ::pcap_close(dead);
  return instructions;
}

// Mode `filter`: a consumer that takes every frame, alone (0), and beside a taker whose filter refuses them
// all (1). The difference is what the mode adds for a frame that the kernel does not get; the filter's own
// cost is login_filter_alone.
void worker_and_refused_frames(benchmark::State& state) {
  test::OneWorker engine("gen:mix=ipv4", uint64_t{64} << 20, engine::Poll::kBusy, layout::MemoryKind::kMemfd);
  test::Attached consumer = engine.attach(256);
  if (state.range(0) != 0) engine.attach(128, login_filter());
  uint64_t frames = 0;
  for (auto _ : state) {
    frames += engine.round();
    consumer.drain();
  }
  state.SetItemsProcessed(static_cast<int64_t>(frames));
}
BENCHMARK(worker_and_refused_frames)->Arg(0)->Arg(1);

void login_filter_alone(benchmark::State& state) {
  test::OneWorker engine("gen:mix=ipv4", uint64_t{64} << 20, engine::Poll::kBusy, layout::MemoryKind::kMemfd);
  test::Attached consumer = engine.attach(256);
  while (consumer.ready() < 256) engine.round();
  auto program = filter::validate(login_filter()).value();
  [[maybe_unused]] const auto compiled = program.compile();
  auto& ring = consumer.ring();
  uint64_t frames = 0;
  for (auto _ : state) {
    for (uint64_t position = ring.next; position != ring.head(); ++position, ++frames) {
      const layout::Descriptor& d = *ring.at(position);
      benchmark::DoNotOptimize(filter::run(program, engine.frame(d), d.length, d.captured));
    }
  }
  state.SetItemsProcessed(static_cast<int64_t>(frames));
}
BENCHMARK(login_filter_alone);

}  // namespace
}  // namespace ringcap

BENCHMARK_MAIN();

// What a frame costs the worker, and the worker and a consumer together, in one thread: instructions and
// cycles without the traffic between two caches. The whole path between two processes is tests/bench/run's.
#include <benchmark/benchmark.h>

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

}  // namespace
}  // namespace ringcap

BENCHMARK_MAIN();

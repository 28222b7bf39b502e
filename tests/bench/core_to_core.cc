// What one cache line costs on its way between two cores, there and back. Two pinned threads pass one
// line to and fro; the result is the median over short stretches, so that a thread that was preempted in
// a few of them does not change it.
//
// Virtual cores share a cache or do not, and the host moves them about: tests/bench/run calls this before
// and after every sample, and sorts the samples by what it prints.
#include <algorithm>
#include <atomic>
#include <thread>
#include <vector>

#include "tests/bench/bench.h"

namespace {

using namespace ringcap::bench;

constexpr uint64_t kTripsPerStretch = 500;

struct alignas(128) Line {
  std::atomic<uint64_t> count{0};  // odd: the answering thread's turn
};

struct Table {
  Line line;
  std::atomic<uint32_t> ready{0};
  std::atomic<bool> over{false};
};

void answer(Table& table, int core, double& share) {
  pin_to(core);
  table.ready.fetch_add(1);
  const CoreShare measured;
  uint64_t next = 1;
  while (!table.over.load(std::memory_order_relaxed)) {
    if (table.line.count.load(std::memory_order_acquire) != next) continue;
    table.line.count.store(next + 1, std::memory_order_release);
    next += 2;
  }
  share = measured.share();
}

// One stretch; ns per round trip.
double stretch(Line& line, uint64_t& position) {
  const uint64_t start = now_ns();
  for (uint64_t i = 0; i < kTripsPerStretch; ++i) {
    line.count.store(position + 1, std::memory_order_release);
    while (line.count.load(std::memory_order_acquire) != position + 2) {
    }
    position += 2;
  }
  return static_cast<double>(now_ns() - start) / kTripsPerStretch;
}

double median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<long>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

}  // namespace

int main(int argc, char** argv) {
  const Options options = parse_options(argc, argv, {{"first", "0"}, {"second", "1"}, {"ms", "40"}});
  Table table;
  double second_share = 0;
  std::thread other(answer, std::ref(table), static_cast<int>(number(options, "second")),
                    std::ref(second_share));
  pin_to(static_cast<int>(number(options, "first")));
  while (table.ready.load() == 0) std::this_thread::yield();

  const CoreShare measured;
  const uint64_t end = now_ns() + number(options, "ms") * 1'000'000;
  std::vector<double> stretches;
  uint64_t position = 0;
  do stretches.push_back(stretch(table.line, position));
  while (now_ns() < end);
  const double first_share = measured.share();
  table.over = true;
  other.join();
  fmt::print("{{\"round_trip_ns\": {:.1f}, \"share\": {:.3f}}}\n", median(stretches),
             std::min(first_share, second_share));
}

#include "capture/engine/host_clock.h"

#include <ctime>

#if defined(__x86_64__)
#include <cpuid.h>
#include <x86intrin.h>
#endif

#include <algorithm>
#include <cmath>

namespace ringcap::engine {
namespace {

constexpr uint64_t kFitNs = 100'000'000;
constexpr uint64_t kFirstFitTicks = 10'000'000;  // a few ms: a first slope, refined at the next fit
constexpr double kStepNs = 1e6;

uint64_t realtime_ns() {
  timespec now{};
  ::clock_gettime(CLOCK_REALTIME, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
}

#if defined(__x86_64__)
uint64_t ticks() { return __rdtsc(); }
bool invariant_tsc() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  return __get_cpuid(0x80000007, &a, &b, &c, &d) != 0 && (d & (1u << 8)) != 0;
}
#else
uint64_t ticks() { return 0; }
bool invariant_tsc() { return false; }
#endif

// Both clocks at one moment, as near as a few tries come: a thread that is taken off its processor between
// the two readings would have them milliseconds apart, and a fit to that is a clock that jumps.
struct Reading {
  uint64_t tsc = 0;
  uint64_t real_ns = 0;
};

Reading read_both() {
  constexpr int kTries = 8;
  constexpr uint64_t kNearTicks = 4'000;  // 1 to 2 us
  Reading best;
  uint64_t best_ticks = ~uint64_t{0};
  for (int i = 0; i < kTries && best_ticks > kNearTicks; ++i) {
    const uint64_t before = ticks();
    const uint64_t real = realtime_ns();
    const uint64_t apart = ticks() - before;
    if (apart >= best_ticks) continue;
    best = {before + apart / 2, real};
    best_ticks = apart;
  }
  return best;
}

}  // namespace

HostClock::HostClock() : use_tsc_(invariant_tsc()) {}

void HostClock::fit() {
  const auto [tsc, real] = read_both();
  if (base_ns_ != 0 && ns_per_tick_ != 0) {
    const double predicted =
        static_cast<double>(base_ns_) + static_cast<double>(tsc - base_tsc_) * ns_per_tick_;
    if (std::abs(static_cast<double>(real) - predicted) > kStepNs) {
      ++steps_;
      base_tsc_ = tsc;
      base_ns_ = real;
      return;
    }
  }
  if (base_ns_ != 0 && real > base_ns_)
    ns_per_tick_ = static_cast<double>(real - base_ns_) / static_cast<double>(tsc - base_tsc_);
  fit_ticks_ =
      ns_per_tick_ == 0 ? kFirstFitTicks : static_cast<uint64_t>(static_cast<double>(kFitNs) / ns_per_tick_);
  base_tsc_ = tsc;
  base_ns_ = real;
}

uint64_t HostClock::now() {
  if (!use_tsc_) return last_ns_ = std::max(last_ns_, realtime_ns());
  uint64_t tsc = ticks();
  if (base_ns_ == 0 || tsc - base_tsc_ >= fit_ticks_) {
    fit();
    tsc = ticks();  // not before the fit's own reading
  }
  const uint64_t ns =
      ns_per_tick_ == 0
          ? realtime_ns()
          : base_ns_ + static_cast<uint64_t>(static_cast<double>(tsc - base_tsc_) * ns_per_tick_);
  return last_ns_ = std::max(last_ns_, ns);
}

}  // namespace ringcap::engine

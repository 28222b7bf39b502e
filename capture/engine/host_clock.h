// HostClock: nanoseconds of CLOCK_REALTIME, read from the TSC. One per worker, one thread.
//
// The TSC is fitted to CLOCK_REALTIME ten times a second; in between, now() costs a TSC read and a
// multiplication. It never goes backwards: when the system's clock is set back, it stands still until
// the clock has caught up; both directions of a step (more than a millisecond) are counted. Where the
// TSC is not invariant (CPUID 8000_0007 EDX bit 8), every now() asks the kernel.
#pragma once

#include <cstdint>

namespace ringcap::engine {

class HostClock {
 public:
  HostClock();
  uint64_t now();
  uint64_t steps() const { return steps_; }

 private:
  void fit();

  bool use_tsc_;
  uint64_t base_tsc_ = 0;
  uint64_t base_ns_ = 0;
  uint64_t fit_ticks_ = 0;  // how long a fit lasts
  double ns_per_tick_ = 0;  // 0: not measured yet
  uint64_t last_ns_ = 0;
  uint64_t steps_ = 0;
};

}  // namespace ringcap::engine

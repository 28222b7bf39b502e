// AdapterClock: what a NIC's clock says, as nanoseconds of CLOCK_REALTIME.
//
// A NIC that stamps frames has a clock of its own, which goes a little faster or slower than the system's and
// may wrap within minutes. The control thread reads both at one moment, several times a second, and fits one
// to the other; a worker converts the stamps that it finds beside frames, with the last fit. No register is
// read for a frame.
//
// The control thread calls note(); workers read through a Reader each. If the control thread stops in the
// middle of a fit, workers go on with the one before.
#pragma once

#include <atomic>
#include <cstdint>

namespace ringcap::intel {

// How a chip's clock has the time in two words, in SYSTIML and SYSTIMH as beside frames.
struct ClockShape {
  uint32_t high_mask = 0;  // bits of SYSTIMH that count
  uint64_t high_ns = 0;    // what one of SYSTIMH is worth
  uint64_t wrap_ns = 0;    // it begins anew after so many

  uint64_t ns(uint32_t low, uint32_t high) const { return low + (high & high_mask) * high_ns; }
  // From `from` to `to`, the shorter way round.
  int64_t between(uint64_t from, uint64_t to) const {
    const auto apart = static_cast<int64_t>(to - from), wrap = static_cast<int64_t>(wrap_ns);
    return apart >= wrap / 2 ? apart - wrap : apart < -(wrap / 2) ? apart + wrap : apart;
  }
};
// 82580, I350, I354: 40 bits of nanoseconds, 18 minutes.
inline constexpr ClockShape kFortyBits{0xff, uint64_t{1} << 32, uint64_t{1} << 40};
// I210, I211, X550: seconds and nanoseconds.
inline constexpr ClockShape kSeconds{~0u, 1'000'000'000, (uint64_t{1} << 32) * 1'000'000'000};

class AdapterClock {
 public:
  // Both clocks at one moment, as near as it could be had.
  struct Reading {
    uint64_t device_ns = 0;
    uint64_t real_ns = 0;
    uint64_t apart_ns = 0;  // between the two
  };

  explicit AdapterClock(const ClockShape& shape) : shape_(shape) {}
  const ClockShape& shape() const { return shape_; }

  // Several times a second, and at least every wrap_ns / 2.
  void note(const Reading& reading);
  // The device's clock was set: what is noted next is not compared with what was.
  void restart() { noted_ = false; }
  // How often one of the clocks was set, by more than a millisecond.
  uint64_t steps() const { return steps_; }

  struct Fit {
    uint64_t device_ns = 0;
    uint64_t real_ns = 0;
    double rate = 1;  // of real to device
  };

  // A worker's view. Never goes back: when the system's clock is set back, it stands still until that has
  // caught up.
  class Reader {
   public:
    explicit Reader(const AdapterClock* clock) : clock_(clock) {}
    // Once a burst.
    void refresh();
    uint64_t at(uint32_t low, uint32_t high) { return never_back(clock_->convert(fit_, low, high)); }
    // For a frame without a stamp: the system's clock.
    uint64_t now();

   private:
    uint64_t never_back(uint64_t ns) { return last_ns_ = ns > last_ns_ ? ns : last_ns_; }

    const AdapterClock* clock_;
    Fit fit_;
    uint64_t last_ns_ = 0;
  };

 private:
  uint64_t convert(const Fit& fit, uint32_t low, uint32_t high) const {
    return convert(fit, shape_.ns(low, high));
  }
  uint64_t convert(const Fit& fit, uint64_t device_ns) const {
    const auto since = static_cast<double>(shape_.between(fit.device_ns, device_ns));
    return fit.real_ns + static_cast<uint64_t>(static_cast<int64_t>(since * fit.rate));
  }
  void publish();

  const ClockShape shape_;
  // The control thread's.
  bool noted_ = false;
  Fit fit_;
  Reading anchor_;  // from where the rate is measured
  uint64_t steps_ = 0;
  // Written by the control thread, under a sequence count that is odd meanwhile; pairs with refresh().
  std::atomic<uint64_t> sequence_{0}, device_ns_{0}, real_ns_{0};
  std::atomic<double> rate_{1};
};

}  // namespace ringcap::intel

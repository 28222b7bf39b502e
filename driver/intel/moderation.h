// How far apart the interrupts of a receive queue are, where `moderation=auto`: chosen anew whenever the
// worker goes to sleep, by what it took since it was woken. The worker alone uses it.
//
// A worker polls while frames come, so an interrupt only ever wakes it. Few frames a wake-up: whoever waits
// for them wants them soon. Many: another wake-up for the next few would cost more than it brings. One step
// at a time, and between each two steps a gap, so that a steady load stays where it is:
//
//   mood      interval   towards bulk when a wake-up brought   towards latency when it brought
//   latency      10 us   more than 8 frames or 6,000 bytes
//   low          50 us   more than 64 frames or 48,000 bytes   at most 2 frames and 1,500 bytes
//   bulk        250 us                                         fewer than 16 frames and 12,000 bytes
//
// Never longer than half of the ring lasts with the shortest frames at full speed.
#pragma once

#include <algorithm>
#include <cstdint>

namespace ringcap::intel {

class Moderation {
 public:
  enum class Mood { kLatency, kLow, kBulk };
  static constexpr uint32_t kIntervalsUs[] = {10, 50, 250};

  // `descriptors` of the ring; `frame_ns`: the shortest frame on the fastest link of the chip.
  Moderation(uint32_t descriptors, uint32_t frame_ns)
      : most_us_(std::max(1u, descriptors / 2 * frame_ns / 1000)) {}

  uint32_t interval_us() const { return std::min(kIntervalsUs[static_cast<int>(mood_)], most_us_); }
  Mood mood() const { return mood_; }
  // What came since the worker was woken. Nothing (a timeout, somebody else's interrupt) says nothing.
  void brought(uint64_t frames, uint64_t bytes) {
    if (frames == 0) return;
    switch (mood_) {
      case Mood::kLatency:
        if (frames > 8 || bytes > 6'000) mood_ = Mood::kLow;
        return;
      case Mood::kLow:
        if (frames > 64 || bytes > 48'000) {
          mood_ = Mood::kBulk;
        } else if (frames <= 2 && bytes <= 1'500) {
          mood_ = Mood::kLatency;
        }
        return;
      case Mood::kBulk:
        if (frames < 16 && bytes < 12'000) mood_ = Mood::kLow;
        return;
    }
  }

 private:
  uint32_t most_us_;
  Mood mood_ = Mood::kLatency;
};

}  // namespace ringcap::intel

// Pacing: when each frame of `ringcap send` is due, and by how much it was missed. One thread.
//
// A frame is due at a time counted from the first one's, so errors do not add up: who is late catches up.
#pragma once

#include <array>
#include <cstdint>

namespace ringcap::tools {

enum class Pace { kRecorded, kFrames, kBits, kFlatOut };

struct PaceOptions {
  Pace pace = Pace::kRecorded;
  double factor = 1;  // kRecorded: times the recorded speed; kFrames, kBits: how many a second
};

// Times by size: exact to about 3 percent, from 1 ns to hours.
class Histogram {
 public:
  void add(uint64_t ns);
  uint64_t count() const { return count_; }
  // The value that a share of the times (0 to 1) does not exceed; 0 where there are none.
  uint64_t quantile(double share) const;
  uint64_t most() const { return most_; }

 private:
  static constexpr unsigned kSubBits = 5;
  static uint32_t bucket(uint64_t ns);
  static uint64_t upper(uint32_t bucket);
  std::array<uint64_t, (64 - kSubBits + 1) << kSubBits> counts_{};
  uint64_t count_ = 0, most_ = 0;
};

class Pacer {
 public:
  explicit Pacer(const PaceOptions& options) : options_(options) {}

  // When the next frame is due, CLOCK_MONOTONIC ns; `recorded_ns`: its time in the file, running on from pass
  // to pass. 0: at once.
  uint64_t due(uint64_t recorded_ns, uint32_t bytes);
  // The frame that was due then was given to the port at `now_ns`.
  void sent(uint64_t due_ns, uint64_t now_ns);
  const Histogram& errors() const { return errors_; }

 private:
  PaceOptions options_;
  uint64_t origin_ns_ = 0;
  uint64_t first_recorded_ns_ = 0;
  uint64_t frames_ = 0;
  double bits_ = 0;
  Histogram errors_;
};

// Sleeps until shortly before `due_ns`, then looks at the clock until it is reached; returns the time. `stop`
// is looked at meanwhile.
uint64_t wait_until(uint64_t due_ns, const volatile bool& stop);

}  // namespace ringcap::tools

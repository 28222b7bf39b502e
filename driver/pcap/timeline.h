// Timeline: the time of a file that is played once or more, and when each of its frames is due. One thread.
//
// Each pass runs on where the one before ended, one average interval later, so that time does not go back
// between passes. Within a pass the file's timestamps stay what they are, even if they go back.
#pragma once

#include <algorithm>
#include <cstdint>

namespace ringcap::pcap {

class Timeline {
 public:
  // `speed`: times the recorded one.
  explicit Timeline(double speed) : speed_(speed) {}

  // The timestamp to give the next frame of the file.
  uint64_t stamp(uint64_t timestamp_ns) {
    if (frames_++ == 0) first_ns_ = latest_ns_ = timestamp_ns;
    latest_ns_ = std::max(latest_ns_, timestamp_ns);
    return timestamp_ns + shift_ns_;
  }

  // When the frame with that stamp() is due, in ns after the first one.
  uint64_t due_after_ns(uint64_t stamp_ns) const {
    if (stamp_ns <= first_ns_) return 0;
    if (speed_ == 1) return std::min(stamp_ns - first_ns_, kNeverNs);
    const double after_ns = static_cast<double>(stamp_ns - first_ns_) / speed_;
    return after_ns < static_cast<double>(kNeverNs) ? static_cast<uint64_t>(after_ns) : kNeverNs;
  }

  // The file begins again. False: it had no frame, so that it would do so for ever.
  bool begin_pass() {
    if (frames_ == 0) return false;
    const uint64_t span_ns = latest_ns_ - first_ns_;
    const uint64_t interval_ns = frames_ > 1 ? span_ns / (frames_ - 1) : 0;
    shift_ns_ += span_ns + std::max<uint64_t>(interval_ns, 1);
    frames_ = 0;
    return true;
  }

 private:
  static constexpr uint64_t kNeverNs = uint64_t{1} << 62;  // 146 years; what is added to it does not overflow

  double speed_;
  uint64_t first_ns_ = 0;   // of the file
  uint64_t latest_ns_ = 0;  // of this pass, as in the file
  uint64_t shift_ns_ = 0;   // of this pass
  uint64_t frames_ = 0;     // of this pass
};

}  // namespace ringcap::pcap

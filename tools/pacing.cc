#include "tools/pacing.h"

#include <algorithm>
#include <bit>
#include <ctime>

#include "capture/base/monotonic.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace ringcap::tools {
namespace {

constexpr uint64_t kSpinNs = 60'000;  // a sleep may last so much longer than asked for
constexpr uint64_t kLongestSleepNs = 100'000'000;
constexpr double kSecond = 1e9;
constexpr double kNeverNs = 4e18;  // more does not fit beside the time of day

}  // namespace

uint32_t Histogram::bucket(uint64_t ns) {
  constexpr uint64_t kSub = uint64_t{1} << kSubBits;
  if (ns < kSub) return static_cast<uint32_t>(ns);
  const auto shift = static_cast<unsigned>(std::bit_width(ns)) - kSubBits - 1;
  return static_cast<uint32_t>((uint64_t{shift + 1} << kSubBits) + ((ns >> shift) & (kSub - 1)));
}

uint64_t Histogram::upper(uint32_t bucket) {
  constexpr uint32_t kSub = 1u << kSubBits;
  if (bucket < kSub) return bucket;
  const unsigned shift = (bucket >> kSubBits) - 1;
  return ((uint64_t{kSub} + (bucket & (kSub - 1)) + 1) << shift) - 1;
}

void Histogram::add(uint64_t ns) {
  ++counts_[bucket(ns)];
  ++count_;
  most_ = std::max(most_, ns);
}

uint64_t Histogram::quantile(double share) const {
  const auto wanted = static_cast<uint64_t>(share * static_cast<double>(count_));
  uint64_t seen = 0;
  for (uint32_t i = 0; i < counts_.size(); ++i) {
    seen += counts_[i];
    if (seen > wanted) return std::min(upper(i), most_);
  }
  return most_;
}

uint64_t Pacer::due(uint64_t recorded_ns, uint32_t bytes) {
  if (options_.pace == Pace::kFlatOut) return 0;
  if (origin_ns_ == 0) {
    origin_ns_ = monotonic_ns();
    first_recorded_ns_ = recorded_ns;
  }
  double after = 0;
  if (options_.pace == Pace::kRecorded)
    after = static_cast<double>(recorded_ns - std::min(recorded_ns, first_recorded_ns_)) / options_.factor;
  else if (options_.pace == Pace::kFrames)
    after = static_cast<double>(frames_) * kSecond / options_.factor;
  else
    after = bits_ * kSecond / options_.factor;
  ++frames_;
  bits_ += 8.0 * bytes;
  return origin_ns_ + static_cast<uint64_t>(std::min(after, kNeverNs));
}

void Pacer::sent(uint64_t due_ns, uint64_t now_ns) {
  if (due_ns != 0) errors_.add(now_ns - std::min(now_ns, due_ns));
}

uint64_t wait_until(uint64_t due_ns, const volatile bool& stop) {
  uint64_t now = monotonic_ns();
  while (now < due_ns && !stop) {
    const uint64_t left = due_ns - now;
    if (left > kSpinNs) {
      const uint64_t sleep = std::min(left - kSpinNs, kLongestSleepNs);
      const timespec pause{0, static_cast<long>(sleep)};
      ::nanosleep(&pause, nullptr);
    } else {
#if defined(__x86_64__)
      _mm_pause();
#endif
    }
    now = monotonic_ns();
  }
  return now;
}

}  // namespace ringcap::tools

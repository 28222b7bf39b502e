#include "driver/intel/adapter_clock.h"

#include <algorithm>
#include <cmath>
#include <ctime>

namespace ringcap::intel {
namespace {

constexpr int64_t kRateNs = 1'000'000'000;  // over so long a rate is measured
constexpr uint64_t kStepNs = 1'000'000;
constexpr uint64_t kNearNs = 100'000;     // a reading that is less near is left out,
constexpr int64_t kOldNs = 10 * kRateNs;  // but for want of a better one for so long
constexpr double kGreatestSkew = 0.01;

}  // namespace

void AdapterClock::note(const Reading& reading) {
  if (!noted_) {
    noted_ = true;
    fit_ = {reading.device_ns, reading.real_ns, 1};
    anchor_ = reading;
    return publish();
  }
  const int64_t since = shape_.between(fit_.device_ns, reading.device_ns);
  if (reading.apart_ns > kNearNs && since < kOldNs) return;
  const auto error = static_cast<int64_t>(reading.real_ns - convert(fit_, reading.device_ns));
  if (static_cast<uint64_t>(std::abs(error)) > kStepNs + reading.apart_ns) {
    ++steps_;
    anchor_ = reading;
  } else if (const int64_t run = shape_.between(anchor_.device_ns, reading.device_ns); run >= kRateNs) {
    const double rate = static_cast<double>(reading.real_ns - anchor_.real_ns) / static_cast<double>(run);
    fit_.rate = std::clamp(rate, 1 - kGreatestSkew, 1 + kGreatestSkew);
    anchor_ = reading;
  }
  fit_.device_ns = reading.device_ns;
  fit_.real_ns = reading.real_ns;
  publish();
}

void AdapterClock::publish() {
  const uint64_t sequence = sequence_.load(std::memory_order_relaxed);
  sequence_.store(sequence + 1, std::memory_order_relaxed);
  // Each release: whoever sees one of these sees the odd sequence count, too.
  device_ns_.store(fit_.device_ns, std::memory_order_release);
  real_ns_.store(fit_.real_ns, std::memory_order_release);
  rate_.store(fit_.rate, std::memory_order_release);
  sequence_.store(sequence + 2, std::memory_order_release);
}

void AdapterClock::Reader::refresh() {
  const uint64_t before = clock_->sequence_.load(std::memory_order_acquire);
  const Fit fit{clock_->device_ns_.load(std::memory_order_acquire),
                clock_->real_ns_.load(std::memory_order_acquire),
                clock_->rate_.load(std::memory_order_acquire)};
  if (before % 2 == 0 && clock_->sequence_.load(std::memory_order_relaxed) == before) fit_ = fit;
}

uint64_t AdapterClock::Reader::now() {
  timespec now{};
  ::clock_gettime(CLOCK_REALTIME, &now);
  return never_back(static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec));
}

}  // namespace ringcap::intel

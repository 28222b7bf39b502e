#include "driver/intel/adapter_clock.h"

#include <gtest/gtest.h>

#include <random>

namespace ringcap::intel {
namespace {

constexpr uint64_t kNow = 1'700'000'000'000'000'000, kMs = 1'000'000, kSecond = 1'000 * kMs;

// A clock that is so much faster than the system's, read several times a second.
class Drifting {
 public:
  Drifting(const ClockShape& shape, uint64_t first_device_ns, double per_million)
      : clock(shape), first_device_ns_(first_device_ns), faster_(1 + per_million / 1e6) {}

  uint64_t device_ns(uint64_t since_ns) const {
    return (first_device_ns_ + static_cast<uint64_t>(static_cast<double>(since_ns) * faster_)) %
           clock.shape().wrap_ns;
  }
  void note(uint64_t since_ns, uint64_t apart_ns = 500) {
    clock.note({device_ns(since_ns), kNow + since_ns, apart_ns});
  }
  // What a frame that is stamped now is said to have.
  uint64_t stamp(AdapterClock::Reader& reader, uint64_t since_ns) const {
    const uint64_t device = device_ns(since_ns), high_ns = clock.shape().high_ns;
    return reader.at(static_cast<uint32_t>(device % high_ns), static_cast<uint32_t>(device / high_ns));
  }
  // How far from the truth.
  int64_t error(AdapterClock::Reader& reader, uint64_t since_ns) const {
    return static_cast<int64_t>(stamp(reader, since_ns) - (kNow + since_ns));
  }

  AdapterClock clock;

 private:
  uint64_t first_device_ns_;
  double faster_;
};

TEST(AdapterClock, stamps_are_the_systems_time_whatever_the_clock_began_with) {
  for (const ClockShape* shape : {&kFortyBits, &kSeconds}) {
    Drifting device(*shape, 12345, 0);
    device.note(0);
    AdapterClock::Reader reader(&device.clock);
    reader.refresh();
    for (const uint64_t since : {uint64_t{1}, kMs, 900 * kMs, 5 * kSecond})
      EXPECT_LE(std::abs(device.error(reader, since)), 1) << since;
  }
}

TEST(AdapterClock, forty_bits_wrap_every_18_minutes_and_nothing_is_seen_of_it) {
  Drifting device(kFortyBits, (uint64_t{1} << 40) - 3 * kSecond, 0);
  AdapterClock::Reader reader(&device.clock);
  for (uint64_t since = 0; since < 3 * (uint64_t{1} << 40); since += 250 * kMs) {
    device.note(since);
    reader.refresh();
    // Older than the last look, and newer: the wrap can be on either side.
    ASSERT_LE(std::abs(device.error(reader, since + 100 * kMs)), 1000) << since;
    ASSERT_LE(std::abs(device.error(reader, since + 240 * kMs)), 1000) << since;
  }
  EXPECT_EQ(device.clock.steps(), 0u);
}

TEST(AdapterClock, a_clock_that_is_faster_or_slower_is_followed) {
  for (const double per_million : {-100.0, 50.0, 100.0}) {
    Drifting device(kSeconds, 0, per_million);
    AdapterClock::Reader reader(&device.clock);
    for (uint64_t since = 0; since < 60 * kSecond; since += 250 * kMs) {
      device.note(since);
      reader.refresh();
      const int64_t error = device.error(reader, since + 250 * kMs);
      ASSERT_LE(std::abs(error), since < 2 * kSecond ? 30'000 : 200) << per_million << " " << since;
    }
    EXPECT_EQ(device.clock.steps(), 0u);
  }
}

TEST(AdapterClock, a_reading_with_a_pause_in_it_is_left_out_but_for_want_of_a_better_one) {
  Drifting device(kFortyBits, 0, 0);
  device.note(0);
  AdapterClock::Reader reader(&device.clock);
  device.clock.note({device.device_ns(kSecond), kNow + kSecond + 900'000, 1'800'000});
  reader.refresh();
  EXPECT_LE(std::abs(device.error(reader, kSecond)), 1);
  device.clock.note({device.device_ns(11 * kSecond), kNow + 11 * kSecond + 900'000, 1'800'000});
  reader.refresh();
  EXPECT_GT(device.error(reader, 11 * kSecond), 800'000);
}

TEST(AdapterClock, the_systems_clock_set_forward_is_followed_at_once_and_set_back_is_waited_for) {
  Drifting device(kFortyBits, 0, 0);
  device.note(0);
  AdapterClock::Reader reader(&device.clock);
  device.clock.note({device.device_ns(kSecond), kNow + 31 * kSecond, 500});
  reader.refresh();
  EXPECT_EQ(device.clock.steps(), 1u);
  EXPECT_LE(std::abs(device.error(reader, kSecond) - static_cast<int64_t>(30 * kSecond)), 1);
  device.clock.note({device.device_ns(2 * kSecond), kNow + 2 * kSecond, 500});
  reader.refresh();
  const uint64_t still = device.stamp(reader, 2 * kSecond);
  EXPECT_GE(still, kNow + 31 * kSecond);
  EXPECT_EQ(device.stamp(reader, 3 * kSecond), still);
  EXPECT_LE(std::abs(device.error(reader, 40 * kSecond)), 1);
}

TEST(AdapterClock, stamps_never_go_back_when_the_fit_changes) {
  Drifting device(kFortyBits, 0, 40);
  AdapterClock::Reader reader(&device.clock);
  std::mt19937 random(3);
  uint64_t last = 0;
  for (uint64_t since = 0; since < 30 * kSecond; since += 10 * kMs) {
    if (since % (250 * kMs) == 0) {
      const auto noise = static_cast<uint64_t>(random() % 20'000);
      device.clock.note({device.device_ns(since), kNow + since + noise, 2 * noise});
    }
    reader.refresh();
    const uint64_t stamp = device.stamp(reader, since);
    ASSERT_GE(stamp, last);
    last = stamp;
  }
}

TEST(AdapterClock, what_was_stamped_before_it_was_set_anew_still_means_the_same) {
  Drifting device(kFortyBits, kNow % kFortyBits.wrap_ns, 0);
  device.note(0);
  AdapterClock::Reader reader(&device.clock);
  reader.refresh();
  device.clock.restart();  // a reset: the clock begins at the system's time again
  device.note(10 * kSecond);
  reader.refresh();
  EXPECT_LE(std::abs(device.error(reader, 9 * kSecond)), 1);
  EXPECT_LE(std::abs(device.error(reader, 11 * kSecond)), 1);
  EXPECT_EQ(device.clock.steps(), 0u);
}

}  // namespace
}  // namespace ringcap::intel

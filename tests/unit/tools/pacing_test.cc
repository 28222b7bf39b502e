#include "tools/pacing.h"

#include <gtest/gtest.h>

namespace ringcap::tools {
namespace {

TEST(Histogram, quantiles_are_within_three_percent_of_the_times) {
  Histogram times;
  for (uint64_t ns = 1; ns <= 1'000'000; ++ns) times.add(ns);
  EXPECT_EQ(times.count(), 1'000'000u);
  EXPECT_NEAR(static_cast<double>(times.quantile(0.5)), 500'000, 16'000);
  EXPECT_NEAR(static_cast<double>(times.quantile(0.99)), 990'000, 32'000);
  EXPECT_EQ(times.most(), 1'000'000u);
  EXPECT_LE(times.quantile(1), times.most());
}

TEST(Histogram, holds_the_shortest_and_the_longest_times) {
  Histogram times;
  times.add(0);
  EXPECT_EQ(times.quantile(0.5), 0u);
  times.add(~uint64_t{0});
  EXPECT_EQ(times.quantile(0.99), ~uint64_t{0});
}

TEST(Histogram, without_times_has_no_quantile) { EXPECT_EQ(Histogram().quantile(0.5), 0u); }

TEST(Pacer, frames_a_second_are_due_at_even_distances_whenever_they_are_sent) {
  Pacer pacer({.pace = Pace::kFrames, .factor = 1000});
  const uint64_t first = pacer.due(0, 60);
  for (uint64_t i = 1; i < 5000; ++i) {
    pacer.sent(first, first + i * 7'777'777);  // late: what comes after is not due later
    EXPECT_EQ(pacer.due(0, 60), first + i * 1'000'000);
  }
}

TEST(Pacer, recorded_distances_are_divided_by_the_speed) {
  Pacer pacer({.pace = Pace::kRecorded, .factor = 2});
  const uint64_t first = pacer.due(5'000'000'000, 60);
  EXPECT_EQ(pacer.due(5'000'001'000, 60), first + 500);
  EXPECT_EQ(pacer.due(6'000'000'000, 60), first + 500'000'000);
  EXPECT_EQ(pacer.due(4'000'000'000, 60), first);  // a time that goes back is no debt
}

TEST(Pacer, a_speed_next_to_nothing_is_slow_and_not_flat_out) {
  for (const double factor : {1e-300, 1e-15}) {
    Pacer pacer({.pace = Pace::kRecorded, .factor = factor});
    const uint64_t first = pacer.due(5'000'000'000, 60);
    EXPECT_GT(pacer.due(5'010'000'000, 60), first + 365 * 86'400 * uint64_t{1'000'000'000});
  }
}

TEST(Pacer, bits_a_second_leave_time_for_each_frames_bytes) {
  Pacer pacer({.pace = Pace::kBits, .factor = 8e6});  // a byte a microsecond
  const uint64_t first = pacer.due(0, 1500);
  EXPECT_EQ(pacer.due(0, 60), first + 1'500'000);
  EXPECT_EQ(pacer.due(0, 60), first + 1'560'000);
}

TEST(Pacer, flat_out_everything_is_due_at_once) {
  Pacer pacer({.pace = Pace::kFlatOut});
  EXPECT_EQ(pacer.due(5'000, 60), 0u);
  pacer.sent(0, 123);
  EXPECT_EQ(pacer.errors().count(), 0u);
}

}  // namespace
}  // namespace ringcap::tools

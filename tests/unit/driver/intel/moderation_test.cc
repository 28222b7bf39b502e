#include "driver/intel/moderation.h"

#include <gtest/gtest.h>

namespace ringcap::intel {
namespace {

using Mood = Moderation::Mood;

Moderation usual() { return {1024, 672}; }

TEST(Moderation, begins_with_the_shortest_interval) { EXPECT_EQ(usual().interval_us(), 10u); }

TEST(Moderation, goes_to_bulk_a_step_a_wake_up_and_back_the_same_way) {
  Moderation moderation = usual();
  const uint32_t intervals[] = {50, 250, 250, 50, 10, 10};
  const uint64_t frames[] = {500, 500, 500, 1, 1, 1};
  for (size_t i = 0; i < std::size(frames); ++i) {
    moderation.brought(frames[i], frames[i] * 60);
    EXPECT_EQ(moderation.interval_us(), intervals[i]) << i;
  }
}

TEST(Moderation, few_long_frames_are_bulk_too) {
  Moderation moderation = usual();
  moderation.brought(6, 6 * 1514);
  EXPECT_EQ(moderation.mood(), Mood::kLow);
  moderation.brought(40, 40 * 1514);
  EXPECT_EQ(moderation.mood(), Mood::kBulk);
  moderation.brought(10, 10 * 1514);
  EXPECT_EQ(moderation.mood(), Mood::kBulk);
}

TEST(Moderation, stays_where_it_is_between_two_steps) {
  for (const uint64_t frames : {3, 8, 16, 64}) {
    Moderation moderation = usual();
    moderation.brought(30, 30 * 60);
    for (int i = 0; i < 5; ++i) moderation.brought(frames, frames * 60);
    EXPECT_EQ(moderation.mood(), Mood::kLow) << frames;
  }
}

TEST(Moderation, a_wake_up_that_brought_nothing_says_nothing) {
  Moderation moderation = usual();
  moderation.brought(500, 30'000);
  moderation.brought(0, 0);
  EXPECT_EQ(moderation.mood(), Mood::kLow);
}

TEST(Moderation, is_never_longer_than_half_of_the_ring_lasts) {
  Moderation small(64, 672), fast(1024, 67);
  for (Moderation* each : {&small, &fast}) {
    for (int i = 0; i < 2; ++i) each->brought(500, 30'000);
    EXPECT_EQ(each->mood(), Mood::kBulk);
  }
  EXPECT_EQ(small.interval_us(), 21u);
  EXPECT_EQ(fast.interval_us(), 34u);
}

}  // namespace
}  // namespace ringcap::intel

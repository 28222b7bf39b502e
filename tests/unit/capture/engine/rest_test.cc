// When counters of a device and of its worker are said to belong together.
#include "capture/engine/rest.h"

#include <gtest/gtest.h>

#include <array>

namespace ringcap::engine {
namespace {

constexpr std::array<uint32_t, 1> kFirst{0};
constexpr std::array<uint32_t, 2> kBoth{0, 1};

// A reading of one queue: its worker has ended `rounds` rounds all the while.
bool reading(Rest& rest, Rest::Watched& watched, uint64_t rounds, uint64_t taken, uint64_t received,
             uint64_t now_ns = 0, uint64_t lag_ns = 0) {
  const std::array now{rounds};
  rest.begin(now, now_ns);
  const bool rests = rest.of(watched, taken, received, kFirst, lag_ns);
  rest.end(now);
  return rests;
}

TEST(Rest, is_not_what_a_worker_that_does_not_run_leaves_alone) {
  Rest rest(1);
  Rest::Watched queue;
  EXPECT_FALSE(reading(rest, queue, 5, 9, 10));
  // The frame between the two is in the worker's hands, or waits for it.
  for (int i = 0; i < 10; ++i) EXPECT_FALSE(reading(rest, queue, 5, 9, 10));
  EXPECT_FALSE(reading(rest, queue, 6, 9, 10));  // the round that was in the middle
}

TEST(Rest, is_what_stayed_the_same_over_a_whole_round) {
  Rest rest(1);
  Rest::Watched queue;
  EXPECT_FALSE(reading(rest, queue, 5, 10, 10));
  EXPECT_TRUE(reading(rest, queue, 7, 10, 10));
  EXPECT_TRUE(reading(rest, queue, 7, 10, 10));
  EXPECT_FALSE(reading(rest, queue, 8, 10, 11));
  EXPECT_FALSE(reading(rest, queue, 8, 10, 11));
  EXPECT_FALSE(reading(rest, queue, 9, 11, 11));
  EXPECT_FALSE(reading(rest, queue, 10, 11, 11));
  EXPECT_TRUE(reading(rest, queue, 13, 11, 11) || reading(rest, queue, 16, 11, 11));
}

TEST(Rest, comes_although_somebody_reads_all_the_time) {
  Rest rest(1);
  Rest::Watched queue;
  uint64_t rounds = 1;
  bool rests = false;
  for (int i = 0; i < 100 && !rests; ++i) rests = reading(rest, queue, rounds += i % 10 == 0, 10, 10);
  EXPECT_TRUE(rests);
}

TEST(Rest, waits_as_long_as_a_frame_may_lie_in_the_queue) {
  Rest rest(1);
  Rest::Watched queue;
  EXPECT_FALSE(reading(rest, queue, 10, 1, 2, 1000, 100));
  EXPECT_FALSE(reading(rest, queue, 20, 1, 2, 1050, 100));
  EXPECT_FALSE(reading(rest, queue, 30, 1, 2, 1099, 100));
  EXPECT_TRUE(reading(rest, queue, 40, 1, 2, 1100, 100));
}

TEST(Rest, of_a_port_needs_all_its_workers) {
  Rest rest(2);
  Rest::Watched port;
  const auto read = [&](uint64_t first, uint64_t second) {
    const std::array now{first, second};
    rest.begin(now, 0);
    const bool rests = rest.of(port, 3, 3, kBoth, 0);
    rest.end(now);
    return rests;
  };
  EXPECT_FALSE(read(1, 1));
  EXPECT_FALSE(read(100, 1));
  EXPECT_FALSE(read(200, 2));
  EXPECT_TRUE(read(300, 3));
}

TEST(Rest, needs_no_round_of_workers_that_have_ended) {
  Rest rest(1);
  Rest::Watched queue;
  EXPECT_FALSE(reading(rest, queue, 5, 10, 10));
  rest.workers_ended();
  EXPECT_TRUE(reading(rest, queue, 5, 10, 10));
}

}  // namespace
}  // namespace ringcap::engine

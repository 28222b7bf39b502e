// A consumer that asks for batches is woken for many frames at once, or after its time; and at once where
// there is no time to lose. Its time here is longer than a test waits: what is not woken fails.
#include <gtest/gtest.h>

#include <thread>

#include "tests/system/harness_consumers.h"

namespace ringcap::test {
namespace {

constexpr uint32_t kLong = 60'000;  // milliseconds, the longest there is
static_assert(kLong > kPatience.count());

ringcap_options batches(uint32_t frames, uint32_t ms) {
  ringcap_options options = RINGCAP_OPTIONS_INIT;
  options.batch_frames = frames;
  options.batch_ms = ms;
  return options;
}

// Takes bursts of at most `max`, waiting for ever, until there were `frames` frames or a take says less
// than 1.
struct Taking {
  uint64_t frames = 0;
  int last = 0;
  std::chrono::steady_clock::duration time{};

  Taking(const Attachment& attachment, uint64_t until = ~uint64_t{0}, uint32_t max = 0) {
    const auto start = std::chrono::steady_clock::now();
    ringcap_burst burst;
    while (frames < until && (last = ringcap_take(attachment.get(), max, -1, &burst)) > 0) {
      frames += burst.count;
      ringcap_give_back(attachment.get(), &burst);
    }
    time = std::chrono::steady_clock::now() - start;
  }
};

// Waits until `frames` frames lie in the only consumer's ring, then does `what`.
template <typename What>
std::thread once_there_are(const Engine& engine, uint64_t frames, What what) {
  return std::thread([&engine, frames, what] {
    EXPECT_TRUE(wait_until([&] {
      const auto ledger = ledger_of(engine);
      return sum_of(ledger, &ledger::Worker::considered) >= frames;
    }));
    what();
  });
}

TEST(EngineBatch, wakes_a_consumer_once_for_many_frames) {
  const TestDir dir;
  constexpr uint64_t kFrames = 20'000;
  Engine engine({"gen:count=20000,rate=50000,full=wait", "--memory", "plain", "--wait-consumers", "1"});
  const Attachment attachment(engine.name(), batches(512, kLong));
  const Taking taken(attachment);
  EXPECT_EQ(taken.frames, kFrames);
  EXPECT_EQ(taken.last, RINGCAP_END);
  EXPECT_LT(taken.time, kPatience);
  EXPECT_LE(sum_of(ledger_of(engine), &ledger::Worker::wakeups), kFrames / 512 + 2);
}

TEST(EngineBatch, that_does_not_fill_comes_after_its_time) {
  const TestDir dir;
  Engine engine({"gen:rate=20,full=wait", "--memory", "plain", "--wait-consumers", "1"});
  const Attachment attachment(engine.name(), batches(4096, 50));
  const Taking taken(attachment, 10);
  EXPECT_GE(taken.frames, 10u);
  EXPECT_LT(taken.time, kPatience);
}

TEST(EngineBatch, is_no_larger_than_what_is_asked_for) {
  const TestDir dir;
  Engine engine({"gen:rate=100,full=wait", "--memory", "plain", "--wait-consumers", "1"});
  const Attachment attachment(engine.name(), batches(4096, kLong));
  const Taking taken(attachment, 20, 1);
  EXPECT_EQ(taken.frames, 20u);
  EXPECT_LT(taken.time, kPatience);
}

TEST(EngineBatch, is_not_waited_for_at_the_sources_end) {
  const TestDir dir;
  Engine engine({"gen:count=20,rate=100,full=wait", "--memory", "plain", "--wait-consumers", "1"});
  const Attachment attachment(engine.name(), batches(4096, kLong));
  const Taking taken(attachment);
  EXPECT_EQ(taken.frames, 20u);
  EXPECT_EQ(taken.last, RINGCAP_END);
  EXPECT_LT(taken.time, kPatience);
}

TEST(EngineBatch, is_not_waited_for_when_the_engine_dies) {
  const TestDir dir;
  Engine engine({"gen:rate=100,full=wait", "--memory", "plain", "--wait-consumers", "1"});
  const Attachment attachment(engine.name(), batches(4096, kLong));
  std::thread killer = once_there_are(engine, 5, [&] { engine.process().kill(); });
  const Taking taken(attachment);
  killer.join();
  EXPECT_GE(taken.frames, 5u);
  EXPECT_EQ(taken.last, RINGCAP_E_GONE);
  EXPECT_LT(taken.time, kPatience);
}

TEST(EngineBatch, is_not_waited_for_at_a_break) {
  const TestDir dir;
  Engine engine({"gen:rate=100,full=wait", "--memory", "plain", "--wait-consumers", "1"});
  const Attachment attachment(engine.name(), batches(4096, kLong));
  std::thread breaker = once_there_are(engine, 5, [&] { ringcap_breakloop(attachment.get()); });
  const Taking taken(attachment);
  breaker.join();
  EXPECT_EQ(taken.last, RINGCAP_BREAK);
  EXPECT_LT(taken.time, kPatience);
}

}  // namespace
}  // namespace ringcap::test

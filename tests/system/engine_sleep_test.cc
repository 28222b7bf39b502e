// Nobody polls for nothing: consumer and worker sleep, a frame wakes both, and it is counted.
#include <gtest/gtest.h>

#include <sstream>

#include "tests/system/harness_consumers.h"

namespace ringcap::test {
namespace {

uint64_t processor_ticks(pid_t pid) {
  const std::string stat = read_file("/proc/" + std::to_string(pid) + "/stat");
  std::istringstream fields(stat.substr(stat.rfind(')') + 2));
  std::string skipped;
  for (int i = 3; i < 14; ++i) fields >> skipped;
  uint64_t user = 0, system = 0;
  fields >> user >> system;
  return user + system;
}

TEST(EngineSleep, a_frame_wakes_the_sleeping_worker_and_the_sleeping_consumer) {
  const TestDir dir;
  constexpr uint64_t kFrames = 100;
  Engine engine({"gen:count=100,rate=50,full=wait", "--memory", "plain", "--wait-consumers", "1"});
  // Waits for ever at each take: it gets on only when it is woken.
  Consumer consumer([name = engine.name()](Progress& progress) {
    const Attachment attachment(name);
    progress.attached = true;
    SequenceCheck check;
    ringcap_burst burst;
    for (; (progress.result = ringcap_take(attachment.get(), 0, -1, &burst)) > 0; ++progress.rounds) {
      check.look(burst);
      progress.take_over(check);
      ringcap_give_back(attachment.get(), &burst);
    }
  });
  EXPECT_EQ(consumer.wait(), 0);
  EXPECT_EQ(consumer.progress().result, RINGCAP_END);
  EXPECT_EQ(consumer.progress().frames, kFrames);
  const auto stat = ledger_of(engine);
  // Slept between frames, woken by them: one sleep and one wake-up a frame, fewer where frames came together.
  EXPECT_GT(sum_of(stat, &ledger::Worker::sleeps), kFrames / 4);
  EXPECT_GT(sum_of(stat, &ledger::Worker::wakeups), kFrames / 4);
  EXPECT_LE(sum_of(stat, &ledger::Worker::wakeups), kFrames);
  EXPECT_EQ(engine.imbalance(), "");
}

TEST(EngineSleep, a_worker_with_nothing_to_do_does_a_few_rounds_only) {
  const TestDir dir;
  Engine engine({"gen:", "--memory", "plain", "--wait-consumers", "2", "--poll", "sleep"});
  const Attachment attachment(engine.name());  // the generator waits for a second one
  const auto before = ledger_of(engine);
  ASSERT_TRUE(wait_until([&] {
    return sum_of(ledger_of(engine), &ledger::Worker::sleeps) > sum_of(before, &ledger::Worker::sleeps) + 5;
  }));
  const auto after = ledger_of(engine);
  const uint64_t sleeps = sum_of(after, &ledger::Worker::sleeps) - sum_of(before, &ledger::Worker::sleeps);
  const uint64_t rounds = sum_of(after, &ledger::Worker::rounds) - sum_of(before, &ledger::Worker::rounds);
  EXPECT_GE(rounds, sleeps);
  EXPECT_LE(rounds, sleeps * 4 + 16);  // no busy loop: a few rounds around each sleep
}

TEST(EngineSleep, an_adaptive_worker_with_nothing_to_do_uses_hardly_any_processor_time) {
  const TestDir dir;
  Engine engine({"gen:rate=10,full=wait", "--memory", "plain"});
  auto consumers = start_followers(1, {.engine = engine.name(), .from_start = false});
  ASSERT_TRUE(took(consumers[0], 3));
  const uint64_t before = processor_ticks(engine.process().pid());
  const uint64_t frames = consumers[0].progress().frames;
  ASSERT_TRUE(took(consumers[0], frames + 20));
  // 20 frames are 2 seconds, 200 ticks: a busy loop would use most of them.
  EXPECT_LT(processor_ticks(engine.process().pid()) - before, 40);
  EXPECT_EQ(consumers[0].stop(), 0);
}

TEST(EngineSleep, a_busy_worker_never_sleeps_and_loses_nothing_either) {
  const TestDir dir;
  Engine engine({"gen:count=2000,rate=10000,full=wait", "--memory", "plain", "--poll", "busy",
                 "--wait-consumers", "1"});
  auto consumers = start_followers(1, {.engine = engine.name()});
  EXPECT_EQ(consumers[0].wait(), 0);
  EXPECT_EQ(consumers[0].progress().frames, 2000);
  EXPECT_EQ(sum_of(ledger_of(engine), &ledger::Worker::sleeps), 0);
}

TEST(EngineSleep, frames_given_back_while_the_worker_sleeps_are_collected) {
  const TestDir dir;
  Engine engine({"gen:count=1000", "--memory", "plain", "--wait-consumers", "1"});
  const Attachment attachment(engine.name());
  std::vector<ringcap_burst> bursts;
  uint64_t frames = 0;
  while (frames < 1000) {
    ringcap_burst burst;
    ASSERT_GT(ringcap_take(attachment.get(), 64, static_cast<int>(kPatience.count()), &burst), 0);
    frames += burst.count;
    bursts.push_back(burst);
  }
  ASSERT_TRUE(wait_until([&] { return ledger_of(engine).buffers.referenced == 1000; }));
  for (const ringcap_burst& burst : bursts) ringcap_give_back(attachment.get(), &burst);
  EXPECT_TRUE(wait_until([&] { return ledger_of(engine).buffers.referenced == 0; }));
  EXPECT_EQ(engine.imbalance(), "");
}

}  // namespace
}  // namespace ringcap::test

// Consumers that die, stop, or come and go: nobody else pays for it.
#include <gtest/gtest.h>

#include <csignal>

#include "tests/system/harness_consumers.h"

namespace ringcap::test {
namespace {

constexpr uint64_t kPortBuffers = 1024;  // that a generator's queue holds, armed, at all times

// Frames come in order, each gap is one that the ring said, and nothing else is missing but what the port
// lost.
void expect_complete(const Progress& progress, const ledger::Ledger& stat) {
  EXPECT_GE(progress.result, 0) << progress.text;
  EXPECT_EQ(progress.backwards, 0);
  EXPECT_EQ(progress.time_went_back, 0);
  EXPECT_LE(progress.unexplained, lost_before_consumers(stat));
  EXPECT_LE(progress.lost, progress.dropped);
}

void expect_port_was_never_short(const ledger::Ledger& stat) {
  EXPECT_EQ(sum_of(stat, &ledger::Worker::no_buffer), 0);
  EXPECT_EQ(stat.buffers.port, kPortBuffers);
}

TEST(ConsumerDeath, one_killed_while_it_holds_frames_costs_the_others_nothing) {
  const TestDir dir;
  Engine engine({"gen:rate=20000,full=wait", "--memory", "plain", "--wait-consumers", "3"});
  auto others = start_followers(2, {.engine = engine.name(), .ring_frames = 4096});
  const Belongings before = belongings_of(engine.process().pid());
  Consumer victim(follow({.engine = engine.name(), .ring_frames = 4096, .hold = 1000}));
  ASSERT_TRUE(wait_until([&] { return victim.progress().holding.load(); })) << victim.progress().text;
  victim.kill();
  // full=wait: the generator loses nothing, so the others must get every number once.
  const uint64_t then = others[0].progress().frames;
  for (Consumer& other : others) EXPECT_TRUE(took(other, then + 5000));
  const auto stat = ledger_of(engine);
  EXPECT_EQ(stat.departed, 1);
  EXPECT_GE(stat.departed_total.reclaimed, 1000);
  EXPECT_EQ(leaked(engine.process().pid(), before), "");
  for (Consumer& other : others) {
    EXPECT_EQ(other.stop(), 0);
    expect_complete(other.progress(), stat);
    EXPECT_EQ(other.progress().lost + other.progress().dropped + other.progress().unexplained, 0);
  }
  EXPECT_EQ(not_come_back(engine), "");
  EXPECT_EQ(engine.imbalance(), "");
  expect_port_was_never_short(ledger_of(engine));
}

TEST(ConsumerDeath, a_killed_ones_place_and_frames_are_there_for_the_next) {
  const TestDir dir;
  // Room for one ring of 8,192 frames, not for two: the next one fits only if the first one's came back.
  Engine engine({"gen:rate=50000", "--memory", "plain", "--arena", "24M"});
  for (int i = 0; i < 10; ++i) {
    Consumer victim(follow({.engine = engine.name(), .ring_frames = 8192, .hold = 500, .from_start = false}));
    ASSERT_TRUE(wait_until([&] { return victim.progress().holding || victim.progress().result < 0; }));
    ASSERT_TRUE(victim.progress().holding) << victim.progress().text;
    victim.kill();
    ASSERT_EQ(not_come_back(engine), "");
  }
  EXPECT_EQ(ledger_of(engine).departed, 10);
  EXPECT_EQ(engine.imbalance(), "");
}

TEST(ConsumerDeath, a_stopped_one_loses_its_own_frames_and_nobody_elses) {
  const TestDir dir;
  Engine engine({"gen:rate=10000", "--memory", "plain", "--wait-consumers", "2"});
  std::vector<Consumer> consumers;
  consumers.reserve(2);
  consumers.emplace_back(follow({.engine = engine.name(), .ring_frames = 8192}));
  consumers.emplace_back(follow({.engine = engine.name(), .ring_frames = 128}));
  Consumer& other = consumers[0];
  Consumer& stopped = consumers[1];
  ASSERT_TRUE(took(other, 100));
  ASSERT_TRUE(took(stopped, 100));
  stopped.signal(SIGSTOP);
  EXPECT_TRUE(took(other, other.progress().frames + 5000));
  const auto stat = ledger_of(engine);
  expect_port_was_never_short(stat);
  stopped.signal(SIGCONT);
  EXPECT_TRUE(took(stopped, stopped.progress().frames + 1000));
  EXPECT_EQ(other.stop(), 0);
  EXPECT_EQ(stopped.stop(), 0);
  expect_complete(other.progress(), ledger_of(engine));
  expect_complete(stopped.progress(), ledger_of(engine));
  // Its ring held 128 of the 5,000 and more that came meanwhile; the rest it was told of.
  EXPECT_GE(stopped.progress().lost, 4000);
  EXPECT_EQ(not_come_back(engine), "");
  EXPECT_EQ(engine.imbalance(), "");
}

TEST(ConsumerDeath, one_that_comes_and_goes_a_thousand_times_leaves_nothing_behind) {
  const TestDir dir;
  Engine engine({"gen:rate=20000,full=wait", "--memory", "plain", "--wait-consumers", "1"});
  auto other = start_followers(1, {.engine = engine.name(), .ring_frames = 4096});
  const auto come_and_go = [&](int times) {
    for (int i = 0; i < times; ++i) {
      ringcap_options options = RINGCAP_OPTIONS_INIT;
      options.ring_frames = 1024;
      Attachment attachment(engine.name(), options);
      ringcap_burst burst;
      // Some leave with frames in their ring, some with frames in their hands, some with none.
      if (i % 3 == 1) ringcap_take(attachment.get(), 8, 0, &burst);
    }
  };
  come_and_go(50);  // what the engine keeps for reuse it has by then
  ASSERT_TRUE(wait_until([&] { return ledger_of(engine).consumers.size() == 1; }));
  const Belongings engine_before = belongings_of(engine.process().pid());
  const Belongings own_before = belongings_of(::getpid());
  come_and_go(1000);
  EXPECT_TRUE(wait_until([&] { return ledger_of(engine).departed == 1050; }));
  EXPECT_EQ(leaked(engine.process().pid(), engine_before), "");
  EXPECT_EQ(leaked(::getpid(), own_before), "");
  EXPECT_EQ(other[0].stop(), 0);
  const auto stat = ledger_of(engine);
  expect_complete(other[0].progress(), stat);
  EXPECT_EQ(other[0].progress().unexplained + other[0].progress().dropped, 0);
  EXPECT_EQ(not_come_back(engine), "");
  EXPECT_EQ(engine.imbalance(), "");
  expect_port_was_never_short(ledger_of(engine));
}

TEST(ConsumerDeath, half_of_64_killed_at_once_leave_the_other_half_undisturbed) {
  const TestDir dir;
  constexpr size_t kConsumers = 64;
  Engine engine({"gen:rate=2000,full=wait", "--memory", "plain", "--arena", "64M", "--wait-consumers", "64"});
  const Belongings before = belongings_of(engine.process().pid());
  auto consumers = start_followers(kConsumers, {.engine = engine.name(), .ring_frames = 256});
  for (Consumer& consumer : consumers) ASSERT_TRUE(took(consumer, 200)) << consumer.progress().text;
  // Every second one; half of those while they are stopped, so that their rings are full of frames.
  for (size_t i = 0; i < kConsumers; i += 4) consumers[i].signal(SIGSTOP);
  for (size_t i = 0; i < kConsumers; i += 2) consumers[i].signal(SIGKILL);
  const uint64_t then = consumers[1].progress().frames;
  for (size_t i = 1; i < kConsumers; i += 2) EXPECT_TRUE(took(consumers[i], then + 1000));
  ASSERT_TRUE(wait_until([&] { return ledger_of(engine).departed == kConsumers / 2; }));
  expect_port_was_never_short(ledger_of(engine));
  for (size_t i = 1; i < kConsumers; i += 2) consumers[i].progress().stop = true;
  for (size_t i = 1; i < kConsumers; i += 2) {
    EXPECT_EQ(consumers[i].wait(), 0);
    expect_complete(consumers[i].progress(), ledger_of(engine));
    EXPECT_EQ(consumers[i].progress().unexplained + consumers[i].progress().dropped, 0);
  }
  EXPECT_EQ(not_come_back(engine), "");
  EXPECT_EQ(engine.imbalance(), "");
  EXPECT_EQ(leaked(engine.process().pid(), before), "");
}

TEST(ConsumerDeath, one_that_dies_between_connecting_and_being_answered_leaves_nothing_behind) {
  const TestDir dir;
  Engine engine({"gen:rate=1000", "--memory", "plain"});
  const Belongings before = belongings_of(engine.process().pid());
  for (int i = 0; i < 200; ++i) {
    RawClient client(engine.name());
    if (i % 2 == 0) client.say(asking(128));  // all of them fit at once
  }
  EXPECT_TRUE(wait_until([&] { return ledger_of(engine).departed == 100; }));
  EXPECT_EQ(not_come_back(engine), "");
  EXPECT_EQ(leaked(engine.process().pid(), before), "");
  EXPECT_EQ(engine.imbalance(), "");
}

}  // namespace
}  // namespace ringcap::test

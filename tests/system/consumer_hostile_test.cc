// A control area full of garbage: that consumer is detached and told why, the others are undisturbed, and the
// ledger balances. Nothing that a consumer writes decides which buffer is freed.
#include <gtest/gtest.h>

#include <cstring>
#include <optional>
#include <random>
#include <thread>

#include "tests/system/harness_consumers.h"

namespace ringcap::test {
namespace {

using layout::ControlLine;
using layout::kFirstPosition;

class HostileConsumer : public ::testing::Test {
 protected:
  // A decent consumer that must get every frame, and a hostile one that has frames in its ring.
  HostileConsumer() {
    victims_ = start_followers(1, {.engine = engine_.name(), .ring_frames = 4096});
    hostile_.emplace(engine_.name());
    hostile_->attach(asking(1024, "hostile"));
    EXPECT_TRUE(wait_until([&] { return hostile_->head() >= kFirstPosition + 300; }));
  }

  ControlLine& control() { return hostile_->control(); }

  void expect_detached_and_others_well() {
    const Error reason = hostile_->hear_error();
    EXPECT_EQ(reason.code, Code::kGone);
    EXPECT_NE(reason.text.find("control area makes no sense"), std::string::npos) << reason.text;
    EXPECT_TRUE(hostile_->hear().bytes.empty());  // and the engine closed the connection
    expect_others_well();
  }

  void expect_others_well() {
    Progress& progress = victims_[0].progress();
    EXPECT_TRUE(took(victims_[0], progress.frames + 2000)) << progress.text;
    EXPECT_TRUE(wait_until([&] { return ledger_of(engine_).departed == 1; }));
    EXPECT_EQ(victims_[0].stop(), 0);
    EXPECT_EQ(progress.backwards + progress.unexplained + progress.lost + progress.dropped, 0);
    EXPECT_EQ(not_come_back(engine_), "");
    EXPECT_EQ(engine_.imbalance(), "");
    EXPECT_EQ(sum_of(ledger_of(engine_), &ledger::Worker::no_buffer), 0);
    EXPECT_TRUE(engine_.process().is_running());
  }

  TestDir dir_;
  Engine engine_{{"gen:rate=10000,full=wait", "--memory", "plain", "--wait-consumers", "2"}};
  std::vector<Consumer> victims_;
  std::optional<RawClient> hostile_;
};

TEST_F(HostileConsumer, whose_cursor_goes_backwards_is_detached) {
  control().cursor = kFirstPosition + 200;
  ASSERT_TRUE(wait_until([&] {
    const auto stat = ledger_of(engine_);
    for (const auto& consumer : stat.consumers)
      if (consumer.total.released == 200) return true;
    return false;
  }));
  control().cursor = kFirstPosition + 199;
  expect_detached_and_others_well();
}

TEST_F(HostileConsumer, whose_cursor_is_beyond_the_head_is_detached) {
  control().cursor = kFirstPosition + 1'000'000;
  expect_detached_and_others_well();
}

TEST_F(HostileConsumer, whose_cursor_is_one_ring_beyond_is_detached) {
  control().cursor = hostile_->head() + 1024;
  expect_detached_and_others_well();
}

TEST_F(HostileConsumer, whose_cursor_is_wild_is_detached) {
  control().cursor = ~uint64_t{0};
  expect_detached_and_others_well();
}

TEST_F(HostileConsumer, whose_control_area_is_zeroed_is_detached) {
  std::memset(static_cast<void*>(&control()), 0, sizeof(ControlLine));
  expect_detached_and_others_well();
}

TEST_F(HostileConsumer, whose_control_area_is_all_ones_is_detached) {
  std::memset(static_cast<void*>(&control()), 0xff, sizeof(ControlLine));
  expect_detached_and_others_well();
}

TEST_F(HostileConsumer, whose_control_area_changes_all_the_time_is_detached) {
  std::atomic<bool> stop{false};
  std::jthread scribbler([&] {
    std::mt19937_64 random(20240612);  // the same numbers every time
    while (!stop) {
      const uint64_t head = hostile_->head();
      control().cursor =
          random() % 4 == 0 ? random() : kFirstPosition + random() % (head - kFirstPosition + 2);
      control().wake_at = random() % 2 == 0 ? random() : head;
      control().late = random();
      control().not_matched = random();
    }
  });
  const Error reason = hostile_->hear_error();
  EXPECT_EQ(reason.code, Code::kGone);
  expect_others_well();
  stop = true;
}

TEST_F(HostileConsumer, whose_other_counters_are_nonsense_harms_no_sum) {
  control().late = ~uint64_t{0};
  control().not_matched = ~uint64_t{0};
  const uint64_t enough = victims_[0].progress().frames + 2000;
  EXPECT_TRUE(wait_until([&] {
    control().cursor = hostile_->head();  // it takes part, or the generator would wait for it
    return victims_[0].progress().frames >= enough;
  }));
  EXPECT_EQ(engine_.imbalance(), "");
  hostile_->close();
  expect_others_well();
}

TEST_F(HostileConsumer, that_asks_to_be_woken_at_every_frame_and_never_reads_its_socket_disturbs_nobody) {
  std::atomic<bool> stop{false};
  std::jthread asker([&] {
    while (!stop) control().wake_at = control().cursor = hostile_->head();
  });
  // Until its socket is full and long after: full is not an error, and blocks nobody.
  EXPECT_TRUE(took(victims_[0], victims_[0].progress().frames + 10'000));
  EXPECT_EQ(ledger_of(engine_).consumers.size(), 2);
  stop = true;
  asker.join();
  hostile_->close();
  expect_others_well();
}

TEST(HostileConsumers, whose_rings_are_full_for_ever_hold_only_what_they_were_granted) {
  const TestDir dir;
  Engine dropping({"gen:rate=10000", "--memory", "plain"});
  RawClient silent(dropping.name());
  silent.attach(asking(512, "full"));
  ASSERT_TRUE(wait_until([&] { return silent.head() == kFirstPosition + 512; }));
  Consumer other(follow({.engine = dropping.name(), .from_start = false}));
  EXPECT_TRUE(took(other, 1000)) << other.progress().text;
  const auto stat = ledger_of(dropping);
  for (const auto& consumer : stat.consumers) {
    if (consumer.name.starts_with("full")) {
      EXPECT_EQ(consumer.total.in_ring, 512);
      EXPECT_GT(consumer.total.dropped, 0);
    }
  }
  EXPECT_EQ(silent.head(), kFirstPosition + 512);
  EXPECT_EQ(sum_of(stat, &ledger::Worker::no_buffer), 0);
  EXPECT_EQ(other.stop(), 0);
  silent.close();
  EXPECT_EQ(not_come_back(dropping), "");
  EXPECT_EQ(dropping.imbalance(), "");
}

TEST(HostileConsumers, that_are_many_and_are_detached_while_others_attach_leave_the_engine_whole) {
  const TestDir dir;
  Engine engine({"gen:rate=20000,queues=2", "--memory", "plain"});
  uint64_t departed = 0;
  const auto attack = [&](uint32_t times) {
    for (uint32_t i = 0; i < times; ++i) {
      RawClient hostile(engine.name());
      RawClient next(engine.name());
      hostile.attach(asking(128));
      // Nonsense from one while the engine answers another: its plans and its reports cross.
      next.say(asking(128));
      hostile.control(i % 2).cursor = 1;
      EXPECT_EQ(hostile.hear_error().code, Code::kGone);
      EXPECT_FALSE(next.hear().bytes.empty());
      departed += 2;
    }
    EXPECT_TRUE(wait_until([&] { return ledger_of(engine).departed == departed; }));
  };
  attack(30);  // what the engine keeps for reuse it has by then
  const Belongings before = belongings_of(engine.process().pid());
  attack(120);
  EXPECT_EQ(not_come_back(engine), "");
  EXPECT_EQ(engine.imbalance(), "");
  EXPECT_EQ(leaked(engine.process().pid(), before), "");
}

}  // namespace
}  // namespace ringcap::test

// The ledger balances whenever it is read, not only when everything is over.
#include <gtest/gtest.h>

#include "tests/system/harness_consumers.h"

namespace ringcap::test {
namespace {

// Every sum that does not hold, in words.
std::string mismatches(const ledger::Ledger& ledger) {
  std::string text;
  for (const auto& m : ledger::check(ledger).unbalanced)
    text += m.where + ": " + m.sum + ": " + std::to_string(m.left) + " and " + std::to_string(m.right) + "; ";
  return text;
}

TEST(EngineLedger, balances_at_every_reading_while_frames_come) {
  const TestDir dir;
  // A millisecond between frames: many readings find the queue at rest, and a frame comes right then.
  Engine engine({"gen:rate=1000", "--memory", "plain"});
  auto consumers = start_followers(1, {.engine = engine.name(), .from_start = false});
  for (int i = 0; i < 3000; ++i) ASSERT_EQ(mismatches(ledger_of(engine)), "") << "reading " << i;
  EXPECT_EQ(consumers[0].stop(), 0);
}

TEST(EngineLedger, balances_at_every_reading_while_consumers_come_go_and_die) {
  const TestDir dir;
  Engine engine({"gen:rate=30000,queues=2", "--memory", "plain"});
  for (int i = 0; i < 30; ++i) {
    Consumer holder(follow({.engine = engine.name(), .ring_frames = 512, .hold = 100, .from_start = false}));
    ASSERT_TRUE(wait_until([&] {
      EXPECT_EQ(mismatches(ledger_of(engine)), "");
      return holder.progress().holding.load();
    }));
    holder.kill();
    ASSERT_TRUE(wait_until([&] {
      const auto ledger = ledger_of(engine);
      EXPECT_EQ(mismatches(ledger), "");
      return ledger.consumers.empty();
    }));
  }
  EXPECT_EQ(not_come_back(engine), "");
}

}  // namespace
}  // namespace ringcap::test

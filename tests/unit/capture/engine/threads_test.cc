// Both sides of rings, ledger, plan and sleeping, each in its thread, over one mapping in one process: what
// the thread sanitizer can see (it sees nothing across two processes). tests/run sanitize runs these.
#include <gtest/gtest.h>
#include <poll.h>

#include <atomic>
#include <cstring>
#include <thread>

#include "one_worker.h"

namespace ringcap {
namespace {

using test::Attached;
using test::OneWorker;

// Runs the worker in a thread of its own until it goes out of scope.
class Running {
 public:
  explicit Running(OneWorker& engine) : engine_(engine), thread_([&engine] { engine.worker().run(); }) {}
  ~Running() {
    engine_.worker().request_stop();
    thread_.join();
  }

 private:
  OneWorker& engine_;
  std::thread thread_;
};

// Takes until `count` frames came or a minute is over; sleeps on the socket where `sleeps`. Checks that the
// frames' sequence numbers rise by one more than what lost_before says.
uint64_t take_in_order(OneWorker& engine, Attached& consumer, uint64_t count, bool sleeps) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::minutes(1);
  uint64_t seen = 0, next = 0;
  while (seen < count && std::chrono::steady_clock::now() < deadline) {
    auto& ring = consumer.ring();
    const uint64_t ready = consumer.ready();
    for (uint64_t i = 0; i < ready; ++i) {
      const auto& d = *ring.at(ring.next + i);
      uint64_t sequence = 0;
      std::memcpy(&sequence, engine.frame(d) + 56, sizeof sequence);
      EXPECT_EQ(sequence, next + layout::lost_before(d));
      next = sequence + 1;
    }
    ring.next += ready;
    ring.give_back(ring.next);
    seen += ready;
    if (ready != 0 || !sleeps) continue;
    if (!consumer.rings.prepare_sleep()) continue;
    pollfd wait{consumer.socket.get(), POLLIN, 0};
    EXPECT_EQ(::poll(&wait, 1, 60'000), 1) << "a wake-up was lost";
    [[maybe_unused]] const auto woken = message::receive(consumer.socket.get(), false);
  }
  return seen;
}

TEST(Threads, a_polling_consumer_sees_every_frame_of_a_source_that_waits) {
  OneWorker engine("gen:count=300000,full=wait");
  Attached consumer = engine.attach(256);
  const Running running(engine);
  EXPECT_EQ(take_in_order(engine, consumer, 300'000, false), 300'000u);
}

TEST(Threads, a_sleeping_consumer_misses_no_wake_up) {
  OneWorker engine("gen:rate=20000,count=20000,full=wait");
  Attached consumer = engine.attach(256);
  const Running running(engine);
  EXPECT_EQ(take_in_order(engine, consumer, 20'000, true), 20'000u);
}

TEST(Threads, a_sleeping_worker_and_a_sleeping_consumer_find_each_other) {
  OneWorker engine("gen:rate=2000,count=2000,full=wait", uint64_t{8} << 20, engine::Poll::kSleep);
  Attached consumer = engine.attach(256);
  const Running running(engine);
  EXPECT_EQ(take_in_order(engine, consumer, 2'000, true), 2'000u);
  EXPECT_GT(engine.counts().sleeps, 0u);
}

TEST(Threads, the_ledger_balances_at_every_reading) {
  OneWorker engine("gen:");
  Attached fast = engine.attach(512), stuck = engine.attach(128);
  const Running running(engine);
  // The worker may not have run at all when 300 readings are done.
  for (int i = 0; i < 300 || (engine.taker(stuck).dropped == 0 && i < 100'000'000); ++i) {
    fast.drain();
    const auto ledger = engine.ledger();
    ASSERT_FALSE(ledger.workers.front().torn);
    for (const auto& m : ledger::check(ledger).unbalanced)
      FAIL() << m.where << ": " << m.sum << ": " << m.left << ", " << m.right;
  }
  EXPECT_GT(engine.taker(stuck).dropped, 0u);
}

TEST(Threads, plans_come_and_go_while_frames_flow) {
  OneWorker engine("gen:");
  Attached stayer = engine.attach(512);
  const Running running(engine);
  for (uint64_t plan = 2; plan < 200; ++plan) {
    Attached visitor = engine.attach(128);
    while (engine.worker().plan_seen() < plan + 1 - (plan & 1)) stayer.drain();
    visitor.drain();
    engine.leave(visitor);
    ++plan;
    for (bool gone = false; !gone;) {
      stayer.drain();
      for (const auto& event : engine.events()) {
        if (event.kind != engine::EventKind::kGone) continue;
        EXPECT_EQ(event.id, visitor.id);
        engine.consumers().let_go(event.id);
        gone = true;
      }
    }
    engine.consumers().free_gone(engine.worker().plan_seen());
  }
  EXPECT_GT(engine.taker(stayer).considered, 0u);
}

}  // namespace
}  // namespace ringcap

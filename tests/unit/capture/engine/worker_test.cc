// The worker, a round at a time: refill, offering, collecting, leaving, waking, and the ledger after each.
#include "capture/engine/worker.h"

#include <gtest/gtest.h>
#include <poll.h>

#include <cstring>

#include "one_worker.h"

namespace ringcap {
namespace {

using test::Attached;
using test::OneWorker;

uint64_t sequence_of(const OneWorker& engine, const layout::Descriptor& d) {
  uint64_t sequence = 0;
  std::memcpy(&sequence, engine.frame(d) + 56, sizeof sequence);
  return sequence;
}

bool readable(const Fd& fd) {
  pollfd wait{fd.get(), POLLIN, 0};
  return ::poll(&wait, 1, 0) == 1;
}

void expect_balanced(OneWorker& engine) {
  for (const auto& m : engine.unbalanced())
    ADD_FAILURE() << m.where << ": " << m.sum << ": " << m.left << ", " << m.right;
}

TEST(Worker, frames_that_nobody_wants_go_straight_back) {
  OneWorker engine("gen:count=1000");
  engine.rounds(20);
  const auto counts = engine.counts();
  EXPECT_EQ(counts.taken, 1000u);
  EXPECT_EQ(counts.unwanted, 1000u);
  EXPECT_EQ(counts.buffers.free + counts.buffers.port, counts.buffers.total);
  expect_balanced(engine);
}

TEST(Worker, a_consumer_gets_every_frame_in_order_with_its_bytes) {
  OneWorker engine("gen:count=1000");
  Attached consumer = engine.attach(1024);
  engine.rounds(20);
  ASSERT_EQ(consumer.ready(), 1000u);
  for (uint64_t i = 0; i < 1000; ++i) {
    const auto& d = *consumer.ring().at(consumer.ring().next + i);
    ASSERT_EQ(sequence_of(engine, d), i);
    ASSERT_EQ(d.captured, 64);
    ASSERT_EQ(d.length, 64u);
    ASSERT_EQ(d.l3_half, 7);
    ASSERT_EQ(d.l4_half, 17);
    ASSERT_TRUE(d.flags & layout::kHashValid);
  }
  EXPECT_EQ(engine.counts().buffers.referenced, 1000u);
  consumer.drain();
  engine.rounds(20);
  EXPECT_EQ(engine.counts().buffers.referenced, 0u);
  EXPECT_EQ(engine.taker(consumer).released, 1000u);
  expect_balanced(engine);
}

TEST(Worker, a_full_ring_drops_for_its_taker_alone_and_says_how_many) {
  OneWorker engine("gen:count=1000");
  Attached small = engine.attach(128);
  Attached large = engine.attach(1024);
  engine.rounds(20);
  EXPECT_EQ(small.ready(), 128u);
  EXPECT_EQ(large.ready(), 1000u);
  EXPECT_EQ(engine.taker(small).dropped, 872u);
  EXPECT_EQ(engine.taker(large).dropped, 0u);
  expect_balanced(engine);
}

TEST(Worker, the_first_frame_after_a_loss_says_how_many_were_lost) {
  OneWorker engine("gen:count=1000");
  Attached consumer = engine.attach(128);
  engine.rounds(4);  // 64 frames each: two fill the ring
  ASSERT_EQ(consumer.ready(), 128u);
  const uint64_t lost = engine.taker(consumer).dropped;
  ASSERT_GT(lost, 0u);
  consumer.drain();
  engine.rounds(2);
  ASSERT_GT(consumer.ready(), 0u);
  const auto& d = *consumer.ring().at(consumer.ring().next);
  EXPECT_EQ(layout::lost_before(d), lost);
  EXPECT_EQ(sequence_of(engine, d), 128 + lost);
}

TEST(Worker, one_frame_in_many_rings_is_freed_when_the_last_gives_it_back) {
  OneWorker engine("gen:count=64");
  std::vector<Attached> consumers;
  for (int i = 0; i < 8; ++i) consumers.push_back(engine.attach(128));
  engine.rounds(2);
  EXPECT_EQ(engine.counts().buffers.referenced, 64u);
  for (size_t i = 0; i + 1 < consumers.size(); ++i) EXPECT_EQ(consumers[i].drain(), 64u);
  engine.rounds(16);
  EXPECT_EQ(engine.counts().buffers.referenced, 64u);
  consumers.back().drain();
  engine.rounds(16);
  EXPECT_EQ(engine.counts().buffers.referenced, 0u);
  expect_balanced(engine);
}

TEST(Worker, without_a_free_buffer_the_port_stays_armed_and_the_frames_are_counted) {
  // 4,096 buffers: 1,024 armed, two rings that can hold 1,024 each, so the free ones cannot run out; a
  // ring that is granted more than the arena has would break that, and is refused.
  OneWorker engine("gen:count=100000");
  Attached one = engine.attach(1024), two = engine.attach(1024);
  engine.rounds(2000);
  const auto counts = engine.counts();
  EXPECT_EQ(counts.taken, 100000u);
  EXPECT_EQ(counts.no_buffer, 0u);
  EXPECT_EQ(counts.buffers.port, 1024u);
  EXPECT_GE(counts.buffers.free, 128u);
  expect_balanced(engine);
}

TEST(Worker, a_ring_that_does_not_fit_is_refused_in_words_that_name_the_options) {
  OneWorker engine("gen:count=1");
  const message::Hello hello{.role = message::Role::kConsumer,
                             .ring_slots = 8192,
                             .allow_smaller = false,
                             .program = "greedy",
                             .cluster = {},
                             .member = {},
                             .filter = {}};
  const auto refused = engine.consumers().admit(hello, ucred{}, true, Fd());
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().text.find("8192"), std::string::npos) << refused.error().message();
  EXPECT_NE(refused.error().mend.find("--ring"), std::string::npos) << refused.error().message();
  EXPECT_NE(refused.error().mend.find("--arena"), std::string::npos) << refused.error().message();
  message::Hello modest = hello;
  modest.allow_smaller = true;
  const auto granted = engine.consumers().admit(modest, ucred{}, true, Fd());
  ASSERT_TRUE(granted);
  EXPECT_EQ((*granted)->ring_slots, 2048u);
}

TEST(Worker, what_a_leaving_consumer_held_is_reclaimed_and_reported) {
  OneWorker engine("gen:count=1000");
  Attached leaver = engine.attach(1024), stayer = engine.attach(1024);
  engine.rounds(20);
  leaver.ring().next += 300;
  leaver.ring().give_back(leaver.ring().next);
  engine.leave(leaver);
  engine.rounds(5);
  const auto events = engine.events();
  ASSERT_FALSE(events.empty());
  EXPECT_EQ(events.front().kind, engine::EventKind::kGone);
  EXPECT_EQ(events.front().id, leaver.id);
  const auto ledger = engine.ledger();
  EXPECT_EQ(ledger.departed_total.published, 1000u);
  EXPECT_EQ(ledger.departed_total.released, 300u);
  EXPECT_EQ(ledger.departed_total.reclaimed, 700u);
  EXPECT_EQ(stayer.drain(), 1000u);
  engine.rounds(20);
  EXPECT_EQ(engine.counts().buffers.referenced, 0u);
  expect_balanced(engine);
}

TEST(Worker, reclaiming_is_bounded_in_each_round_and_balances_in_between) {
  OneWorker engine("gen:count=2000");
  Attached leaver = engine.attach(2048);
  engine.rounds(40);
  engine.leave(leaver);
  engine.round();
  const auto taker = engine.taker(leaver);
  EXPECT_GT(taker.reclaiming, 0u);
  EXPECT_GT(taker.reclaimed, 0u);
  EXPECT_LE(taker.reclaimed, 512u);
  expect_balanced(engine);
}

class WildCursor : public testing::TestWithParam<uint64_t> {};

TEST_P(WildCursor, detaches_its_consumer_and_harms_nobody_else) {
  OneWorker engine("gen:count=2000");
  Attached hostile = engine.attach(1024), good = engine.attach(1024);
  engine.rounds(8);
  hostile.drain();
  engine.rounds(8);
  hostile.ring().control->cursor.store(GetParam());
  good.drain();
  engine.rounds(8);
  const auto events = engine.events();
  ASSERT_FALSE(events.empty());
  EXPECT_EQ(events.front().kind, engine::EventKind::kMisbehaved);
  EXPECT_EQ(events.front().id, hostile.id);
  good.drain();
  engine.rounds(40);
  good.drain();
  engine.rounds(40);
  EXPECT_EQ(engine.taker(good).dropped, 0u);
  EXPECT_EQ(engine.counts().buffers.referenced, engine.taker(good).in_ring);
  expect_balanced(engine);
}

TEST_P(WildCursor, of_the_only_consumer_leaves_a_balanced_ledger) {
  OneWorker engine("gen:count=2000");
  Attached hostile = engine.attach(128);
  engine.rounds(8);
  hostile.drain();
  engine.rounds(4);
  hostile.ring().control->cursor.store(GetParam());
  engine.rounds(40);
  EXPECT_FALSE(engine.events().empty());
  EXPECT_EQ(engine.counts().buffers.referenced, 0u);
  expect_balanced(engine);
}

INSTANTIATE_TEST_SUITE_P(Worker, WildCursor,
                         testing::Values(0, 1, layout::kFirstPosition - 1, layout::kFirstPosition + 1,
                                         layout::kFirstPosition + 1'000'000, ~uint64_t{0}));

TEST(Worker, a_consumer_that_sleeps_is_woken_once_for_each_wait) {
  OneWorker engine("gen:rate=1000000000,count=128");
  Attached consumer = engine.attach(1024);
  ASSERT_TRUE(consumer.rings.prepare_sleep());
  engine.rounds(64);
  while (engine.counts().taken < 128) engine.round();
  engine.rounds(8);
  EXPECT_TRUE(readable(consumer.socket));
  EXPECT_EQ(engine.counts().wakeups, 1u);
  EXPECT_FALSE(consumer.rings.prepare_sleep()) << "there are frames: the last look must see them";
}

TEST(Worker, before_it_sleeps_a_worker_looks_once_more_for_sleepers) {
  OneWorker engine("gen:count=64");
  Attached consumer = engine.attach(1024);
  engine.round();
  // The consumer begins to wait for a frame that is there already, and missed it: the worst case.
  consumer.ring().control->wake_at.store(layout::kFirstPosition + 1);
  engine.worker().settle();
  EXPECT_TRUE(readable(consumer.socket));
}

TEST(Worker, a_filter_decides_for_its_taker_alone) {
  OneWorker engine("gen:count=900,mix=all,flows=900");
  Attached all = engine.attach(1024);
  // ether proto IPv6: ldh [12]; jeq #0x86dd; ret
  Attached six =
      engine.attach(1024, {{0x28, 0, 0, 12}, {0x15, 0, 1, 0x86dd}, {0x6, 0, 0, 262144}, {0x6, 0, 0, 0}});
  engine.rounds(20);
  EXPECT_EQ(all.ready(), 900u);
  EXPECT_EQ(six.ready(), 300u);
  EXPECT_EQ(engine.taker(six).not_matched, 600u);
  expect_balanced(engine);
}

TEST(Worker, a_source_that_waits_loses_nothing_to_a_slow_taker) {
  OneWorker engine("gen:count=10000,full=wait");
  Attached slow = engine.attach(128);
  uint64_t seen = 0;
  for (int i = 0; i < 10000 && seen < 10000; ++i) {
    engine.rounds(3);
    ASSERT_LE(slow.ready(), 128u);
    for (uint64_t k = 0; k < slow.ready(); ++k)
      ASSERT_EQ(sequence_of(engine, *slow.ring().at(slow.ring().next + k)), seen + k);
    seen += slow.drain();
  }
  EXPECT_EQ(seen, 10000u);
  EXPECT_EQ(engine.taker(slow).dropped, 0u);
  engine.rounds(8);
  expect_balanced(engine);
}

TEST(Worker, time_never_goes_back_within_a_ring) {
  OneWorker engine("gen:count=3000");
  Attached consumer = engine.attach(1024);
  uint64_t last = 0;
  for (int i = 0; i < 100; ++i) {
    engine.round();
    for (uint64_t k = 0; k < consumer.ready(); ++k) {
      const uint64_t now = consumer.ring().at(consumer.ring().next + k)->timestamp_ns;
      ASSERT_GE(now, last);
      last = now;
    }
    consumer.drain();
  }
  EXPECT_GT(last, 0u);
}

}  // namespace
}  // namespace ringcap

// Forwarder, a round at a time: rings and senders in front of a transmit queue that takes only some,
// completes late, in any order, and refuses some. Sleeping and waking with its thread.
#include "capture/engine/forwarder.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <thread>

#include "capture/base/fence.h"
#include "capture/base/monotonic.h"
#include "send_memory.h"
#include "slow_queue.h"

namespace ringcap {
namespace {

using test::numbered_frame;
using test::SendMemory;
using test::SlowQueue;

constexpr uint32_t kBuffer = 2048;
constexpr uint32_t kSlots = 128;
constexpr uint32_t kOwnBuffers = 64;

struct Dice {
  std::mt19937 engine;
  explicit Dice(unsigned seed) : engine(seed) {}
  uint32_t any() { return static_cast<uint32_t>(engine()); }
  uint32_t below(size_t limit) { return any() % static_cast<uint32_t>(limit); }
};

// One worker's ring, as the worker writes it. Its frames lie in the arena by slot.
struct Ring {
  std::vector<layout::Descriptor> slots{kSlots};
  layout::RingLine line{layout::kFirstPosition};
  layout::ControlLine control{};
  layout::ForwarderEntry entry{};
  uint64_t offset = 0;  // of its frames in the arena

  uint64_t head() const { return line.head.load(); }
  uint64_t cursor() const { return control.cursor.load(); }
  uint64_t room() const { return kSlots - (head() - cursor()); }
  uint64_t taken() const { return entry.taken.load(); }
  uint64_t sent() const { return entry.sent.load(); }
  uint64_t refused() const { return entry.refused.load(); }
  uint64_t pending() const { return entry.pending.load(); }
};

class Lab {
 public:
  // Frames leave through `queue`, or through queue() where that is null.
  explicit Lab(size_t rings = 1, TransmitQueue* queue = nullptr) {
    arena_.resize((rings * kSlots + kOwnBuffers) * kBuffer);
    engine::ForwarderSetup setup;
    for (size_t r = 0; r < rings; ++r) {
      rings_.push_back(std::make_unique<Ring>());
      rings_[r]->offset = r * kSlots * kBuffer;
      rings_[r]->control.cursor = layout::kFirstPosition;
      setup.rings.push_back(
          {rings_[r]->slots.data(), &rings_[r]->line, &rings_[r]->control, kSlots - 1, &rings_[r]->entry});
    }
    const uint64_t own = rings * kSlots * kBuffer;
    setup.queue = queue != nullptr ? queue : &queue_;
    setup.arena = arena_.data();
    setup.region = {arena_.data() + own, own, kBuffer, kOwnBuffers, 0};
    setup.poll = engine::Poll::kSleep;
    setup.longest_sleep_ns = uint64_t{3600} * 1'000'000'000;  // a wake-up that is lost is never made up for
    setup.thread_name = "forwarder";
    int pair[2];
    if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) != 0) std::abort();
    setup.wake_socket = Fd(pair[0]);
    wake_ = Fd(pair[1]);
    forwarder_ = std::make_unique<engine::Forwarder>(std::move(setup));
  }

  SlowQueue& queue() { return queue_; }
  Ring& ring(size_t number = 0) { return *rings_[number]; }
  engine::Forwarder& forwarder() { return *forwarder_; }
  uint32_t round() { return forwarder_->round(); }
  int wake_socket() const { return wake_.get(); }

  // What a worker does: a frame with that number, `cut` bytes of which are not there.
  void publish(size_t number_of_ring, uint64_t number, uint32_t length = 60, uint32_t cut = 0,
               uint16_t flags = 0) {
    Ring& to = ring(number_of_ring);
    ASSERT_GT(to.room(), 0u);
    const uint64_t slot = to.head() & (kSlots - 1);
    const uint64_t offset = to.offset + slot * kBuffer;
    const auto frame = numbered_frame(number, length);
    std::memcpy(arena_.data() + offset, frame.data(), frame.size());
    to.slots[slot] = {};
    to.slots[slot].location = layout::location(offset, 0);
    to.slots[slot].length = length;
    to.slots[slot].captured = static_cast<uint16_t>(length - cut);
    to.slots[slot].flags = flags;
    to.line.head.store(to.head() + 1, std::memory_order_release);
  }

  // Every sum that anybody can read.
  void expect_balance() {
    for (const auto& r : rings_) {
      EXPECT_EQ(r->taken(), r->sent() + r->refused() + r->pending());
      EXPECT_LE(r->cursor() - layout::kFirstPosition, r->sent() + r->refused());
      EXPECT_LE(r->taken(), r->head() - layout::kFirstPosition);
    }
  }

 private:
  std::vector<std::byte> arena_;
  SlowQueue queue_;
  std::vector<std::unique_ptr<Ring>> rings_;
  Fd wake_;
  std::unique_ptr<engine::Forwarder> forwarder_;
};

// The forwarder's thread, until it goes out of scope.
class Running {
 public:
  explicit Running(engine::Forwarder& forwarder)
      : forwarder_(forwarder), thread_([&forwarder] { forwarder.run(); }) {}
  ~Running() { stop(); }
  void stop() {
    forwarder_.request_stop();
    if (thread_.joinable()) thread_.join();
  }

 private:
  engine::Forwarder& forwarder_;
  std::thread thread_;
};

[[nodiscard]] bool wait_for(const std::function<bool()>& condition) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(30);
  while (!condition())
    if (std::chrono::steady_clock::now() > deadline) return false;
  return true;
}

// ---- rings ---------------------------------------------------------------------------------------

TEST(Forwarder, sends_what_is_in_its_ring_in_order_and_gives_it_back) {
  Lab lab;
  std::vector<uint64_t> all;
  for (uint64_t number = 0; number < 1000; ++number) {
    lab.publish(0, number, 14 + static_cast<uint32_t>(number));
    all.push_back(number);
    if (number % 7 == 0) lab.round();
  }
  while (lab.round() != 0) {
  }
  EXPECT_EQ(lab.queue().out, all);
  EXPECT_EQ(lab.ring().cursor(), lab.ring().head());
  EXPECT_EQ(lab.ring().sent(), 1000u);
  EXPECT_EQ(lab.ring().entry.bytes.load(), lab.queue().bytes());
  lab.expect_balance();
}

TEST(Forwarder, keeps_what_the_port_has_no_room_for_and_goes_on_there) {
  Lab lab;
  lab.queue().at_once = 3;
  for (uint64_t number = 0; number < 100; ++number) lab.publish(0, number);
  EXPECT_EQ(lab.round(), 6u) << "three given, and completed";
  EXPECT_EQ(lab.ring().taken(), 3u);
  lab.queue().at_once = 0;
  EXPECT_EQ(lab.round(), 0u);
  lab.expect_balance();
  lab.queue().at_once = 1;
  for (int i = 0; i < 97; ++i) EXPECT_EQ(lab.round(), 2u);
  EXPECT_EQ(lab.ring().cursor(), lab.ring().head());
  EXPECT_TRUE(std::ranges::is_sorted(lab.queue().out));
  EXPECT_EQ(lab.queue().out.size(), 100u);
}

TEST(Forwarder, gives_nothing_back_before_the_port_is_done_with_it) {
  Lab lab;
  lab.queue().completes = false;
  for (uint64_t number = 0; number < 10; ++number) lab.publish(0, number);
  lab.round();
  EXPECT_EQ(lab.ring().taken(), 10u);
  EXPECT_EQ(lab.ring().pending(), 10u);
  EXPECT_EQ(lab.ring().cursor(), layout::kFirstPosition);
  lab.queue().complete(4);
  lab.round();
  EXPECT_EQ(lab.ring().pending(), 6u);
  EXPECT_EQ(lab.ring().cursor(), layout::kFirstPosition + 4);
  lab.queue().complete(100);
  lab.round();
  EXPECT_EQ(lab.ring().cursor(), lab.ring().head());
  lab.expect_balance();
}

TEST(Forwarder, moves_its_cursor_over_what_is_finished_only_whatever_the_order_of_completions) {
  Lab lab;
  lab.queue().completes = false;
  for (uint64_t number = 0; number < 5; ++number) lab.publish(0, number);
  lab.round();
  for (const size_t place : {4, 2, 2, 1}) {  // all but the first; then the first
    lab.queue().finish(place);
    lab.round();
    EXPECT_EQ(lab.ring().cursor(), layout::kFirstPosition);
    lab.expect_balance();
  }
  EXPECT_EQ(lab.ring().sent(), 4u);
  lab.queue().complete(1);
  lab.round();
  EXPECT_EQ(lab.ring().cursor(), lab.ring().head());
}

TEST(Forwarder, refuses_what_is_cut_or_damaged_and_sends_the_others) {
  Lab lab;
  lab.publish(0, 0, 100, 1);
  lab.publish(0, 1);
  lab.publish(0, 2, 100, 40);
  lab.publish(0, 3, 100, 40);
  lab.publish(0, 4);
  lab.publish(0, 5, 60, 0, layout::kBadCrc);
  lab.publish(0, 6, 60, 0, layout::kBadLength);
  lab.publish(0, 7);
  lab.round();
  EXPECT_EQ(lab.queue().out, (std::vector<uint64_t>{1, 4, 7}));
  EXPECT_EQ(lab.ring().refused(), 5u);
  EXPECT_EQ(lab.ring().sent(), 3u);
  EXPECT_EQ(lab.ring().cursor(), lab.ring().head());
  lab.expect_balance();
}

TEST(Forwarder, counts_what_the_port_refuses_as_refused_and_frees_it) {
  Lab lab;
  for (uint64_t number = 0; number < 20; ++number)
    lab.publish(0, number, number % 4 == 0 ? SlowQueue::kLongest + 1 : 60);
  lab.round();
  EXPECT_EQ(lab.ring().refused(), 5u);
  EXPECT_EQ(lab.ring().sent(), 15u);
  EXPECT_EQ(lab.ring().cursor(), lab.ring().head());
  EXPECT_EQ(lab.queue().out.size(), 15u);
}

TEST(Forwarder, serves_all_its_rings_however_full_one_is) {
  Lab lab(3);
  lab.queue().at_once = 2;
  for (uint64_t i = 0; i < kSlots; ++i) lab.publish(0, i);
  lab.publish(1, 1000);
  lab.publish(2, 2000);
  for (int i = 0; i < 3; ++i) lab.round();
  EXPECT_EQ(lab.ring(1).sent(), 1u);
  EXPECT_EQ(lab.ring(2).sent(), 1u);
}

TEST(Forwarder, balances_at_every_step_whatever_the_port_does) {
  const unsigned seed = std::random_device{}();
  SCOPED_TRACE(testing::Message() << "seed " << seed);
  Dice random(seed);
  Lab lab(3);
  lab.queue().completes = false;
  std::vector<std::vector<uint64_t>> whole(3);
  uint64_t number = 0;
  const auto step = [&] {
    lab.queue().at_once = random.below(20);
    lab.queue().room = random.below(200);
    for (uint64_t i = random.below(30); i > 0; --i) {
      const size_t ring = random.below(3);
      if (lab.ring(ring).room() == 0) continue;
      const bool cut = random.below(10) == 0, too_long = random.below(10) == 0;
      if (!cut && !too_long) whole[ring].push_back(number << 2 | ring);
      lab.publish(ring, number++ << 2 | ring, too_long ? 1600 : 60 + random.below(1000), cut ? 1 : 0);
    }
    lab.queue().complete_any(random.below(30), random.engine);
    lab.round();
    lab.expect_balance();
  };
  for (int i = 0; i < 5000 && !testing::Test::HasFailure(); ++i) step();
  lab.queue().at_once = lab.queue().room = 1000;
  lab.queue().completes = true;
  while (lab.round() != 0) {
  }
  std::vector<std::vector<uint64_t>> out(3);
  for (const uint64_t sent : lab.queue().out) out[sent & 3].push_back(sent);
  for (size_t ring = 0; ring < 3; ++ring) {
    EXPECT_EQ(lab.ring(ring).cursor(), lab.ring(ring).head());
    EXPECT_EQ(lab.ring(ring).pending(), 0u);
    EXPECT_EQ(lab.ring(ring).sent() + lab.ring(ring).refused(),
              lab.ring(ring).head() - layout::kFirstPosition);
    EXPECT_EQ(out[ring], whole[ring]) << "order, or a frame that was refused";
  }
}

// ---- senders -------------------------------------------------------------------------------------

void expect_balance(const SendMemory& memory) {
  const auto c = memory.counts();
  EXPECT_EQ(c.asked, c.refused + c.sent + c.dropped + c.pending);
}

TEST(Forwarder, sends_what_senders_ask_for_from_buffers_of_its_own) {
  Lab lab;
  SendMemory memory;
  lab.forwarder().add(memory.shared());
  for (uint64_t number = 0; number < 50; ++number) memory.queue(numbered_frame(number));
  memory.publish();
  lab.queue().completes = false;
  lab.round();
  EXPECT_EQ(memory.counts().pending, 50u);
  EXPECT_EQ(memory.room(), memory.slots()) << "read and copied: the slots are free";
  std::memset(memory.frames(), 0xff, memory.area());  // the queue would notice if these were what it has
  lab.queue().complete(50);
  lab.round();
  lab.round();
  EXPECT_EQ(memory.counts().sent, 50u);
  EXPECT_TRUE(std::ranges::is_sorted(lab.queue().out));
  expect_balance(memory);
}

TEST(Forwarder, sends_the_good_requests_between_bad_ones_and_drops_what_the_port_refuses) {
  Lab lab;
  SendMemory memory;
  lab.forwarder().add(memory.shared());
  for (uint64_t number = 0; number < 20; ++number) {
    memory.queue(numbered_frame(number));
    memory.ask(memory.area() - 10, 60);
    memory.queue(numbered_frame(number, 1600));  // longer than the port's mtu
  }
  memory.publish();
  while (lab.round() != 0) {
  }
  lab.round();
  EXPECT_EQ(memory.counts().sent, 20u);
  EXPECT_EQ(memory.counts().refused, 20u);
  EXPECT_EQ(memory.counts().dropped, 20u);
  EXPECT_EQ(memory.counts().pending, 0u);
  EXPECT_EQ(lab.queue().out.size(), 20u);
  expect_balance(memory);
}

TEST(Forwarder, keeps_senders_and_rings_balanced_at_every_step_whatever_the_port_does) {
  const unsigned seed = std::random_device{}();
  SCOPED_TRACE(testing::Message() << "seed " << seed);
  Dice random(seed);
  Lab lab(1);
  std::vector<std::unique_ptr<SendMemory>> senders;
  std::vector<std::vector<uint64_t>> asked(5);
  for (size_t i = 0; i < 5; ++i) {
    senders.push_back(std::make_unique<SendMemory>());
    lab.forwarder().add(senders.back()->shared());
  }
  lab.queue().completes = false;
  uint64_t number = 0;
  const auto step = [&] {
    lab.queue().at_once = random.below(20);
    lab.queue().room = random.below(100);
    for (uint64_t i = random.below(40); i > 0; --i) {
      const size_t s = random.below(senders.size());
      if (senders[s]->room() == 0) continue;
      if (random.below(5) == 0) {
        senders[s]->ask(random.any(), random.any());
        continue;
      }
      asked[s].push_back(number << 3 | s);
      senders[s]->queue(numbered_frame(number++ << 3 | s));
    }
    if (lab.ring().room() != 0) lab.publish(0, number++ << 3 | 7);
    for (auto& sender : senders) sender->publish();
    lab.queue().complete_any(random.below(30), random.engine);
    lab.round();
    lab.expect_balance();
    for (auto& sender : senders) expect_balance(*sender);
  };
  for (int i = 0; i < 3000 && !testing::Test::HasFailure(); ++i) step();
  lab.queue().at_once = lab.queue().room = 1000;
  lab.queue().completes = true;
  while (lab.round() != 0) {
  }
  std::vector<std::vector<uint64_t>> out(8);
  for (const uint64_t sent : lab.queue().out) out[sent & 7].push_back(sent);
  for (size_t s = 0; s < senders.size(); ++s) {
    EXPECT_EQ(senders[s]->counts().pending, 0u);
    EXPECT_EQ(senders[s]->counts().sent, asked[s].size());
    EXPECT_EQ(out[s], asked[s]) << "order, or a request that was refused";
  }
}

TEST(Forwarder, lets_a_sender_go_when_it_closed_and_everything_was_sent) {
  Lab lab;
  SendMemory memory;
  lab.forwarder().add(memory.shared());
  lab.queue().completes = false;
  for (uint64_t number = 0; number < 10; ++number) memory.queue(numbered_frame(number));
  memory.publish();
  lab.round();
  memory.sender().close();
  lab.round();
  EXPECT_FALSE(memory.sender().gone());
  lab.queue().complete(10);
  for (int i = 0; i < 3; ++i) lab.round();
  EXPECT_TRUE(memory.sender().gone());
  EXPECT_EQ(memory.counts().sent, 10u);
  expect_balance(memory);
}

TEST(Forwarder, gives_up_a_closed_sender_whose_frames_stay_with_the_port_and_uses_their_buffers_again) {
  Lab lab;
  SendMemory memory, other;
  lab.forwarder().add(memory.shared());
  lab.queue().completes = false;
  lab.queue().room = 10;
  for (uint64_t number = 0; number < 40; ++number) memory.queue(numbered_frame(number));
  memory.publish();
  memory.sender().close();
  ASSERT_TRUE(wait_for([&] {
    lab.round();
    return memory.sender().gone();
  }));
  EXPECT_EQ(memory.counts().dropped, 40u) << "ten with the port, thirty that it had no room for";
  EXPECT_EQ(memory.counts().pending, 0u);
  expect_balance(memory);
  // The ten come back late; nobody's count moves by them, and every buffer is of use.
  lab.queue().complete(10);
  lab.queue().room = 1000;
  lab.round();
  EXPECT_EQ(memory.counts().dropped, 40u);
  lab.forwarder().add(other.shared());
  for (uint64_t number = 0; number < kOwnBuffers; ++number) other.queue(numbered_frame(number));
  other.publish();
  lab.round();
  EXPECT_EQ(other.counts().pending, kOwnBuffers);
}

TEST(Forwarder, throws_out_a_sender_whose_count_lies_and_serves_the_others) {
  Lab lab;
  SendMemory liar, honest;
  lab.forwarder().add(liar.shared());
  lab.forwarder().add(honest.shared());
  liar.queue(numbered_frame(1));
  liar.publish();
  lab.round();
  liar.produce(layout::kFirstPosition);
  honest.queue(numbered_frame(2));
  honest.publish();
  for (int i = 0; i < 3; ++i) lab.round();
  EXPECT_TRUE(liar.sender().gone());
  EXPECT_TRUE(liar.sender().misbehaved());
  EXPECT_FALSE(honest.sender().gone());
  EXPECT_EQ(honest.counts().sent, 1u);
  EXPECT_EQ(liar.counts().sent, 1u);
}

// ---- its thread ----------------------------------------------------------------------------------

// As libringcap's Sender::publish().
void publish_and_ring(SendMemory& memory) {
  memory.publish();
  full_fence();
  if (memory.entry().sleeps.load(std::memory_order_relaxed) == 0) return;
  const uint64_t one = 1;
  ASSERT_EQ(::write(memory.sender().bell(), &one, sizeof one), static_cast<ssize_t>(sizeof one));
}

TEST(ForwarderThread, misses_no_bell_of_a_sender) {
  Lab lab;
  SendMemory memory;
  lab.forwarder().add(memory.shared());
  const Running running(lab.forwarder());
  for (uint64_t number = 0; number < 5000; ++number) {
    memory.queue(numbered_frame(number));
    publish_and_ring(memory);
    ASSERT_TRUE(wait_for([&] { return memory.entry().consumed.load() == memory.produced(); }))
        << "a wake-up was lost at " << number;
  }
}

// The flag belongs to the open file, and a sender has that in common with the engine.
TEST(ForwarderThread, is_not_held_up_by_a_sender_that_makes_its_bell_blocking) {
  Lab lab;
  SendMemory hostile, honest;
  lab.forwarder().add(hostile.shared());
  lab.forwarder().add(honest.shared());
  ASSERT_EQ(::fcntl(hostile.sender().bell(), F_SETFL, 0), 0);
  const Running running(lab.forwarder());
  bool served = true;
  for (uint64_t number = 0; served && number < 100; ++number) {
    ASSERT_TRUE(!served || wait_for([&] { return honest.entry().sleeps.load() != 0; }));
    honest.queue(numbered_frame(number));
    publish_and_ring(honest);
    served = wait_for([&] { return honest.entry().consumed.load() == honest.produced(); });
  }
  const uint64_t one = 1;  // so that the thread ends
  ASSERT_EQ(::write(hostile.sender().bell(), &one, sizeof one), static_cast<ssize_t>(sizeof one));
  EXPECT_TRUE(served);
}

// As Worker::maybe_wake(), after it has published.
class WakingWorker {
 public:
  explicit WakingWorker(Lab& lab) : lab_(lab) {}
  void wake() {
    full_fence();
    const uint64_t wake_at = lab_.ring().control.wake_at.load(std::memory_order_relaxed);
    if (wake_at == 0 || wake_at == served_ || lab_.ring().head() < wake_at) return;
    served_ = wake_at;
    EXPECT_EQ(::send(lab_.wake_socket(), "w", 1, MSG_NOSIGNAL | MSG_DONTWAIT), 1);
  }

 private:
  Lab& lab_;
  uint64_t served_ = 0;
};

TEST(ForwarderThread, misses_no_wake_up_by_a_worker) {
  Lab lab;
  const Running running(lab.forwarder());
  WakingWorker worker(lab);
  for (uint64_t number = 0; number < 5000; ++number) {
    lab.publish(0, number);
    worker.wake();
    ASSERT_TRUE(wait_for([&] { return lab.ring().cursor() == lab.ring().head(); }))
        << "a wake-up was lost at " << number;
  }
}

TEST(ForwarderThread, notices_at_once_that_a_sender_closed) {
  Lab lab;
  const Running running(lab.forwarder());
  for (int i = 0; i < 500; ++i) {
    SendMemory memory;
    lab.forwarder().add(memory.shared());
    memory.queue(numbered_frame(1));
    publish_and_ring(memory);
    memory.sender().close();
    lab.forwarder().wake();
    ASSERT_TRUE(wait_for([&] { return memory.sender().gone(); })) << "a wake-up was lost at " << i;
    EXPECT_EQ(memory.counts().sent, 1u);
  }
}

TEST(ForwarderThread, sleeps_while_a_sender_has_no_credit_and_goes_on_when_it_has) {
  Lab lab;
  SendMemory memory(64, 2048, 200);
  lab.forwarder().add(memory.shared());
  const uint64_t start = monotonic_ns();
  const Running running(lab.forwarder());
  for (uint64_t number = 0; number < 64; ++number) memory.queue(numbered_frame(number));
  publish_and_ring(memory);
  ASSERT_TRUE(wait_for([&] { return memory.entry().sent.load() == 64; }));
  EXPECT_GE(monotonic_ns() - start, 155'000'000u) << "32 at once, the others at 200 a second";
}

// A queue in front of which the test can close a gate while the forwarder's thread uses it.
class Gate : public SlowQueue {
 public:
  std::atomic<bool> closed{true};
  uint32_t transmit(std::span<const TransmitFrame> frames) override {
    if (!closed) return SlowQueue::transmit(frames);
    ++turned_away;
    return 0;
  }
  std::atomic<uint64_t> turned_away{0};
};

TEST(ForwarderThread, goes_on_by_itself_when_a_port_that_was_full_has_room_again) {
  Gate gate;
  Lab lab(1, &gate);
  for (uint64_t number = 0; number < 10; ++number) lab.publish(0, number);
  const Running running(lab.forwarder());
  ASSERT_TRUE(wait_for([&] { return gate.turned_away > 10; }));
  gate.closed = false;
  ASSERT_TRUE(wait_for([&] { return lab.ring().cursor() == lab.ring().head(); }));
}

// Without that it would burn a processor for as long as an interface has no link.
TEST(ForwarderThread, naps_while_its_port_is_full) {
  Gate gate;
  Lab lab(1, &gate);
  SendMemory memory;
  lab.forwarder().add(memory.shared());
  for (uint64_t number = 0; number < 10; ++number) lab.publish(0, number);
  for (uint64_t number = 0; number < 64; ++number) memory.queue(numbered_frame(number));
  memory.publish();
  const Running running(lab.forwarder());
  const uint64_t start = monotonic_ns();
  ASSERT_TRUE(wait_for([&] { return gate.turned_away > 60; }));
  EXPECT_GT(monotonic_ns() - start, 50'000'000u);
}

TEST(ForwarderThread, sends_at_its_end_what_is_in_its_rings_and_of_its_senders_and_says_so) {
  for (int i = 0; i < 50; ++i) {
    Lab lab;
    SendMemory memory;
    lab.forwarder().add(memory.shared());
    for (uint64_t number = 0; number < 64; ++number) lab.publish(0, number);
    for (uint64_t number = 0; number < 64; ++number) memory.queue(numbered_frame(number));
    memory.publish();
    lab.forwarder().request_stop();
    lab.forwarder().run();
    EXPECT_EQ(lab.queue().out.size(), 128u);
    EXPECT_EQ(lab.ring().sent(), 64u);
    EXPECT_EQ(memory.counts().sent, 64u);
    EXPECT_EQ(memory.counts().pending, 0u);
    lab.expect_balance();
  }
}

TEST(ForwarderThread, ends_soon_though_its_port_is_stuck) {
  Lab lab;
  lab.queue().at_once = 0;
  for (uint64_t number = 0; number < 64; ++number) lab.publish(0, number);
  const uint64_t start = monotonic_ns();
  {
    const Running running(lab.forwarder());
  }
  EXPECT_LT(monotonic_ns() - start, 3'000'000'000u);
  EXPECT_EQ(lab.ring().cursor(), layout::kFirstPosition);
  lab.expect_balance();
}

TEST(ForwarderThread, ends_though_its_ring_never_runs_dry) {
  Lab lab;
  std::atomic<bool> stop{false};
  std::thread worker([&] {
    WakingWorker waking(lab);
    for (uint64_t number = 0; !stop;) {
      if (lab.ring().room() == 0) continue;
      lab.publish(0, number++);
      waking.wake();
    }
  });
  Running running(lab.forwarder());
  EXPECT_TRUE(wait_for([&] { return lab.ring().sent() > 1000; }));
  const uint64_t start = monotonic_ns();
  running.stop();
  EXPECT_LT(monotonic_ns() - start, 3'000'000'000u) << "it sends what was there, not what comes for ever";
  stop = true;
  worker.join();
  lab.expect_balance();
}

}  // namespace
}  // namespace ringcap

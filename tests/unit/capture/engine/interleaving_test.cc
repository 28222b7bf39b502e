// The sleep protocol, by exhaustive interleaving: every order in which the steps of a worker and of a
// consumer, and the draining of their store buffers (x86-TSO: Sewell et al., CACM 2010), can happen. The
// property: when both have done all their steps, a consumer that sleeps on a published frame has been woken.
//
// The steps are those of Worker::publish, leave_recent and maybe_wake, and of Client::sleep and
// Rings::prepare_sleep; leaving out either fence makes the property fail, which two tests show. A wake-up is
// a system call, whose locked instructions empty the store buffer: without that, a consumer that looks for a
// batch first could be forgotten, which a test shows.
//
// A sender and a forwarder do the same with a bell: Sender::publish in libcap and Forwarder::sleep. There the
// sender is the model's worker, the forwarder its consumer, the sender's count of requests is the head, and
// wake_at only says whether the forwarder sleeps.
#include <gtest/gtest.h>

#include <array>
#include <optional>
#include <set>
#include <string>
#include <vector>

namespace ringcap {
namespace {

enum Word { kHead, kWakeAt, kWords };

enum class Step {
  kPublish,        // worker: head := head + 1
  kWorkerFence,    // worker: its store buffer is empty
  kLook,           // worker: reads wake_at; wakes if head reached it and it was not served
  kStoreWakeAt,    // consumer: wake_at := what it has seen + 1
  kConsumerFence,  // consumer: its store buffer is empty
  kLookAgain,      // consumer: reads head; if there is something, it does not sleep
  kSleep,          // consumer: sleeps until woken
  // A batch first: so many frames, or a deadline (which may pass at once: it takes no step).
  kStoreWakeAtBatch,  // consumer: wake_at := what it has seen + kBatch
  kTake,      // consumer: takes what there is; where that is something, it sleeps no more in this test
  kTakeSome,  // consumer: takes what there is, and goes on
  kDrain,     // consumer: empties its socket: an earlier wake-up wakes it no more
  // With a bell.
  kRing,         // sender: rings the bell if the forwarder says that it sleeps
  kStoreSleeps,  // forwarder: says that it sleeps
  kStoreAwake,   // forwarder: says that it does not
};

constexpr int kBatch = 2;

struct Thread {
  std::vector<Step> steps;
  size_t at = 0;
  std::vector<std::pair<Word, int>> buffer;  // stores that others do not see yet
};

struct State {
  std::array<int, kWords> memory{};
  Thread worker, consumer;
  int served = 0;
  int seen = 0;  // what the consumer has taken
  bool woken = false;
  bool asleep = false;
  bool gave_up_sleep = false;
  bool wakes_early = false;  // what would be if a wake-up did not empty the worker's store buffer

  int load(const Thread& thread, Word word) const {
    for (auto it = thread.buffer.rbegin(); it != thread.buffer.rend(); ++it)
      if (it->first == word) return it->second;
    return memory[word];
  }
  bool done() const {
    return worker.at == worker.steps.size() && consumer.at == consumer.steps.size() &&
           worker.buffer.empty() && consumer.buffer.empty();
  }
  std::string key() const {
    std::string k;
    for (const int m : memory) k += std::to_string(m) + ",";
    for (const Thread* t : {&worker, &consumer}) {
      k += std::to_string(t->at) + "[";
      for (const auto& [word, value] : t->buffer)
        k += std::to_string(word) + ":" + std::to_string(value) + " ";
      k += "]";
    }
    return k + std::to_string(served) + "," + std::to_string(seen) + (woken ? "w" : "") +
           (asleep ? "s" : "") + (gave_up_sleep ? "g" : "");
  }
};

// One step of a thread; false where it cannot be done yet (a fence waits for the store buffer).
bool step(State& s, bool worker) {
  Thread& t = worker ? s.worker : s.consumer;
  if (t.at == t.steps.size()) return false;
  switch (t.steps[t.at]) {
    case Step::kPublish:
      t.buffer.emplace_back(kHead, s.load(t, kHead) + 1);
      break;
    case Step::kWorkerFence:
    case Step::kConsumerFence:
      if (!t.buffer.empty()) return false;
      break;
    case Step::kLook: {
      const int wake_at = s.load(t, kWakeAt);
      if (wake_at != 0 && wake_at != s.served && wake_at <= s.load(t, kHead)) {
        if (!s.wakes_early && !t.buffer.empty()) return false;
        s.served = wake_at;
        s.woken = true;
      }
      break;
    }
    case Step::kStoreWakeAt:
      t.buffer.emplace_back(kWakeAt, s.seen + 1);
      break;
    case Step::kStoreWakeAtBatch:
      t.buffer.emplace_back(kWakeAt, s.seen + kBatch);
      break;
    case Step::kTakeSome:
      s.seen = s.load(t, kHead);
      break;
    case Step::kTake:
      if (s.load(t, kHead) > s.seen) s.gave_up_sleep = true;
      s.seen = s.load(t, kHead);
      break;
    case Step::kDrain:
      s.woken = false;
      break;
    case Step::kLookAgain:
      if (s.load(t, kHead) > s.seen) s.gave_up_sleep = true;
      break;
    case Step::kRing:
      if (s.load(t, kWakeAt) == 0) break;
      if (!t.buffer.empty()) return false;
      s.woken = true;
      break;
    case Step::kStoreSleeps:
    case Step::kStoreAwake:
      t.buffer.emplace_back(kWakeAt, t.steps[t.at] == Step::kStoreSleeps ? 1 : 0);
      break;
    case Step::kSleep:
      if (!s.gave_up_sleep) s.asleep = true;
      break;
  }
  ++t.at;
  return true;
}

bool drain_one(State& s, bool worker) {
  Thread& t = worker ? s.worker : s.consumer;
  if (t.buffer.empty()) return false;
  s.memory[t.buffer.front().first] = t.buffer.front().second;
  t.buffer.erase(t.buffer.begin());
  return true;
}

// Explores everything that can follow; counts the ends in which a sleeper was forgotten.
class Explorer {
 public:
  void explore(const State& s) {
    if (!visited_.insert(s.key()).second) return;
    if (s.done()) {
      ++ends_;
      if (s.asleep && !s.woken && s.memory[kHead] > s.seen) ++forgotten_;
      return;
    }
    for (const bool worker : {true, false}) {
      if (State next = s; step(next, worker)) explore(next);
      if (State next = s; drain_one(next, worker)) explore(next);
    }
  }
  int ends() const { return ends_; }
  int forgotten() const { return forgotten_; }

 private:
  std::set<std::string> visited_;
  int ends_ = 0;
  int forgotten_ = 0;
};

Explorer explore(std::vector<Step> worker, std::vector<Step> consumer, bool wakes_early = false) {
  State s;
  s.wakes_early = wakes_early;
  s.worker.steps = std::move(worker);
  s.consumer.steps = std::move(consumer);
  Explorer explorer;
  explorer.explore(s);
  return explorer;
}

const std::vector<Step> kGoToSleep{Step::kStoreWakeAt, Step::kConsumerFence, Step::kLookAgain, Step::kSleep};

TEST(Interleaving, no_order_of_steps_forgets_a_sleeper_when_the_ring_leaves_the_recent_list) {
  const auto all = explore({Step::kPublish, Step::kLook, Step::kWorkerFence, Step::kLook}, kGoToSleep);
  EXPECT_GE(all.ends(), 3);
  EXPECT_EQ(all.forgotten(), 0);
}

TEST(Interleaving, no_order_of_steps_forgets_a_sleeper_with_several_bursts) {
  const auto all = explore({Step::kPublish, Step::kLook, Step::kPublish, Step::kLook, Step::kPublish,
                            Step::kWorkerFence, Step::kLook},
                           kGoToSleep);
  EXPECT_GE(all.ends(), 3);
  EXPECT_EQ(all.forgotten(), 0);
}

// What Client::take() does: sleeps for a batch, takes what came by then, and if that is nothing, sleeps for
// one.
const std::vector<Step> kGoToSleepForABatchFirst{
    Step::kDrain,       Step::kStoreWakeAtBatch, Step::kConsumerFence, Step::kTake, Step::kDrain,
    Step::kStoreWakeAt, Step::kConsumerFence,    Step::kLookAgain,     Step::kSleep};
// The same when some came by then: the next batch in vain, and then one.
const std::vector<Step> kGoToSleepForASecondBatchFirst{
    Step::kStoreWakeAtBatch, Step::kConsumerFence, Step::kTakeSome,  Step::kDrain,
    Step::kStoreWakeAtBatch, Step::kConsumerFence, Step::kTake,      Step::kDrain,
    Step::kStoreWakeAt,      Step::kConsumerFence, Step::kLookAgain, Step::kSleep};

TEST(Interleaving, no_order_of_steps_forgets_a_sleeper_that_slept_for_a_batch_first) {
  for (const auto& consumer : {kGoToSleepForABatchFirst, kGoToSleepForASecondBatchFirst}) {
    for (size_t bursts = 1; bursts <= 3; ++bursts) {
      std::vector<Step> worker;
      for (size_t i = 0; i < bursts; ++i) worker.insert(worker.end(), {Step::kPublish, Step::kLook});
      worker.insert(worker.end(), {Step::kWorkerFence, Step::kLook});
      const auto all = explore(worker, consumer);
      EXPECT_GE(all.ends(), 3);
      EXPECT_EQ(all.forgotten(), 0) << bursts;
    }
  }
}

TEST(Interleaving, without_the_workers_fence_a_sleeper_can_be_forgotten) {
  EXPECT_GT(explore({Step::kPublish, Step::kLook, Step::kLook}, kGoToSleep).forgotten(), 0);
}

TEST(Interleaving, without_the_consumers_fence_a_sleeper_can_be_forgotten) {
  EXPECT_GT(explore({Step::kPublish, Step::kWorkerFence, Step::kLook},
                    {Step::kStoreWakeAt, Step::kLookAgain, Step::kSleep})
                .forgotten(),
            0);
}

TEST(Interleaving, if_a_wake_up_overtook_what_was_published_a_sleeper_could_be_forgotten) {
  const std::vector<Step> worker{Step::kPublish, Step::kPublish, Step::kLook, Step::kWorkerFence,
                                 Step::kLook};
  EXPECT_GT(explore(worker, kGoToSleepForASecondBatchFirst, true).forgotten(), 0);
  EXPECT_EQ(explore(worker, kGoToSleepForASecondBatchFirst, false).forgotten(), 0);
}

// ---- a sender's bell -----------------------------------------------------------------------------

const std::vector<Step> kForwarderSleeps{Step::kStoreSleeps, Step::kConsumerFence, Step::kLookAgain,
                                         Step::kSleep};
// Woken by anything, it serves what there is, and sleeps again.
const std::vector<Step> kForwarderSleepsAgain{Step::kStoreSleeps,   Step::kConsumerFence, Step::kDrain,
                                              Step::kStoreAwake,    Step::kTakeSome,      Step::kStoreSleeps,
                                              Step::kConsumerFence, Step::kLookAgain,     Step::kSleep};

std::vector<Step> asks(size_t times, bool fence) {
  std::vector<Step> steps;
  for (size_t i = 0; i < times; ++i) {
    steps.push_back(Step::kPublish);
    if (fence) steps.push_back(Step::kWorkerFence);
    steps.push_back(Step::kRing);
  }
  return steps;
}

TEST(Interleaving, no_order_of_steps_forgets_a_forwarder_whose_sender_asks_for_something) {
  for (const auto& forwarder : {kForwarderSleeps, kForwarderSleepsAgain}) {
    for (size_t times = 1; times <= 3; ++times) {
      const auto all = explore(asks(times, true), forwarder);
      EXPECT_GE(all.ends(), 3);
      EXPECT_EQ(all.forgotten(), 0) << times;
    }
  }
}

TEST(Interleaving, without_the_senders_fence_a_forwarder_can_be_forgotten) {
  EXPECT_GT(explore(asks(1, false), kForwarderSleeps).forgotten(), 0);
}

TEST(Interleaving, without_the_forwarders_fence_it_can_be_forgotten) {
  EXPECT_GT(explore(asks(1, true), {Step::kStoreSleeps, Step::kLookAgain, Step::kSleep}).forgotten(), 0);
}

}  // namespace
}  // namespace ringcap

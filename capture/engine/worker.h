// Worker: the one thread that owns its receive queues and all that happens to their frames. It shares
// nothing with other workers and takes no lock.
//
// A round: look at the plan -> receive a burst (refilled at once) -> filter -> parse and hash -> offer
// to the takers (those that share with nobody, then the members of clusters) -> publish -> look at a few
// rings (collect, wake) -> ledger. After a quiet spell it enables its queues' wake-ups, looks once more, and
// sleeps.
//
// Four files: worker.cc (the thread, plan, sleep), worker_offer.cc (frames, from queue to rings),
// worker_rings.cc (what comes back, who is woken), worker_ledger.cc (what is counted).
//
// Made by the control thread; run() is the thread's body; request_stop() and wake() may be called by
// any thread. What crosses to the control thread: the plan (in), EventRing (out), the state memory.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "capture/base/fd.h"
#include "capture/engine/balancer.h"
#include "capture/engine/events.h"
#include "capture/engine/host_clock.h"
#include "capture/engine/plan.h"
#include "capture/engine/taker.h"
#include "capture/frame/fragments.h"
#include "capture/frame/parse.h"
#include "capture/layout/layout.h"
#include "capture/port/port.h"

namespace ringcap::engine {

enum class Poll { kAdaptive, kBusy, kSleep };

inline constexpr uint32_t kBurst = 64;  // frames a round and queue; bits of a Matches

struct WorkerQueue {
  ReceiveQueue* queue = nullptr;
  layout::SourceEntry* source = nullptr;
  uint8_t number = 0;    // in the table of sources
  bool ethernet = true;  // else the frames are not parsed: no offsets, no hash
};

struct WorkerSetup {
  uint32_t number = 0;
  std::vector<WorkerQueue> queues;
  Region region;
  layout::Header* state = nullptr;  // the whole state memory
  Poll poll = Poll::kAdaptive;
  HashKey hash_key{};
  int cpu = -1;        // -1: wherever the kernel likes
  int events_fd = -1;  // eventfd of the control thread
  std::string thread_name;
};

class Worker {
 public:
  explicit Worker(WorkerSetup setup);

  // The thread's body: arms the queues, does rounds until request_stop(), disarms.
  void run();
  void request_stop() {
    stop_.store(true, std::memory_order_release);
    wake();
  }
  // Makes a sleeping worker do a round.
  void wake();

  // Control thread: from the next round on the worker goes by `plan`, which stays alive until
  // plan_seen() says a later number.
  void go_by(const Plan* plan) {
    plan_.store(plan, std::memory_order_release);  // pairs with Worker::look_at_plan()
    wake();
  }
  uint64_t plan_seen() const { return entry_.plan_seen.load(std::memory_order_acquire); }
  // How many rounds have ended. What a round found is in the ledger's words before it counts here.
  uint64_t rounds_ended() const { return rounds_ended_.load(std::memory_order_acquire); }
  EventRing& events() { return events_; }
  uint32_t buffers() const { return setup_.region.count; }

  // One round; returns how many frames were taken. run() calls it; tests may, instead of run().
  uint32_t round();
  // Control thread, before run(): gives the queues their buffers.
  Result<void> arm_queues();
  // Control thread, after run() has returned and the ports have stopped.
  void disarm_queues();
  // Before sleeping: every ring leaves the recent list, with the fence and the last look.
  void settle();

 private:
  // A filter's answers for the burst in hand: each frame is asked about once, however many takers have it.
  struct Memo {
    Matches asked = 0;
    Matches matched = 0;
  };

  void look_at_plan();
  uint32_t poll_queue(WorkerQueue& queue);
  uint32_t frames_wanted(const WorkerQueue& queue);
  uint32_t apply_filter(uint32_t count);
  template <bool kStamp>
  void complete_frames(const WorkerQueue& queue, uint32_t count, uint64_t now);
  void offer_all(const WorkerQueue& queue, uint32_t count);
  void offer_to_sole(TakerRing& ring, uint32_t count);
  Matches offer_to_cluster(const PlanCluster& plan, const WorkerQueue& queue, Matches all, uint32_t count);
  Matches offer_share(const PlanTaker& taker, Matches share, uint32_t count);
  void publish_matches(TakerRing& ring, Matches matches, uint32_t count);
  Matches match(uint32_t filter, Matches among, uint64_t& spent_ns);
  Matches match(const PlanTaker& taker, Matches among, uint64_t& spent_ns);
  Matches outgoing(Matches among) const;
  uint64_t filter_clock_ns() const;
  uint32_t room_for(TakerRing& ring, uint32_t offered);
  template <bool kSole>
  void copy_descriptors(TakerRing& ring, uint32_t count);
  void publish_all(TakerRing& ring, uint32_t count);
  void publish_some(TakerRing& ring, Matches wanted);
  void publish(TakerRing& ring, uint32_t fit, uint32_t offered);
  void free_unreferenced(uint32_t count);

  void look_at_rings(bool busy);
  void look(TakerRing& ring);
  void collect(TakerRing& ring, uint64_t cursor, uint32_t limit);
  void collect_when_short();
  void free_slots(TakerRing& ring, uint64_t until);
  void maybe_wake(TakerRing& ring);
  void leave_recent();
  void begin_leaving(TakerRing& ring);
  void drop_leaving();
  void reclaim_some();
  void report(Event event);

  void note_complete(const WorkerQueue& queue, uint32_t taken, uint64_t before_ns, uint64_t last_ns);
  void write_ledger();
  void write_counters();
  void write_taker(const TakerRing& ring);
  void write_clusters();
  void add_to_departed(const TakerRing& ring);

  bool may_sleep();
  void sleep();
  bool all_ended() const;

  WorkerSetup setup_;
  layout::WorkerEntry& entry_;
  FreeBuffers free_;
  std::unique_ptr<uint16_t[]> references_;  // by buffer: rings that hold it
  std::unique_ptr<Frame[]> frames_;
  FragmentTable fragments_;
  HostClock clock_;
  EventRing events_;
  Fd wake_fd_;

  std::atomic<const Plan*> plan_{nullptr};
  std::atomic<bool> stop_{false};
  std::atomic<bool> asleep_{false};
  std::atomic<uint64_t> rounds_ended_{0};
  const Plan* current_plan_ = nullptr;
  std::vector<PlanTaker> takers_;          // of the current plan: those that share with nobody
  std::vector<TakerRing*> rings_;          // of the current plan, members' too, less those that misbehaved
  std::vector<TakerRing*> recent_;         // got frames lately: looked at every few rounds
  std::vector<TakerRing*> leaving_;        // being reclaimed
  std::vector<TakerRing*> gone_;           // reclaimed: to be added to the departed, and told
  std::unique_ptr<Memo[]> memos_;          // by filter of the plan
  std::unique_ptr<Balancer[]> balancers_;  // by number of the cluster
  Shares shares_{};
  size_t next_look_ = 0;
  size_t first_look_ = 0;
  uint32_t wakes_left_ = 0;

  uint64_t round_ = 0;
  uint64_t idle_since_ns_ = 0;
  bool spin_helps_ = true;       // constant
  uint64_t lag_ns_ = 0;          // the longest of the queues'; constant
  uint64_t limited_rounds_ = 0;  // in a row in which a waiting source had no room
  bool changed_ = false;         // the ledger is behind
  bool ended_reported_ = false;
  uint64_t wanted_ = 0, unwanted_ = 0, taken_ = 0, broken_ = 0, filtered_ = 0, no_buffer_ = 0,
           considered_ = 0, copied_ = 0, bytes_ = 0, sleeps_ = 0, wakeups_ = 0, filter_ns_ = 0, cut_ = 0;
  uint64_t flows_written_round_ = 0;
  uint64_t referenced_ = 0;  // buffers with references
  layout::TakerBlock& departed_;
};

}  // namespace ringcap::engine

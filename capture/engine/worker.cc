#include "capture/engine/worker.h"

#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>

#include "capture/base/fence.h"
#include "capture/base/monotonic.h"
#include "capture/layout/view.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace ringcap::engine {
namespace {

constexpr uint32_t kWakesPerRound = 16;
constexpr uint64_t kSpinNs = 100'000;      // adaptive: how long a quiet worker polls before it sleeps
constexpr uint64_t kSleepNs = 50'000'000;  // at the longest: rings are collected and the ledger kept fresh
constexpr uint64_t kNapNs = 50'000;        // while a source waits for takers
constexpr uint64_t kSpinRoundsLimited = 2000;
constexpr uint32_t kLastRounds = 100'000;  // a bound only: a port that has stopped runs dry

void pause_cpu() {
#if defined(__x86_64__)
  _mm_pause();
#endif
}

}  // namespace

Worker::Worker(WorkerSetup setup)
    : setup_(std::move(setup)),
      entry_(layout::entry<layout::WorkerEntry>(*setup_.state, setup_.state->workers, setup_.number)),
      free_(setup_.region.count),
      references_(new uint16_t[setup_.region.count]()),
      frames_(new Frame[kBurst]),
      wake_fd_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)),
      memos_(new Memo[kMaxFilters]),
      balancers_(new Balancer[layout::kMaxClusters]),
      departed_(layout::taker_block(*setup_.state, entry_, setup_.state->consumers.count)) {
  for (uint32_t i = setup_.region.count; i > 0; --i) free_.push(i - 1);
  takers_.reserve(layout::kMaxConsumers);
  rings_.reserve(layout::kMaxConsumers);
  for (const auto& q : setup_.queues) lag_ns_ = std::max(lag_ns_, q.queue->lag_ns());
  // Frames that come a block at a time, after a timer, come no sooner to a worker that polls.
  spin_helps_ =
      !std::ranges::all_of(setup_.queues, [](const auto& q) { return q.queue->lag_ns() >= kSpinNs; });
  changed_ = true;
  write_ledger();
}

void Worker::wake() {
  // Writing costs a system call, so only a sleeper is woken; the sleeper looks at everything once more
  // after it said that it sleeps. Pairs with Worker::sleep().
  full_fence();
  if (!asleep_.load(std::memory_order_relaxed)) return;
  const uint64_t one = 1;
  [[maybe_unused]] const auto written = ::write(wake_fd_.get(), &one, sizeof one);
}

// ---- the thread ----------------------------------------------------------------------------------

Result<void> Worker::arm_queues() {
  for (auto& q : setup_.queues)
    if (auto armed = q.queue->arm(setup_.region, free_); !armed) return armed;
  changed_ = true;
  write_ledger();
  return {};
}

void Worker::disarm_queues() {
  for (auto& q : setup_.queues) q.queue->disarm(free_);
  changed_ = true;
  settle();
  write_ledger();
}

void Worker::run() {
  ::pthread_setname_np(::pthread_self(), setup_.thread_name.substr(0, 15).c_str());
  if (setup_.cpu >= 0) {
    cpu_set_t cpus;
    CPU_ZERO(&cpus);
    CPU_SET(setup_.cpu, &cpus);
    ::pthread_setaffinity_np(::pthread_self(), sizeof cpus, &cpus);
  }
  while (!stop_.load(std::memory_order_acquire)) {
    const uint32_t taken = round();
    if (taken != 0) {
      idle_since_ns_ = 0;
      continue;
    }
    if (may_sleep())
      sleep();
    else
      pause_cpu();
  }
  // The ports have stopped: what they had received is still handed out, so that their sums hold.
  for (uint32_t i = 0; i < kLastRounds && round() != 0; ++i) {
  }
}

uint32_t Worker::round() {
  ++round_;
  wakes_left_ = kWakesPerRound;
  look_at_plan();
  uint32_t taken = 0;
  for (auto& q : setup_.queues) taken += poll_queue(q);
  look_at_rings(taken != 0);
  if (!leaving_.empty()) {
    drop_leaving();
    reclaim_some();
  }
  if (changed_) write_ledger();
  if (!ended_reported_ && taken == 0 && all_ended()) {
    ended_reported_ = true;
    report({EventKind::kSourceEnded, 0});
  }
  rounds_ended_.store(round_, std::memory_order_release);  // pairs with rounds_ended()
  return taken;
}

void Worker::look_at_plan() {
  const Plan* plan = plan_.load(std::memory_order_acquire);  // pairs with go_by()
  if (plan == current_plan_) return;
  const auto& next = plan->rings[setup_.number];
  for (TakerRing* old : rings_)
    if (std::ranges::find(next, old) == next.end()) begin_leaving(*old);
  // Into room that was reserved: nothing is allocated here.
  takers_ = plan->takers[setup_.number];
  rings_ = next;
  drop_leaving();  // those that misbehaved, and that the plan still names
  current_plan_ = plan;
  entry_.plan_seen.store(plan->number, std::memory_order_release);  // pairs with plan_seen()
  report({EventKind::kPlanSeen, 0});
}

// ---- sleeping ------------------------------------------------------------------------------------

bool Worker::all_ended() const {
  return std::ranges::all_of(setup_.queues, [](const WorkerQueue& q) { return q.queue->ended(); });
}

bool Worker::may_sleep() {
  if (setup_.poll == Poll::kBusy || !leaving_.empty()) return false;
  if (limited_rounds_ != 0) return limited_rounds_ > kSpinRoundsLimited;
  for (const auto& q : setup_.queues)
    if (q.queue->wait_fd() < 0 && q.queue->next_due_ns() == 0 && !q.queue->ended()) return false;
  if (setup_.poll == Poll::kSleep || !spin_helps_) return true;
  const uint64_t now = monotonic_ns();
  if (idle_since_ns_ == 0) idle_since_ns_ = now;
  return now - idle_since_ns_ > kSpinNs;
}

void Worker::sleep() {
  const bool limited = limited_rounds_ != 0;
  for (auto& q : setup_.queues) q.queue->enable_wake();
  asleep_.store(true, std::memory_order_relaxed);
  full_fence();  // pairs with wake(): either it sees us asleep, or this round sees what it did
  const bool had_work = round() != 0 || !leaving_.empty() || stop_.load(std::memory_order_acquire);
  if (!had_work) {
    settle();
    uint64_t limit_ns = limited ? kNapNs : kSleepNs;
    const uint64_t now = monotonic_ns();
    std::vector<pollfd> fds{{wake_fd_.get(), POLLIN, 0}};
    for (const auto& q : setup_.queues) {
      if (q.queue->wait_fd() >= 0) fds.push_back({q.queue->wait_fd(), POLLIN, 0});
      const uint64_t due = q.queue->next_due_ns();
      if (due != 0 && !limited) limit_ns = std::min(limit_ns, due > now ? due - now : 0);
    }
    ++sleeps_;
    flows_written_round_ = 0;
    write_ledger();
    const uint64_t complete = entry_.complete_until_ns.load(std::memory_order_relaxed);
    const bool file = !setup_.queues.empty() && setup_.queues.front().queue->clock() == layout::Clock::kFile;
    if (!file) entry_.complete_until_ns.store(layout::kAsleep, std::memory_order_release);
    const timespec timeout{static_cast<time_t>(limit_ns / 1'000'000'000),
                           static_cast<long>(limit_ns % 1'000'000'000)};
    if (limit_ns != 0) ::ppoll(fds.data(), fds.size(), &timeout, nullptr);
    // What woke us is stamped already, and not handed out yet.
    const uint64_t until = std::max(complete, clock_.now() - lag_ns_);
    if (!file) entry_.complete_until_ns.store(until, std::memory_order_release);
    uint64_t drained = 0;
    [[maybe_unused]] const auto got = ::read(wake_fd_.get(), &drained, sizeof drained);
  }
  asleep_.store(false, std::memory_order_relaxed);
  for (auto& q : setup_.queues) q.queue->disable_wake();
  if (limited) limited_rounds_ = kSpinRoundsLimited / 2;
}

}  // namespace ringcap::engine

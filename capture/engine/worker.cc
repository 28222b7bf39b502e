#include "capture/engine/worker.h"

#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <ctime>

#include "capture/base/fence.h"
#include "capture/layout/view.h"
#include "capture/message/message.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace ringcap::engine {
namespace {

constexpr uint32_t kCollectLimit = 512;  // frames collected from one ring in one look
constexpr uint32_t kLookEvery = 4;       // rounds between looks at a busy ring
constexpr uint64_t kQuietRounds = 256;   // a ring without frames for so long leaves the recent list
constexpr uint32_t kWakesPerRound = 16;
constexpr uint64_t kSpinNs = 100'000;      // adaptive: how long a quiet worker polls before it sleeps
constexpr uint64_t kSleepNs = 50'000'000;  // at the longest: rings are collected and the ledger kept fresh
constexpr uint64_t kNapNs = 50'000;        // while a source waits for takers
constexpr uint64_t kSpinRoundsLimited = 2000;
constexpr uint32_t kLastRounds = 100'000;  // a bound only: a port that has stopped runs dry

uint64_t monotonic_ns() {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
}

void pause_cpu() {
#if defined(__x86_64__)
  _mm_pause();
#endif
}

void put(std::atomic<uint64_t>& word, uint64_t value) { word.store(value, std::memory_order_relaxed); }

}  // namespace

Worker::Worker(WorkerSetup setup)
    : setup_(std::move(setup)),
      entry_(layout::entry<layout::WorkerEntry>(*setup_.state, setup_.state->workers, setup_.number)),
      free_(setup_.region.count),
      references_(new uint16_t[setup_.region.count]()),
      frames_(new Frame[kBurst]),
      wake_fd_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)),
      departed_(layout::taker_block(*setup_.state, entry_, setup_.state->consumers.count)) {
  for (uint32_t i = setup_.region.count; i > 0; --i) free_.push(i - 1);
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
  return taken;
}

void Worker::look_at_plan() {
  const Plan* plan = plan_.load(std::memory_order_acquire);  // pairs with go_by()
  if (plan == current_plan_) return;
  const auto& next = plan->takers[setup_.number];
  for (TakerRing* old : takers_)
    if (std::ranges::find(next, old) == next.end()) begin_leaving(*old);
  takers_.clear();
  for (TakerRing* ring : next)
    if (!ring->leaving) takers_.push_back(ring);
  current_plan_ = plan;
  entry_.plan_seen.store(plan->number, std::memory_order_release);  // pairs with plan_seen()
  report({EventKind::kGone, 0});  // id 0: nobody; only "I have seen the plan"
}

// ---- frames --------------------------------------------------------------------------------------

uint32_t Worker::frames_wanted(const WorkerQueue& q) {
  if (!q.queue->waits_for_takers()) return kBurst;
  uint64_t room = std::min<uint64_t>(kBurst, free_.size());
  for (TakerRing* ring : takers_) {
    if (ring->room() < kBurst) look(*ring);
    room = std::min(room, ring->room());
  }
  return static_cast<uint32_t>(room);
}

uint32_t Worker::poll_queue(WorkerQueue& q) {
  const uint32_t limit = frames_wanted(q);
  if (limit == 0) {
    ++limited_rounds_;
    return 0;
  }
  limited_rounds_ = 0;
  if (free_.size() < 2 * kBurst) collect_when_short();
  const bool host = q.queue->clock() == layout::Clock::kHost;
  const uint64_t before_ns = q.queue->clock() == layout::Clock::kKernel ? clock_.now() : 0;
  const Burst burst = q.queue->receive({frames_.get(), limit}, free_);
  const uint32_t taken = burst.frames + burst.broken + burst.no_buffer;
  if (taken == 0) {
    note_complete(q, 0, host ? clock_.now() : before_ns, 0);
    return 0;
  }
  changed_ = true;
  taken_ += taken;
  broken_ += burst.broken;
  no_buffer_ += burst.no_buffer;
  copied_ += burst.copied;
  put(q.source->taken, q.source->taken.load(std::memory_order_relaxed) + taken);

  // Stamped after receive(): a frame that came while we received is not older than its stamp.
  const uint64_t now = host ? clock_.now() : 0;
  const uint64_t last_ns = host                ? now
                           : burst.frames != 0 ? frames_[burst.frames - 1].timestamp_ns
                                               : before_ns;
  const uint32_t count = apply_filter(burst.frames);
  considered_ += count;
  if (host)
    complete_frames<true>(q, count, now);
  else
    complete_frames<false>(q, count, 0);
  offer_all(count);
  note_complete(q, taken, before_ns, last_ns);
  return taken;
}

uint32_t Worker::apply_filter(uint32_t count) {
  const filter::Program* program = current_plan_ != nullptr ? current_plan_->filter.get() : nullptr;
  if (program == nullptr) return count;
  uint32_t kept = 0;
  for (uint32_t i = 0; i < count; ++i) {
    const Frame& frame = frames_[i];
    if (filter::run(*program, frame.data, frame.length, frame.captured) != 0) {
      if (kept != i) frames_[kept] = frame;
      ++kept;
    } else {
      bytes_ += frame.length;
      free_.push(frame.buffer);
    }
  }
  filtered_ += count - kept;
  return kept;
}

// Parses, hashes and fills in the rest of the descriptors, each frame while its lines are in reach.
template <bool kStamp>
void Worker::complete_frames(const WorkerQueue& q, uint32_t count, uint64_t now) {
  const HashKey key = setup_.hash_key;
  const std::byte* region = setup_.region.base;
  const uint64_t base = layout::location(setup_.region.arena_offset, setup_.region.number);
  const uint8_t source = q.number;
  uint64_t bytes = 0;
  for (Frame *frame = frames_.get(), *end = frame + count; frame != end; ++frame) {
    if (kStamp) frame->timestamp_ns = now;  // first: fragments are forgotten by it
    if (q.ethernet) parse_frame(*frame, key, fragments_);
    frame->location = base + static_cast<uint64_t>(frame->data - region);
    frame->source = source;
    bytes += frame->length;
  }
  bytes_ += bytes;
}

void Worker::offer_all(uint32_t count) {
  if (count == 0) return;
  if (takers_.size() == 1 && takers_.front()->filter == nullptr)
    return offer_to_sole(*takers_.front(), count);
  Matches wanted = 0;
  const Matches all = count == 64 ? ~Matches{0} : (Matches{1} << count) - 1;
  for (TakerRing* ring : takers_) {
    if (ring->leaving) continue;
    const Matches matches = ring->filter == nullptr ? all : match(*ring, count);
    wanted |= matches;
    ring->counts.considered += count;
    ring->counts.not_matched += count - static_cast<uint32_t>(std::popcount(matches));
    ring->touched = true;
    if (matches == all)
      publish_all(*ring, count);
    else if (matches != 0)
      publish_some(*ring, matches, count);
  }
  const auto wanted_count = static_cast<uint32_t>(std::popcount(wanted));
  wanted_ += wanted_count;
  unwanted_ += count - wanted_count;
  free_unreferenced(count);
}

// The common case, one consumer that wants everything: each frame has one reference or none.
void Worker::offer_to_sole(TakerRing& ring, uint32_t count) {
  if (ring.leaving) {
    unwanted_ += count;
    return free_unreferenced(count);
  }
  ring.counts.considered += count;
  ring.touched = true;
  wanted_ += count;
  const uint32_t fit = room_for(ring, count);
  copy_descriptors<true>(ring, fit);
  for (uint32_t i = fit; i < count; ++i) free_.push(frames_[i].buffer);
  referenced_ += fit;
  publish(ring, fit, count);
}

Worker::Matches Worker::match(const TakerRing& ring, uint32_t count) const {
  Matches matches = 0;
  for (uint32_t i = 0; i < count; ++i) {
    const Frame& frame = frames_[i];
    const bool hit = filter::run(*ring.filter, frame.data, frame.length, frame.captured) != 0;
    matches |= Matches{hit} << i;
  }
  return matches;
}

// How many of `offered` frames the ring takes; looks at its cursor when it is short of room.
uint32_t Worker::room_for(TakerRing& ring, uint32_t offered) {
  if (ring.room() < offered) look(ring);
  return ring.leaving ? 0 : static_cast<uint32_t>(std::min<uint64_t>(ring.room(), offered));
}

// The first `count` frames' descriptors into the slots that follow the head, and a reference for each; not
// yet published. kSole: there is no other taker, so that a frame has this reference and no other.
template <bool kSole>
void Worker::copy_descriptors(TakerRing& ring, uint32_t count) {
  const uint64_t mask = ring.mask;
  layout::Descriptor* const slots = ring.slots;
  uint32_t* const buffers = ring.buffers.get();
  uint16_t* const references = references_.get();
  const Frame* frame = frames_.get();
  for (uint64_t position = ring.head, end = position + count; position != end; ++position, ++frame) {
    const uint64_t slot = position & mask;
    // The consumer has read the slots of the next burst: we ask for them back before we write there.
    __builtin_prefetch(&slots[(position + kBurst) & mask], 1);
    std::memcpy(&slots[slot], frame, sizeof(layout::Descriptor));
    const uint32_t buffer = frame->buffer;
    buffers[slot] = buffer;
    references[buffer] = static_cast<uint16_t>(kSole ? 1 : references[buffer] + 1);
  }
}

void Worker::publish_all(TakerRing& ring, uint32_t count) {
  const uint32_t fit = room_for(ring, count);
  copy_descriptors<false>(ring, fit);
  publish(ring, fit, count);
}

void Worker::publish_some(TakerRing& ring, Matches wanted, uint32_t count) {
  const auto offered = static_cast<uint32_t>(std::popcount(wanted));
  const uint32_t fit = room_for(ring, offered);
  uint64_t position = ring.head;
  for (uint32_t i = 0, done = 0; i < count && done < fit; ++i) {
    if ((wanted >> i & 1) == 0) continue;
    const uint64_t slot = position++ & ring.mask;
    std::memcpy(&ring.slots[slot], &frames_[i], sizeof(layout::Descriptor));
    ring.buffers[slot] = frames_[i].buffer;
    ++references_[frames_[i].buffer];
    ++done;
  }
  publish(ring, fit, offered);
}

// Makes `fit` frames visible that were copied behind the head; the rest of `offered` is lost for this taker.
void Worker::publish(TakerRing& ring, uint32_t fit, uint32_t offered) {
  if (fit != 0 && ring.lost != 0) {
    ring.slots[ring.head & ring.mask].location |= uint64_t{std::min<uint32_t>(ring.lost, 0xffff)} << 48;
    ring.lost = 0;
  }
  ring.head += fit;
  ring.line->head.store(ring.head, std::memory_order_release);  // pairs with the consumer's acquire of head
  ring.counts.published += fit;
  ring.counts.dropped += offered - fit;
  ring.lost += offered - fit;
  ring.quiet_since_round = round_;
  if (ring.recent) return;
  ring.recent = true;
  recent_.push_back(&ring);
}

void Worker::free_unreferenced(uint32_t count) {
  uint32_t kept = 0;
  for (uint32_t i = 0; i < count; ++i) {
    const uint32_t buffer = frames_[i].buffer;
    if (references_[buffer] == 0)
      free_.push(buffer);
    else
      ++kept;
  }
  referenced_ += kept;
}

// ---- rings ---------------------------------------------------------------------------------------

void Worker::look_at_rings(bool busy) {
  if (!recent_.empty() && (!busy || round_ % kLookEvery == 0)) {
    bool quiet = false;
    for (size_t i = 0; i < recent_.size(); ++i) {
      TakerRing& ring = *recent_[i];
      look(ring);
      quiet |= round_ - ring.quiet_since_round > kQuietRounds;
    }
    if (quiet) leave_recent();
  }
  // The others in turn: a consumer may give frames back long after the last one came.
  const size_t turns = takers_.empty() ? 0 : 1 + takers_.size() / 16;
  for (size_t i = 0; i < turns; ++i) {
    TakerRing& ring = *takers_[next_look_++ % takers_.size()];
    if (!ring.recent && ring.in_ring() != 0) look(ring);
  }
}

// One look at what a consumer writes: its cursor (collect) and its wake_at (wake).
void Worker::look(TakerRing& ring) {
  if (ring.leaving) return;
  const uint64_t cursor = ring.control->cursor.load(std::memory_order_acquire);  // pairs with its release
  if (cursor < ring.collected || cursor > ring.head) {
    begin_leaving(ring);
    report({EventKind::kMisbehaved, ring.id});
    return;
  }
  if (cursor != ring.collected) collect(ring, cursor, kCollectLimit);
  maybe_wake(ring);
}

void Worker::collect(TakerRing& ring, uint64_t cursor, uint32_t limit) {
  const uint64_t until = std::min(cursor, ring.collected + limit);
  ring.counts.released += until - ring.collected;
  free_slots(ring, until);
}

// Takes one reference from each buffer up to `until`; those without any are free. Without a branch: with
// several takers, which of them comes last is not to be predicted.
void Worker::free_slots(TakerRing& ring, uint64_t until) {
  const uint64_t mask = ring.mask;
  const uint32_t* const buffers = ring.buffers.get();
  uint16_t* const references = references_.get();
  uint32_t* const room = free_.room();
  uint32_t freed = 0;
  for (uint64_t position = ring.collected; position != until; ++position) {
    const uint32_t buffer = buffers[position & mask];
    const auto left = static_cast<uint16_t>(references[buffer] - 1);
    references[buffer] = left;
    room[freed] = buffer;
    freed += left == 0;
  }
  free_.grow(freed);
  referenced_ -= freed;
  ring.collected = until;
  ring.touched = true;
  changed_ = true;
}

void Worker::collect_when_short() {
  for (TakerRing* ring : takers_) look(*ring);
}

void Worker::maybe_wake(TakerRing& ring) {
  const uint64_t wake_at = ring.control->wake_at.load(std::memory_order_relaxed);
  if (wake_at == ring.wake_served || wake_at > ring.head || wake_at == 0) return;
  if (wakes_left_ == 0) return;  // still on the recent list: next round
  --wakes_left_;
  ring.wake_served = wake_at;
  ++wakeups_;
  changed_ = true;
  message::send_wake(ring.wake_socket);
}

// Quiet rings leave the recent list: one fence for all of them, and a last look. What we published must
// be seen before we load wake_at; the consumer stores wake_at, fences, and loads the head, so at least
// one of the two sees the other. Pairs with Rings::prepare_sleep() in libcap/client.
void Worker::leave_recent() {
  full_fence();
  std::erase_if(recent_, [&](TakerRing* ring) {
    if (!ring->leaving && round_ - ring->quiet_since_round <= kQuietRounds) return false;
    wakes_left_ = std::max(wakes_left_, 1u);  // the last look must be able to wake
    look(*ring);
    ring->recent = false;
    return true;
  });
}

void Worker::settle() {
  full_fence();
  for (TakerRing* ring : takers_) {
    wakes_left_ = std::max(wakes_left_, 1u);
    look(*ring);
    ring->recent = false;
  }
  recent_.clear();
}

void Worker::begin_leaving(TakerRing& ring) {
  if (ring.leaving) return;
  // What it gave back until now counts as released, if that makes sense; the rest will be reclaimed.
  const uint64_t cursor = ring.control->cursor.load(std::memory_order_acquire);
  ring.cursor_end = cursor >= ring.collected && cursor <= ring.head ? cursor : ring.collected;
  ring.leaving = true;
  ring.touched = true;
  changed_ = true;
  leaving_.push_back(&ring);  // drop_leaving() takes it out of the other lists: they may be in use
}

void Worker::drop_leaving() {
  std::erase_if(takers_, [](const TakerRing* ring) { return ring->leaving; });
  std::erase_if(recent_, [](const TakerRing* ring) { return ring->leaving; });
}

// A bounded number of a leaving consumer's frames; what is left waits for the rounds that follow.
void Worker::reclaim_some() {
  TakerRing& ring = *leaving_.front();
  const uint64_t until = std::min(ring.head, ring.collected + kCollectLimit);
  const uint64_t released = std::min(until, std::max(ring.cursor_end, ring.collected)) - ring.collected;
  ring.counts.released += released;
  ring.counts.reclaimed += until - ring.collected - released;
  free_slots(ring, until);
  if (ring.collected != ring.head) return;
  leaving_.erase(leaving_.begin());
  const layout::SequenceWrite writing(entry_.sequence);
  const auto move = [&](std::atomic<uint64_t>& total, uint64_t value) {
    put(total, total.load(std::memory_order_relaxed) + value);
  };
  move(departed_.considered, ring.counts.considered);
  move(departed_.not_matched, ring.counts.not_matched);
  move(departed_.offered, ring.counts.offered());
  move(departed_.published, ring.counts.published);
  move(departed_.dropped, ring.counts.dropped);
  move(departed_.released, ring.counts.released);
  move(departed_.reclaimed, ring.counts.reclaimed);
  ring.counts = {};
  write_taker(ring);
  put(entry_.buffers_free, free_.size());
  put(entry_.buffers_referenced, referenced_);
  report({EventKind::kGone, ring.id});
}

void Worker::report(Event event) {
  events_.push(event);
  const uint64_t one = 1;
  [[maybe_unused]] const auto written = ::write(setup_.events_fd, &one, sizeof one);
}

// ---- ledger --------------------------------------------------------------------------------------

void Worker::note_complete(const WorkerQueue& q, uint32_t taken, uint64_t before_ns, uint64_t last_ns) {
  // With one queue the value is exact; with several the earliest counts, so a worker with more than one
  // queue only moves on when all of them were empty. Time never goes back here.
  uint64_t until = taken == 0 ? before_ns - std::min(before_ns, q.queue->lag_ns()) : last_ns;
  if (setup_.queues.size() > 1 && taken != 0) return;
  if (q.queue->clock() == layout::Clock::kFile && q.queue->ended()) until = layout::kAsleep;
  if (until > entry_.complete_until_ns.load(std::memory_order_relaxed) ||
      q.queue->clock() != layout::Clock::kFile)
    entry_.complete_until_ns.store(until, std::memory_order_release);  // pairs with the merging consumer
}

void Worker::write_taker(const TakerRing& ring) {
  auto& block = layout::taker_block(*setup_.state, entry_, ring.slot);
  const uint64_t left = ring.in_ring();
  put(block.considered, ring.counts.considered);
  put(block.not_matched, ring.counts.not_matched);
  put(block.offered, ring.counts.offered());
  put(block.published, ring.counts.published);
  put(block.dropped, ring.counts.dropped);
  put(block.released, ring.counts.released);
  put(block.in_ring, ring.leaving ? 0 : left);
  put(block.reclaiming, ring.leaving ? left : 0);
  put(block.reclaimed, ring.counts.reclaimed);
  put(block.late,
      ring.control->late.load(std::memory_order_relaxed));  // the consumer's word: shown, not used
}

void Worker::write_ledger() {
  const layout::SequenceWrite writing(entry_.sequence);
  put(entry_.taken, taken_);
  put(entry_.broken, broken_);
  put(entry_.filtered, filtered_);
  put(entry_.no_buffer, no_buffer_);
  put(entry_.considered, considered_);
  put(entry_.wanted, wanted_);
  put(entry_.unwanted, unwanted_);
  put(entry_.copied, copied_);
  put(entry_.bytes, bytes_);
  put(entry_.rounds, round_);
  put(entry_.sleeps, sleeps_);
  put(entry_.wakeups, wakeups_);
  put(entry_.clock_steps, clock_.steps());
  uint64_t held = 0;
  for (const auto& q : setup_.queues) held += q.queue->held();
  put(entry_.buffers_total, setup_.region.count);
  put(entry_.buffers_port, held);
  put(entry_.buffers_free, free_.size());
  put(entry_.buffers_referenced, referenced_);
  put(entry_.buffers_in_hand, 0);
  const auto write_touched = [&](TakerRing* ring) {
    if (!ring->touched) return;
    write_taker(*ring);
    ring->touched = false;
  };
  std::ranges::for_each(takers_, write_touched);
  std::ranges::for_each(leaving_, write_touched);
  changed_ = false;
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
    changed_ = true;
    write_ledger();
    const uint64_t complete = entry_.complete_until_ns.load(std::memory_order_relaxed);
    const bool file = !setup_.queues.empty() && setup_.queues.front().queue->clock() == layout::Clock::kFile;
    if (!file) entry_.complete_until_ns.store(layout::kAsleep, std::memory_order_release);
    const timespec timeout{static_cast<time_t>(limit_ns / 1'000'000'000),
                           static_cast<long>(limit_ns % 1'000'000'000)};
    if (limit_ns != 0) ::ppoll(fds.data(), fds.size(), &timeout, nullptr);
    if (!file) entry_.complete_until_ns.store(std::max(complete, clock_.now()), std::memory_order_release);
    uint64_t drained = 0;
    [[maybe_unused]] const auto got = ::read(wake_fd_.get(), &drained, sizeof drained);
  }
  asleep_.store(false, std::memory_order_relaxed);
  for (auto& q : setup_.queues) q.queue->disable_wake();
  if (limited) limited_rounds_ = kSpinRoundsLimited / 2;
}

}  // namespace ringcap::engine

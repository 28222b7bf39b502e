// Rings: what consumers give back, who is woken, and what becomes of the frames of those that leave.
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>

#include "capture/base/fence.h"
#include "capture/engine/worker.h"
#include "capture/layout/view.h"
#include "capture/message/message.h"

namespace ringcap::engine {
namespace {

constexpr uint32_t kCollectLimit = 512;  // frames collected from one ring in one look
constexpr uint32_t kLookEvery = 4;       // rounds between looks at a busy ring
constexpr uint64_t kQuietRounds = 256;   // a ring without frames for so long leaves the recent list

}  // namespace

void Worker::look_at_rings(bool busy) {
  if (!recent_.empty() && (!busy || round_ % kLookEvery == 0)) {
    bool quiet = false;
    // Each time from another one on: wake-ups are limited per round, and nobody is always among the last.
    ++first_look_;
    for (size_t i = 0; i < recent_.size(); ++i) {
      TakerRing& ring = *recent_[(first_look_ + i) % recent_.size()];
      look(ring);
      quiet |= round_ - ring.quiet_since_round > kQuietRounds;
    }
    if (quiet) leave_recent();
  }
  // The others in turn: a consumer may give frames back long after the last one came.
  const size_t turns = rings_.empty() ? 0 : 1 + rings_.size() / 16;
  for (size_t i = 0; i < turns; ++i) {
    TakerRing& ring = *rings_[next_look_++ % rings_.size()];
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
  for (TakerRing* ring : rings_) look(*ring);
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
  for (TakerRing* ring : rings_) {
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
  std::erase_if(takers_, [](const PlanTaker& taker) { return taker.ring->leaving; });
  std::erase_if(rings_, [](const TakerRing* ring) { return ring->leaving; });
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
  gone_.push_back(&ring);  // told when the ledger says so
}

void Worker::report(Event event) {
  events_.push(event);
  const uint64_t one = 1;
  [[maybe_unused]] const auto written = ::write(setup_.events_fd, &one, sizeof one);
}

}  // namespace ringcap::engine

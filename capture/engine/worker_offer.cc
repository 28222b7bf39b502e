// Frames, from the queue to the rings: received, filtered, parsed, offered, published.
#include <algorithm>
#include <bit>
#include <cstring>

#include "capture/base/monotonic.h"
#include "capture/engine/worker.h"

namespace ringcap::engine {
namespace {

constexpr uint64_t kTimedRounds = 16;  // of so many rounds, filters are timed in one

void put(std::atomic<uint64_t>& word, uint64_t value) { word.store(value, std::memory_order_relaxed); }

bool wants_everything(const PlanTaker& taker) {
  return taker.filter == kNoFilter && (taker.outgoing == kSameFilter || taker.outgoing == kNoFilter);
}

}  // namespace

uint32_t Worker::frames_wanted(const WorkerQueue& q) {
  if (!q.queue->waits_for_takers()) return kBurst;
  uint64_t room = std::min<uint64_t>(kBurst, free_.size());
  for (TakerRing* ring : rings_) {
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
  const layout::Clock clock = q.queue->clock();
  const bool host = clock == layout::Clock::kHost;
  const bool live = clock == layout::Clock::kKernel || clock == layout::Clock::kAdapter;
  const uint64_t before_ns = live ? clock_.now() : 0;
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
  cut_ += burst.cut;
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
  offer_all(q, count);
  note_complete(q, taken, before_ns, last_ns);
  return taken;
}

uint32_t Worker::apply_filter(uint32_t count) {
  const filter::Program* program = current_plan_ != nullptr ? current_plan_->filter.get() : nullptr;
  if (program == nullptr || count == 0) return count;
  const uint64_t start_ns = filter_clock_ns();
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
  if (start_ns != 0) filter_ns_ += (filter_clock_ns() - start_ns) * kTimedRounds;
  return kept;
}

// Filters are timed in one round of kTimedRounds; 0 in the others.
uint64_t Worker::filter_clock_ns() const {
  if (round_ % kTimedRounds != 0) return 0;
  return monotonic_ns();
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

void Worker::offer_all(const WorkerQueue& queue, uint32_t count) {
  if (count == 0) return;
  const Plan& plan = *current_plan_;
  if (plan.clusters.empty() && takers_.size() == 1 && wants_everything(takers_.front()))
    return offer_to_sole(*takers_.front().ring, count);
  std::fill_n(memos_.get(), plan.filters.size(), Memo{});
  const Matches all = count == 64 ? ~Matches{0} : (Matches{1} << count) - 1;
  Matches wanted = 0;
  for (const PlanTaker& taker : takers_) wanted |= offer_share(taker, all, count);
  for (const PlanCluster& cluster : plan.clusters) wanted |= offer_to_cluster(cluster, queue, all, count);
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

// Offers the frames in `share` to one taker; returns those that its filter wants.
Matches Worker::offer_share(const PlanTaker& taker, Matches share, uint32_t count) {
  TakerRing& ring = *taker.ring;
  if (ring.leaving || share == 0) return 0;
  const Matches matches = match(taker, share, ring.counts.filter_ns);
  const auto considered = static_cast<uint64_t>(std::popcount(share));
  ring.counts.considered += considered;
  ring.counts.not_matched += considered - static_cast<uint64_t>(std::popcount(matches));
  ring.touched = true;
  if (static_cast<uint32_t>(std::popcount(matches)) == count)
    publish_all(ring, count);
  else if (matches != 0)
    publish_some(ring, matches);
  return matches;
}

Matches Worker::offer_to_cluster(const PlanCluster& plan, const WorkerQueue& queue, Matches all,
                                 uint32_t count) {
  Balancer& balancer = balancers_[plan.number];
  const Matches matches = match(plan.filter, all, balancer.counts.filter_ns);
  balancer.counts.considered += count;
  balancer.counts.not_matched += count - static_cast<uint64_t>(std::popcount(matches));
  if (matches == 0) return 0;
  const Balancer::Context context{
      .key = setup_.hash_key, .fragments = fragments_, .queue = queue.number, .port = queue.source->port};
  balancer.divide(plan, {frames_.get(), count}, matches, context, shares_);
  Matches wanted = 0;
  const auto& members = plan.members[setup_.number];
  for (size_t number = 0; number < members.size(); ++number) {
    const Matches share = shares_[number];
    if (share == 0) continue;
    // A member that misbehaved is in the table until the next plan: what would be its is nobody's.
    const bool leaving = members[number].ring->leaving;
    (leaving ? balancer.counts.unassigned : balancer.counts.members) +=
        static_cast<uint64_t>(std::popcount(share));
    if (!leaving) wanted |= offer_share(members[number], share, count);
  }
  return wanted;
}

// Which frames of `among` a filter of the plan matches.
Matches Worker::match(uint32_t filter, Matches among, uint64_t& spent_ns) {
  if (filter == kNoFilter) return among;
  Memo& memo = memos_[filter];
  const Matches fresh = among & ~memo.asked;
  if (fresh != 0) {
    const filter::Program& program = *current_plan_->filters[filter];
    const uint64_t start_ns = filter_clock_ns();
    for (Matches left = fresh; left != 0; left &= left - 1) {
      const auto i = static_cast<uint32_t>(std::countr_zero(left));
      const Frame& frame = frames_[i];
      const bool hit = filter::run(program, frame.data, frame.length, frame.captured) != 0;
      memo.matched |= Matches{hit} << i;
    }
    memo.asked |= fresh;
    if (start_ns != 0) spent_ns += (filter_clock_ns() - start_ns) * kTimedRounds;
  }
  return memo.matched & among;
}

// The same for a taker, which may want other frames of those that the host sent.
Matches Worker::match(const PlanTaker& taker, Matches among, uint64_t& spent_ns) {
  if (taker.outgoing == kSameFilter || taker.outgoing == taker.filter)
    return match(taker.filter, among, spent_ns);
  const Matches sent = outgoing(among);
  return match(taker.filter, among & ~sent, spent_ns) | match(taker.outgoing, sent, spent_ns);
}

Matches Worker::outgoing(Matches among) const {
  Matches sent = 0;
  for (Matches left = among; left != 0; left &= left - 1) {
    const auto i = static_cast<uint32_t>(std::countr_zero(left));
    if ((frames_[i].flags & layout::kOutgoing) != 0) sent |= Matches{1} << i;
  }
  return sent;
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

void Worker::publish_some(TakerRing& ring, Matches wanted) {
  const auto offered = static_cast<uint32_t>(std::popcount(wanted));
  const uint32_t fit = room_for(ring, offered);
  const uint64_t mask = ring.mask;
  uint64_t position = ring.head;
  for (const uint64_t end = position + fit; position != end; ++position, wanted &= wanted - 1) {
    const Frame& frame = frames_[static_cast<uint32_t>(std::countr_zero(wanted))];
    const uint64_t slot = position & mask;
    __builtin_prefetch(&ring.slots[(position + kBurst) & mask], 1);  // as in copy_descriptors()
    std::memcpy(&ring.slots[slot], &frame, sizeof(layout::Descriptor));
    ring.buffers[slot] = frame.buffer;
    ++references_[frame.buffer];
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

}  // namespace ringcap::engine

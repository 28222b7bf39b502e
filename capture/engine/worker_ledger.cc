// The worker's ledger: written into the state once a round in which something changed, under the entry's
// sequence count, so that a reader's copy of one block belongs together.
#include <algorithm>

#include "capture/engine/worker.h"
#include "capture/layout/view.h"

namespace ringcap::engine {
namespace {

constexpr uint64_t kFlowsEvery = 1024;  // rounds between two writings of the largest flows

void put(std::atomic<uint64_t>& word, uint64_t value) { word.store(value, std::memory_order_relaxed); }

}  // namespace

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
  put(block.filter_ns, ring.counts.filter_ns);
  put(block.cluster, static_cast<uint64_t>(ring.cluster) + 1);
  put(block.late,
      ring.control->late.load(std::memory_order_relaxed));  // the consumer's word: shown, not used
}

void Worker::write_ledger() {
  write_counters();
  changed_ = false;
  for (TakerRing* ring : gone_) report({EventKind::kGone, ring->id});
  gone_.clear();
}

void Worker::write_counters() {
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
  put(entry_.filter_ns, filter_ns_);
  put(entry_.cut, cut_);
  put(entry_.unplaced, fragments_.unplaced());
  const auto write_touched = [&](TakerRing* ring) {
    if (!ring->touched) return;
    write_taker(*ring);
    ring->touched = false;
  };
  std::ranges::for_each(rings_, write_touched);
  std::ranges::for_each(leaving_, write_touched);
  for (TakerRing* ring : gone_) {
    add_to_departed(*ring);
    ring->counts = {};
    write_taker(*ring);
  }
  write_clusters();
}

// All in one reading: what a departed member was offered leaves its own block and enters its cluster's.
void Worker::add_to_departed(const TakerRing& ring) {
  const auto add = [](std::atomic<uint64_t>& total, uint64_t value) {
    put(total, total.load(std::memory_order_relaxed) + value);
  };
  add(departed_.considered, ring.counts.considered);
  add(departed_.not_matched, ring.counts.not_matched);
  add(departed_.offered, ring.counts.offered());
  add(departed_.published, ring.counts.published);
  add(departed_.dropped, ring.counts.dropped);
  add(departed_.released, ring.counts.released);
  add(departed_.reclaimed, ring.counts.reclaimed);
  if (ring.cluster < 0) return;
  ClusterCounts& cluster = balancers_[ring.cluster].counts;
  cluster.members -= ring.counts.considered;
  cluster.departed += ring.counts.considered;
}

void Worker::write_clusters() {
  if (current_plan_ == nullptr) return;
  const bool flows = round_ - flows_written_round_ >= kFlowsEvery;
  if (flows) flows_written_round_ = round_;
  for (const PlanCluster& cluster : current_plan_->clusters) {
    auto& block = layout::cluster_block(*setup_.state, entry_, cluster.number);
    Balancer& balancer = balancers_[cluster.number];
    const ClusterCounts& c = balancer.counts;
    put(block.considered, c.considered);
    put(block.not_matched, c.not_matched);
    put(block.offered, c.offered);
    put(block.twice, c.twice);
    put(block.unassigned, c.unassigned);
    put(block.members, c.members);
    put(block.departed, c.departed);
    put(block.filter_ns, c.filter_ns);
    put(block.flow_weight, FlowTable::kSampled);
    if (flows) balancer.flows.publish(block);
  }
}

}  // namespace ringcap::engine

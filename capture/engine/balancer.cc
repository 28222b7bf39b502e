#include "capture/engine/balancer.h"

#include <algorithm>
#include <bit>

namespace ringcap::engine {
namespace {

using cluster::Kind;
using cluster::kNobody;

uint32_t lowest(Matches matches) { return static_cast<uint32_t>(std::countr_zero(matches)); }
uint64_t count_of(Matches matches) { return static_cast<uint64_t>(std::popcount(matches)); }

}  // namespace

void Balancer::divide(const PlanCluster& plan, std::span<const Frame> burst, Matches wanted,
                      const Context& context, Shares& shares) {
  std::fill_n(shares.begin(), plan.members.front().size(), Matches{0});
  shares[kNobody] = 0;
  counts.offered += count_of(wanted);
  switch (plan.kind) {
    case Kind::kQueue:
      shares[plan.slots[context.queue % plan.slot_count]] = wanted;
      break;
    case Kind::kPort:
      shares[plan.slots[context.port % plan.slot_count]] = wanted;
      break;
    case Kind::kRobin:
      divide_in_turn(plan, wanted, shares);
      break;
    case Kind::kEnds:
      divide_by_ends(plan, burst, wanted, context, shares);
      break;
    default:
      divide_by_hash(plan, burst, wanted, context, shares);
  }
  counts.unassigned += count_of(shares[kNobody]);
  sample(plan, burst, wanted, context);
}

void Balancer::divide_by_hash(const PlanCluster& plan, std::span<const Frame> burst, Matches wanted,
                              const Context& context, Shares& shares) {
  const uint8_t* const slots = plan.slots.data();
  if (plan.kind == Kind::kFlow5 && plan.level == cluster::Level::kInner) {
    for (Matches left = wanted; left != 0; left &= left - 1) {
      const uint32_t i = lowest(left);
      shares[slots[cluster::slot_of(burst[i].hash)]] |= Matches{1} << i;
    }
    return;
  }
  for (Matches left = wanted; left != 0; left &= left - 1) {
    const uint32_t i = lowest(left);
    const uint32_t hash =
        cluster::balance_hash(plan.kind, plan.level, burst[i], context.key, context.fragments);
    shares[slots[cluster::slot_of(hash)]] |= Matches{1} << i;
  }
}

void Balancer::divide_by_ends(const PlanCluster& plan, std::span<const Frame> burst, Matches wanted,
                              const Context& context, Shares& shares) {
  for (Matches left = wanted; left != 0; left &= left - 1) {
    const uint32_t i = lowest(left);
    const auto [source, target] = cluster::ends_hashes(plan.level, burst[i], context.key, context.fragments);
    const uint8_t first = plan.slots[cluster::slot_of(source)];
    const uint8_t second = plan.slots[cluster::slot_of(target)];
    shares[first] |= Matches{1} << i;
    if (second == first) continue;
    shares[second] |= Matches{1} << i;
    ++counts.offered;
    ++counts.twice;
  }
}

void Balancer::divide_in_turn(const PlanCluster& plan, Matches wanted, Shares& shares) {
  if (plan.turns.empty()) {
    shares[kNobody] = wanted;
    return;
  }
  for (Matches left = wanted; left != 0; left &= left - 1) {
    if (turn_ >= plan.turns.size()) turn_ = 0;
    shares[plan.turns[turn_++]] |= Matches{1} << lowest(left);
  }
}

// Counts one frame of every FlowTable::kSampled, at random distances, so that no rhythm of the traffic hides
// a flow.
void Balancer::sample(const PlanCluster& plan, std::span<const Frame> burst, Matches wanted,
                      const Context& context) {
  auto count = static_cast<uint32_t>(count_of(wanted));
  while (count >= until_sample_) {
    count -= until_sample_;
    random_ ^= random_ << 13;
    random_ ^= random_ >> 17;
    random_ ^= random_ << 5;
    until_sample_ = 1 + random_ % (2 * FlowTable::kSampled - 1);
    const int turn = static_cast<int>(random_ >> 26);
    const uint32_t i = (lowest(std::rotr(wanted, turn)) + static_cast<uint32_t>(turn)) % 64;
    const Frame& frame = burst[i];
    const uint32_t hash =
        plan.level == cluster::Level::kInner
            ? frame.hash
            : cluster::balance_hash(Kind::kFlow5, plan.level, frame, context.key, context.fragments);
    flows.note(frame, hash, plan.level);
  }
  until_sample_ -= count;
}

}  // namespace ringcap::engine

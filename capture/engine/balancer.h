// Balancer: what one worker knows of one cluster. Says which member gets which frame of a burst, and counts.
// The table comes with the plan; the counters and the flows stay from plan to plan. Worker only.
#pragma once

#include <array>
#include <cstdint>
#include <span>

#include "capture/cluster/balance.h"
#include "capture/engine/flows.h"
#include "capture/engine/plan.h"
#include "capture/frame/fragments.h"
#include "capture/frame/hash.h"
#include "capture/layout/layout.h"

namespace ringcap::engine {

using Matches = uint64_t;  // bit i: frame i of the burst

struct ClusterCounts {
  uint64_t considered = 0, not_matched = 0, offered = 0, twice = 0, unassigned = 0, members = 0, departed = 0,
           filter_ns = 0;
};

// By member number, the frames of a burst that are its; of cluster::kNobody: those that are nobody's.
using Shares = std::array<Matches, cluster::kMaxMembers + 1>;

class Balancer {
 public:
  struct Context {
    const HashKey& key;
    const FragmentTable& fragments;
    uint32_t queue = 0;  // what the burst's frames have in common: their receive queue in the engine,
    uint32_t port = 0;   // and their port
  };

  // Divides those frames of `burst` that are in `wanted`: sets the shares of the members that the plan names,
  // and nobody's.
  void divide(const PlanCluster& plan, std::span<const Frame> burst, Matches wanted, const Context& context,
              Shares& shares);

  ClusterCounts counts;
  FlowTable flows;

 private:
  void divide_by_hash(const PlanCluster& plan, std::span<const Frame> burst, Matches wanted,
                      const Context& context, Shares& shares);
  void divide_by_ends(const PlanCluster& plan, std::span<const Frame> burst, Matches wanted,
                      const Context& context, Shares& shares);
  void divide_in_turn(const PlanCluster& plan, Matches wanted, Shares& shares);
  void sample(const PlanCluster& plan, std::span<const Frame> burst, Matches wanted, const Context& context);

  uint32_t turn_ = 0;
  uint32_t until_sample_ = FlowTable::kSampled;
  uint32_t random_ = 0x9e3779b9;
};

}  // namespace ringcap::engine

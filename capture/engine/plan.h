// Plan: the immutable description of what workers do with frames. Built by the control thread and
// published by one release store; a worker looks at it at the start of each round and stores the number
// it has seen (WorkerEntry::plan_seen). When all have seen plan n, what only plan n - 1 named is freed.
// Every change while an engine runs is a new plan: consumers, filters, the tables of clusters.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <vector>

#include "capture/cluster/kind.h"
#include "capture/cluster/slots.h"
#include "capture/engine/taker.h"
#include "capture/filter/program.h"

namespace ringcap::engine {

using Filter = std::shared_ptr<const filter::Program>;  // empty: every frame

// A taker's filter, by the way that a frame went: mostly one program for both.
struct TakerFilter {
  Filter incoming, outgoing;
};

// Filters that are equal are one: takers name them by their index in the plan.
inline constexpr uint32_t kNoFilter = ~uint32_t{0};
inline constexpr uint32_t kSameFilter = kNoFilter - 1;
inline constexpr uint32_t kMaxFilters = 2 * layout::kMaxConsumers + layout::kMaxClusters;

struct PlanTaker {
  TakerRing* ring = nullptr;
  uint32_t filter = kNoFilter;      // index into Plan::filters
  uint32_t outgoing = kSameFilter;  // of frames that the host sent; mostly as `filter`
};

struct PlanCluster {
  uint32_t number = 0;  // in the state's table; the same as long as the engine runs
  cluster::Kind kind = cluster::Kind::kFlow5;
  cluster::Level level = cluster::Level::kInner;
  uint32_t filter = kNoFilter;
  uint32_t slot_count = cluster::kSlots;
  std::array<uint8_t, cluster::kSlots> slots{};  // the member's number, or cluster::kNobody
  std::vector<uint8_t> turns;                    // members that have slots: for kind `robin`
  std::vector<std::vector<PlanTaker>>
      members;  // by worker, by number; without a ring: nobody has that number
};

struct Plan {
  uint64_t number = 0;
  Filter filter;  // the engine's; empty: every frame
  std::vector<Filter> filters;
  std::vector<std::vector<PlanTaker>> takers;  // by worker: those that share with nobody
  std::vector<PlanCluster> clusters;
  // By worker: the rings of all takers, those of members that get nothing for now too. What was here and is
  // not any more is leaving.
  std::vector<std::vector<TakerRing*>> rings;
};

// The plan's number for a filter: equal programs are evaluated once, the second one's takers name the first.
uint32_t filter_index(Plan& plan, const Filter& filter);

}  // namespace ringcap::engine

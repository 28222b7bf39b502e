// FlowTable: a cluster's largest flows, as one worker sees them, in bounded memory. A sample of the frames is
// counted (one of kSampled on average), in a Space-Saving table: a flow that is not in it takes the place of
// the smallest and inherits its count as the bound of its own error (Metwally, Agrawal, El Abbadi: Efficient
// Computation of Frequent and Top-k Elements in Data Streams, 2005). Any flow with more than a 64th of the
// cluster's frames is in it. Worker only; published into the state some times a second.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>

#include "capture/cluster/kind.h"
#include "capture/layout/layout.h"
#include "capture/port/port.h"

namespace ringcap::engine {

class FlowTable {
 public:
  static constexpr uint32_t kSampled = 16;

  // Counts a frame that the sample has chosen. `hash`: of its flow.
  void note(const Frame& frame, uint32_t hash, cluster::Level level);
  // Writes the table where readers look for it, if something was noted since the last time. Under the
  // worker's sequence count. Returns whether it did.
  bool publish(layout::ClusterBlock& block);
  bool changed() const { return changed_; }

 private:
  std::array<uint32_t, layout::kTrackedFlows> hashes_{};
  std::array<uint32_t, layout::kTrackedFlows> counts_{};  // inherited + a_to_b + b_to_a
  std::array<layout::TrackedFlow, layout::kTrackedFlows> flows_{};
  bool changed_ = false;
};

}  // namespace ringcap::engine

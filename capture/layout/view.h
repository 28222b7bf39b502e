// Where the entries of a state memory's tables are: by the offsets and strides found in its header.
// The engine is trusted by its readers; check_state() (capture/ledger) has looked at the bounds once.
#pragma once

#include <ctime>

#include "capture/base/fence.h"
#include "capture/layout/layout.h"

namespace ringcap::layout {

template <typename Entry>
const Entry& entry(const Header& header, const Table& table, uint32_t index) {
  const auto* base = reinterpret_cast<const std::byte*>(&header);
  return *reinterpret_cast<const Entry*>(base + table.offset + uint64_t{index} * table.stride);
}

template <typename Entry>
Entry& entry(Header& header, const Table& table, uint32_t index) {
  auto* base = reinterpret_cast<std::byte*>(&header);
  return *reinterpret_cast<Entry*>(base + table.offset + uint64_t{index} * table.stride);
}

// A taker's block within a worker's entry: slot 0 .. consumers.count - 1, then the departed ones' block.
inline const TakerBlock& taker_block(const Header& header, const WorkerEntry& worker, uint32_t slot) {
  const auto* base = reinterpret_cast<const std::byte*>(&worker);
  return *reinterpret_cast<const TakerBlock*>(base + header.takers.offset +
                                              uint64_t{slot} * header.takers.stride);
}

inline TakerBlock& taker_block(const Header& header, WorkerEntry& worker, uint32_t slot) {
  return const_cast<TakerBlock&>(taker_block(header, static_cast<const WorkerEntry&>(worker), slot));
}

// A cluster's block within a worker's entry, and the flows that follow it.
inline ClusterBlock& cluster_block(const Header& header, const WorkerEntry& worker, uint32_t number) {
  const auto* base = reinterpret_cast<const std::byte*>(&worker);
  const auto* block = base + header.cluster_blocks.offset + uint64_t{number} * header.cluster_blocks.stride;
  return *const_cast<ClusterBlock*>(reinterpret_cast<const ClusterBlock*>(block));
}

// The words of flow `index` of a cluster's block.
inline std::atomic<uint64_t>* tracked_flow(ClusterBlock& block, uint32_t index) {
  auto* flows = reinterpret_cast<std::atomic<uint64_t>*>(&block + 1);
  return flows + size_t{index} * kTrackedFlowWords;
}
inline constexpr uint64_t kClusterBlockBytes = sizeof(ClusterBlock) + kTrackedFlows * sizeof(TrackedFlow);

// A sequence count: odd while its one writer writes. The stores in between are relaxed.
// Pairs with read_sequenced().
class SequenceWrite {
 public:
  explicit SequenceWrite(std::atomic<uint64_t>& sequence) : sequence_(sequence) {
    sequence_.store(sequence_.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
    release_fence();
  }
  ~SequenceWrite() {
    sequence_.store(sequence_.load(std::memory_order_relaxed) + 1, std::memory_order_release);
  }
  SequenceWrite(const SequenceWrite&) = delete;
  SequenceWrite& operator=(const SequenceWrite&) = delete;

 private:
  std::atomic<uint64_t>& sequence_;
};

// Calls `copy` until it ran between two equal even counts. A writer may be off its processor in the middle
// of a write, so after a while the reader sleeps between its tries; false after about 200 ms: the writer
// died in the middle, and the count stays odd for ever. Safe in a signal handler if `copy` is.
template <typename Copy>
bool read_sequenced(const std::atomic<uint64_t>& sequence, Copy copy) {
  constexpr int kSpins = 10'000, kSleeps = 2'000;
  for (int i = 0; i < kSpins + kSleeps; ++i) {
    const uint64_t before = sequence.load(std::memory_order_acquire);
    if ((before & 1) == 0) {
      copy();
      acquire_fence();
      if (sequence.load(std::memory_order_relaxed) == before) return true;
    }
    constexpr timespec kPause{0, 100'000};
    if (i >= kSpins) ::nanosleep(&kPause, nullptr);
  }
  copy();
  return false;
}

}  // namespace ringcap::layout

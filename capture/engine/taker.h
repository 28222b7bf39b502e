// TakerRing: one ring, as the worker that fills it sees it. Made by the control thread before the plan
// that names it; then the worker's alone, until the worker has reported that it let go of it.
//
// What a consumer can write (its ControlLine) is read once per look and checked; which buffer is freed
// follows from `buffers`, the worker's own note of what it published, and from nothing else.
//
// A ring's life:
//   from       to         who                  why
//   -          taking     worker, new plan     the plan names it
//   taking     leaving    worker, new plan     the plan names it no longer
//   taking     leaving    worker, at a look    the consumer's cursor makes no sense (event kMisbehaved)
//   leaving    gone       worker               every frame is reclaimed (event kGone); the worker never
//                                              touches it again
// It never goes back; a consumer that attaches again has a new ring.
#pragma once

#include <cstdint>
#include <memory>

#include "capture/layout/layout.h"

namespace ringcap::engine {

struct TakerCounts {
  uint64_t considered = 0;
  uint64_t not_matched = 0;
  uint64_t published = 0;
  uint64_t dropped = 0;
  uint64_t released = 0;
  uint64_t reclaimed = 0;
  uint64_t filter_ns = 0;
  uint64_t offered() const { return considered - not_matched; }
};

struct alignas(64) TakerRing {
  // Set by the control thread before the worker sees it.
  layout::Descriptor* slots = nullptr;
  layout::RingLine* line = nullptr;
  layout::ControlLine* control = nullptr;
  std::unique_ptr<uint32_t[]> buffers;  // which buffer each slot refers to
  uint64_t mask = 0;                    // slots - 1
  uint64_t id = 0;                      // the consumer's
  uint32_t slot = 0;                    // its place in the state's tables
  int cluster = -1;                     // number of its cluster; -1: none
  int wake_socket = -1;

  // The worker's.
  uint64_t head = layout::kFirstPosition;       // next position to publish
  uint64_t collected = layout::kFirstPosition;  // everything before it has been given back and freed
  uint64_t cursor_end = 0;                      // leaving: the last cursor that made sense
  uint64_t wake_served = 0;
  uint64_t quiet_since_round = 0;
  TakerCounts counts;
  uint32_t lost = 0;     // since the last published frame
  bool touched = false;  // counters changed since the ledger was written
  bool recent = false;   // on the worker's recent list
  bool leaving = false;

  uint64_t size() const { return mask + 1; }
  uint64_t in_ring() const { return head - collected; }
  uint64_t room() const { return size() - in_ring(); }
};

}  // namespace ringcap::engine

// Rings: a consumer's rings, as the consumer sees them. Maps what the engine sent; knows how far each
// ring was read (`next`) and given back (the cursor). One thread at a time.
//
// The engine writes heads and descriptors (mapped read-only here); we write one ControlLine per worker.
// If the engine dies, heads stay where they are.
#pragma once

#include <cstdint>
#include <vector>

#include "capture/base/error.h"
#include "capture/base/fd.h"
#include "capture/base/mapping.h"
#include "capture/layout/layout.h"
#include "capture/message/message.h"

namespace ringcap::client {

struct Ring {
  Mapping slots_twice;
  const layout::Descriptor* slots = nullptr;
  const layout::RingLine* line = nullptr;
  layout::ControlLine* control = nullptr;
  uint64_t mask = 0;
  uint64_t next = layout::kFirstPosition;   // first position that was not taken
  uint64_t given = layout::kFirstPosition;  // the cursor

  uint64_t head() const {
    return line->head.load(std::memory_order_acquire);
  }  // pairs with the worker's release
  // The descriptor at `position`, and those after it in a row.
  const layout::Descriptor* at(uint64_t position) const { return slots + (position & mask); }
  // After fork() the other process may have gone on: what it gave back is not there any more.
  void catch_up() {
    const uint64_t cursor = control->cursor.load(std::memory_order_relaxed);
    if (cursor <= given) return;
    given = cursor;
    if (next < cursor) next = cursor;
  }
  void give_back(uint64_t until) {
    if (until <= given) return;
    given = until;
    control->cursor.store(until, std::memory_order_release);  // pairs with Worker::look()
  }
};

class Rings {
 public:
  static Result<Rings> map(const message::Attached& attached, int rings_fd, int control_fd);

  std::vector<Ring>& all() { return rings_; }
  // Whether any ring has so many frames that were not taken.
  bool any_ready(uint64_t frames = 1) const;
  // Going to sleep until a ring has so many frames: says at which heads to be woken, and looks once more.
  // False: they are there. Who asks for more than one frame sleeps for a limited time only: the last frames
  // of a burst wake nobody. Pairs with Worker::leave_recent(): of the two sides' fences, at least one sees
  // the other's store.
  bool prepare_sleep(uint64_t frames = 1);

 private:
  Mapping lines_, control_;
  std::vector<Ring> rings_;
};

}  // namespace ringcap::client

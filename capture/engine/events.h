// What workers tell the control thread: a small SPSC ring of events per worker and one eventfd for all.
// It never overflows: a worker says at most two things of each taker, of which there are at most 256, one of
// each plan, of which there is one at a time, and one of itself.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <optional>

#include "capture/layout/layout.h"

namespace ringcap::engine {

enum class EventKind : uint32_t {
  kPlanSeen,     // the worker goes by a new plan
  kGone,         // the worker let go of consumer `id`
  kMisbehaved,   // consumer `id` wrote nonsense into its control area
  kSourceEnded,  // all of the worker's sources have ended
};

struct Event {
  EventKind kind{};
  uint64_t id = 0;
};

class EventRing {
 public:
  // Worker.
  void push(Event event) {
    const uint32_t head = head_.load(std::memory_order_relaxed);
    events_[head % kSize] = event;
    head_.store(head + 1, std::memory_order_release);  // pairs with pop()
  }
  // Control thread.
  std::optional<Event> pop() {
    const uint32_t tail = tail_;
    if (head_.load(std::memory_order_acquire) == tail) return std::nullopt;  // pairs with push()
    tail_ = tail + 1;
    return events_[tail % kSize];
  }

 private:
  // Two events for each of the consumers that can be attached or leaving at once, and the worker's own.
  static constexpr uint32_t kSize = 4 * layout::kMaxConsumers;
  std::array<Event, kSize> events_{};
  alignas(64) std::atomic<uint32_t> head_{0};
  alignas(64) uint32_t tail_ = 0;
};

}  // namespace ringcap::engine

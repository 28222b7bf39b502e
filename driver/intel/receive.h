// A receive queue of an Intel NIC: one ring of descriptors, private to the driver, in the format of Codec.
//
// One worker calls arm(), receive(), disarm() and the wake functions. The control thread calls counters(),
// and resume_at() and open() while frames cannot come in; it may do so while the worker keeps polling, as it
// must after a PCIe error: the worker never writes anything but its own slots and the tail.
//
//   slot      who has it        changes hands by
//   armed     the device        worker: the tail (RDT) moves past it
//   done      the worker        device: DD in the descriptor's word
//
// There is always one slot more than the device may use (the tail itself), so full and empty differ.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <type_traits>
#include <vector>

#include "capture/port/port.h"
#include "driver/intel/access.h"
#include "driver/intel/adapter_clock.h"
#include "driver/intel/descriptors.h"
#include "driver/intel/moderation.h"
#include "driver/pci/frame_places.h"
#include "driver/pci/function.h"
#include "driver/pci/nic_options.h"

namespace ringcap::intel {

// How a queue's interrupt comes. Either a vector is the queue's alone, or there is one for everything, and
// then the worker tells of link changes.
struct Wake {
  pci::Function* function = nullptr;
  bool own_vector = false;
  int vector = 0;  // -1: none is left for this queue, it can only be polled
  // The queue's bits in the registers of cause, mask set and mask clear.
  uint32_t cause = 0, set = 0, clear = 0, bits = 0;
  uint32_t link_bits = 0;  // those of link, unless own_vector
  int link_event_fd = -1;  // an eventfd, unless own_vector
};

// The register that keeps a queue's interrupts apart: a number of units at `shift`.
struct Throttle {
  uint32_t offset = 0;  // 0: the queue has none
  uint32_t unit_ns = 1000;
  unsigned shift = 0;
  uint32_t most = 0;  // units
  // Set when the interval is changed while it is counted: the count goes on.
  uint32_t keep_count = 0;
  uint32_t frame_ns = 672;  // the shortest frame on the fastest link

  uint32_t value(int64_t us) const { return units(us) << shift; }
  // What becomes of so many: no more than the register holds, in its steps.
  uint32_t real_us(int64_t us) const { return (units(us) * unit_ns + 500) / 1000; }
  uint32_t units(int64_t us) const {
    return static_cast<uint32_t>(std::clamp<int64_t>(us * 1000 / unit_ns, 0, most));
  }
};

// Where a queue's counters come from: the port, which has the registers.
class QueueCounting {
 public:
  virtual QueueCounters count_queue(uint32_t queue) = 0;

 protected:
  ~QueueCounting() = default;
};

struct ReceiveSettings {
  const char* driver = "";  // for error messages
  uint32_t number = 0;
  uint32_t descriptors = 0;
  uint32_t buffer_need = 0;  // smallest buffer_bytes that arm() accepts
  // Bytes of a frame that is not a length error, as it lies in its buffer.
  uint32_t shortest_good = 0, longest_good = 0;
  bool bad = false;     // RCTL.SBP
  bool colour = false;  // frames may start behind the buffer's first byte
  uint32_t tail = 0;    // RDT's offset
  // For a codec that stamps; outlives the queue.
  const AdapterClock* clock = nullptr;
  Throttle throttle = {};
  int64_t moderation_us = 0;  // pci::kModerationAuto: by what comes (moderation.h)
};

// In place of AdapterClock::Reader where there are no timestamps.
struct NoStamps {
  explicit NoStamps(const AdapterClock*) {}
  void refresh() {}
};

// What the port needs of it, whatever its descriptors.
class IntelReceive : public ReceiveQueue {
 public:
  // Control thread. Where the device reaches the arena: before arm().
  virtual void set_arena(pci::Iova arena) = 0;
  virtual bool armed() const = 0;
  virtual uint32_t buffer_bytes() const = 0;
  virtual uint64_t ring_iova() const = 0;
  virtual uint32_t ring_bytes() const = 0;
  // Frames with errors that were delivered.
  virtual uint64_t bad_delivered() const = 0;
  // How far apart its interrupts are now, at least; 0: as they come.
  virtual uint32_t moderation_us() const = 0;
  // The slot that the device must write next: after a reset, head and tail begin there.
  virtual uint32_t resume_at() = 0;
  // Once the device takes it: gives it all armed slots.
  virtual void open() = 0;
};

template <class Codec>
class IntelReceiveQueue final : public IntelReceive {
 public:
  IntelReceiveQueue(ReceiveSettings settings, Registers registers, pci::Function::DmaMemory ring,
                    QueueCounting& counting, Wake wake);

  uint32_t descriptors() const override { return settings_.descriptors; }
  Result<void> arm(const Region& region, FreeBuffers& free) override;
  void disarm(FreeBuffers& free) override;
  Burst receive(std::span<Frame> out, FreeBuffers& free) override;
  uint32_t held() const override { return held_; }
  layout::Clock clock() const override {
    return Codec::kStamps ? layout::Clock::kAdapter : layout::Clock::kHost;
  }
  uint64_t lag_ns() const override { return Codec::kStamps ? kStampLagNs : 0; }
  QueueCounters counters() override { return counting_.count_queue(settings_.number); }

  int wait_fd() const override {
    return wake_.vector < 0 ? -1 : wake_.function->interrupt_fd(static_cast<uint32_t>(wake_.vector));
  }
  void enable_wake() override;
  void disable_wake() override;

  void set_arena(pci::Iova arena) override { arena_ = static_cast<uint64_t>(arena); }
  bool armed() const override { return held_in_ring_.load(std::memory_order_acquire); }
  uint32_t buffer_bytes() const override { return places_.buffer_bytes; }
  uint64_t ring_iova() const override { return ring_iova_; }
  uint32_t ring_bytes() const override { return settings_.descriptors * sizeof(Descriptor); }
  uint64_t bad_delivered() const override { return bad_delivered_.load(std::memory_order_relaxed); }
  uint32_t moderation_us() const override { return moderation_us_.load(std::memory_order_relaxed); }
  uint32_t resume_at() override;
  void open() override;

 private:
  // From the NIC's stamping a frame to its being in memory, and how far the two clocks may be apart.
  static constexpr uint64_t kStampLagNs = 2'000'000;
  // Of a descriptor's word: a whole frame without an error looks like kPlain.
  static constexpr uint64_t kPlain = Codec::kDone | Codec::kEndOfPacket | Codec::kStamped;
  static constexpr uint64_t kLookedAt = kPlain | Codec::kErrors;

  uint32_t after(uint32_t slot) const { return slot + 1 == settings_.descriptors ? 0 : slot + 1; }
  uint32_t before(uint32_t slot) const { return (slot == 0 ? settings_.descriptors : slot) - 1; }

  uint32_t take_run(std::span<Frame> out, FreeBuffers& free);
  bool take_one(std::span<Frame> out, FreeBuffers& free, Burst& burst);
  bool device_is_past(uint32_t slot);
  void take(uint32_t slot, uint64_t word, std::span<Frame> out, FreeBuffers& free, Burst& burst);
  bool broken(uint64_t word, Burst& burst);
  uint16_t flags_of(uint64_t word) const;
  // Bytes that the device put into the buffer beside the frame.
  static uint32_t extra(uint64_t word) { return word & Codec::kStamped ? Codec::kStampBytes : 0; }
  uint64_t stamp_of(const std::byte* start, uint32_t length);
  void adapt();
  void rearm(uint32_t slot) { Codec::give(ring_[slot], places_.address(buffers_[slot])); }

  ReceiveSettings settings_;
  Registers registers_;
  Descriptor* ring_;
  uint64_t ring_iova_;
  QueueCounting& counting_;
  Wake wake_;
  uint64_t arena_ = 0;

  // The worker's.
  pci::FramePlaces places_;
  std::vector<uint32_t> buffers_;  // of each slot
  uint32_t next_ = 0;              // the slot that the device writes to next
  uint32_t held_ = 0;
  uint32_t longest_ = 0;    // bytes of a frame that fit
  bool in_broken_ = false;  // within a frame that did not fit in one buffer
  [[no_unique_address]] std::conditional_t<Codec::kStamps, AdapterClock::Reader, NoStamps> stamps_;
  // Since the worker went to sleep last; bytes as if each frame of a burst were as long as its first.
  uint64_t came_frames_ = 0, came_bytes_ = 0;
  Moderation moderation_;

  // Written by the worker, read by the control thread.
  std::atomic<uint32_t> position_{0};  // next_, as of the last receive(); pairs with resume_at()
  std::atomic<bool> held_in_ring_{false};
  std::atomic<uint64_t> bad_delivered_{0};
  std::atomic<uint32_t> moderation_us_{0};
};

extern template class IntelReceiveQueue<LegacyReceive>;
extern template class IntelReceiveQueue<ExtendedReceive>;
extern template class IntelReceiveQueue<TenGigabitReceive>;
extern template class IntelReceiveQueue<StampedReceive>;
extern template class IntelReceiveQueue<StampedTenGigabitReceive>;

}  // namespace ringcap::intel

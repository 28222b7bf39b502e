// A receive queue of a virtio device. Each slot of its ring is one buffer; the device writes a header of 12
// bytes and then the frame, which so begins at a cache line.
//
//   |<- 52, and 64 * (index % 8) ->| header 12 | frame ...                    | the rest |
//
// One worker calls arm(), receive(), disarm() and the wake functions; the control thread prepare() and
// offer(). Nothing that the device writes is believed: a length beyond the buffer, or a header of a frame
// that was merged or needs work, counts as broken; an id or an index that cannot be ends the queue, and the
// port with it.
#pragma once

#include <array>
#include <atomic>
#include <memory>
#include <vector>

#include "capture/port/port.h"
#include "driver/pci/frame_places.h"
#include "driver/pci/function.h"
#include "driver/pci/handover.h"
#include "driver/virtio/device.h"
#include "driver/virtio/packed_ring.h"
#include "driver/virtio/split_ring.h"

namespace ringcap::virtio {

struct ReceiveSettings {
  uint32_t number = 0;
  uint32_t descriptors = 0;
  uint32_t buffer_need = 0;  // smallest buffer_bytes that arm() accepts
  bool merges = false;       // MRG_RXBUF: num_buffers counts
  pci::Function* function = nullptr;
  int vector = -1;         // of the queue; -1: none, it can only be polled
  Device* line = nullptr;  // if the vector is everybody's: whose ISR says why it came
  int event_fd = -1;       // an eventfd: the control thread's, to tell it of link changes and nonsense
};

// What matters of the header before a frame.
struct Mark {
  uint16_t kind;  // flags and gso_type
  uint16_t buffers;
};

// What the port needs of it, whatever its ring.
class VirtioReceive : public ReceiveQueue {
 public:
  // The last start of a frame in its buffer.
  static constexpr uint32_t kFirstStart = 64, kLastStart = kFirstStart + 7 * 64;

  virtual RingAddresses prepare() = 0;           // a ring as a device that was reset expects it
  virtual void offer(const Doorbell& bell) = 0;  // the device has it
  virtual void set_arena(pci::Iova arena) = 0;   // before arm()
  virtual bool armed() const = 0;
  virtual bool broken() const = 0;  // the device wrote what cannot be
};

template <template <uint32_t> class RingOf>
class VirtioReceiveQueue final : public VirtioReceive {
  using Ring = RingOf<1>;

 public:
  static Result<std::unique_ptr<VirtioReceive>> make(const ReceiveSettings& settings);

  uint32_t descriptors() const override { return settings_.descriptors; }
  Result<void> arm(const Region& region, FreeBuffers& free) override;
  void disarm(FreeBuffers& free) override;
  Burst receive(std::span<Frame> out, FreeBuffers& free) override;
  uint32_t held() const override { return held_; }
  layout::Clock clock() const override { return layout::Clock::kHost; }
  QueueCounters counters() override { return {}; }
  int wait_fd() const override;
  void enable_wake() override;
  void disable_wake() override;

  RingAddresses prepare() override;
  void offer(const Doorbell& bell) override;
  void set_arena(pci::Iova arena) override { arena_ = static_cast<uint64_t>(arena); }
  bool armed() const override { return armed_.load(std::memory_order_acquire); }
  bool broken() const override { return broken_.load(std::memory_order_acquire); }

 private:
  explicit VirtioReceiveQueue(const ReceiveSettings& settings)
      : settings_(settings), buffers_(settings.descriptors) {}

  Piece piece_of(const pci::FramePlaces& places, uint32_t buffer) const {
    return {.iova = places.address(buffer) - sizeof(Header),
            .bytes = longest_ + static_cast<uint32_t>(sizeof(Header)),
            .device_writes = true};
  }
  void go_over();
  void drain(std::span<Frame> out, FreeBuffers& free, Burst& burst);
  bool plain(const Used& used, const Mark& mark) const;
  void throw_away(const Mark& mark, Burst& burst);
  void end();

  ReceiveSettings settings_;
  std::array<Ring, 2> rings_;
  std::array<Doorbell, 2> bells_;
  pci::Handover handover_;
  int prepared_ = 0;  // the control thread's
  uint64_t arena_ = 0;

  // The worker's.
  pci::FramePlaces places_;
  std::vector<uint32_t> buffers_;  // of each slot
  uint32_t held_ = 0;
  uint32_t longest_ = 0;  // bytes of a frame that fit
  uint32_t skip_ = 0;     // buffers still to come of a frame that was merged
  Ring* ring_ = nullptr;  // nullptr: none that may be used
  Doorbell bell_;
  bool wake_ = false;

  std::atomic<bool> armed_{false};   // written by the worker
  std::atomic<bool> broken_{false};  // written by the worker
};

extern template class VirtioReceiveQueue<SplitRing>;
extern template class VirtioReceiveQueue<PackedRing>;

}  // namespace ringcap::virtio

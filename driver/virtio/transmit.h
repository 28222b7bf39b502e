// A transmit queue of a virtio device. A frame is two descriptors: a header of zeros, the same for all, and
// the frame where it lies. The device may be done with them in any order; completed() keeps it.
//
// One forwarder calls transmit() and completed(); the control thread prepare() and offer(). Frames that a
// reset of the device overtook are completed: they may get lost on their way, but do not arrive twice because
// of us.
#pragma once

#include <array>
#include <atomic>
#include <memory>
#include <vector>

#include "capture/port/port.h"
#include "driver/pci/function.h"
#include "driver/pci/handover.h"
#include "driver/virtio/device.h"
#include "driver/virtio/packed_ring.h"
#include "driver/virtio/split_ring.h"

namespace ringcap::virtio {

struct TransmitSettings {
  uint32_t descriptors = 0;
  uint32_t longest = 0;  // bytes
  pci::Function* function = nullptr;
  int event_fd = -1;  // an eventfd: the control thread's, to tell it of nonsense
};

// What the port needs of it, whatever its ring.
class VirtioTransmit : public TransmitQueue {
 public:
  static constexpr uint32_t kShortest = 14;  // bytes: a header. Others are not sent

  virtual RingAddresses prepare() = 0;
  virtual void offer(const Doorbell& bell) = 0;
  virtual void set_arena(pci::Iova arena) = 0;
  virtual bool broken() const = 0;
};

template <template <uint32_t> class RingOf>
class VirtioTransmitQueue final : public VirtioTransmit {
  using Ring = RingOf<2>;

 public:
  static Result<std::unique_ptr<VirtioTransmit>> make(const TransmitSettings& settings);

  uint32_t transmit(std::span<const TransmitFrame> frames) override;
  uint32_t completed(std::span<uint32_t> out) override;
  uint64_t refused() const override { return refused_.load(std::memory_order_relaxed); }

  RingAddresses prepare() override;
  void offer(const Doorbell& bell) override;
  void set_arena(pci::Iova arena) override { arena_ = static_cast<uint64_t>(arena); }
  bool broken() const override { return broken_.load(std::memory_order_acquire); }

 private:
  explicit VirtioTransmitQueue(const TransmitSettings& settings)
      : settings_(settings), slots_(settings.descriptors / 2), cookies_(slots_), busy_(slots_) {}
  uint32_t slot(uint64_t position) const { return static_cast<uint32_t>(position % slots_); }
  void go_over();
  void reap();

  TransmitSettings settings_;
  uint32_t slots_;
  std::array<Ring, 2> rings_;
  std::array<Doorbell, 2> bells_;
  pci::Handover handover_;
  int prepared_ = 0;  // the control thread's
  uint64_t arena_ = 0;
  uint64_t header_ = 0;  // where the device finds twelve zeros

  // The forwarder's.
  Ring* ring_ = nullptr;  // nullptr: none that may be used
  Doorbell bell_;
  uint64_t frames_ = 0;            // the next
  uint64_t clean_ = 0;             // the oldest that was not given back
  std::vector<uint32_t> cookies_;  // of each slot
  std::vector<uint8_t> busy_;      // the device has it

  std::atomic<uint64_t> refused_{0};  // written by the forwarder
  std::atomic<bool> broken_{false};   // written by the forwarder
};

extern template class VirtioTransmitQueue<SplitRing>;
extern template class VirtioTransmitQueue<PackedRing>;

}  // namespace ringcap::virtio

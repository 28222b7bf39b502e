// The transmit queue of a vmxnet3 device: a descriptor a frame, where it lies; the device is done with them
// in order.
//
// One forwarder calls transmit() and completed(); the control thread prepare() and offer(). Frames that a
// reset of the device overtook are completed: they may get lost on their way, but do not arrive twice because
// of us.
#pragma once

#include <array>
#include <atomic>
#include <memory>

#include "capture/port/port.h"
#include "driver/pci/access.h"
#include "driver/pci/function.h"
#include "driver/pci/handover.h"
#include "driver/vmxnet3/rings.h"

namespace ringcap::vmxnet3 {

struct TransmitSettings {
  uint32_t longest = 0;  // bytes
  pci::Function* function = nullptr;
  pci::Registers pt;  // BAR 0
  int event_fd = -1;  // an eventfd: the control thread's, to tell it of nonsense
};

class Vmxnet3TransmitQueue final : public TransmitQueue {
 public:
  static constexpr uint32_t kDescriptors = 512, kMost = kDescriptors - 1;  // one stays empty
  static constexpr uint32_t kShortest = 14;  // bytes: a header. Others are not sent

  static Result<std::unique_ptr<Vmxnet3TransmitQueue>> make(const TransmitSettings& settings);

  uint32_t transmit(std::span<const TransmitFrame> frames) override;
  uint32_t completed(std::span<uint32_t> out) override;
  uint64_t refused() const override { return refused_.load(std::memory_order_relaxed); }

  // Control thread. The rings as a device that is activated expects them; once it is active, the forwarder
  // gets them.
  RingAddresses prepare();
  void offer() { handover_.offer(prepared_); }
  void set_arena(pci::Iova arena) { arena_ = static_cast<uint64_t>(arena); }
  bool broken() const { return broken_.load(std::memory_order_acquire); }

 private:
  struct Rings {
    GiveRing given;
    CompletionRing done;
    RingAddresses addresses{};
  };

  explicit Vmxnet3TransmitQueue(const TransmitSettings& settings) : settings_(settings) {}
  static uint32_t slot(uint64_t frame) { return static_cast<uint32_t>(frame % kDescriptors); }
  bool sendable(const TransmitFrame& frame) const {
    return frame.length >= kShortest && frame.length <= settings_.longest;
  }
  void go_over();
  void reap();

  TransmitSettings settings_;
  std::array<Rings, 2> rings_;
  pci::Handover handover_;
  int prepared_ = 0;  // the control thread's
  uint64_t arena_ = 0;

  // The forwarder's. Frames and descriptors are counts that only grow: a frame that is refused has none.
  Rings* current_ = nullptr;                      // nullptr: none that may be used
  uint64_t frames_ = 0;                           // the next
  uint64_t clean_ = 0;                            // the oldest that was not given back
  uint64_t descriptors_ = 0;                      // given
  uint64_t finished_ = 0;                         // the device is done with all before it
  std::array<uint32_t, kDescriptors> cookies_{};  // of frames
  std::array<uint64_t, kDescriptors> needs_{};    // of a frame: done when all descriptors before it are

  std::atomic<uint64_t> refused_{0};  // written by the forwarder
  std::atomic<bool> broken_{false};   // written by the forwarder
};

}  // namespace ringcap::vmxnet3

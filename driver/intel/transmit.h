// The transmit queue of an Intel NIC, with descriptors in the format of Codec. One forwarder calls transmit()
// and completed(); the control thread calls restart() and open() while the device does not send, and may do
// so while the forwarder goes on.
//
// Two counts that only grow: frames, and descriptors. A frame that no wire could carry takes no descriptor;
// it is completed when those before it are. Slot = count % kDescriptors. Only the last descriptor of a burst
// asks the device to report: what lies before it is done when it is.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>

#include "capture/port/port.h"
#include "driver/intel/access.h"
#include "driver/intel/descriptors.h"
#include "driver/pci/function.h"

namespace ringcap::intel {

// What the port needs of it, whatever its descriptors.
class IntelTransmitQueue : public TransmitQueue {
 public:
  static constexpr uint32_t kDescriptors = 1024;
  // Never more than half are outstanding, so that a slot is used again only after a later one was reported:
  // a device that reports a slot twice (QEMU does) cannot report the next frame in it too early.
  static constexpr uint32_t kOutstanding = kDescriptors / 2;
  static constexpr uint32_t kShortest = 17;  // bytes without CRC; others are not sent

  uint64_t ring_iova() const { return ring_iova_; }
  static constexpr uint32_t ring_bytes() { return kDescriptors * sizeof(Descriptor); }
  void set_arena(pci::Iova arena) { arena_ = static_cast<uint64_t>(arena); }
  // After a reset: the slot where head and tail begin. What was queued before is not sent again: a frame may
  // get lost on its way, but not arrive twice because of us.
  uint32_t restart();
  // Once the device sends: what was queued meanwhile.
  void open() { registers_.write(tail_register_, slot(tail_.load(std::memory_order_acquire))); }
  uint64_t refused() const override { return refused_.load(std::memory_order_relaxed); }

 protected:
  IntelTransmitQueue(Registers registers, pci::Function::DmaMemory ring, uint32_t tail_register,
                     uint32_t longest);
  static uint32_t slot(uint64_t position) { return static_cast<uint32_t>(position % kDescriptors); }

  Registers registers_;
  Descriptor* ring_;
  uint64_t ring_iova_;
  uint32_t tail_register_;
  uint32_t longest_;  // bytes without CRC
  uint64_t arena_ = 0;

  std::atomic<uint64_t> tail_{0};             // written by the forwarder: the next descriptor
  std::atomic<uint64_t> abandoned_until_{0};  // written by the control thread: a reset threw these away
  std::atomic<uint64_t> refused_{0};
};

template <class Codec>
class TransmitRing final : public IntelTransmitQueue {
 public:
  TransmitRing(Registers registers, pci::Function::DmaMemory ring, uint32_t tail_register, uint32_t longest)
      : IntelTransmitQueue(registers, ring, tail_register, longest) {}

  // A frame that is too short or too long for the device is completed without being sent, and counted.
  uint32_t transmit(std::span<const TransmitFrame> frames) override;
  uint32_t completed(std::span<uint32_t> out) override;

 private:
  bool sent(uint64_t position);

  // The forwarder's.
  uint64_t frames_ = 0;                           // the next frame
  uint64_t clean_ = 0;                            // the oldest frame that was not given back
  uint64_t descriptors_ = 0;                      // tail_
  uint64_t finished_ = 0;                         // all descriptors before it are sent
  std::array<uint32_t, kDescriptors> cookies_{};  // of frames
  std::array<uint64_t, kDescriptors>
      needs_{};  // of a frame: completed when all descriptors before it are sent
  std::array<uint64_t, kDescriptors> burst_end_{};  // of a burst's first descriptor: its last
};

extern template class TransmitRing<LegacyTransmit>;
extern template class TransmitRing<AdvancedTransmit>;

}  // namespace ringcap::intel

// The transmit queue of an e1000e port. One forwarder calls transmit() and completed(); the control thread
// calls program() and open() while the device does not send, and may do so while the forwarder goes on.
//
// Positions only grow; slot = position % kDescriptors. Only the last frame of a burst asks the device to
// report: what lies before it is done when it is.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>

#include "capture/port/port.h"
#include "driver/e1000/descriptors.h"
#include "driver/e1000/registers.h"
#include "driver/pci/function.h"

namespace ringcap::e1000 {

class E1000TransmitQueue final : public TransmitQueue {
 public:
  static constexpr uint32_t kDescriptors = 1024;
  // Never more than half are outstanding, so that a slot is used again only after a later one was reported:
  // a device that reports a slot twice (QEMU does) cannot report the next frame in it too early.
  static constexpr uint32_t kOutstanding = kDescriptors / 2;
  static constexpr uint32_t kShortest = 17, kLongest = 9230;  // bytes without CRC; others are not sent

  E1000TransmitQueue(Registers registers, pci::Function::DmaMemory ring);

  // A frame that is too short or too long for the device is completed without being sent, and counted.
  uint32_t transmit(std::span<const TransmitFrame> frames) override;
  uint32_t completed(std::span<uint32_t> out) override;
  uint64_t refused() const { return refused_.load(std::memory_order_relaxed); }

  // Control thread.
  void set_arena(pci::Iova arena) { arena_ = static_cast<uint64_t>(arena); }
  void program();
  void open() { registers_.write(TDT, slot(tail_.load(std::memory_order_acquire))); }

 private:
  static uint32_t slot(uint64_t position) { return static_cast<uint32_t>(position % kDescriptors); }
  void put(uint64_t position, const TransmitFrame& frame, bool report);

  Registers registers_;
  TransmitDescriptor* ring_;
  uint64_t ring_iova_;
  uint64_t arena_ = 0;

  // The forwarder's.
  uint64_t clean_ = 0;     // the oldest position that was not given back
  uint64_t finished_ = 0;  // all positions before it are sent
  std::array<uint32_t, kDescriptors> cookies_{};
  std::array<uint64_t, kDescriptors> burst_end_{};  // of a burst's first slot: its last position

  std::atomic<uint64_t> tail_{0};             // written by the forwarder: the next position
  std::atomic<uint64_t> abandoned_until_{0};  // written by the control thread: a reset threw these away
  std::atomic<uint64_t> refused_{0};
};

}  // namespace ringcap::e1000

// TapTransmit: one transmit queue of a `tap:` port; what the host receives. One thread, the forwarder.
//
// A frame a write(): the kernel takes it through its receive path before the call returns, so a frame is
// completed as soon as transmit() took it, and there is nothing to wait for. A frame that the kernel refuses
// (the interface is down or gone, or the frame too short) is dropped and counted by refused().
#pragma once

#include <array>
#include <atomic>
#include <cstdint>

#include "capture/port/port.h"

namespace ringcap::tap {

class TapTransmit final : public TransmitQueue {
 public:
  explicit TapTransmit(int fd) : fd_(fd) {}

  uint32_t transmit(std::span<const TransmitFrame> frames) override;
  uint32_t completed(std::span<uint32_t> out) override;
  uint64_t refused() const override { return refused_.load(std::memory_order_relaxed); }

 private:
  static constexpr uint32_t kSlots = 256;  // taken and not asked for by completed()

  bool send(const TransmitFrame& frame);

  const int fd_;  // the port's
  std::array<uint32_t, kSlots> cookies_{};
  uint64_t taken_ = 0;  // positions in cookies_
  uint64_t given_ = 0;
  std::atomic<uint64_t> refused_{0};  // written by the forwarder
};

}  // namespace ringcap::tap

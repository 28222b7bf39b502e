// PacketTransmit: sends frames on an interface through a packet socket. One thread, the forwarder.
//
// The kernel copies each frame as it takes it, so a frame is completed as soon as transmit() took it. Sent
// frames pass by the queueing discipline and are not seen by packet sockets, this port's own queues among
// them: what an engine sends is not captured again. A frame that the kernel will never take (too long, or
// the interface is down or gone) is dropped and counted by refused(), so that it does not block the rest.
#pragma once

#include <sys/socket.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <string>

#include "capture/base/fd.h"
#include "capture/port/port.h"

namespace ringcap::packet {

class PacketTransmit final : public TransmitQueue {
 public:
  static Result<std::unique_ptr<PacketTransmit>> open(int interface_index, const std::string& interface);

  uint32_t transmit(std::span<const TransmitFrame> frames) override;
  uint32_t completed(std::span<uint32_t> out) override;
  uint64_t refused() const override { return refused_.load(std::memory_order_relaxed); }

 private:
  static constexpr uint32_t kSlots = 256;  // taken and not asked for by completed()

  explicit PacketTransmit(Fd fd);
  uint32_t send(std::span<const TransmitFrame> frames);

  Fd fd_;
  std::array<uint32_t, kSlots> cookies_{};
  std::array<iovec, kSlots> data_{};        // of messages_
  std::array<mmsghdr, kSlots> messages_{};  // what does not change from call to call is filled in once
  uint64_t taken_ = 0;                      // positions in cookies_
  uint64_t given_ = 0;
  std::atomic<uint64_t> refused_{0};
};

}  // namespace ringcap::packet

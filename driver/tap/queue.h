// TapQueue: one receive queue of a `tap:` port; what the host sends.
//
// Who calls what is in capture/port/port.h. A frame is read straight into a free buffer of the arena, which
// is a copy (Burst::copied); those that wait lie in the kernel (txqueuelen of the interface), so the queue
// holds no buffers. With no buffer free the frame is read all the same, and counted as no_buffer. A frame
// longer than a buffer (the host raised the MTU) is cut, flagged kTruncated with its length kept, and
// counted.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>

#include "capture/base/fd.h"
#include "capture/port/port.h"
#include "driver/tap/device.h"

namespace ringcap::tap {

class TapQueue final : public ReceiveQueue {
 public:
  // `fd`: a queue of `device`, not owned. `alone`: the device has no other, so its counters are this queue's.
  // `longest`: bytes of a frame of the interface's MTU.
  TapQueue(int fd, Device& device, bool alone, uint32_t longest, Fd quiet);

  uint32_t descriptors() const override { return 0; }
  Result<void> arm(const Region& region, FreeBuffers& free) override;
  void disarm(FreeBuffers&) override {}
  Burst receive(std::span<Frame> out, FreeBuffers& free) override;
  uint32_t held() const override { return 0; }

  layout::Clock clock() const override { return layout::Clock::kHost; }
  // received: what was taken, and what the kernel dropped (missed). Not counted where the port has several
  // queues: the kernel counts what it dropped for all of them together.
  QueueCounters counters() override;

  // The TAP itself, while frames may come from it. Deleted, it would be "readable" (POLLERR) for ever.
  int wait_fd() const override { return open() ? fd_ : quiet_.get(); }
  void disable_wake() override;

  // Control thread. Lets frames in; lets no more in.
  void start();
  void stop() { running_.store(false, std::memory_order_release); }
  uint64_t taken() const { return taken_.load(std::memory_order_relaxed); }

 private:
  bool open() const { return running_.load(std::memory_order_acquire) && !gone_; }
  ssize_t read_frame(std::byte* data, uint32_t room);
  bool fill(Frame& frame, uint32_t buffer, uint32_t length);
  void straighten(Frame& frame, uint32_t room) const;
  uint32_t colour(uint32_t buffer) const;

  const int fd_;
  Device& device_;
  const bool alone_;
  const uint32_t longest_;
  Fd quiet_;  // an eventfd, readable once after start()
  Region region_;
  std::unique_ptr<std::byte[]> rest_;  // what of a frame does not fit its buffer
  bool gone_ = false;                  // the worker's
  std::atomic<bool> running_{false};   // written by the control thread
  std::atomic<uint64_t> taken_{0};     // written by the worker
};

}  // namespace ringcap::tap

// PacketQueue: one receive queue of a `packet:` port, a TPACKET_V3 socket.
//
// Who calls what is in capture/port/port.h. This queue copies, so it holds no buffers while it runs: the
// frames that wait lie in the kernel's ring, and each takes its buffer from `free` as it leaves it. With no
// buffer free the frame is skipped and counted as no_buffer: the kernel's ring never stands still for us.
//
// Each frame is copied once (Burst::copied). The VLAN tag that the kernel took out is put back. A frame
// longer than a buffer (GRO and TSO make them up to 64 KiB and more) is cut by the kernel to a buffer's
// length, flagged kTruncated with its length kept, and counted (Burst::cut).
#pragma once

#include <atomic>
#include <cstdint>

#include "capture/port/port.h"
#include "driver/packet/ring.h"
#include "driver/packet/socket.h"

namespace ringcap::packet {

class PacketQueue final : public ReceiveQueue {
 public:
  // `ethernet`: frames start with two MAC addresses (where a VLAN tag can be put back).
  PacketQueue(PacketSocket socket, bool ethernet);

  uint32_t descriptors() const override { return 0; }
  Result<void> arm(const Region& region, FreeBuffers& free) override;
  void disarm(FreeBuffers& free) override;
  Burst receive(std::span<Frame> out, FreeBuffers& free) override;
  uint32_t held() const override { return 0; }

  layout::Clock clock() const override { return layout::Clock::kKernel; }
  // received: frames that the kernel had for this queue, the ones it dropped included; missed: those it
  // dropped, and after disarm() those that nobody took from its ring. At rest: received = taken + missed.
  QueueCounters counters() override;
  uint64_t lag_ns() const override;

  // While blocks come full, the worker sleeps by the clock instead of being woken for each of them.
  int wait_fd() const override { return gather_until_ns_ == 0 ? socket_.fd() : -1; }
  uint64_t next_due_ns() const override { return gather_until_ns_; }
  // The socket is readable as long as a block waits, so there is nothing else to enable; what must be
  // consumed is the error of an interface that went down, or poll() would return at once for ever.
  void enable_wake() override;
  void disable_wake() override;

  // Control thread. Lets frames in; the queue is armed. Lets no more in.
  Result<void> start();
  void stop() { socket_.refuse(); }

 private:
  // Returns whether it had to be cut.
  bool fill(Frame& frame, const KernelFrame& from, uint32_t buffer);
  void fetch_target(const FreeBuffers& free) const;
  uint64_t stamp(uint64_t timestamp_ns);
  std::byte* place(uint32_t buffer, uint32_t bytes) const;

  PacketSocket socket_;
  BlockRing ring_;
  Region region_;
  bool ethernet_;
  uint64_t last_ns_ = 0;
  uint64_t gather_until_ns_ = 0;  // CLOCK_MONOTONIC, during a sleep; 0: any block ends it

  // Written by the worker, read by the control thread.
  std::atomic<uint64_t> taken_{0};
  std::atomic<uint64_t> abandoned_{0};  // given back unread, at arm()
  std::atomic<bool> armed_{false};
  // Control thread only: the kernel's counts are 32 bits and start again at each look.
  uint64_t received_ = 0;
  uint64_t dropped_ = 0;
};

}  // namespace ringcap::packet

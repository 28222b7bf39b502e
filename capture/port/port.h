// What a port is to the engine: the interface that drivers implement.
//
// Who calls what:
//   control thread   Port::start, stop, link, counters, statistics, ReceiveQueue::counters
//   the worker       everything else of the ReceiveQueues that it owns: one thread per queue
//   a forwarder      everything of a TransmitQueue: one thread per queue
// Nothing here may block, but Port::start and Port::stop (at most a few seconds).
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "capture/base/error.h"
#include "capture/layout/layout.h"

namespace ringcap {

// A piece of the arena that belongs to one worker: `count` buffers of one size, buffer i at
// base + i * buffer_bytes. A buffer is named by its index in the region.
struct Region {
  std::byte* base = nullptr;
  uint64_t arena_offset = 0;  // of base
  uint32_t buffer_bytes = 0;  // 2048, 4096, 8192 or 16384
  uint32_t count = 0;
  uint8_t number = 0;

  std::byte* buffer(uint32_t index) const { return base + size_t{index} * buffer_bytes; }
};

// A worker's free buffers, last in, first out: the one whose lines are hottest comes first. Filled
// with exactly the region's buffers, so that a push always finds room. One thread.
class FreeBuffers {
 public:
  FreeBuffers() = default;
  // One more than fits, so that a writer into room() may write before it knows whether it will grow().
  explicit FreeBuffers(uint32_t capacity) : stack_(new uint32_t[capacity + 1]) {}
  uint32_t size() const { return size_; }
  bool empty() const { return size_ == 0; }
  void push(uint32_t buffer) { stack_[size_++] = buffer; }
  uint32_t pop() { return stack_[--size_]; }
  // Pushing many: write into room() and say with grow() how many.
  uint32_t* room() { return stack_.get() + size_; }
  void grow(uint32_t count) { size_ += count; }
  // The next `count` buffers that pop() would give, the last one first; call drop(count) after using them.
  const uint32_t* top(uint32_t count) const { return stack_.get() + size_ - count; }
  void drop(uint32_t count) { size_ -= count; }

 private:
  std::unique_ptr<uint32_t[]> stack_;
  uint32_t size_ = 0;
};

// One frame between a receive queue and the rings. Its first 32 bytes are the ring's descriptor, so
// that handing a frame to a taker is one copy of 32 bytes.
struct Frame {
  uint64_t timestamp_ns = 0;  // set by the queue, unless its clock is kHost: then by the worker
  uint64_t location = 0;      // set by the worker
  uint32_t length = 0;        // on the wire
  uint32_t hash = 0;
  uint16_t captured = 0;  // bytes at data
  uint16_t flags = 0;     // layout::Flag; the queue sets what it knows, the rest is 0
  uint8_t l3_half = 0;
  uint8_t l4_half = 0;
  uint8_t source = 0;  // set by the worker
  uint8_t reserved = 0;
  std::byte* data = nullptr;  // first byte, anywhere in the buffer
  uint32_t buffer = 0;        // index in the region
  // Set by the parser, to be read with kTunnel only: offsets of the innermost network and transport header
  // (l3_half and l4_half are the outer ones). 0: none.
  uint16_t inner_l3 = 0;
  uint16_t inner_l4 = 0;

  const layout::Descriptor& descriptor() const { return reinterpret_cast<const layout::Descriptor&>(*this); }
};
static_assert(offsetof(Frame, location) == offsetof(layout::Descriptor, location) &&
              offsetof(Frame, length) == offsetof(layout::Descriptor, length) &&
              offsetof(Frame, hash) == offsetof(layout::Descriptor, hash) &&
              offsetof(Frame, captured) == offsetof(layout::Descriptor, captured) &&
              offsetof(Frame, flags) == offsetof(layout::Descriptor, flags) &&
              offsetof(Frame, l3_half) == offsetof(layout::Descriptor, l3_half) &&
              offsetof(Frame, source) == offsetof(layout::Descriptor, source) &&
              offsetof(Frame, data) == sizeof(layout::Descriptor) && sizeof(Frame) == 48);

// What one receive() did: taken = frames + broken + no_buffer.
struct Burst {
  uint32_t frames = 0;     // written to `out`
  uint32_t broken = 0;     // thrown away: the device reported what cannot be a frame
  uint32_t no_buffer = 0;  // thrown away: no free buffer to take its place
  uint32_t copied = 0;     // of `frames`, those that a copy of ours filled
  uint32_t cut = 0;        // of `frames`, those that were longer than a buffer (kTruncated)
};

// What the device says of one queue, or of all queues of a port; layout::kNotCounted where it cannot say.
struct QueueCounters {
  uint64_t received = layout::kNotCounted;  // frames that reached the device for this queue
  uint64_t missed = layout::kNotCounted;
  uint64_t bad = layout::kNotCounted;
};

// One of the numbers that a device keeps, 64 bits wide, since the port was started first.
struct Statistic {
  const char* name = "";  // as `ethtool -S` has it
  uint64_t value = 0;
};

class ReceiveQueue {
 public:
  virtual ~ReceiveQueue() = default;

  // Buffers that the queue holds while it runs (its descriptors). Constant.
  virtual uint32_t descriptors() const = 0;
  // Arms the queue with descriptors() buffers of `region`, popped from `free`. Called once by the
  // worker before the first receive(), and again after disarm().
  virtual Result<void> arm(const Region& region, FreeBuffers& free) = 0;
  // Takes the buffers back: pushes every one that the queue holds. The device no longer writes to them.
  virtual void disarm(FreeBuffers& free) = 0;
  // Takes at most out.size() (at least 1, at most 256) received frames. The refill rule: a frame leaves
  // the queue only when a buffer popped from `free` takes its place; if there is none, its own buffer
  // goes straight back and the frame counts as no_buffer.
  virtual Burst receive(std::span<Frame> out, FreeBuffers& free) = 0;
  // Buffers that the queue holds now.
  virtual uint32_t held() const = 0;

  virtual layout::Clock clock() const = 0;
  virtual QueueCounters counters() = 0;
  // True once a source that ends (a file, a bounded generator) has given its last frame.
  virtual bool ended() const { return false; }
  // True where nothing may be lost because a taker is slow (a file, a generator told to wait): the worker
  // then takes no more frames than the fullest ring has room for, and the queue none that it has no free
  // buffer for.
  virtual bool waits_for_takers() const { return false; }
  // How long a frame may lie in the queue, stamped, before receive() gives it (a kernel's block timer).
  virtual uint64_t lag_ns() const { return 0; }

  // Sleeping. wait_fd(): a descriptor that turns readable when there may be frames, or -1 where the
  // queue can only be polled; between enable_wake() and disable_wake() also where it is enough to look
  // again at next_due_ns(). Before it sleeps, the worker calls enable_wake(), then receive() once
  // more; after waking it calls disable_wake(), which also consumes what made the descriptor readable.
  virtual int wait_fd() const { return -1; }
  virtual void enable_wake() {}
  virtual void disable_wake() {}
  // When to look again without being woken, CLOCK_MONOTONIC ns; 0: not known. For a queue that paces itself
  // (a file at its recorded speed), and one to which frames come too fast to be woken for each lot.
  virtual uint64_t next_due_ns() const { return 0; }
};

// A frame to send: `data` lies in the arena (or any memory that the port may read) and stays untouched
// until it is completed.
struct TransmitFrame {
  const std::byte* data = nullptr;
  uint64_t arena_offset = 0;  // of data
  uint32_t length = 0;
  uint32_t cookie = 0;  // given back by completed()
};

class TransmitQueue {
 public:
  virtual ~TransmitQueue() = default;
  // Queues as many frames as fit, from the first on; returns how many. Order is kept.
  virtual uint32_t transmit(std::span<const TransmitFrame> frames) = 0;
  // Cookies of frames whose memory is free again, in order; at most out.size(). Those of frames that were
  // refused are among them.
  virtual uint32_t completed(std::span<uint32_t> out) = 0;
  // Frames that were taken and never sent: too short or too long for the device, or the interface is down
  // or gone. Since the queue was made; any thread.
  virtual uint64_t refused() const = 0;
};

struct Link {
  bool up = false;
  bool present = true;  // false: the device is gone
  uint32_t mbps = 0;    // 0: not known
};

// What a port is opened for.
struct PortNeeds {
  std::byte* arena = nullptr;  // the engine's mapping of the whole arena
  uint64_t arena_bytes = 0;
};

class Port {
 public:
  virtual ~Port() = default;

  // The address as it was given, in normal form: "packet:eth0".
  virtual const std::string& address() const = 0;
  // The implementation's name: "e1000e", "tpacket", "gen", "file".
  virtual std::string driver() const = 0;
  virtual uint32_t mtu() const = 0;
  // Largest frame the port can deliver in one buffer, prefix and suffix included; decides buffer_bytes.
  virtual uint32_t buffer_need() const = 0;
  // LINKTYPE_ value of the frames: 1 for Ethernet.
  virtual uint32_t link_type() const { return 1; }
  // Whether each frame ends with its four bytes of CRC, which its lengths count.
  virtual bool keeps_crc() const { return false; }

  virtual std::span<const std::unique_ptr<ReceiveQueue>> receive_queues() const = 0;
  // Empty where the port cannot send, or was not opened for it. The same as long as the port lives.
  virtual std::vector<TransmitQueue*> transmit_queues() { return {}; }
  // What made a source end too early (a file that is damaged); empty: nothing did. Of use once its queues
  // have ended.
  virtual std::string problem() const { return {}; }

  // Attaches the arena (DMA mappings). Called once, before any queue is armed, with all privileges.
  virtual Result<void> prepare(const PortNeeds&) { return {}; }
  // Lets frames in, after all queues are armed.
  virtual Result<void> start() = 0;
  // Lets no more frames in. After it, queues may be disarmed. Idempotent, noexcept in effect.
  virtual void stop() = 0;

  virtual Link link() { return {.up = true, .present = true, .mbps = 0}; }
  // What the device counts for all its queues together: of use where it has several, and cannot say it of
  // each.
  virtual QueueCounters counters() { return {}; }
  // As of the last counters(); how many there are, and their names, never change.
  virtual std::span<const Statistic> statistics() const { return {}; }
  // What an operator should know about the port as it is now set up, in a sentence; empty: nothing.
  virtual std::string remark() const { return {}; }
  // A descriptor that turns readable when something happened to the port (link, removal, error), or -1;
  // the control thread then calls handle_event() and reads link() anew.
  virtual int event_fd() const { return -1; }
  virtual void handle_event() {}
};

}  // namespace ringcap

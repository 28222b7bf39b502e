#include "driver/virtio/receive.h"

#include <fmt/format.h>
#include <sys/eventfd.h>

#include <cstring>

namespace ringcap::virtio {

template <template <uint32_t> class RingOf>
Result<std::unique_ptr<VirtioReceive>> VirtioReceiveQueue<RingOf>::make(const ReceiveSettings& settings) {
  std::unique_ptr<VirtioReceiveQueue> queue(new VirtioReceiveQueue(settings));
  for (Ring& ring : queue->rings_) {
    auto memory = settings.function->dma_allocate(Ring::bytes(settings.descriptors));
    if (!memory) return std::unexpected(memory.error());
    ring = Ring(*memory, settings.descriptors);
  }
  return queue;
}

// ---- arm, prepare, offer: in this order ------------------------------------------------------------

template <template <uint32_t> class RingOf>
Result<void> VirtioReceiveQueue<RingOf>::arm(const Region& region, FreeBuffers& free) {
  const uint32_t bytes = region.buffer_bytes;
  const bool known = bytes == 2048 || bytes == 4096 || bytes == 8192 || bytes == 16384;
  if (!known || bytes < settings_.buffer_need) {
    return fail(Code::kUsage,
                fmt::format("virtio: buffers of {} bytes; they must have 2048, 4096, 8192 or 16384, "
                            "and at least {} for this MTU",
                            bytes, settings_.buffer_need));
  }
  if (free.size() < settings_.descriptors) {
    return fail(Code::kUsage,
                fmt::format("virtio: {} descriptors need as many buffers, {} are free", settings_.descriptors,
                            free.size()),
                "use a larger arena or fewer descriptors");
  }
  region_ = region;
  longest_ = bytes - kLastStart;
  for (uint32_t& buffer : buffers_) buffer = free.pop();
  held_ = settings_.descriptors;
  ring_ = nullptr;
  armed_.store(true, std::memory_order_release);  // pairs with armed()
  return {};
}

template <template <uint32_t> class RingOf>
void VirtioReceiveQueue<RingOf>::disarm(FreeBuffers& free) {
  if (held_ == 0) return;
  armed_.store(false, std::memory_order_release);
  for (const uint32_t buffer : buffers_) free.push(buffer);
  held_ = 0;
  ring_ = nullptr;
}

template <template <uint32_t> class RingOf>
RingAddresses VirtioReceiveQueue<RingOf>::prepare() {
  prepared_ = handover_.free_ring();
  rings_[prepared_].clear();
  return rings_[prepared_].addresses();
}

template <template <uint32_t> class RingOf>
void VirtioReceiveQueue<RingOf>::offer(const Doorbell& bell) {
  bells_[prepared_] = bell;
  handover_.offer(prepared_);
}

// The device has a ring for us: all buffers go there.
template <template <uint32_t> class RingOf>
void VirtioReceiveQueue<RingOf>::go_over() {
  const int which = handover_.take();
  if (which < 0) return;
  ring_ = &rings_[which];
  bell_ = bells_[which];
  skip_ = 0;
  for (uint32_t slot = 0; slot < settings_.descriptors; ++slot) give(slot);
  ring_->want_interrupts(wake_);
  if (ring_->publish()) bell_.ring();
}

template <template <uint32_t> class RingOf>
void VirtioReceiveQueue<RingOf>::give(uint32_t slot) {
  const uint32_t buffer = buffers_[slot];
  const uint64_t frame =
      arena_ + region_.arena_offset + uint64_t{buffer} * region_.buffer_bytes + start_of(buffer);
  ring_->give(slot, {.iova = frame - sizeof(Header),
                     .bytes = longest_ + static_cast<uint32_t>(sizeof(Header)),
                     .device_writes = true});
}

// ---- receive ---------------------------------------------------------------------------------------

template <template <uint32_t> class RingOf>
Burst VirtioReceiveQueue<RingOf>::receive(std::span<Frame> out, FreeBuffers& free) {
  Burst burst;
  if (ring_ != nullptr) drain(out, free, burst);
  // Only when the old ring is empty: what came before the device began anew is not lost.
  const bool nothing = burst.frames + burst.broken + burst.no_buffer == 0;
  if (nothing && held_ != 0 && handover_.offered()) go_over();
  return burst;
}

template <template <uint32_t> class RingOf>
void VirtioReceiveQueue<RingOf>::drain(std::span<Frame> out, FreeBuffers& free, Burst& burst) {
  bool some = false;
  for (size_t looked = 0; looked < out.size(); ++looked) {
    Used used;
    const Take taken = ring_->take(used);
    if (taken == Take::kNonsense) return end();
    if (taken == Take::kNothing) break;
    take(used, out, free, burst);
    give(used.id);
    some = true;
  }
  if (some && ring_->publish()) bell_.ring();
}

// Which buffers the device has, and where it is, cannot be told any more. Nothing is taken until the port
// begins anew; the control thread is told, and ends it.
template <template <uint32_t> class RingOf>
void VirtioReceiveQueue<RingOf>::end() {
  ring_ = nullptr;
  broken_.store(true, std::memory_order_release);  // pairs with broken()
  ::eventfd_write(settings_.event_fd, 1);
}

template <template <uint32_t> class RingOf>
void VirtioReceiveQueue<RingOf>::take(const Used& used, std::span<Frame> out, FreeBuffers& free,
                                      Burst& burst) {
  if (skip_ > 0) {
    --skip_;
    return;
  }
  const uint32_t buffer = buffers_[used.id];
  std::byte* data = region_.buffer(buffer) + start_of(buffer);
  Header header;
  std::memcpy(&header, data - sizeof(Header), sizeof(Header));
  if (!whole(used, header)) {
    ++burst.broken;
    return;
  }
  if (free.empty()) {
    ++burst.no_buffer;
    return;
  }
  Frame& frame = out[burst.frames++];
  frame.data = data;
  frame.buffer = buffer;
  frame.length = used.length - static_cast<uint32_t>(sizeof(Header));
  frame.captured = static_cast<uint16_t>(frame.length);
  frame.flags = 0;
  frame.hash = 0;
  frame.l3_half = frame.l4_half = 0;
  buffers_[used.id] = free.pop();
}

// One frame, in one buffer, as it was on the wire. One that took several buffers is longer than the MTU
// allows.
template <template <uint32_t> class RingOf>
bool VirtioReceiveQueue<RingOf>::whole(const Used& used, const Header& header) {
  if (settings_.merges && header.num_buffers != 1) {
    skip_ = header.num_buffers == 0 ? 0 : header.num_buffers - 1u;
    return false;
  }
  return used.length > sizeof(Header) && used.length <= sizeof(Header) + longest_ && header.gso_type == 0 &&
         !(header.flags & kNeedsChecksum);
}

// ---- sleeping ----------------------------------------------------------------------------------------

template <template <uint32_t> class RingOf>
int VirtioReceiveQueue<RingOf>::wait_fd() const {
  return settings_.vector < 0 ? -1
                              : settings_.function->interrupt_fd(static_cast<uint32_t>(settings_.vector));
}

// Interrupts are for what comes after this; for what came before it, receive() looks once more.
template <template <uint32_t> class RingOf>
void VirtioReceiveQueue<RingOf>::enable_wake() {
  if (settings_.vector < 0) return;
  wake_ = true;
  if (ring_ != nullptr) ring_->want_interrupts(true);
}

template <template <uint32_t> class RingOf>
void VirtioReceiveQueue<RingOf>::disable_wake() {
  if (settings_.vector < 0) return;
  wake_ = false;
  if (ring_ != nullptr) ring_->want_interrupts(false);
  // Reading makes the device let go of its line, before the line is unmasked.
  if (settings_.line != nullptr && (settings_.line->read_isr() & isr::CONFIGURATION))
    ::eventfd_write(settings_.event_fd, 1);
  settings_.function->consume_interrupt(static_cast<uint32_t>(settings_.vector));
}

template class VirtioReceiveQueue<SplitRing>;
template class VirtioReceiveQueue<PackedRing>;

}  // namespace ringcap::virtio

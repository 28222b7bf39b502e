#include "driver/virtio/receive.h"

#include <fmt/format.h>
#include <sys/eventfd.h>

#include <algorithm>
#include <cstring>

namespace ringcap::virtio {
namespace {

constexpr uint16_t kNeedsWork = 0xff00 | kNeedsChecksum;  // of a Mark's kind: any gso_type

// Each is read once: the device can change it at any time.
Mark mark_before(const std::byte* frame) {
  Mark mark;
  std::memcpy(&mark.kind, frame - sizeof(Header) + offsetof(Header, flags), sizeof mark.kind);
  std::memcpy(&mark.buffers, frame - sizeof(Header) + offsetof(Header, num_buffers), sizeof mark.buffers);
  return mark;
}

}  // namespace

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
  places_ = {.base = region.base + kFirstStart,
             .device = arena_ + region.arena_offset + kFirstStart,
             .buffer_bytes = bytes,
             .colours = 7};
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
  for (uint32_t slot = 0; slot < settings_.descriptors; ++slot)
    ring_->give(slot, piece_of(places_, buffers_[slot]));
  ring_->want_interrupts(wake_);
  if (ring_->publish()) bell_.ring();
}

// ---- receive ---------------------------------------------------------------------------------------

template <template <uint32_t> class RingOf>
Burst VirtioReceiveQueue<RingOf>::receive(std::span<Frame> out, FreeBuffers& free) {
  Burst burst;
  if (ring_ != nullptr && ring_->some()) drain(out, free, burst);
  // Only when the old ring is empty: what came before the device began anew is not lost.
  const bool nothing = burst.frames + burst.broken + burst.no_buffer == 0;
  if (nothing && held_ != 0 && handover_.offered()) go_over();
  return burst;
}

// Everything that the loop needs is in a local variable, the ring too: what it stores could otherwise be one
// of the members.
template <template <uint32_t> class RingOf>
void VirtioReceiveQueue<RingOf>::drain(std::span<Frame> out, FreeBuffers& free, Burst& burst) {
  Ring ring = *ring_;
  const pci::FramePlaces places = places_;
  uint32_t* const buffers = buffers_.data();
  const auto most = std::min(static_cast<uint32_t>(out.size()), free.size());
  const uint32_t *const last = free.top(most), *fresh = last + most;
  Frame* frame = out.data();
  size_t looked = 0;
  Take taken = Take::kOne;
  for (; looked < out.size(); ++looked) {
    Used used;
    taken = ring.take(used);
    if (taken != Take::kOne) break;
    uint32_t& buffer = buffers[used.id];
    std::byte* data = places.frame(buffer);
    const Mark mark = mark_before(data);
    if (skip_ != 0 || !plain(used, mark)) {
      throw_away(mark, burst);
    } else if (fresh == last) {
      ++burst.no_buffer;
    } else {
      pci::fill(*frame++, data, buffer, used.length - static_cast<uint32_t>(sizeof(Header)));
      buffer = *--fresh;
    }
    ring.give(used.id, piece_of(places, buffer));
  }
  *ring_ = ring;
  burst.frames = static_cast<uint32_t>(frame - out.data());
  free.drop(burst.frames);
  if (taken == Take::kNonsense) return end();
  if (looked != 0 && ring_->publish()) bell_.ring();
}

// Which buffers the device has, and where it is, cannot be told any more. Nothing is taken until the port
// begins anew; the control thread is told, and ends it.
template <template <uint32_t> class RingOf>
void VirtioReceiveQueue<RingOf>::end() {
  ring_ = nullptr;
  broken_.store(true, std::memory_order_release);  // pairs with broken()
  ::eventfd_write(settings_.event_fd, 1);
}

// One frame, in one buffer, as it was on the wire.
template <template <uint32_t> class RingOf>
bool VirtioReceiveQueue<RingOf>::plain(const Used& used, const Mark& mark) const {
  const bool alone = mark.buffers == 1 || !settings_.merges;
  return alone && !(mark.kind & kNeedsWork) && used.length - sizeof(Header) - 1 < longest_;
}

// A frame that took several buffers is longer than the MTU allows; it counts once.
template <template <uint32_t> class RingOf>
void VirtioReceiveQueue<RingOf>::throw_away(const Mark& mark, Burst& burst) {
  if (skip_ != 0) {
    --skip_;
    return;
  }
  if (settings_.merges && mark.buffers > 1) skip_ = mark.buffers - 1u;
  ++burst.broken;
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

#include "driver/virtio/transmit.h"

#include <sys/eventfd.h>

#include <algorithm>

namespace ringcap::virtio {

template <template <uint32_t> class RingOf>
Result<std::unique_ptr<VirtioTransmit>> VirtioTransmitQueue<RingOf>::make(const TransmitSettings& settings) {
  std::unique_ptr<VirtioTransmitQueue> queue(new VirtioTransmitQueue(settings));
  for (Ring& ring : queue->rings_) {
    auto memory = settings.function->dma_allocate(Ring::bytes(settings.descriptors));
    if (!memory) return std::unexpected(memory.error());
    ring = Ring(*memory, settings.descriptors);
  }
  auto header = settings.function->dma_allocate(sizeof(Header));
  if (!header) return std::unexpected(header.error());
  queue->header_ = static_cast<uint64_t>(header->iova);
  return queue;
}

template <template <uint32_t> class RingOf>
RingAddresses VirtioTransmitQueue<RingOf>::prepare() {
  prepared_ = handover_.free_ring();
  rings_[prepared_].clear();
  return rings_[prepared_].addresses();
}

template <template <uint32_t> class RingOf>
void VirtioTransmitQueue<RingOf>::offer(const Doorbell& bell) {
  bells_[prepared_] = bell;
  handover_.offer(prepared_);
}

template <template <uint32_t> class RingOf>
void VirtioTransmitQueue<RingOf>::go_over() {
  const int which = handover_.take();
  if (which < 0) return;
  ring_ = &rings_[which];
  bell_ = bells_[which];
  std::ranges::fill(busy_, uint8_t{0});
}

template <template <uint32_t> class RingOf>
uint32_t VirtioTransmitQueue<RingOf>::transmit(std::span<const TransmitFrame> frames) {
  if (handover_.offered()) go_over();
  if (ring_ == nullptr) return 0;
  const auto room = static_cast<size_t>(slots_ - (frames_ - clean_));
  const auto count = static_cast<uint32_t>(std::min(room, frames.size()));
  bool some = false;
  for (const TransmitFrame& frame : frames.first(count)) {
    const uint32_t at = slot(frames_++);
    cookies_[at] = frame.cookie;
    busy_[at] = frame.length >= VirtioTransmit::kShortest && frame.length <= settings_.longest;
    if (busy_[at]) {
      ring_->give(at, {header_, sizeof(Header), false}, {arena_ + frame.arena_offset, frame.length, false});
      some = true;
    } else {
      refused_.fetch_add(1, std::memory_order_relaxed);
    }
  }
  if (some && ring_->publish()) bell_.ring();
  return count;
}

// What the device gives back; an id that it does not have is nonsense, and the queue's end.
template <template <uint32_t> class RingOf>
void VirtioTransmitQueue<RingOf>::reap() {
  Used used;
  while (ring_ != nullptr) {
    const Take taken = ring_->take(used);
    if (taken == Take::kNothing) return;
    if (taken == Take::kOne && busy_[used.id]) {
      busy_[used.id] = 0;
      continue;
    }
    ring_ = nullptr;
    broken_.store(true, std::memory_order_release);  // pairs with broken()
    ::eventfd_write(settings_.event_fd, 1);
  }
}

template <template <uint32_t> class RingOf>
uint32_t VirtioTransmitQueue<RingOf>::completed(std::span<uint32_t> out) {
  reap();
  if (handover_.offered()) go_over();
  uint32_t count = 0;
  while (count < out.size() && clean_ != frames_ && !busy_[slot(clean_)])
    out[count++] = cookies_[slot(clean_++)];
  return count;
}

template class VirtioTransmitQueue<SplitRing>;
template class VirtioTransmitQueue<PackedRing>;

}  // namespace ringcap::virtio

#include "driver/vmxnet3/transmit.h"

#include <sys/eventfd.h>

#include <algorithm>

namespace ringcap::vmxnet3 {

Result<std::unique_ptr<Vmxnet3TransmitQueue>> Vmxnet3TransmitQueue::make(const TransmitSettings& settings) {
  std::unique_ptr<Vmxnet3TransmitQueue> queue(new Vmxnet3TransmitQueue(settings));
  for (Rings& rings : queue->rings_) {
    auto memory =
        settings.function->dma_allocate(GiveRing::bytes(kDescriptors) + CompletionRing::bytes(kDescriptors));
    if (!memory) return std::unexpected(memory.error());
    const uint64_t completion = GiveRing::bytes(kDescriptors);
    const auto iova = static_cast<uint64_t>(memory->iova);
    rings.given = GiveRing(memory->data, kDescriptors);
    rings.done = CompletionRing(memory->data + completion, kDescriptors);
    rings.addresses = {iova, 0, iova + completion, kDescriptors, 0, kDescriptors};
  }
  return queue;
}

RingAddresses Vmxnet3TransmitQueue::prepare() {
  prepared_ = handover_.free_ring();
  rings_[prepared_].given.clear();
  rings_[prepared_].done.clear();
  return rings_[prepared_].addresses;
}

// What was in the old rings is given up.
void Vmxnet3TransmitQueue::go_over() {
  const int which = handover_.take();
  if (which < 0) return;
  current_ = &rings_[which];
  finished_ = descriptors_;
}

uint32_t Vmxnet3TransmitQueue::transmit(std::span<const TransmitFrame> frames) {
  if (handover_.offered()) go_over();
  if (current_ == nullptr) return 0;
  const auto room = static_cast<size_t>(kMost - (frames_ - clean_));
  const auto count = static_cast<uint32_t>(std::min(room, frames.size()));
  const uint64_t first = descriptors_;
  for (const TransmitFrame& frame : frames.first(count)) {
    if (sendable(frame)) {
      current_->given.give(arena_ + frame.arena_offset, frame.length, txd::GEN, txd::EOP | txd::CQ);
      ++descriptors_;
    } else {
      refused_.fetch_add(1, std::memory_order_relaxed);
    }
    cookies_[slot(frames_)] = frame.cookie;
    needs_[slot(frames_++)] = descriptors_;
  }
  if (descriptors_ == first) return count;
  pci::publish_to_device();
  settings_.pt.write(pt::TXPROD, current_->given.next_slot());
  return count;
}

// What the device is done with; an index that it does not have is nonsense, and the queue's end.
void Vmxnet3TransmitQueue::reap() {
  Completion done;
  while (current_ != nullptr && current_->done.take(done)) {
    const uint32_t slots = current_->given.done_with(done.index());
    for (uint32_t i = 0; i < slots; ++i) current_->given.take_back();
    finished_ += slots;
    if (slots > 0) continue;
    current_ = nullptr;
    broken_.store(true, std::memory_order_release);  // pairs with broken()
    ::eventfd_write(settings_.event_fd, 1);
  }
}

uint32_t Vmxnet3TransmitQueue::completed(std::span<uint32_t> out) {
  reap();
  if (handover_.offered()) go_over();
  uint32_t count = 0;
  while (count < out.size() && clean_ != frames_ && needs_[slot(clean_)] <= finished_)
    out[count++] = cookies_[slot(clean_++)];
  return count;
}

}  // namespace ringcap::vmxnet3

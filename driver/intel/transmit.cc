#include "driver/intel/transmit.h"

#include <algorithm>

namespace ringcap::intel {

IntelTransmitQueue::IntelTransmitQueue(Registers registers, pci::Function::DmaMemory ring,
                                       uint32_t tail_register, uint32_t longest)
    : registers_(registers),
      ring_(reinterpret_cast<Descriptor*>(ring.data)),
      ring_iova_(static_cast<uint64_t>(ring.iova)),
      tail_register_(tail_register),
      longest_(longest) {}

uint32_t IntelTransmitQueue::restart() {
  const uint64_t tail = tail_.load(std::memory_order_acquire);
  abandoned_until_.store(tail, std::memory_order_release);  // pairs with sent()
  return slot(tail);
}

template <class Codec>
uint32_t TransmitRing<Codec>::transmit(std::span<const TransmitFrame> frames) {
  const auto room = static_cast<size_t>(kOutstanding - (frames_ - clean_));
  const uint32_t count = static_cast<uint32_t>(std::min(room, frames.size()));
  const uint64_t first = descriptors_;
  for (uint32_t i = 0; i < count; ++i) {
    const TransmitFrame& frame = frames[i];
    if (frame.length < kShortest || frame.length > longest_) {
      refused_.fetch_add(1, std::memory_order_relaxed);
    } else {
      Codec::give(ring_[slot(descriptors_)], arena_ + frame.arena_offset, Codec::whole_frame(frame.length));
      ++descriptors_;
    }
    cookies_[slot(frames_)] = frame.cookie;
    needs_[slot(frames_++)] = descriptors_;
  }
  if (descriptors_ == first) return count;
  Descriptor& last = ring_[slot(descriptors_ - 1)];
  Codec::give(last, last.address, last.word | Codec::kReportStatus);
  burst_end_[slot(first)] = descriptors_ - 1;
  tail_.store(descriptors_, std::memory_order_release);  // pairs with restart() and open()
  publish_to_device();
  registers_.write(tail_register_, slot(descriptors_));
  return count;
}

template <class Codec>
uint32_t TransmitRing<Codec>::completed(std::span<uint32_t> out) {
  uint32_t count = 0;
  while (count < out.size() && clean_ != frames_ && sent(needs_[slot(clean_)]))
    out[count++] = cookies_[slot(clean_++)];
  return count;
}

// Whether all descriptors before `position` are sent.
template <class Codec>
bool TransmitRing<Codec>::sent(uint64_t position) {
  finished_ = std::max(finished_, std::min(descriptors_, abandoned_until_.load(std::memory_order_acquire)));
  while (finished_ < position) {
    const uint64_t end = burst_end_[slot(finished_)];
    if (!Codec::done(ring_[slot(end)])) return false;
    finished_ = end + 1;
  }
  return true;
}

template class TransmitRing<LegacyTransmit>;
template class TransmitRing<AdvancedTransmit>;

}  // namespace ringcap::intel

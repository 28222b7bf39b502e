#include "driver/e1000/transmit.h"

#include <algorithm>

namespace ringcap::e1000 {

E1000TransmitQueue::E1000TransmitQueue(Registers registers, pci::Function::DmaMemory ring)
    : registers_(registers),
      ring_(reinterpret_cast<TransmitDescriptor*>(ring.data)),
      ring_iova_(static_cast<uint64_t>(ring.iova)) {}

// Datasheet, "Transmit Initialization". What was queued when the device was reset is not sent again: a
// frame may get lost on its way, but not arrive twice because of us.
void E1000TransmitQueue::program() {
  const uint64_t tail = tail_.load(std::memory_order_acquire);
  abandoned_until_.store(tail, std::memory_order_release);  // pairs with completed()
  registers_.write(TDBAL, static_cast<uint32_t>(ring_iova_));
  registers_.write(TDBAH, static_cast<uint32_t>(ring_iova_ >> 32));
  registers_.write(TDLEN, kDescriptors * sizeof(TransmitDescriptor));
  // Write each descriptor back at once. Bit 22 must be set, by Linux's e1000e; the datasheet reserves it.
  registers_.write(TXDCTL, dctl::GRAN | dctl::TX_COUNT_DESC | 1u << dctl::WTHRESH_SHIFT);
  registers_.write(TDH, slot(tail));
  registers_.write(TDT, slot(tail));
}

uint32_t E1000TransmitQueue::transmit(std::span<const TransmitFrame> frames) {
  const uint64_t tail = tail_.load(std::memory_order_relaxed);
  const uint32_t room = kOutstanding - static_cast<uint32_t>(tail - clean_);
  const uint32_t count = static_cast<uint32_t>(std::min<size_t>(room, frames.size()));
  if (count == 0) return 0;
  for (uint32_t i = 0; i < count; ++i) put(tail + i, frames[i], i + 1 == count);
  burst_end_[slot(tail)] = tail + count - 1;
  tail_.store(tail + count, std::memory_order_release);  // pairs with program() and open()
  publish_to_device();
  registers_.write(TDT, slot(tail + count));
  return count;
}

void E1000TransmitQueue::put(uint64_t position, const TransmitFrame& frame, bool report) {
  TransmitDescriptor& descriptor = ring_[slot(position)];
  cookies_[slot(position)] = frame.cookie;
  const uint64_t reporting = report ? transmit::kReportStatus : 0;
  if (frame.length < kShortest || frame.length > kLongest) {
    refused_.fetch_add(1, std::memory_order_relaxed);
    // A null descriptor: stands between packets with EOP set, and the device steps over it.
    return transmit::give(descriptor, 0, transmit::kEndOfPacket | reporting);
  }
  transmit::give(descriptor, arena_ + frame.arena_offset,
                 frame.length | transmit::kEndOfPacket | transmit::kInsertCrc | reporting);
}

uint32_t E1000TransmitQueue::completed(std::span<uint32_t> out) {
  const uint64_t tail = tail_.load(std::memory_order_relaxed);
  finished_ = std::max(finished_, std::min(tail, abandoned_until_.load(std::memory_order_acquire)));
  uint32_t count = 0;
  while (count < out.size() && clean_ != tail) {
    if (clean_ == finished_) {
      const uint64_t end = burst_end_[slot(clean_)];
      if (!transmit::done(ring_[slot(end)])) break;
      finished_ = end + 1;
    }
    out[count++] = cookies_[slot(clean_++)];
  }
  return count;
}

}  // namespace ringcap::e1000

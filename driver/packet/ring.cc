#include "driver/packet/ring.h"

#include <atomic>

namespace ringcap::packet {

namespace {

// A frame's header is followed by a sockaddr_ll, and that by the frame.
constexpr uint32_t kAddressOffset = TPACKET_ALIGN(sizeof(tpacket3_hdr));
// How far ahead of the frame in hand to prefetch: three or four small frames. The lines were written by
// another core a moment ago, so each first touch costs a trip there.
constexpr uint32_t kPrefetchBytes = 512;

std::atomic_ref<uint32_t> status_of(tpacket_block_desc* block) {
  return std::atomic_ref<uint32_t>(block->hdr.bh1.block_status);
}

}  // namespace

bool BlockRing::inside(uint64_t offset) const {
  return offset >= sizeof(tpacket_block_desc) && offset % alignof(uint32_t) == 0 &&
         offset + TPACKET3_HDRLEN <= block_bytes_;
}

bool BlockRing::open_block() {
  for (uint32_t tried = 0; tried < blocks_; ++tried) {
    tpacket_block_desc* const next = block();
    // Pairs with the kernel's barrier before it sets TP_STATUS_USER.
    const uint32_t status = status_of(next).load(std::memory_order_acquire);
    if ((status & TP_STATUS_USER) == 0) return false;
    full_ |= (status & TP_STATUS_BLK_TMO) == 0;
    left_ = next->hdr.bh1.num_pkts;
    offset_ = inside(next->hdr.bh1.offset_to_first_pkt) ? next->hdr.bh1.offset_to_first_pkt : 0;
    if (left_ != 0) return true;
    close_block();  // retired with nothing in it
  }
  return false;
}

void BlockRing::close_block() {
  // Pairs with the kernel's read before it opens the block again: all our reads are done.
  status_of(block()).store(TP_STATUS_KERNEL, std::memory_order_release);
  index_ = index_ + 1 == blocks_ ? 0 : index_ + 1;
  left_ = 0;
}

KernelFrame BlockRing::front() const {
  KernelFrame frame;
  if (offset_ == 0) return frame;
  const std::byte* const at = base_ + size_t{index_} * block_bytes_ + offset_;
  __builtin_prefetch(at + kPrefetchBytes);
  __builtin_prefetch(at + kPrefetchBytes + 64);
  const auto& header = *reinterpret_cast<const tpacket3_hdr*>(at);
  const auto& address = *reinterpret_cast<const sockaddr_ll*>(at + kAddressOffset);
  const uint32_t room = block_bytes_ - offset_;
  if (header.tp_mac > room || header.tp_snaplen > room - header.tp_mac) return frame;
  frame.data = at + header.tp_mac;
  frame.captured = header.tp_snaplen;
  frame.readable = room - header.tp_mac;
  frame.length = header.tp_len;
  frame.timestamp_ns = uint64_t{header.tp_sec} * 1'000'000'000 + header.tp_nsec;
  frame.status = header.tp_status;
  frame.vlan_tci = static_cast<uint16_t>(header.hv1.tp_vlan_tci);
  frame.vlan_tpid = header.hv1.tp_vlan_tpid;
  frame.type = address.sll_pkttype;
  return frame;
}

void BlockRing::advance() {
  if (--left_ == 0) return close_block();
  if (offset_ == 0) return;
  const auto& header =
      *reinterpret_cast<const tpacket3_hdr*>(base_ + size_t{index_} * block_bytes_ + offset_);
  const uint64_t next = uint64_t{offset_} + header.tp_next_offset;
  offset_ = header.tp_next_offset != 0 && inside(next) ? static_cast<uint32_t>(next) : 0;
}

uint64_t BlockRing::discard() {
  uint64_t frames = 0;
  // Bounded: the kernel may fill blocks as fast as they come back.
  for (uint32_t tried = 0; tried < blocks_ && ready(); ++tried) {
    frames += left_;
    close_block();
  }
  return frames;
}

}  // namespace ringcap::packet

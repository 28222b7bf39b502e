// BlockRing: reads the ring of blocks that the kernel fills for a TPACKET_V3 socket.
//
// One thread, the worker. The kernel fills block after block and hands over each one whole, when it is
// full or its retire timeout has passed; it gets it back whole, once every frame in it has been taken.
// What the kernel wrote is checked before it is used: offsets that leave the block make its remaining
// frames broken, and nothing else.
// Source: Documentation/networking/packet_mmap.rst of the kernel, <linux/if_packet.h>.
#pragma once

#include <linux/if_packet.h>

#include <cstddef>
#include <cstdint>
#include <utility>

namespace ringcap::packet {

// One frame where the kernel put it; good until BlockRing::advance().
struct KernelFrame {
  const std::byte* data = nullptr;  // nullptr: the kernel's words about it make no sense
  uint32_t captured = 0;            // bytes at data
  uint32_t readable = 0;            // bytes from data to the end of the block: more than `captured`
  uint32_t length = 0;              // on the wire, without a tag that was taken out
  uint64_t timestamp_ns = 0;        // since the epoch
  uint32_t status = 0;              // TP_STATUS_*
  uint16_t vlan_tci = 0;
  uint16_t vlan_tpid = 0;
  uint8_t type = 0;  // PACKET_HOST ... PACKET_OUTGOING
};

class BlockRing {
 public:
  BlockRing() = default;
  // `base`: the socket's mapping, `blocks` blocks of `block_bytes`. Not owned.
  BlockRing(std::byte* base, uint32_t block_bytes, uint32_t blocks)
      : base_(base), block_bytes_(block_bytes), blocks_(blocks) {}

  // Whether there is a frame to take. Opens the next block when the last one is used up.
  bool ready() { return left_ != 0 || open_block(); }
  // The frame to take next. Only after ready() said true.
  KernelFrame front() const;
  // Goes on to the next frame; gives the block back after its last one.
  void advance();
  // Whether a block was opened, since the last call, that the kernel handed over because it was full: frames
  // come faster than its timer runs.
  bool take_full() { return std::exchange(full_, false); }
  // Gives back every block that is handed over, unread; returns how many frames were in them.
  uint64_t discard();

 private:
  bool open_block();
  void close_block();
  tpacket_block_desc* block() const {
    return reinterpret_cast<tpacket_block_desc*>(base_ + size_t{index_} * block_bytes_);
  }
  bool inside(uint64_t offset) const;

  std::byte* base_ = nullptr;
  uint32_t block_bytes_ = 0;
  uint32_t blocks_ = 0;
  uint32_t index_ = 0;   // of the block that is read, or comes next
  uint32_t offset_ = 0;  // of the next frame's header in the block; 0: damaged
  uint32_t left_ = 0;    // frames of the block that were not taken yet
  bool full_ = false;    // take_full()
};

}  // namespace ringcap::packet

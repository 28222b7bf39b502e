// The ring of blocks, written as the kernel writes it, and as it must never.
#include "driver/packet/ring.h"

#include <gtest/gtest.h>

#include <cstring>
#include <vector>

namespace ringcap::packet {
namespace {

constexpr uint32_t kBlock = 4096;
constexpr uint32_t kFirstFrame = sizeof(tpacket_block_desc);
constexpr uint32_t kMac = TPACKET_ALIGN(TPACKET3_HDRLEN);

// Stands for the kernel: fills blocks of a ring and sees which it got back.
class Kernel {
 public:
  explicit Kernel(uint32_t blocks) : memory_(size_t{blocks} * kBlock / sizeof(uint64_t)), blocks_(blocks) {}

  BlockRing ring() { return BlockRing(bytes(), kBlock, blocks_); }
  tpacket_block_desc& block(uint32_t index) {
    return *reinterpret_cast<tpacket_block_desc*>(bytes() + size_t{index} * kBlock);
  }
  tpacket3_hdr& header(uint32_t index, uint32_t offset) {
    return *reinterpret_cast<tpacket3_hdr*>(bytes() + size_t{index} * kBlock + offset);
  }
  // Hands over a block with frames of these lengths; every byte of frame i is first + i.
  void fill(uint32_t index, const std::vector<uint32_t>& lengths, uint8_t first = 1) {
    uint32_t offset = kFirstFrame;
    for (size_t i = 0; i < lengths.size(); ++i) {
      tpacket3_hdr& frame = header(index, offset);
      frame = {};
      frame.tp_mac = kMac;
      frame.tp_snaplen = frame.tp_len = lengths[i];
      frame.tp_sec = 7;
      frame.tp_nsec = static_cast<uint32_t>(i);
      std::memset(reinterpret_cast<std::byte*>(&frame) + kMac, first + static_cast<int>(i), lengths[i]);
      const uint32_t next = (kMac + lengths[i] + 15) / 16 * 16;
      if (i + 1 < lengths.size()) frame.tp_next_offset = next;
      offset += next;
    }
    block(index).hdr.bh1.offset_to_first_pkt = kFirstFrame;
    block(index).hdr.bh1.num_pkts = static_cast<uint32_t>(lengths.size());
    block(index).hdr.bh1.block_status = TP_STATUS_USER;
  }
  bool has(uint32_t index) { return block(index).hdr.bh1.block_status == TP_STATUS_KERNEL; }

 private:
  std::byte* bytes() { return reinterpret_cast<std::byte*>(memory_.data()); }

  std::vector<uint64_t> memory_;
  uint32_t blocks_;
};

// Takes everything; the first byte of each frame, 0 for one that makes no sense.
std::vector<int> take_all(BlockRing& ring) {
  std::vector<int> taken;
  for (; ring.ready() && taken.size() < 1000; ring.advance()) {
    const KernelFrame frame = ring.front();
    taken.push_back(frame.data == nullptr ? 0 : static_cast<int>(*frame.data));
  }
  return taken;
}

TEST(BlockRing, an_empty_ring_is_not_ready) {
  Kernel kernel(4);
  BlockRing ring = kernel.ring();
  EXPECT_FALSE(ring.ready());
}

// By that a worker knows that frames come faster than the kernel's timer runs (PacketQueue::enable_wake()).
TEST(BlockRing, a_block_that_came_full_is_told_once_and_one_that_the_timer_closed_is_not) {
  Kernel kernel(4);
  BlockRing ring = kernel.ring();
  EXPECT_FALSE(ring.take_full());
  kernel.fill(0, {60});
  kernel.block(0).hdr.bh1.block_status = TP_STATUS_USER | TP_STATUS_BLK_TMO;
  EXPECT_EQ(take_all(ring).size(), 1U);
  EXPECT_FALSE(ring.take_full());
  kernel.fill(1, {60, 60});
  kernel.fill(2, {60});
  kernel.block(2).hdr.bh1.block_status = TP_STATUS_USER | TP_STATUS_BLK_TMO;
  EXPECT_EQ(take_all(ring).size(), 3U);
  EXPECT_TRUE(ring.take_full());
  EXPECT_FALSE(ring.take_full());
}

TEST(BlockRing, a_frame_is_told_as_the_kernel_wrote_it) {
  Kernel kernel(1);
  kernel.fill(0, {100});
  tpacket3_hdr& header = kernel.header(0, kFirstFrame);
  header.tp_len = 3000;
  header.tp_nsec = 999'999'999;
  header.tp_status = TP_STATUS_VLAN_VALID | TP_STATUS_VLAN_TPID_VALID;
  header.hv1.tp_vlan_tci = 0x6123;
  header.hv1.tp_vlan_tpid = 0x88a8;
  auto* const address = reinterpret_cast<sockaddr_ll*>(&header + 1);
  address->sll_pkttype = PACKET_OUTGOING;
  BlockRing ring = kernel.ring();
  ASSERT_TRUE(ring.ready());
  const KernelFrame frame = ring.front();
  EXPECT_EQ(frame.data, reinterpret_cast<std::byte*>(&header) + kMac);
  EXPECT_EQ(frame.captured, 100u);
  EXPECT_EQ(frame.readable, kBlock - kFirstFrame - kMac);
  EXPECT_EQ(frame.length, 3000u);
  EXPECT_EQ(frame.timestamp_ns, 7'999'999'999u);
  EXPECT_EQ(frame.status, static_cast<uint32_t>(TP_STATUS_VLAN_VALID | TP_STATUS_VLAN_TPID_VALID));
  EXPECT_EQ(frame.vlan_tci, 0x6123);
  EXPECT_EQ(frame.vlan_tpid, 0x88a8);
  EXPECT_EQ(frame.type, PACKET_OUTGOING);
}

TEST(BlockRing, a_block_goes_back_after_its_last_frame_and_not_before) {
  Kernel kernel(2);
  kernel.fill(0, {60, 60});
  BlockRing ring = kernel.ring();
  ASSERT_TRUE(ring.ready());
  ring.advance();
  EXPECT_FALSE(kernel.has(0));
  ring.advance();
  EXPECT_TRUE(kernel.has(0));
  EXPECT_FALSE(ring.ready());
}

TEST(BlockRing, blocks_are_read_in_turn_and_around_the_end) {
  Kernel kernel(3);
  BlockRing ring = kernel.ring();
  kernel.fill(0, {60, 1500, 15}, 1);
  kernel.fill(1, {64}, 4);
  EXPECT_EQ(take_all(ring), (std::vector{1, 2, 3, 4}));
  kernel.fill(2, {64, 64}, 5);
  kernel.fill(0, {64}, 7);
  EXPECT_EQ(take_all(ring), (std::vector{5, 6, 7}));
  EXPECT_FALSE(ring.ready());
}

TEST(BlockRing, a_block_that_was_retired_empty_is_passed_over) {
  Kernel kernel(3);
  BlockRing ring = kernel.ring();
  kernel.fill(0, {});
  kernel.fill(1, {60}, 9);
  EXPECT_EQ(take_all(ring), (std::vector{9}));
  EXPECT_TRUE(kernel.has(0));
}

TEST(BlockRing, a_block_that_points_outside_itself_is_broken_and_the_next_one_is_read) {
  for (const uint32_t offset : {0u, 8u, kBlock, kBlock - 8, 0xffff'fff0u, kFirstFrame + 1}) {
    Kernel kernel(2);
    kernel.fill(0, {60, 60});
    kernel.block(0).hdr.bh1.offset_to_first_pkt = offset;
    kernel.fill(1, {60}, 5);
    BlockRing ring = kernel.ring();
    EXPECT_EQ(take_all(ring), (std::vector{0, 0, 5})) << offset;
  }
}

TEST(BlockRing, a_frame_that_points_outside_its_block_makes_the_rest_of_it_broken) {
  for (const uint32_t next : {0u, kBlock, 0xffff'fff0u, 1u}) {
    Kernel kernel(2);
    kernel.fill(0, {60, 60, 60});
    kernel.header(0, kFirstFrame).tp_next_offset = next;
    kernel.fill(1, {60}, 5);
    BlockRing ring = kernel.ring();
    EXPECT_EQ(take_all(ring), (std::vector{1, 0, 0, 5})) << next;
  }
}

TEST(BlockRing, a_frame_longer_than_its_block_is_broken_and_the_next_one_is_read) {
  Kernel kernel(1);
  kernel.fill(0, {60, 60});
  tpacket3_hdr& header = kernel.header(0, kFirstFrame);
  header.tp_snaplen = 0xffff'ffff;
  BlockRing ring = kernel.ring();
  EXPECT_EQ(take_all(ring), (std::vector{0, 2}));
  kernel.fill(0, {60, 60});
  header.tp_mac = 0xffff;
  EXPECT_EQ(take_all(ring), (std::vector{0, 2}));
}

TEST(BlockRing, discard_gives_back_what_is_handed_over_and_counts_its_frames) {
  Kernel kernel(3);
  BlockRing ring = kernel.ring();
  kernel.fill(0, {60, 60, 60});
  kernel.fill(1, {60});
  ASSERT_TRUE(ring.ready());
  ring.advance();
  EXPECT_EQ(ring.discard(), 3u);
  EXPECT_TRUE(kernel.has(0) && kernel.has(1));
  kernel.fill(2, {60}, 8);
  EXPECT_EQ(take_all(ring), (std::vector{8}));
}

}  // namespace
}  // namespace ringcap::packet

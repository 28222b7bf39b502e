// What the receive loops do to the device's registers: none is read, as each read would stall the core for a
// round trip over the bus, and one is written for a whole burst.
#include "tests/nic/fed_device.h"
#include "tests/nic/igb_model.h"
#include "tests/nic/ixgbe_model.h"
#include "tests/nic/model.h"
#include "tests/nic/nic_test.h"

namespace ringcap::nic {
namespace {

constexpr uint32_t kBuffers = 192, kRing = 64;

// The port of an Intel chip, after its start.
class ReceiveLoop : public testing::Test {
 protected:
  void run(std::shared_ptr<Chip> chip, bool adapter_time = false) {
    chip_ = std::move(chip);
    auto port = open_nic(std::make_unique<ModelFunction>(chip_),
                         {.descriptors = kRing, .adapter_time = adapter_time});
    ASSERT_TRUE(port) << port.error().message();
    memory_.resize(kBuffers * 2048);
    nic_ = std::make_unique<OpenPort>(std::move(*port), memory_.data(), memory_.size(), kBuffers);
    nic_->arm_and_start();
  }
  // Rings' worth of bursts of every size, frames of lengths that cannot be, polls that find nothing, and no
  // buffer to refill with.
  void reads_nothing() {
    const uint64_t reads = chip_->reads;
    uint32_t bursts = 0, taken = 0;
    const uint32_t tails = chip_->tail_writes;
    for (uint32_t size = 0; size <= 48; ++size, ++bursts) {
      for (uint32_t i = 0; i < size; ++i)
        ASSERT_TRUE(chip_->deliver(make_frame(i, 60), {.length = i % 7 == 3 ? 4000 : -1}));
      const Burst burst = nic_->take(frames_, 48);
      taken += burst.frames + burst.broken;
    }
    EXPECT_EQ(taken, 48u * 49 / 2);
    EXPECT_EQ(chip_->tail_writes - tails, bursts - 1);  // but for the burst of none
    while (!nic_->free().empty()) nic_->free().pop();
    ASSERT_TRUE(chip_->deliver(make_frame(0, 60)));
    EXPECT_EQ(nic_->take(frames_).no_buffer, 1u);
    EXPECT_EQ(chip_->reads, reads);
  }

  std::shared_ptr<Chip> chip_;
  std::vector<std::byte> memory_;
  std::unique_ptr<OpenPort> nic_;
  std::vector<std::vector<uint8_t>> frames_;
};

TEST_F(ReceiveLoop, e1000_reads_no_register_and_writes_one_a_burst) {
  ASSERT_NO_FATAL_FAILURE(run(std::make_shared<Chip>(map_of_82546())));
  reads_nothing();
}

TEST_F(ReceiveLoop, e1000e_reads_no_register_and_writes_one_a_burst) {
  ASSERT_NO_FATAL_FAILURE(run(std::make_shared<Chip>()));
  reads_nothing();
}

TEST_F(ReceiveLoop, igb_reads_no_register_and_writes_one_a_burst) {
  for (const IgbKind& kind : igb_kinds()) {
    SCOPED_TRACE(kind.name);
    ASSERT_NO_FATAL_FAILURE(run(std::make_shared<IgbChip>(kind)));
    reads_nothing();
    nic_.reset();
  }
}

TEST_F(ReceiveLoop, ixgbe_reads_no_register_and_writes_one_a_burst) {
  for (const IxgbeKind& kind : ixgbe_kinds()) {
    SCOPED_TRACE(kind.name);
    ASSERT_NO_FATAL_FAILURE(run(std::make_shared<IxgbeChip>(kind)));
    reads_nothing();
    nic_.reset();
  }
}

TEST_F(ReceiveLoop, with_timestamps_of_the_nics_reads_no_register_either) {
  for (const IgbKind& kind : igb_kinds()) {
    if (!kind.stamps) continue;
    SCOPED_TRACE(kind.name);
    ASSERT_NO_FATAL_FAILURE(run(std::make_shared<IgbChip>(kind), true));
    reads_nothing();
    nic_.reset();
  }
  ASSERT_NO_FATAL_FAILURE(run(std::make_shared<IxgbeChip>(ixgbe_kinds()[2]), true));
  reads_nothing();
}

// A queue alone.
template <class Device>
void queue_touches_nothing() {
  Device device(Access::kCounted);
  const std::unique_ptr<ReceiveQueue> queue = device.take_queue();
  std::vector<std::byte> memory(2 * kDescriptors * 2048);
  FreeBuffers free(2 * kDescriptors);
  for (uint32_t i = 0; i < 2 * kDescriptors; ++i) free.push(i);
  device.set_arena(memory.data());
  ASSERT_TRUE(queue->arm({.base = memory.data(), .buffer_bytes = 2048, .count = 2 * kDescriptors}, free));
  device.start();
  std::vector<Frame> out(64);
  uint32_t taken = 0;
  for (uint32_t i = 0; i < 200; ++i) {
    const Burst burst = queue->receive(out, free);
    for (uint32_t k = 0; k < burst.frames; ++k) free.push(out[k].buffer);
    taken += burst.frames;
    device.feed(i % 64);
  }
  EXPECT_GT(taken, 2 * kDescriptors);
  EXPECT_EQ(device.registers().reads, 0u);
  EXPECT_EQ(device.registers().writes, 0u);  // the device asked for no doorbell
}

TEST(ReceiveLoopVirtio, split_ring_touches_no_register_that_the_device_does_not_ask_for) {
  queue_touches_nothing<FedVirtio<virtio::SplitRing>>();
}

TEST(ReceiveLoopVirtio, packed_ring_touches_no_register_that_the_device_does_not_ask_for) {
  queue_touches_nothing<FedVirtio<virtio::PackedRing>>();
}

TEST(ReceiveLoopVmxnet3, touches_no_register_that_the_device_does_not_ask_for) {
  queue_touches_nothing<FedVmxnet3>();
}

}  // namespace
}  // namespace ringcap::nic

// The e1000 driver against the model of an 82546EB, which QEMU does not have: faults, and where its rings
// lie.
#include <sys/eventfd.h>

#include "driver/e1000/registers.h"
#include "tests/nic/model.h"
#include "tests/nic/nic_test.h"

namespace ringcap::nic {
namespace {

namespace reg = e1000;
using Bytes = std::vector<uint8_t>;

constexpr uint32_t kBadCrcBit = 1u << 24, kBuffers = 192;
const Bytes kGood = make_frame(1, 100);

class E1000Fault : public testing::Test {
 protected:
  Result<std::unique_ptr<Port>> open(const pci::NicOptions& options) {
    chip_ = std::make_shared<Chip>(map_of_82546());
    chip_->reset_hangs = reset_hangs_;
    chip_->next_iova += iova_offset_;
    chip_->count(reg::GPRC, counted_before_);
    return open_nic(std::make_unique<ModelFunction>(chip_), options);
  }
  void run(pci::NicOptions options = {}) {
    options.descriptors = 64;
    auto port = open(options);
    ASSERT_TRUE(port) << port.error().message();
    memory_.resize(size_t{kBuffers} * 2048);
    nic_ = std::make_unique<OpenPort>(std::move(*port), memory_.data(), memory_.size(), kBuffers);
    nic_->arm_and_start();
  }
  void TearDown() override {
    nic_.reset();
    if (chip_) {
      EXPECT_EQ(chip_->complaints, std::vector<std::string>());
    }
  }
  Burst take() { return nic_->take(frames_); }

  bool reset_hangs_ = false;
  uint64_t iova_offset_ = 0;
  uint32_t counted_before_ = 0;
  std::shared_ptr<Chip> chip_;
  std::vector<std::byte> memory_;
  std::unique_ptr<OpenPort> nic_;
  std::vector<Bytes> frames_;
};

TEST_F(E1000Fault, frames_come_in_legacy_descriptors_whatever_else_is_in_them) {
  run();
  for (uint32_t i = 0; i < 200; ++i) {
    ASSERT_TRUE(chip_->deliver(make_frame(i, 60 + i)));
    ASSERT_EQ(take().frames, 1u);
    EXPECT_EQ(frames_.back(), make_frame(i, 60 + i));
  }
}

TEST_F(E1000Fault, bad_frames_that_were_not_asked_for_are_broken_and_those_asked_for_are_flagged) {
  run();
  chip_->deliver(kGood, {.errors = kBadCrcBit});
  EXPECT_EQ(take().broken, 1u);
  run({.bad = true});
  chip_->deliver(kGood, {.errors = kBadCrcBit});
  std::array<ringcap::Frame, 4> out;
  ASSERT_EQ(nic_->queue().receive(out, nic_->free()).frames, 1u);
  EXPECT_EQ(out[0].flags, layout::kBadCrc);
  nic_->give_back(out[0]);
}

TEST_F(E1000Fault, with_crc_1_each_frame_keeps_its_crc) {
  run({.crc = true});
  const Bytes frame = make_frame(1, 100);
  chip_->deliver(frame);
  EXPECT_EQ(take().frames, 1u);
  EXPECT_EQ(frames_.back(), with_crc(frame));
}

TEST_F(E1000Fault, frame_in_several_descriptors_counts_once_as_broken_and_the_next_one_arrives) {
  run({.bad = true});
  chip_->deliver(Bytes(2048), {.end_of_packet = false});
  chip_->deliver(Bytes(2048));
  chip_->deliver(kGood);
  const Burst burst = take();
  EXPECT_EQ(burst.broken, 1u);
  EXPECT_EQ(frames_, std::vector<Bytes>{kGood});
}

TEST_F(E1000Fault, counters_say_what_the_chip_missed_and_what_was_bad) {
  run();
  chip_->count(reg::GPRC, 10);
  chip_->count(reg::MPC, 3);
  chip_->count(reg::CRCERRS, 2);
  const QueueCounters counters = nic_->queue().counters();
  EXPECT_EQ(counters.received, 15u);
  EXPECT_EQ(counters.missed, 3u);
  EXPECT_EQ(counters.bad, 2u);
}

// A reset need not clear them (QEMU's does not), and whoever had the NIC before may have died without
// reading.
TEST_F(E1000Fault, what_the_chip_counted_for_somebody_else_is_not_counted) {
  counted_before_ = 40;
  auto port = open({.descriptors = 64});
  ASSERT_TRUE(port) << port.error().message();
  EXPECT_EQ((*port)->counters().received, 0u);  // asked before it was started
}

// QEMU's model does not clear MPC. Real chips do.
TEST_F(E1000Fault, register_that_reading_does_not_clear_is_counted_once) {
  for (const bool keeps : {true, false}) {
    run();
    if (keeps) chip_->sticky = {reg::MPC};
    for (const uint64_t missed : {3u, 3u, 10u, 10u, 17u}) {
      const uint64_t before = nic_->queue().counters().missed;
      chip_->count(reg::MPC, static_cast<uint32_t>(missed - before));
      EXPECT_EQ(nic_->queue().counters().missed, missed);
    }
    nic_->port().stop();
    ASSERT_TRUE(nic_->port().start());
    EXPECT_EQ(nic_->queue().counters().missed, 17u);
    chip_->count(reg::MPC, 5);
    EXPECT_EQ(nic_->queue().counters().missed, 22u);
    chip_->registers[reg::MPC] = keeps ? 2 : 0;  // the device began anew
    EXPECT_EQ(nic_->queue().counters().missed, keeps ? 24u : 22u);
  }
}

TEST_F(E1000Fault, no_ring_crosses_a_multiple_of_64_kib) {
  iova_offset_ = 0xf000;  // one page before such a multiple
  for (const uint32_t descriptors : {64u, 1024u, 2048u, 4096u}) {
    auto port = open({.descriptors = descriptors, .transmit = true});
    ASSERT_TRUE(port) << port.error().message();
    memory_.resize((size_t{descriptors} + 64) * 2048);
    OpenPort nic(std::move(*port), memory_.data(), memory_.size(), descriptors + 64);
    nic.arm_and_start();
    for (const uint32_t block : {reg::RECEIVE_BLOCK, reg::TRANSMIT_BLOCK}) {
      const uint64_t first = chip_->registers[block + reg::RDBAL];
      const uint64_t bytes = chip_->registers[block + reg::RDLEN];
      EXPECT_EQ(first >> 16, (first + bytes - 1) >> 16) << descriptors;
      EXPECT_EQ(first % 128, 0u);
      EXPECT_GT(bytes, 0u);
    }
    nic.port().stop();
  }
}

TEST_F(E1000Fault, reset_that_hangs_is_an_error_in_words) {
  reset_hangs_ = true;
  const auto port = open({});
  ASSERT_FALSE(port);
  EXPECT_NE(port.error().message().find("does not come out of reset"), std::string::npos);
}

TEST_F(E1000Fault, device_that_is_pulled_out_is_noticed) {
  run();
  chip_->deliver(kGood);
  chip_->removed = true;
  EXPECT_EQ(take().frames, 1u);
  EXPECT_FALSE(nic_->port().link().present);
  EXPECT_TRUE(chip_->released);
  EXPECT_EQ(take().frames, 0u);
}

}  // namespace
}  // namespace ringcap::nic

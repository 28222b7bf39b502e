// The e1000e driver against faults: what a device, or its loss, can do to it.
#include <sys/eventfd.h>

#include <set>

#include "capture/base/mapping.h"
#include "driver/e1000e/registers.h"
#include "driver/intel/descriptors.h"
#include "tests/nic/model.h"
#include "tests/nic/nic_test.h"

namespace ringcap::nic {
namespace {

namespace reg = e1000e;
using Bytes = std::vector<uint8_t>;

constexpr uint32_t kBadCrcBit = 1u << 24;

class E1000eFault : public testing::Test {
 protected:
  static constexpr uint32_t kBuffers = 192;

  Result<std::unique_ptr<Port>> open(const pci::NicOptions& options) {
    chip_ = std::make_shared<Chip>();
    chip_->reset_hangs = reset_hangs_;
    return open_nic(std::make_unique<ModelFunction>(chip_), options);
  }
  void run(pci::NicOptions options = {}) {
    options.descriptors = 64;
    auto port = open(options);
    ASSERT_TRUE(port) << port.error().message();
    memory_.resize(size_t{kBuffers} * (options.mtu > 1500 ? 16384 : 2048));
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
  ReceiveQueue& queue() { return nic_->queue(); }

  bool reset_hangs_ = false;
  std::shared_ptr<Chip> chip_;
  std::vector<std::byte> memory_;
  std::unique_ptr<OpenPort> nic_;
  std::vector<Bytes> frames_;
};

const Bytes kGood = make_frame(1, 100);

// ---- receiving ---------------------------------------------------------------------------------------

TEST_F(E1000eFault, frame_in_several_descriptors_counts_once_as_broken_and_the_next_one_arrives) {
  run({.bad = true});  // longer than an MTU of 1,500 allows
  chip_->deliver(Bytes(2048), {.end_of_packet = false});
  chip_->deliver(Bytes(2048), {.end_of_packet = false});
  chip_->deliver(Bytes(100));
  chip_->deliver(kGood);
  const Burst burst = take();
  EXPECT_EQ(burst.broken, 1u);
  EXPECT_EQ(burst.frames, 1u);
  EXPECT_EQ(frames_, std::vector<Bytes>{kGood});
  EXPECT_EQ(queue().held(), 64u);
}

TEST_F(E1000eFault, frame_in_several_descriptors_counts_once_when_they_come_one_at_a_time) {
  run({.bad = true});
  uint32_t broken = 0;
  for (const bool last : {false, false, true}) {
    chip_->deliver(Bytes(2000), {.end_of_packet = last});
    broken += take().broken;
  }
  EXPECT_EQ(broken, 1u);
  chip_->deliver(kGood);
  EXPECT_EQ(take().frames, 1u);
}

TEST_F(E1000eFault, length_that_no_buffer_holds_is_broken_and_its_buffer_is_armed_again) {
  run();
  for (int i = 0; i < 500; ++i) {  // many rings' worth
    ASSERT_TRUE(chip_->deliver(Bytes(60), {.length = i % 2 == 0 ? 2049 : 65535}));
    EXPECT_EQ(take().broken, 1u);
  }
  EXPECT_EQ(chip_->armed(), 63u);
  EXPECT_EQ(nic_->free().size(), kBuffers - 64);
}

TEST_F(E1000eFault, length_zero_is_not_believed_until_the_device_has_gone_on_and_is_broken_then) {
  run();
  chip_->deliver(Bytes(60), {.length = 0});
  EXPECT_EQ(take().broken, 0u);
  chip_->deliver(kGood);
  const Burst burst = take();
  EXPECT_EQ(burst.broken, 1u);
  EXPECT_EQ(burst.frames, 1u);
}

TEST_F(E1000eFault, done_bit_that_comes_back_in_a_slot_that_was_given_back_gives_no_frame) {
  run();
  for (uint32_t i = 0; i < 300; ++i) {
    const Bytes frame = make_frame(i, 60 + i % 100);
    const uint32_t slot = chip_->receive_register(0, reg::RDH);
    ASSERT_TRUE(chip_->deliver(frame));
    frames_.clear();
    ASSERT_EQ(take().frames, 1u) << i;
    EXPECT_EQ(frames_[0], frame);
    // What QEMU does: the status is stored a second time, after the driver gave the slot back.
    auto* ring = reinterpret_cast<intel::Descriptor*>(chip_->windows[0].data);
    ring[slot].word |= 3;
    const Burst again = take();
    ASSERT_EQ(again.frames + again.broken + again.no_buffer, 0u) << i;
  }
}

TEST_F(E1000eFault, bad_crc_is_flagged_and_delivered_with_bad_1) {
  run({.bad = true});
  chip_->deliver(kGood, {.errors = kBadCrcBit});
  chip_->deliver(Bytes(30));
  chip_->deliver(Bytes(1600));
  chip_->deliver(kGood);
  std::vector<Frame> out(8);
  ASSERT_EQ(queue().receive(out, nic_->free()).frames, 4u);
  EXPECT_EQ(out[0].flags, layout::kBadCrc);
  EXPECT_EQ(out[1].flags, layout::kBadLength);
  EXPECT_EQ(out[2].flags, layout::kBadLength);
  EXPECT_EQ(out[3].flags, 0u);
  EXPECT_TRUE(chip_->registers[reg::RCTL] & reg::rctl::SBP);
}

TEST_F(E1000eFault, bad_crc_without_bad_1_is_broken) {
  run();
  EXPECT_FALSE(chip_->registers[reg::RCTL] & reg::rctl::SBP);
  chip_->deliver(kGood, {.errors = kBadCrcBit});
  EXPECT_EQ(take().broken, 1u);
}

TEST_F(E1000eFault, with_crc_1_each_frame_keeps_its_crc_and_its_length_is_judged_without) {
  run({.bad = true, .crc = true});
  const Bytes shortest = make_frame(1, 60), too_short = make_frame(2, 56);
  chip_->deliver(shortest);
  chip_->deliver(too_short);
  std::vector<Frame> out(8);
  ASSERT_EQ(nic_->queue().receive(out, nic_->free()).frames, 2u);
  EXPECT_EQ(out[0].length, 64u);
  EXPECT_EQ(std::memcmp(out[0].data, with_crc(shortest).data(), 64), 0);
  EXPECT_EQ(out[0].flags, 0u);
  EXPECT_EQ(out[1].flags, layout::kBadLength);
}

TEST_F(E1000eFault, frames_start_on_eight_different_lines_and_end_within_their_buffers) {
  run();
  std::set<size_t> starts;
  std::vector<Frame> kept;
  for (uint32_t i = 0; i < 64; ++i) {
    chip_->deliver(Bytes(1522));
    std::vector<Frame> out(1);
    ASSERT_EQ(queue().receive(out, nic_->free()).frames, 1u);
    const size_t start = static_cast<size_t>(out[0].data - nic_->region().buffer(out[0].buffer));
    EXPECT_EQ(start % 64, 0u);
    EXPECT_LE(start + 1522, 2048u);
    starts.insert(start);
    kept.push_back(out[0]);
  }
  for (const Frame& frame : kept) nic_->give_back(frame);
  EXPECT_FALSE(chip_->registers[reg::RCTL] & reg::rctl::LPE);
  EXPECT_EQ(starts.size(), 8u);
}

TEST_F(E1000eFault, frames_that_may_be_long_start_at_their_buffers_beginning) {
  run({.bad = true});
  for (uint32_t i = 0; i < 64; ++i) {
    chip_->deliver(Bytes(2048));
    std::vector<Frame> out(1);
    ASSERT_EQ(queue().receive(out, nic_->free()).frames, 1u);
    EXPECT_EQ(out[0].data, nic_->region().buffer(out[0].buffer));
    nic_->give_back(out[0]);
  }
}

TEST_F(E1000eFault, one_tail_write_refills_a_whole_burst) {
  run();
  for (int i = 0; i < 32; ++i) chip_->deliver(kGood);
  const uint32_t before = chip_->tail_writes;
  EXPECT_EQ(take().frames, 32u);
  EXPECT_EQ(chip_->tail_writes, before + 1);
  take();
  EXPECT_EQ(chip_->tail_writes, before + 1);  // nothing came: nothing is written
}

// ---- counting ----------------------------------------------------------------------------------------

TEST_F(E1000eFault, missed_frames_are_counted_and_the_queue_balances) {
  run();
  for (int i = 0; i < 5; ++i) chip_->deliver(kGood);
  chip_->count(reg::GPRC, 5);
  chip_->count(reg::MPC, 7);
  chip_->count(reg::CRCERRS, 2);
  chip_->count(reg::ROC, 1);
  const uint32_t taken = take().frames;
  const QueueCounters counters = queue().counters();
  EXPECT_EQ(counters.missed, 7u);
  EXPECT_EQ(counters.bad, 3u);
  EXPECT_EQ(counters.received, taken + 7 + 3);
}

TEST_F(E1000eFault, with_bad_1_delivered_bad_frames_are_received_and_not_bad) {
  run({.bad = true});
  chip_->deliver(kGood);
  chip_->deliver(kGood, {.errors = kBadCrcBit});
  chip_->count(reg::GPRC, 1);
  chip_->count(reg::CRCERRS, 1);
  EXPECT_EQ(take().frames, 2u);
  EXPECT_EQ(queue().counters().received, 2u);
  EXPECT_EQ(queue().counters().bad, 0u);
}

TEST_F(E1000eFault, counters_go_beyond_32_bits) {
  run();
  for (int i = 0; i < 3; ++i) {
    chip_->count(reg::GPRC, 0xf000'0000);
    queue().counters();
  }
  EXPECT_EQ(queue().counters().received, 3 * uint64_t{0xf000'0000});
}

TEST_F(E1000eFault, what_was_counted_before_start_is_not_ours) {
  auto port = open({.descriptors = 64});
  chip_->count(reg::GPRC, 99);
  chip_->count(reg::MPC, 99);
  memory_.resize(size_t{kBuffers} * 2048);
  nic_ = std::make_unique<OpenPort>(std::move(*port), memory_.data(), memory_.size(), kBuffers);
  nic_->arm_and_start();
  EXPECT_EQ(queue().counters().received, 0u);
}

// ---- loss of the device ------------------------------------------------------------------------------

TEST_F(E1000eFault, device_that_is_pulled_out_is_noticed_and_adds_nothing_to_the_counters) {
  run();
  chip_->deliver(kGood);
  chip_->count(reg::GPRC, 1);
  EXPECT_EQ(queue().counters().received, 1u);
  chip_->removed = true;
  EXPECT_EQ(queue().counters().received, 1u);
  EXPECT_FALSE(nic_->port().link().present);
  EXPECT_TRUE(chip_->released);
  EXPECT_EQ(take().frames, 1u);  // what had arrived is still there
  EXPECT_EQ(take().frames, 0u);
  nic_->port().stop();
  queue().disarm(nic_->free());
  EXPECT_EQ(nic_->free().size(), kBuffers);
  EXPECT_FALSE(nic_->port().start());
}

TEST_F(E1000eFault, request_to_give_the_device_back_is_met_at_once_and_the_queue_survives) {
  run();
  chip_->deliver(kGood);
  chip_->count(reg::GPRC, 1);
  chip_->pending.removal = true;
  ::eventfd_write(chip_->events.get(), 1);
  nic_->port().handle_event();
  EXPECT_TRUE(chip_->released);
  EXPECT_FALSE(chip_->bus_master);
  EXPECT_FALSE(nic_->port().link().present);
  EXPECT_EQ(take().frames, 1u);
  queue().enable_wake();
  EXPECT_EQ(take().frames, 0u);
  queue().disable_wake();
  EXPECT_EQ(queue().counters().received, 1u);  // read before it went
}

TEST_F(E1000eFault, pcie_error_is_answered_by_a_reset_and_the_queue_goes_on_where_it_was) {
  run();
  for (uint32_t i = 0; i < 90; ++i) {
    chip_->deliver(make_frame(i, 100));
    take();
  }
  for (uint32_t i = 90; i < 95; ++i) chip_->deliver(make_frame(i, 100));  // done, not taken yet
  const uint32_t resets = chip_->resets;
  chip_->pending.error = true;
  nic_->port().handle_event();
  EXPECT_GT(chip_->resets, resets);
  EXPECT_TRUE(nic_->port().link().present);
  for (uint32_t i = 95; i < 200; ++i) {
    ASSERT_TRUE(chip_->deliver(make_frame(i, 100))) << i;
    take();
  }
  while (take().frames != 0) {
  }
  ASSERT_EQ(frames_.size(), 200u);
  for (uint32_t i = 0; i < 200; ++i) EXPECT_EQ(frames_[i], make_frame(i, 100)) << i;
  EXPECT_EQ(chip_->armed(), 63u);
}

TEST_F(E1000eFault, pcie_error_gives_frames_that_were_being_sent_back_once) {
  run({.transmit = true});
  TransmitQueue& sender = *nic_->port().transmit_queues()[0];
  TransmitFrame frame{.data = nic_->region().base, .arena_offset = 0, .length = 60, .cookie = 1};
  chip_->registers[reg::TCTL] = 0;  // it hangs: nothing is sent any more
  ASSERT_EQ(sender.transmit({&frame, 1}), 1u);
  uint32_t cookies[4];
  EXPECT_EQ(sender.completed(cookies), 0u);
  chip_->pending.error = true;
  nic_->port().handle_event();
  EXPECT_EQ(sender.completed(cookies), 1u);
  EXPECT_TRUE(chip_->sent.empty());
  frame.cookie = 2;
  ASSERT_EQ(sender.transmit({&frame, 1}), 1u);
  ASSERT_EQ(sender.completed(cookies), 1u);
  EXPECT_EQ(cookies[0], 2u);
  EXPECT_EQ(chip_->sent.size(), 1u);
}

// ---- opening -----------------------------------------------------------------------------------------

TEST_F(E1000eFault, reset_that_does_not_end_is_given_up_with_what_to_do) {
  reset_hangs_ = true;
  const auto port = open({});
  ASSERT_FALSE(port);
  EXPECT_NE(port.error().message().find("0000:03:00.0: the NIC does not come out of reset"),
            std::string::npos)
      << port.error().message();
  EXPECT_NE(port.error().mend.find("off and on"), std::string::npos);
}

TEST_F(E1000eFault, device_that_does_not_answer_is_not_opened) {
  chip_ = std::make_shared<Chip>();
  auto function = std::make_unique<ModelFunction>(chip_);
  chip_->removed = true;
  const auto port = open_nic(std::move(function), {});
  ASSERT_FALSE(port);
  EXPECT_EQ(port.error().code, Code::kGone);
}

TEST_F(E1000eFault, options_that_the_chip_cannot_do_are_refused_by_name) {
  const std::pair<pci::NicOptions, const char*> cases[] = {{{.queues = 3}, "queues=3"},
                                                           {{.mtu = 9300}, "mtu=9300"},
                                                           {{.mtu = 60}, "mtu=60"},
                                                           {{.descriptors = 32}, "descriptors=32"},
                                                           {{.descriptors = 100}, "descriptors=100"},
                                                           {{.descriptors = 8192}, "descriptors=8192"}};
  for (const auto& [options, words] : cases) {
    const auto port = open(options);
    ASSERT_FALSE(port) << words;
    EXPECT_EQ(port.error().code, Code::kUsage);
    EXPECT_NE(port.error().text.find(words), std::string::npos) << port.error().text;
  }
}

TEST_F(E1000eFault, nic_of_another_kind_is_refused_with_what_there_is) {
  chip_ = std::make_shared<Chip>();
  const auto port = open_nic(std::make_unique<ModelFunction>(chip_, 0x1572), {});
  ASSERT_FALSE(port);
  EXPECT_EQ(port.error().code, Code::kNotFound);
  for (const char* words : {"8086:1572", "82574L", "packet:"}) {
    EXPECT_NE(port.error().message().find(words), std::string::npos) << words;
  }
}

TEST_F(E1000eFault, start_without_buffers_and_buffers_that_are_too_small_are_refused) {
  auto port = open({.mtu = 9000, .descriptors = 64});
  ASSERT_TRUE(port);
  EXPECT_FALSE((*port)->start());
  memory_.resize(size_t{kBuffers} * 2048);
  ASSERT_TRUE((*port)->prepare({memory_.data(), memory_.size()}));
  FreeBuffers free(kBuffers);
  for (uint32_t i = 0; i < kBuffers; ++i) free.push(i);
  const Region small{memory_.data(), 0, 2048, kBuffers, 0};
  EXPECT_FALSE((*port)->receive_queues()[0]->arm(small, free));
  EXPECT_EQ(free.size(), kBuffers);
  const Region large{memory_.data(), 0, 16384, 10, 0};
  FreeBuffers few(10);
  few.push(0);
  EXPECT_FALSE((*port)->receive_queues()[0]->arm(large, few));
  EXPECT_EQ(few.size(), 1u);
}

TEST_F(E1000eFault, destroying_a_running_port_stops_the_device_and_gives_it_back) {
  run();
  nic_.reset();
  EXPECT_TRUE(chip_->released);
  EXPECT_FALSE(chip_->bus_master);
}

}  // namespace
}  // namespace ringcap::nic

// The ixgbe driver against the model of its chips, which is all that has run it.
#include "tests/nic/ixgbe_model.h"

#include <fmt/format.h>
#include <poll.h>
#include <sys/eventfd.h>

#include <functional>
#include <random>

#include "driver/intel/descriptors.h"
#include "driver/ixgbe/registers.h"
#include "driver/pci/nic_port.h"
#include "tests/nic/model_nic.h"

namespace ringcap::nic {
namespace {

namespace reg = ixgbe;
using Bytes = std::vector<uint8_t>;

constexpr uint32_t kMacErrorBit = 1u << 29, kChecksumErrorBit = 1u << 31;
const Bytes kGood = make_frame(1, 100);

template <class Test>
class IxgbeModel : public ModelNic<IxgbeChip, IxgbeKind, Test> {
 protected:
  uint64_t statistic(const std::string& name) { return nic::statistic(this->nic_->port(), name); }
  uint32_t mask() { return this->chip_->registers[reg::EIMS]; }
};

// ---- every chip of the family -----------------------------------------------------------------------

class IxgbeFamily : public IxgbeModel<testing::TestWithParam<IxgbeKind>> {
 protected:
  const IxgbeKind& kind() const {
    for (const IxgbeKind& each : ixgbe_kinds())
      if (each.device == GetParam().device) return each;
    return ixgbe_kinds()[0];
  }
};

INSTANTIATE_TEST_SUITE_P(Chips, IxgbeFamily, testing::ValuesIn(ixgbe_kinds().begin(), ixgbe_kinds().end()),
                         [](const auto& each) { return std::string(each.param.name); });

TEST_P(IxgbeFamily, spreads_flows_over_16_queues_as_a_software_toeplitz_says) {
  run(kind(), {.queues = 16});
  std::mt19937 random(5);
  std::vector<uint32_t> got(16);
  for (uint32_t i = 0; i < 1600; ++i) {
    const Flow flow = random_flow(random);
    const Bytes frame = flow_frame(flow, i, 100 + i % 200);
    const uint32_t queue = chip_->deliver_flow(flow, frame);
    frames_.clear();
    ASSERT_EQ(take(queue).frames, 1u) << "queue " << queue;
    EXPECT_EQ(frames_[0], frame);
    ++got[queue];
  }
  for (uint32_t queue = 0; queue < 16; ++queue) EXPECT_GT(got[queue], 40u) << queue;
}

TEST_P(IxgbeFamily, wraps_each_ring_with_frames_of_all_lengths) {
  run(kind(), {.queues = 16});
  for (uint32_t queue = 0; queue < 16; ++queue) {
    for (uint32_t i = 0; i < 300; ++i) {
      const Bytes frame = make_frame(i, 60 + (i * 5 + queue) % 1463);
      ASSERT_TRUE(chip_->deliver(frame, {}, queue));
      frames_.clear();
      ASSERT_EQ(take(queue).frames, 1u);
      ASSERT_EQ(frames_[0], frame);
    }
  }
}

TEST_P(IxgbeFamily, has_one_queue_more_than_the_chip_refused_by_name) {
  const auto port = open(kind(), {.queues = 17});
  ASSERT_FALSE(port);
  EXPECT_EQ(port.error().code, Code::kUsage);
  const std::string words = fmt::format("queues=17: {} (ixgbe) has 16 receive queues", kind().name);
  EXPECT_NE(port.error().text.find(words), std::string::npos) << port.error().text;
}

TEST_P(IxgbeFamily, gives_each_queue_a_vector_and_link_the_one_behind_them) {
  run(kind(), {.queues = 16});
  EXPECT_EQ(chip_->other_vector(), 16);
  EXPECT_EQ(chip_->registers[reg::EIMS_EX], 1u << 16);
  for (uint32_t queue = 0; queue < 16; ++queue) {
    EXPECT_EQ(chip_->vector_of(queue), static_cast<int>(queue));
    nic_->queue(queue).enable_wake();
    EXPECT_EQ(mask() & 0xffff, 1u << queue);
    nic_->queue(queue).disable_wake();
    EXPECT_EQ(mask() & 0xffff, 0u);
    EXPECT_GE(nic_->queue(queue).wait_fd(), 0);
  }
  EXPECT_EQ(mask(), reg::eicr::LSC);
  EXPECT_EQ(chip_->registers[reg::GPIE] & reg::gpie::MSIX_MODE, reg::gpie::MSIX_MODE);
  EXPECT_EQ(chip_->registers[reg::EIAC], 0xffffu);
}

TEST_P(IxgbeFamily, with_one_queue_counts_as_missed_what_found_no_room) {
  run(kind());
  for (int i = 0; i < 100; ++i) chip_->deliver(kGood);
  EXPECT_EQ(take().frames, 63u);
  EXPECT_EQ(nic_->queue().counters().missed, 37u);
  EXPECT_EQ(nic_->queue().counters().received, 100u);
  EXPECT_EQ(statistic("rx_missed_errors"), 37u);
}

TEST_P(IxgbeFamily, counts_what_each_queue_drops_and_the_sum_balances) {
  run(kind(), {.queues = 16});
  uint64_t taken = 0;
  for (uint32_t queue = 0; queue < 16; ++queue) {
    for (uint32_t i = 0; i < 60 + queue; ++i) chip_->deliver(kGood, {}, queue);
    taken += take(queue).frames;
  }
  chip_->deliver(kGood, {.errors = kMacErrorBit}, 3);
  for (int reading = 0; reading < 3; ++reading) {
    const QueueCounters together = counters();
    EXPECT_EQ(together.missed, 78u);  // 1 to 12 of queues 4 to 15
    EXPECT_EQ(together.bad, 1u);
    EXPECT_EQ(together.received, taken + together.missed + together.bad);
    for (uint32_t queue = 0; queue < 16; ++queue) {
      const uint64_t drops = queue < 4 ? 0 : queue - 3;
      EXPECT_EQ(nic_->queue(queue).counters().missed, drops);
      EXPECT_EQ(nic_->queue(queue).counters().received, layout::kNotCounted);
      EXPECT_EQ(statistic(fmt::format("rx_queue_{}_drops", queue)), drops);
      EXPECT_EQ(statistic(fmt::format("rx_queue_{}_packets", queue)), 60 + queue - drops);
    }
  }
}

TEST_P(IxgbeFamily, delivers_frames_of_15_868_bytes_in_one_piece_and_drops_and_counts_longer_ones) {
  run(kind(), {.mtu = 15846});
  const Bytes longest = make_frame(7, 15868);
  EXPECT_TRUE(chip_->deliver(longest));
  EXPECT_FALSE(chip_->deliver(Bytes(15869)));
  EXPECT_EQ(take().frames, 1u);
  EXPECT_EQ(frames_, std::vector<Bytes>{longest});
  EXPECT_EQ(counters().bad, 1u);
  EXPECT_EQ(counters().received, 2u);
  const auto port = open(kind(), {.mtu = 15847});
  ASSERT_FALSE(port);
  EXPECT_NE(port.error().text.find("mtu=15847: ixgbe takes 68 to 15846"), std::string::npos)
      << port.error().text;
}

TEST_P(IxgbeFamily, keeps_the_crc_of_each_frame_with_crc_1) {
  run(kind(), {.crc = true});
  EXPECT_TRUE(nic_->port().keeps_crc());
  chip_->deliver(kGood);
  EXPECT_EQ(take().frames, 1u);
  ASSERT_EQ(frames_.size(), 1u);
  EXPECT_EQ(frames_[0], with_crc(kGood));
}

TEST_P(IxgbeFamily, sends_with_advanced_descriptors) {
  run(kind(), {.transmit = true});
  TransmitQueue& sender = *nic_->port().transmit_queues()[0];
  uint32_t cookies[4];
  for (uint32_t i = 0; i < 3000; ++i) {
    const Bytes frame = make_frame(i, 60 + i % 1400);
    std::memcpy(nic_->region().base, frame.data(), frame.size());
    const TransmitFrame one{.data = nic_->region().base,
                            .arena_offset = 0,
                            .length = static_cast<uint32_t>(frame.size()),
                            .cookie = i};
    ASSERT_EQ(sender.transmit({&one, 1}), 1u);
    ASSERT_EQ(sender.completed(cookies), 1u);
    ASSERT_EQ(cookies[0], i);
    ASSERT_EQ(chip_->sent.back(), frame);
  }
}

TEST_P(IxgbeFamily, captures_everything_as_it_is_and_holds_nobody_up) {
  run(kind(), {.queues = 2, .transmit = true});
  const auto& registers = chip_->registers;
  EXPECT_EQ(registers.at(reg::FCTRL), reg::fctrl::UPE | reg::fctrl::MPE | reg::fctrl::BAM);
  EXPECT_EQ(registers.at(reg::HLREG0) & reg::hlreg0::RXLNGTHERREN, 0u);
  EXPECT_EQ(registers.at(reg::FCCFG) & reg::fccfg::TFCE, 0u);
  EXPECT_EQ(registers.at(reg::MFLCN) & (reg::mflcn::RFCE | reg::mflcn::RPFCE), 0u);
  const uint32_t extended = registers.at(reg::CTRL_EXT);
  EXPECT_TRUE((extended & reg::ctrl_ext::NS_DIS) && (extended & reg::ctrl_ext::RO_DIS));
  EXPECT_TRUE(extended & reg::ctrl_ext::DRV_LOAD);
  for (uint32_t queue = 0; queue < 2; ++queue)
    EXPECT_EQ(chip_->receive_register(queue, reg::DCA_RXCTRL), 0u) << queue;
  EXPECT_EQ(registers.at(reg::TRANSMIT_BLOCK + reg::DCA_TXCTRL), 0u);
  nic_->port().stop();
  EXPECT_FALSE(chip_->registers[reg::CTRL_EXT] & reg::ctrl_ext::DRV_LOAD);
  EXPECT_FALSE(chip_->bus_master);
}

TEST_P(IxgbeFamily, stops_and_starts_again_with_its_counters_kept) {
  run(kind(), {.queues = 2});
  for (int round = 1; round <= 5; ++round) {
    for (uint32_t i = 0; i < 40; ++i) ASSERT_TRUE(chip_->deliver(make_frame(i, 100), {}, i % 2));
    EXPECT_EQ(take(0).frames + take(1).frames, 40u);
    EXPECT_EQ(counters().received, 40u * static_cast<uint64_t>(round));
    nic_->port().stop();
    EXPECT_FALSE(chip_->deliver(kGood));
    nic_->disarm();
    ASSERT_NO_FATAL_FAILURE(nic_->arm_and_start());
  }
}

TEST_P(IxgbeFamily, link_and_its_speed_are_read_and_a_change_is_an_event) {
  run(kind());
  EXPECT_TRUE(nic_->port().link().up);
  EXPECT_EQ(nic_->port().link().mbps, 10'000u);
  chip_->registers[reg::EICR] = reg::eicr::LSC;
  chip_->set_links(0);
  nic_->port().handle_event();
  EXPECT_EQ(chip_->registers[reg::EICR], 0u);
  EXPECT_EQ(mask() & reg::eicr::LSC, reg::eicr::LSC);
  EXPECT_FALSE(nic_->port().link().up);
  EXPECT_TRUE(nic_->port().link().present);
  const std::pair<uint32_t, uint32_t> speeds[] = {{1u << 28, 100}, {2u << 28, 1000}, {3u << 28, 10'000}};
  for (const auto& [bits, mbps] : speeds) {
    chip_->set_links(1u << 30 | bits);
    EXPECT_EQ(nic_->port().link().mbps, mbps);
  }
}

TEST_P(IxgbeFamily, registers_are_dumped_without_one_that_reading_changes) {
  chip_ = std::make_shared<IxgbeChip>(kind());
  ModelFunction function(chip_);
  chip_->registers[0xA200] = 0x01005e00;  // RAL
  chip_->registers[reg::EICR] = reg::eicr::LSC;
  chip_->count(reg::GPRC, 7);
  const auto values = dump_nic(function);
  ASSERT_TRUE(values);
  std::map<std::string, uint32_t> named;
  for (const auto& each : *values) named[each.name] = each.value;
  EXPECT_EQ(named.size(), values->size());
  EXPECT_EQ(named["RAL"], 0x01005e00u);
  EXPECT_EQ(named["MAXFRS"], 1518u << 16);
  for (const uint32_t semaphore : {reg::SW_FW_SYNC, reg::SWSM}) EXPECT_EQ(chip_->registers[semaphore], 0u);
  EXPECT_EQ(chip_->registers[reg::EICR], reg::eicr::LSC);
  EXPECT_EQ(chip_->registers[reg::GPRC], 7u);
}

// ---- faults ------------------------------------------------------------------------------------------

class IxgbeFault : public IxgbeModel<testing::Test> {
 protected:
  const IxgbeKind& fibre_ = ixgbe_kinds()[0];
  const IxgbeKind& copper_ = ixgbe_kinds()[1];
};

TEST_F(IxgbeFault, crc_1_with_timestamps_of_the_adapter_is_refused_for_they_have_the_same_place) {
  const auto port = open(ixgbe_kinds().back(), {.crc = true, .adapter_time = true});
  ASSERT_FALSE(port);
  EXPECT_EQ(port.error().code, Code::kUsage);
  EXPECT_NE(port.error().message().find("leave one of them out"), std::string::npos);
}

TEST_F(IxgbeFault, frame_in_several_descriptors_counts_once_as_broken_and_the_next_one_arrives) {
  frame_in_several_descriptors_counts_once_as_broken(fibre_);
}

TEST_F(IxgbeFault, length_that_no_buffer_holds_is_broken_and_its_buffer_is_armed_again) {
  length_that_no_buffer_holds_is_broken(fibre_);
}

TEST_F(IxgbeFault, length_zero_is_not_believed_until_the_device_has_gone_on_and_is_broken_then) {
  run(fibre_);
  chip_->deliver(Bytes(60), {.length = 0});
  EXPECT_EQ(take().broken, 0u);
  chip_->deliver(kGood);
  const Burst burst = take();
  EXPECT_EQ(burst.broken, 1u);
  EXPECT_EQ(burst.frames, 1u);
}

TEST_F(IxgbeFault, bad_frames_are_flagged_and_delivered_with_bad_1_and_dropped_and_counted_without) {
  run(fibre_, {.bad = true});
  chip_->deliver(kGood, {.errors = kMacErrorBit});
  chip_->deliver(Bytes(30));
  chip_->deliver(Bytes(1600));
  chip_->deliver(kGood);
  std::vector<Frame> out(8);
  ASSERT_EQ(nic_->queue().receive(out, nic_->free()).frames, 4u);
  EXPECT_EQ(out[0].flags, layout::kBadCrc);
  EXPECT_EQ(out[1].flags, layout::kBadLength);
  EXPECT_EQ(out[2].flags, layout::kBadLength);
  EXPECT_EQ(out[3].flags, 0u);
  EXPECT_EQ(counters().received, 4u);
  EXPECT_EQ(counters().bad, 0u);
  nic_.reset();
  run(fibre_);
  EXPECT_FALSE(chip_->deliver(kGood, {.errors = kMacErrorBit}));
  EXPECT_FALSE(chip_->deliver(Bytes(30)));
  EXPECT_FALSE(chip_->deliver(Bytes(30), {.errors = kMacErrorBit}));
  EXPECT_FALSE(chip_->deliver(Bytes(1523)));
  EXPECT_FALSE(chip_->deliver(Bytes(1523), {.errors = kMacErrorBit}));
  EXPECT_TRUE(chip_->deliver(Bytes(1522)));
  EXPECT_EQ(take().frames, 1u);
  EXPECT_EQ(counters().bad, 5u);
  EXPECT_EQ(counters().received, 6u);
  for (const char* name :
       {"rx_crc_errors", "rx_short_length_errors", "rx_fragments", "rx_long_length_errors", "rx_jabbers"})
    EXPECT_EQ(statistic(name), 1u) << name;
}

TEST_F(IxgbeFault, wrong_ip_checksum_is_no_reason_to_doubt_a_frame) {
  for (const bool bad : {false, true}) {
    run(fibre_, {.bad = bad});
    ASSERT_TRUE(chip_->deliver(kGood, {.errors = kChecksumErrorBit}));
    std::vector<Frame> out(1);
    ASSERT_EQ(nic_->queue().receive(out, nic_->free()).frames, 1u);
    EXPECT_EQ(out[0].flags, 0u);
    nic_.reset();
  }
}

TEST_F(IxgbeFault, counters_go_beyond_32_bits_and_keep_what_a_reset_clears) {
  run(fibre_);
  for (int i = 0; i < 3; ++i) {
    chip_->count(reg::GPRC, 0xf000'0000);
    chip_->count(reg::GORCL + 4, 0xf);
    counters();
  }
  nic_->port().stop();
  ASSERT_TRUE(nic_->port().start());
  EXPECT_EQ(counters().received, 3 * uint64_t{0xf000'0000});
  EXPECT_EQ(statistic("rx_pkts_nic"), 3 * uint64_t{0xf000'0000});
  EXPECT_EQ(statistic("rx_bytes_nic"), 3 * (uint64_t{0xf} << 32));
}

TEST_F(IxgbeFault, queue_that_does_not_switch_on_is_an_error_that_names_it) {
  queue_that_does_not_switch_on_is_an_error(fibre_);
}

TEST_F(IxgbeFault, reset_that_does_not_end_is_given_up_with_what_to_do) {
  const std::pair<std::function<void(IxgbeChip&)>, const char*> cases[] = {
      {[](IxgbeChip& chip) { chip.reset_hangs = true; }, "the NIC does not come out of reset"},
      {[](IxgbeChip& chip) { chip.dma_hangs = true; }, "DMA does not come out of reset"}};
  for (const auto& [fault, words] : cases) {
    fault_ = fault;
    const auto port = open(fibre_, {});
    ASSERT_FALSE(port);
    EXPECT_NE(port.error().message().find(words), std::string::npos) << port.error().message();
    EXPECT_NE(port.error().mend.find("off and on"), std::string::npos);
  }
}

TEST_F(IxgbeFault, device_that_cannot_finish_its_requests_is_reset_twice) {
  fault_ = [](IxgbeChip& chip) { chip.unfinished = 2; };
  ASSERT_TRUE(open(fibre_, {}));
  EXPECT_EQ(chip_->resets, 2u);
  EXPECT_EQ(chip_->registers[reg::GCR_EXT] & reg::gcr_ext::BUFFERS_CLEAR, 0u);
}

TEST_F(IxgbeFault, device_that_is_pulled_out_is_noticed_and_adds_nothing_to_the_counters) {
  device_that_is_pulled_out_is_noticed(copper_);
}

TEST_F(IxgbeFault, device_that_does_not_answer_is_not_opened) {
  for (const IxgbeKind& kind : ixgbe_kinds()) {
    fault_ = [](IxgbeChip& chip) { chip.removed = true; };
    const auto port = open(kind, {});
    ASSERT_FALSE(port);
    EXPECT_EQ(port.error().code, Code::kGone);
  }
}

TEST_F(IxgbeFault, request_to_give_the_device_back_is_met_at_once_and_the_queues_survive) {
  request_to_give_the_device_back_is_met_at_once(fibre_);
}

TEST_F(IxgbeFault, pcie_error_is_answered_by_a_reset_and_every_queue_goes_on_where_it_was) {
  pcie_error_is_answered_by_a_reset(fibre_);
}

// ---- link ----------------------------------------------------------------------------------------------

TEST_F(IxgbeFault, laser_is_switched_on_and_link_is_restarted_only_where_there_is_none) {
  run(fibre_);
  EXPECT_EQ(chip_->registers[reg::ESDP] & reg::esdp::SDP3, 0u);
  EXPECT_EQ(chip_->link_restarts, 0u);
  nic_->port().stop();
  const uint32_t before = chip_->link_restarts;
  chip_->set_links(0);
  ASSERT_TRUE(nic_->port().start());
  EXPECT_GT(chip_->link_restarts, before);
}

TEST_F(IxgbeFault, link_that_is_negotiated_is_left_alone_and_a_phy_that_sleeps_is_woken) {
  run(copper_);
  EXPECT_EQ(chip_->negotiations, 0u);
  nic_->port().stop();
  chip_->phy[0x1e << 16] |= 1 << 11;    // as a kernel driver leaves it
  chip_->phy[7 << 16 | 16] |= 3 << 10;  // pause frames are offered
  ASSERT_TRUE(nic_->port().start());
  EXPECT_EQ(chip_->negotiations, 1u);
  EXPECT_FALSE(chip_->phy[0x1e << 16] & 1 << 11);
  EXPECT_FALSE(chip_->phy[7 << 16 | 16] & 3 << 10);
}

TEST_F(IxgbeFault, phy_that_the_firmware_keeps_to_itself_is_left_to_it) {
  fault_ = [](IxgbeChip& chip) { chip.no_phy = true; };
  run(copper_);
  EXPECT_EQ(chip_->negotiations, 0u);
  EXPECT_TRUE(nic_->port().link().up);
}

TEST_F(IxgbeFault, semaphores_that_a_dead_driver_kept_are_taken_in_the_end) {
  for (const IxgbeKind& kind : ixgbe_kinds()) {
    SCOPED_TRACE(kind.name);
    run(kind);
    nic_->port().stop();
    chip_->set_links(0);
    const uint32_t mine = kind.copper ? reg::sw_fw_sync::PHY0 : reg::sw_fw_sync::MAC_CSR;
    chip_->registers[reg::SW_FW_SYNC] = mine | (kind.regsmp ? 1u << 31 : 0);
    chip_->registers[reg::SWSM] = 1;
    EXPECT_TRUE(nic_->port().start());
    EXPECT_EQ(chip_->registers[reg::SW_FW_SYNC] & mine, 0u);
    EXPECT_EQ(chip_->registers[reg::SWSM], 0u);
    nic_.reset();
  }
}

TEST_F(IxgbeFault, loopback_of_a_self_test_ends_with_the_next_start_without) {
  for (const IxgbeKind& kind : ixgbe_kinds()) {
    run(kind, {.loopback = pci::Loopback::kMac});
    EXPECT_TRUE(chip_->registers[reg::HLREG0] & reg::hlreg0::LPBK);
    const uint32_t forced = kind.copper ? chip_->registers[reg::MACC] & reg::macc::FLU
                                        : chip_->registers[reg::AUTOC] & reg::autoc::FLU;
    EXPECT_TRUE(forced);
    const auto left = chip_->registers;
    nic_.reset();
    fault_ = [&](IxgbeChip& next) { next.registers = left; };
    run(kind);
    EXPECT_FALSE(chip_->registers[reg::HLREG0] & reg::hlreg0::LPBK);
    EXPECT_FALSE(chip_->registers[reg::MACC] & reg::macc::FLU);
    EXPECT_FALSE(chip_->registers[reg::AUTOC] & reg::autoc::FLU);
    fault_ = {};
    nic_.reset();
  }
}

TEST_F(IxgbeFault, registers_keep_the_patterns_of_a_self_test_and_its_interrupts_are_causes) {
  ASSERT_NO_FATAL_FAILURE(run(copper_, {.queues = 4}));
  auto& port = dynamic_cast<pci::SelfTestable&>(nic_->port());
  EXPECT_TRUE(port.fire(2));
  EXPECT_EQ(chip_->registers[reg::EICR], 1u << 2);
  EXPECT_TRUE(port.fire(4));
  EXPECT_EQ(chip_->registers[reg::EICR], 1u << 2 | reg::eicr::LSC);
  nic_->port().stop();
  const auto tried = port.try_registers();
  ASSERT_TRUE(tried) << tried.error().message();
  EXPECT_GT(*tried, 0u);
}

TEST_F(IxgbeFault, speeds_between_the_usual_ones_are_told_apart) {
  run(ixgbe_kinds()[2]);
  chip_->set_links(1u << 30 | 3u << 28 | 1u << 27);
  EXPECT_EQ(nic_->port().link().mbps, 2500u);
  chip_->set_links(1u << 30 | 1u << 28 | 1u << 27);
  EXPECT_EQ(nic_->port().link().mbps, 5000u);
}

// ---- interrupts ----------------------------------------------------------------------------------------

TEST_F(IxgbeFault, moderation_is_microseconds_in_steps_of_two_and_off_is_none) {
  run(fibre_, {.queues = 2, .moderation_us = 250});
  EXPECT_EQ(chip_->registers[reg::EITR], 125u << 3);
  EXPECT_EQ(chip_->registers[reg::EITR + 4], 125u << 3);
  nic_.reset();
  run(fibre_, {.moderation_us = 0});
  EXPECT_EQ(chip_->registers[reg::EITR], 0u);
  nic_.reset();
  run(fibre_, {.moderation_us = 10000});
  EXPECT_EQ(chip_->registers[reg::EITR], 0xff8u);
  nic_->port().counters();
  EXPECT_EQ(statistic("rx_queue_0_moderation_us"), 1022u);  // what it is, not what was asked for
}

TEST_F(IxgbeFault, one_interrupt_for_everything_wakes_the_worker_which_tells_of_link) {
  interrupt_ = pci::Interrupt::kMsi;
  run(fibre_);
  EXPECT_EQ(chip_->vector_of(0), 0);  // EICR's bit 0
  EXPECT_EQ(chip_->registers[reg::GPIE], 0u);
  nic_->queue().enable_wake();
  EXPECT_EQ(mask(), 1u | reg::eicr::LSC);
  chip_->registers[reg::EICR] = 1 | reg::eicr::LSC;
  nic_->queue().disable_wake();
  EXPECT_EQ(mask(), 0u);
  EXPECT_EQ(chip_->registers[reg::EICR], 0u);
  pollfd event{.fd = nic_->port().event_fd(), .events = POLLIN, .revents = 0};
  EXPECT_EQ(::poll(&event, 1, 0), 1);
}

TEST_F(IxgbeFault, several_queues_without_msi_x_are_refused) {
  interrupt_ = pci::Interrupt::kMsi;
  const auto port = open(fibre_, {.queues = 2});
  ASSERT_FALSE(port);
  EXPECT_NE(port.error().text.find("MSI-X"), std::string::npos) << port.error().text;
}

}  // namespace
}  // namespace ringcap::nic

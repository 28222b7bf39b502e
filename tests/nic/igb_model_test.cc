// The igb driver against the model of its chips: faults, and everything for the chips that QEMU does not
// have.
#include "tests/nic/igb_model.h"

#include <fmt/format.h>
#include <sys/eventfd.h>

#include <optional>
#include <random>

#include "capture/engine/forwarders.h"
#include "driver/igb/registers.h"
#include "driver/intel/descriptors.h"
#include "tests/nic/model_nic.h"

namespace ringcap::nic {
namespace {

namespace reg = igb;
using Bytes = std::vector<uint8_t>;

constexpr uint32_t kBadCrcBit = 1u << 24;
const Bytes kGood = make_frame(1, 100);

template <class Test>
using IgbModel = ModelNic<IgbChip, IgbKind, Test>;

// ---- every chip of the family -----------------------------------------------------------------------

class IgbFamily : public IgbModel<testing::TestWithParam<IgbKind>> {
 protected:
  const IgbKind& kind() const {
    for (const IgbKind& each : igb_kinds())
      if (each.device == GetParam().device) return each;
    return igb_kinds()[0];
  }
};

INSTANTIATE_TEST_SUITE_P(Chips, IgbFamily, testing::ValuesIn(igb_kinds().begin(), igb_kinds().end()),
                         [](const auto& each) { return std::string(each.param.name); });

TEST_P(IgbFamily, spreads_flows_over_all_its_queues_as_a_software_toeplitz_says) {
  run(kind(), {.queues = kind().queues});
  std::mt19937 random(5);
  std::vector<uint32_t> got(kind().queues);
  std::vector<Bytes> expected;
  for (uint32_t i = 0; i < 40 * kind().queues; ++i) {
    const Flow flow = random_flow(random);
    const Bytes frame = flow_frame(flow, i, 100 + i % 200);
    const uint32_t queue = chip_->deliver_flow(flow, frame);
    frames_.clear();
    ASSERT_EQ(take(queue).frames, 1u) << "queue " << queue;
    EXPECT_EQ(frames_[0], frame);
    ++got[queue];
  }
  for (uint32_t queue = 0; queue < kind().queues; ++queue) EXPECT_GT(got[queue], 10u) << queue;
}

TEST_P(IgbFamily, wraps_each_ring) {
  run(kind(), {.queues = kind().queues});
  for (uint32_t queue = 0; queue < kind().queues; ++queue) {
    for (uint32_t i = 0; i < 300; ++i) {
      const Bytes frame = make_frame(i, 60 + i);
      ASSERT_TRUE(chip_->deliver(frame, {}, queue));
      frames_.clear();
      ASSERT_EQ(take(queue).frames, 1u);
      ASSERT_EQ(frames_[0], frame);
    }
  }
}

TEST_P(IgbFamily, has_one_queue_more_than_the_chip_refused_by_name) {
  const auto port = open(kind(), {.queues = kind().queues + 1});
  ASSERT_FALSE(port);
  EXPECT_EQ(port.error().code, Code::kUsage);
  const std::string words =
      fmt::format("queues={}: {} (igb) has {} receive queues", kind().queues + 1, kind().name, kind().queues);
  EXPECT_NE(port.error().text.find(words), std::string::npos) << port.error().text;
}

TEST_P(IgbFamily, gives_each_queue_a_vector_as_long_as_there_are_some_and_polls_the_others) {
  run(kind(), {.queues = kind().queues});
  for (uint32_t queue = 0; queue < kind().queues; ++queue) {
    const uint32_t link = kind().vectors - 1;
    const bool own = queue < link;
    EXPECT_EQ(chip_->vector_of(queue), own ? static_cast<int>(queue) : -1) << queue;
    if (queue == link) continue;  // its bit is that vector's
    nic_->queue(queue).enable_wake();
    EXPECT_EQ(chip_->registers[reg::EIMS] >> queue & 1, own ? 1u : 0u) << queue;
    nic_->queue(queue).disable_wake();
    EXPECT_EQ(chip_->registers[reg::EIMS] >> queue & 1, 0u) << queue;
    if (!own) {
      EXPECT_EQ(nic_->queue(queue).wait_fd(), -1);
    }
  }
  EXPECT_EQ(chip_->registers[reg::GPIE] & reg::gpie::MSIX_MODE, reg::gpie::MSIX_MODE);
}

TEST_P(IgbFamily, with_one_queue_counts_as_missed_what_found_no_room) {
  run(kind());
  for (int i = 0; i < 100; ++i) chip_->deliver(kGood);
  EXPECT_EQ(take().frames, 63u);
  EXPECT_EQ(counters().missed, 37u);
  EXPECT_EQ(counters().received, 100u);
  EXPECT_EQ(nic_->queue().counters().received, 100u);
}

TEST_P(IgbFamily, strips_the_crc_where_the_chip_wants_it_said_twice) {
  run(kind(), {.queues = 2});
  EXPECT_TRUE(chip_->registers[reg::RCTL] & reg::rctl::SECRC);
  for (uint32_t queue = 0; queue < 2 && kind().crc_by_queue; ++queue)
    EXPECT_TRUE(chip_->receive_register(queue, reg::DVMOLR) & reg::dvmolr::STRCRC) << queue;
}

TEST_P(IgbFamily, keeps_the_crc_of_each_frame_with_crc_1) {
  run(kind(), {.queues = 2, .crc = true});
  EXPECT_FALSE(chip_->registers[reg::RCTL] & reg::rctl::SECRC);
  for (uint32_t queue = 0; queue < 2 && kind().crc_by_queue; ++queue)
    EXPECT_FALSE(chip_->receive_register(queue, reg::DVMOLR) & reg::dvmolr::STRCRC) << queue;
  EXPECT_TRUE(nic_->port().keeps_crc());
  chip_->deliver(kGood);
  chip_->deliver(Bytes(1522));
  EXPECT_EQ(take().frames, 2u);
  ASSERT_EQ(frames_.size(), 2u);
  EXPECT_EQ(frames_[0], with_crc(kGood));
  EXPECT_EQ(frames_[1], with_crc(Bytes(1522)));
}

TEST_P(IgbFamily, sends_with_advanced_descriptors) {
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

// ---- faults ------------------------------------------------------------------------------------------

class IgbFault : public IgbModel<testing::Test> {
 protected:
  const IgbKind& kind_ = igb_kinds()[0];
};

TEST_F(IgbFault, frame_in_several_descriptors_counts_once_as_broken_and_the_next_one_arrives) {
  frame_in_several_descriptors_counts_once_as_broken(kind_);
}

TEST_F(IgbFault, length_that_no_buffer_holds_is_broken_and_its_buffer_is_armed_again) {
  length_that_no_buffer_holds_is_broken(kind_);
}

TEST_F(IgbFault, done_bit_that_comes_back_in_a_slot_that_was_given_back_gives_no_frame) {
  run(kind_);
  for (uint32_t i = 0; i < 300; ++i) {
    const Bytes frame = make_frame(i, 60 + i % 100);
    const uint32_t slot = chip_->receive_register(0, reg::RDH);
    ASSERT_TRUE(chip_->deliver(frame));
    frames_.clear();
    ASSERT_EQ(take().frames, 1u) << i;
    EXPECT_EQ(frames_[0], frame);
    // What QEMU does: the status is stored a second time, after the driver gave the slot back.
    reinterpret_cast<intel::Descriptor*>(chip_->windows[0].data)[slot].word |= 3;
    const Burst again = take();
    ASSERT_EQ(again.frames + again.broken + again.no_buffer, 0u) << i;
  }
}

TEST_F(IgbFault, with_crc_1_nothing_is_forwarded_for_the_crc_would_be_sent_as_a_part_of_the_frame) {
  const auto keeps = open(kind_, {.crc = true});
  ASSERT_TRUE(keeps);
  const auto sends = open(kind_, {.transmit = true});
  ASSERT_TRUE(sends);
  const auto forwards = engine::check_forwards({{.from = 0, .to = 1}}, {keeps->get(), sends->get()});
  ASSERT_FALSE(forwards);
  EXPECT_EQ(forwards.error().code, Code::kUsage);
  EXPECT_NE(forwards.error().message().find("leave crc=1 out"), std::string::npos);
}

TEST_F(IgbFault, bad_crc_is_flagged_and_delivered_with_bad_1_and_dropped_and_counted_without) {
  run(kind_, {.bad = true});
  chip_->deliver(kGood, {.errors = kBadCrcBit});
  chip_->deliver(Bytes(30));
  chip_->deliver(Bytes(1600));
  chip_->deliver(kGood);
  std::vector<Frame> out(8);
  ASSERT_EQ(nic_->queue().receive(out, nic_->free()).frames, 4u);
  EXPECT_EQ(out[0].flags, layout::kBadCrc);
  EXPECT_EQ(out[1].flags, layout::kBadLength);
  EXPECT_EQ(out[2].flags, layout::kBadLength);
  EXPECT_EQ(out[3].flags, 0u);
  nic_.reset();
  run(kind_);
  EXPECT_FALSE(chip_->deliver(kGood, {.errors = kBadCrcBit}));
  EXPECT_TRUE(chip_->deliver(kGood));
  EXPECT_EQ(take().frames, 1u);
  EXPECT_EQ(counters().bad, 1u);
  EXPECT_EQ(counters().received, 2u);
}

TEST_F(IgbFault, what_a_queue_drops_is_counted_for_that_queue_on_every_chip) {
  for (const IgbKind& kind : igb_kinds()) {
    SCOPED_TRACE(kind.name);
    nic_.reset();
    run(kind, {.queues = 2});
    for (int i = 0; i < 100; ++i) chip_->deliver(kGood, {}, 1);  // 63 fit
    chip_->deliver(kGood, {}, 0);
    EXPECT_EQ(take(0).frames, 1u);
    EXPECT_EQ(take(1).frames, 63u);
    for (int reading = 0; reading < 3; ++reading) {
      const QueueCounters together = counters();
      EXPECT_EQ(together.missed, 37u);
      EXPECT_EQ(together.received, 101u);
      EXPECT_EQ(together.bad, 0u);
      EXPECT_EQ(nic_->queue(0).counters().missed, 0u);
      EXPECT_EQ(nic_->queue(1).counters().missed, 37u);
      EXPECT_EQ(nic_->queue(1).counters().received, layout::kNotCounted);
    }
    bool named = false;
    for (const Statistic& statistic : nic_->port().statistics()) {
      if (std::string_view(statistic.name) != "rx_queue_1_drops") continue;
      named = true;
      EXPECT_EQ(statistic.value, 37u);
    }
    EXPECT_TRUE(named);
  }
}

TEST_F(IgbFault, longest_frame_is_told_to_the_byte_with_room_for_two_vlan_tags) {
  run(kind_, {.mtu = 1500});
  EXPECT_TRUE(chip_->deliver(Bytes(1522)));
  EXPECT_FALSE(chip_->deliver(Bytes(1523)));
  EXPECT_EQ(take().frames, 1u);
  EXPECT_EQ(counters().bad, 1u);
  nic_.reset();
  run(kind_, {.mtu = 9216});
  EXPECT_TRUE(chip_->deliver(Bytes(9238)));
  EXPECT_FALSE(chip_->deliver(Bytes(9239)));
  EXPECT_EQ(take().frames, 1u);
}

TEST_F(IgbFault, mtu_beyond_9216_is_refused) {
  const auto port = open(kind_, {.mtu = 9217});
  ASSERT_FALSE(port);
  EXPECT_NE(port.error().text.find("mtu=9217: igb takes 68 to 9216"), std::string::npos) << port.error().text;
}

TEST_F(IgbFault, queue_that_does_not_switch_on_is_an_error_that_names_it) {
  queue_that_does_not_switch_on_is_an_error(kind_);
}

TEST_F(IgbFault, reset_that_does_not_end_is_given_up_with_what_to_do) {
  fault_ = [](IgbChip& chip) { chip.reset_hangs = true; };
  const auto port = open(kind_, {});
  ASSERT_FALSE(port);
  EXPECT_NE(port.error().message().find("does not come out of reset"), std::string::npos);
  EXPECT_NE(port.error().mend.find("off and on"), std::string::npos);
}

TEST_F(IgbFault, device_that_is_pulled_out_is_noticed_and_adds_nothing_to_the_counters) {
  device_that_is_pulled_out_is_noticed(kind_);
}

TEST_F(IgbFault, request_to_give_the_device_back_is_met_at_once_and_the_queues_survive) {
  request_to_give_the_device_back_is_met_at_once(kind_);
}

TEST_F(IgbFault, pcie_error_is_answered_by_a_reset_and_every_queue_goes_on_where_it_was) {
  pcie_error_is_answered_by_a_reset(kind_);
}

TEST_F(IgbFault, link_that_is_negotiated_is_left_alone_and_a_phy_that_sleeps_is_woken) {
  run(kind_);
  EXPECT_EQ(chip_->negotiations, 0u);
  nic_->port().stop();
  chip_->phy[0] |= 1 << 11;  // as a kernel driver leaves it
  chip_->phy[4] |= 3 << 10;  // pause frames are offered
  ASSERT_TRUE(nic_->port().start());
  EXPECT_EQ(chip_->negotiations, 1u);
  EXPECT_FALSE(chip_->phy[0] & 1 << 11);
  EXPECT_FALSE(chip_->phy[4] & 3 << 10);
}

TEST_F(IgbFault, semaphore_that_a_dead_driver_kept_is_taken_in_the_end) {
  run(kind_);
  nic_->port().stop();
  chip_->registers[reg::SW_FW_SYNC] = 2;
  chip_->registers[reg::SWSM] = reg::swsm::SMBI;
  EXPECT_TRUE(nic_->port().start());
  EXPECT_EQ(chip_->registers[reg::SW_FW_SYNC] & 2, 0u);
}

TEST_F(IgbFault, moderation_is_microseconds_and_off_is_none) {
  run(kind_, {.queues = 2, .moderation_us = 250});
  EXPECT_EQ(chip_->registers[reg::EITR], 1000u);
  EXPECT_EQ(chip_->registers[reg::EITR + 4], 1000u);
  nic_.reset();
  run(kind_, {.moderation_us = 0});
  EXPECT_EQ(chip_->registers[reg::EITR], 0u);
  nic_.reset();
  run(kind_, {.moderation_us = 10000});
  EXPECT_EQ(chip_->registers[reg::EITR], 0x7ffcu);
  nic_->port().counters();
  EXPECT_EQ(statistic(nic_->port(), "rx_queue_0_moderation_us"),
            8191u);  // what it is, not what was asked for
}

TEST_F(IgbFault, moderation_follows_each_queue_by_itself_from_latency_to_bulk_and_back) {
  constexpr uint32_t kBound = 21;  // half of a ring of 64 descriptors: shorter than low's and bulk's interval
  run(kind_, {.queues = 2});
  const auto interval_us = [&](uint32_t queue) {
    return (chip_->registers[reg::EITR + 4 * queue] & 0x7ffc) >> 2;
  };
  const auto wake_up = [&](uint32_t frames) {
    nic_->queue(1).disable_wake();
    std::vector<std::vector<uint8_t>> taken;
    for (uint32_t i = 0; i < frames; ++i) {
      ASSERT_TRUE(chip_->deliver(make_frame(i, 60), {}, 1));
      nic_->take(taken, 32, 1);
    }
    EXPECT_EQ(taken.size(), frames);
    nic_->queue(1).enable_wake();
  };
  EXPECT_EQ(interval_us(1), 10u);
  for (const auto& [frames, expected] :
       {std::pair{100u, kBound}, {100u, kBound}, {20u, kBound}, {1u, kBound}, {1u, 10u}}) {
    wake_up(frames);
    EXPECT_EQ(interval_us(1), expected) << frames;
    EXPECT_EQ(interval_us(0), 10u);
    nic_->port().counters();
    EXPECT_EQ(statistic(nic_->port(), "rx_queue_1_moderation_us"), expected);
    EXPECT_EQ(statistic(nic_->port(), "rx_queue_0_moderation_us"), 10u);
  }
}

TEST_F(IgbFault, moderation_that_was_chosen_outlives_a_pcie_error) {
  run(kind_);
  std::vector<std::vector<uint8_t>> taken;
  for (uint32_t i = 0; i < 20; ++i) {
    chip_->deliver(make_frame(i, 60));
    nic_->take(taken);
  }
  nic_->queue().enable_wake();
  chip_->pending.error = true;
  nic_->port().handle_event();
  EXPECT_EQ((chip_->registers[reg::EITR] & 0x7ffc) >> 2, 21u);
}

}  // namespace
}  // namespace ringcap::nic

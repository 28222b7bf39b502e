// The igb driver against QEMU's 82576. It has link half a second after each start: it negotiates.
//
// QEMU's igb loses frames without counting them when one of several rings is full, so the tests send no more
// at a time than a ring holds; overload is the model's (igb_model_test.cc).
#include "tests/nic/nic_in_qemu.h"

namespace ringcap::nic {
namespace {

bool hashes_ports(const Flow& flow) {
  return flow.protocol == Protocol::kTcp || flow.protocol == Protocol::kUdp;
}

class IgbInQemu : public NicInQemu {
 protected:
  IgbInQemu() : NicInQemu("igb") {}
  void expect_spread(uint32_t count, const MakeFrame& make) {
    NicInQemu::expect_spread(count, hashes_ports, make);
  }
};

TEST_F(IgbInQemu, is_found_by_its_id_and_says_what_it_is) {
  open({.queues = 4});
  EXPECT_EQ(nic_->port().driver(), "igb");
  EXPECT_EQ(nic_->port().address(), "vfio:0000:00:04.0");
  EXPECT_EQ(nic_->port().receive_queues().size(), 4u);
}

TEST_F(IgbInQemu, has_link_of_1000_mbit_after_it_negotiated) {
  run({});
  EXPECT_TRUE(nic_->port().link().present);
  EXPECT_EQ(nic_->port().link().mbps, 1000u);
}

TEST_F(IgbInQemu, delivers_frames_for_any_address) { delivers_frames_for_any_address(); }

TEST_F(IgbInQemu, delivers_all_lengths_from_60_to_9014_and_holds_them_in_one_buffer) {
  run({.mtu = 9000, .descriptors = 256});
  expect_through(9014 - 60 + 1, [](uint32_t i) { return 60 + i; });
}

TEST_F(IgbInQemu, delivers_frames_of_9238_bytes_with_mtu_9216) {
  run({.mtu = 9216, .descriptors = 64});
  const Frames sent{make_frame(1, 9230), make_frame(2, 9238), make_frame(3, 60)};
  EXPECT_EQ(through(sent), sent);
}

TEST_F(IgbInQemu, delivers_bursts_of_every_size) { delivers_bursts_of_every_size(60); }

TEST_F(IgbInQemu, leaves_room_for_the_crc_with_crc_1) { leaves_room_for_the_crc_with_crc_1(); }

TEST_F(IgbInQemu, wraps_its_ring_100_times_in_order) {
  run({.descriptors = 64});
  expect_through(100 * 64 + 7, [](uint32_t i) { return 60 + i % 200; });
}

TEST_F(IgbInQemu, leaves_one_and_two_vlan_tags_in_the_frame) { leaves_vlan_tags_in_the_frame(); }

TEST_F(IgbInQemu, drops_what_is_longer_than_its_mtu) {
  run({});
  const Frames good{make_frame(1, 1522), make_frame(4, 61)};
  for (const Frame& frame : {good[0], make_frame(2, 1523), make_frame(3, 9000), good[1]})
    machine_->send(frame);
  Frames taken;
  EXPECT_TRUE(eventually([&] {
    nic_->take(taken);
    return taken.size() == 2;
  }));
  EXPECT_EQ(taken, good);
}

TEST_F(IgbInQemu, without_free_buffers_counts_frames_and_stays_armed) {
  without_free_buffers_counts_and_stays_armed();
}

// ---- queues ------------------------------------------------------------------------------------------

TEST_F(IgbInQemu, spreads_flows_over_four_queues_as_a_software_toeplitz_says_each_in_order) {
  run({.queues = 4, .descriptors = 64});
  expect_spread(4000, [](const Flow& flow, uint32_t i) {
    return flow_frame(flow, i, 78 + i % 1400, i % 5 == 0 ? 100 : 0);
  });
}

TEST_F(IgbInQemu, wraps_the_rings_of_four_queues_100_times_each) {
  run({.queues = 4, .descriptors = 64});
  expect_spread(4 * 115 * 64, [](const Flow& flow, uint32_t i) { return flow_frame(flow, i, 78 + i % 100); });
}

TEST_F(IgbInQemu, spreads_flows_over_three_and_over_sixteen_queues) {
  for (const uint32_t queues : {3u, 16u}) {
    nic_.reset();
    run({.queues = queues, .descriptors = 64});
    expect_spread(queues * 200, [](const Flow& flow, uint32_t i) { return flow_frame(flow, i, 100); });
  }
}

TEST_F(IgbInQemu, holds_jumbo_frames_in_one_buffer_of_each_queue) {
  run({.mtu = 9000, .queues = 4, .descriptors = 64});
  expect_spread(400, [](const Flow& flow, uint32_t i) { return flow_frame(flow, i, 9014 - i); });
}

TEST_F(IgbInQemu, counts_for_the_port_and_names_its_statistics_as_ethtool_does) {
  run({.queues = 4, .descriptors = 64});
  expect_spread(600, [](const Flow& flow, uint32_t i) { return flow_frame(flow, i, 100); });
  const QueueCounters together = nic_->port().counters();
  EXPECT_EQ(together.received, 600u);
  EXPECT_EQ(together.missed, 0u);
  EXPECT_EQ(together.bad, 0u);
  for (uint32_t queue = 0; queue < 4; ++queue) {
    EXPECT_EQ(nic_->queue(queue).counters().received, layout::kNotCounted);
    EXPECT_EQ(nic_->queue(queue).counters().missed, 0u);
  }
  std::map<std::string, uint64_t> statistics;
  for (const Statistic& statistic : nic_->port().statistics()) statistics[statistic.name] = statistic.value;
  EXPECT_EQ(statistics["rx_packets"], 600u);
  EXPECT_EQ(statistics["rx_bytes"], 600u * 104);
  EXPECT_EQ(statistics.count("rx_queue_3_drops"), 1u);
  EXPECT_EQ(statistics.count("rx_queue_4_drops"), 0u);
}

TEST_F(IgbInQemu, goes_on_with_four_queues_after_stop_and_start) {
  run({.queues = 4, .descriptors = 64});
  const auto make = [](const Flow& flow, uint32_t i) { return flow_frame(flow, i, 100); };
  expect_spread(300, make);
  nic_->port().stop();
  ASSERT_TRUE(nic_->port().start());
  ASSERT_TRUE(eventually([&] { return nic_->port().link().up; }));
  expect_spread(300, make);
  nic_->port().stop();
  nic_->disarm();
  for (uint32_t queue = 0; queue < 4; ++queue) EXPECT_EQ(nic_->free(queue).size(), 64 + kSpareBuffers);
  nic_->arm_and_start();
  ASSERT_TRUE(eventually([&] { return nic_->port().link().up; }));
  expect_spread(300, make);
}

TEST_F(IgbInQemu, wakes_the_worker_of_the_queue_that_has_a_frame) {
  run({.queues = 4, .descriptors = 64});
  const auto key = rss_key();
  std::mt19937 random(3);
  for (uint32_t i = 0; i < 100; ++i) {
    const Flow flow = random_flow(random);
    const uint32_t mine = software_toeplitz(key, flow.tuple(hashes_ports(flow))) % 128 % 4;
    Frames frames;
    for (uint32_t queue = 0; queue < 4; ++queue) nic_->queue(queue).enable_wake();
    machine_->send(flow_frame(flow, i, 100));
    ASSERT_TRUE(readable(nic_->queue(mine).wait_fd(), milliseconds(5000))) << "lost wake-up at frame " << i;
    for (uint32_t queue = 0; queue < 4; ++queue) nic_->queue(queue).disable_wake();
    ASSERT_TRUE(eventually([&] {
      nic_->take(frames, 32, mine);
      return frames.size() == 1;
    }));
  }
}

TEST_F(IgbInQemu, gives_each_queue_an_interrupt_of_its_own) {
  run({.queues = 4, .descriptors = 64});
  const auto key = rss_key();
  std::mt19937 random(9);
  for (uint32_t i = 0; i < 20; ++i) {  // all for queue 2
    Flow flow = random_flow(random);
    while (software_toeplitz(key, flow.tuple(hashes_ports(flow))) % 128 % 4 != 2) flow = random_flow(random);
    Frames frames;
    for (uint32_t queue = 0; queue < 4; ++queue) nic_->queue(queue).enable_wake();
    machine_->send(flow_frame(flow, i, 100));
    ASSERT_TRUE(readable(nic_->queue(2).wait_fd(), milliseconds(5000))) << i;
    for (const uint32_t other : {0u, 1u, 3u})
      EXPECT_FALSE(readable(nic_->queue(other).wait_fd(), milliseconds(0))) << i;
    for (uint32_t queue = 0; queue < 4; ++queue) nic_->queue(queue).disable_wake();
    ASSERT_TRUE(eventually([&] {
      nic_->take(frames, 32, 2);
      return frames.size() == 1;
    }));
  }
}

// ---- sleeping and link -------------------------------------------------------------------------------

TEST_F(IgbInQemu, wakes_for_each_frame_and_never_misses_one_with_msi_x) {
  wakes_for_each_frame(pci::Interrupt::kMsix);
}
TEST_F(IgbInQemu, wakes_for_each_frame_and_never_misses_one_with_msi) {
  wakes_for_each_frame(pci::Interrupt::kMsi);
}
TEST_F(IgbInQemu, sleeps_on_when_nothing_comes_and_while_it_is_awake) { sleeps_on(pci::Interrupt::kMsix); }
TEST_F(IgbInQemu, reports_link_changes_by_an_event_with_msi_x) {
  reports_link_changes(pci::Interrupt::kMsix);
}
TEST_F(IgbInQemu, reports_link_changes_by_an_event_with_msi) { reports_link_changes(pci::Interrupt::kMsi); }

// ---- transmit ----------------------------------------------------------------------------------------

TEST_F(IgbInQemu, sends_all_lengths_byte_for_byte_in_order_and_completes_them) {
  sends_all_lengths_in_order();
}

TEST_F(IgbInQemu, completes_what_no_wire_could_carry_without_sending_it) {
  completes_what_no_wire_could_carry();
}

TEST_F(IgbInQemu, interrupts_are_as_far_apart_as_moderation_says) {
  interrupts_are_as_far_apart_as_moderation_says();
}

}  // namespace
}  // namespace ringcap::nic

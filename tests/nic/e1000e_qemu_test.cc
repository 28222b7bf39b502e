// The e1000e driver against QEMU's 82574L.
#include "tests/nic/nic_in_qemu.h"

namespace ringcap::nic {
namespace {

class E1000eInQemu : public NicInQemu {
 protected:
  E1000eInQemu() : NicInQemu("e1000e") {}
};

TEST_F(E1000eInQemu, is_found_by_its_id_and_says_what_it_is) {
  open({});
  EXPECT_EQ(nic_->port().driver(), "e1000e");
  EXPECT_EQ(nic_->port().address(), "vfio:0000:00:04.0");
  EXPECT_EQ(nic_->port().mtu(), 1500u);
  EXPECT_EQ(nic_->port().receive_queues().size(), 1u);
  EXPECT_EQ(nic_->queue().descriptors(), 1024u);
}

TEST_F(E1000eInQemu, has_link_after_start) {
  run({});
  EXPECT_TRUE(nic_->port().link().up);
  EXPECT_TRUE(nic_->port().link().present);
  EXPECT_EQ(nic_->port().link().mbps, 1000u);
}

TEST_F(E1000eInQemu, delivers_a_frame_byte_for_byte) {
  run({});
  const Frames sent{make_frame(1, 60), make_frame(2, 1514)};
  EXPECT_EQ(through(sent), sent);
}

TEST_F(E1000eInQemu, delivers_frames_for_any_address) { delivers_frames_for_any_address(); }

TEST_F(E1000eInQemu, leaves_room_for_the_crc_with_crc_1) { leaves_room_for_the_crc_with_crc_1(); }

TEST_F(E1000eInQemu, wraps_its_ring_100_times_in_order) {
  run({.descriptors = 64});
  expect_through(100 * 64 + 7, [](uint32_t i) { return 60 + i % 200; });
}

TEST_F(E1000eInQemu, delivers_all_lengths_from_60_to_9014_and_holds_them_in_one_buffer) {
  run({.mtu = 9000, .descriptors = 256});
  expect_through(9014 - 60 + 1, [](uint32_t i) { return 60 + i; });
}

TEST_F(E1000eInQemu, delivers_frames_of_9216_bytes) {
  run({.mtu = 9202, .descriptors = 64});
  const Frames sent{make_frame(1, 9216), make_frame(2, 9220), make_frame(3, 60)};
  EXPECT_EQ(through(sent), sent);
}

TEST_F(E1000eInQemu, leaves_vlan_tags_in_the_frame) { leaves_vlan_tags_in_the_frame(); }

TEST_F(E1000eInQemu, drops_what_is_longer_than_its_mtu_and_counts_it_as_bad) {
  run({});
  const Frames sent{make_frame(1, 60), make_frame(2, 1519), make_frame(3, 9000), make_frame(4, 61)};
  EXPECT_EQ(through({sent[0], sent[3]}), (Frames{sent[0], sent[3]}));
  for (const Frame& frame : sent) machine_->send(frame);
  Frames taken;
  EXPECT_TRUE(eventually([&] {
    nic_->take(taken);
    return taken.size() == 2;
  }));
  const QueueCounters counters = nic_->queue().counters();
  EXPECT_EQ(counters.bad, 2u);
  EXPECT_EQ(counters.received, 6u);
  EXPECT_EQ(counters.missed, 0u);
}

TEST_F(E1000eInQemu, counts_in_64_bits_what_it_received) {
  run({.descriptors = 64});
  expect_through(300, [](uint32_t) { return 60; });
  EXPECT_EQ(nic_->queue().counters().received, 300u);
  expect_through(200, [](uint32_t) { return 1514; });
  EXPECT_EQ(nic_->queue().counters().received, 500u);
  EXPECT_EQ(nic_->queue().counters().received, 500u);  // reading cleared nothing of ours
  nic_->port().stop();
  EXPECT_EQ(nic_->queue().counters().received, 500u);
}

TEST_F(E1000eInQemu, without_free_buffers_counts_frames_and_stays_armed) {
  without_free_buffers_counts_and_stays_armed();
}

TEST_F(E1000eInQemu, returns_every_buffer_once_when_disarmed) {
  run({.descriptors = 64});
  through({make_frame(1, 60), make_frame(2, 60)});
  nic_->port().stop();
  nic_->queue().disarm(nic_->free());
  EXPECT_EQ(nic_->queue().held(), 0u);
  std::vector<bool> seen(64 + kSpareBuffers);
  ASSERT_EQ(nic_->free().size(), seen.size());
  while (!nic_->free().empty()) {
    const uint32_t buffer = nic_->free().pop();
    ASSERT_LT(buffer, seen.size());
    EXPECT_FALSE(seen[buffer]) << buffer;
    seen[buffer] = true;
  }
}

TEST_F(E1000eInQemu, receives_again_after_stop_and_start_with_and_without_new_buffers) {
  run({.descriptors = 64});
  expect_through(100, [](uint32_t) { return 60; });
  nic_->port().stop();
  ASSERT_TRUE(nic_->port().start());  // goes on in the middle of its ring
  expect_through(100, [](uint32_t) { return 70; });
  nic_->port().stop();
  nic_->queue().disarm(nic_->free());
  nic_->arm_and_start();
  expect_through(100, [](uint32_t) { return 80; });
  EXPECT_EQ(nic_->queue().counters().received, 300u);
}

TEST_F(E1000eInQemu, does_not_receive_while_it_is_stopped) {
  run({});
  nic_->port().stop();
  nic_->port().stop();
  machine_->send(make_frame(1, 60));
  Frames frames;
  EXPECT_FALSE(eventually(
      [&] {
        nic_->take(frames);
        return !frames.empty();
      },
      milliseconds(200)));
}

// ---- transmit ----------------------------------------------------------------------------------------

class E1000eTransmitInQemu : public E1000eInQemu {};

TEST_F(E1000eInQemu, has_no_transmit_queue_unless_asked_for) {
  open({});
  EXPECT_TRUE(nic_->port().transmit_queues().empty());
}

TEST_F(E1000eTransmitInQemu, sends_all_lengths_byte_for_byte_in_order_and_completes_them) {
  sends_all_lengths_in_order();
}

TEST_F(E1000eTransmitInQemu, takes_only_what_fits_and_goes_on_after_completions) { takes_only_what_fits(); }

TEST_F(E1000eTransmitInQemu, completes_what_no_wire_could_carry_without_sending_it) {
  completes_what_no_wire_could_carry();
}

// ---- sleeping and link -------------------------------------------------------------------------------

// Each with a vector of its own for the queue, and with one vector for everything.
class E1000eSleepInQemu : public E1000eInQemu {};

TEST_F(E1000eSleepInQemu, wakes_for_each_frame_and_never_misses_one_with_msi_x) {
  wakes_for_each_frame(pci::Interrupt::kMsix);
}
TEST_F(E1000eSleepInQemu, wakes_for_each_frame_and_never_misses_one_with_msi) {
  wakes_for_each_frame(pci::Interrupt::kMsi);
}
TEST_F(E1000eSleepInQemu, sleeps_on_when_nothing_comes_and_while_it_is_awake_with_msi_x) {
  sleeps_on(pci::Interrupt::kMsix);
}
TEST_F(E1000eSleepInQemu, sleeps_on_when_nothing_comes_and_while_it_is_awake_with_msi) {
  sleeps_on(pci::Interrupt::kMsi);
}
TEST_F(E1000eSleepInQemu, reports_link_changes_by_an_event_with_msi_x) {
  reports_link_changes(pci::Interrupt::kMsix);
}
TEST_F(E1000eSleepInQemu, reports_link_changes_by_an_event_with_msi) {
  reports_link_changes(pci::Interrupt::kMsi);
}

// ---- two queues ----------------------------------------------------------------------------------------

// Its hash is of the ports for TCP only.
bool hashes_ports(const Flow& flow) { return flow.protocol == Protocol::kTcp; }

class E1000eQueuesInQemu : public E1000eInQemu {
 protected:
  void expect_spread(uint32_t count, const MakeFrame& make) {
    NicInQemu::expect_spread(count, hashes_ports, make);
  }
};

TEST_F(E1000eQueuesInQemu, spread_flows_as_a_software_toeplitz_says_each_in_order) {
  run({.queues = 2, .descriptors = 64});
  EXPECT_EQ(nic_->queues(), 2u);
  expect_spread(2000, [](const Flow& flow, uint32_t i) { return flow_frame(flow, i, 78 + i % 1400); });
}

TEST_F(E1000eQueuesInQemu, wrap_their_rings_100_times_each) {
  run({.queues = 2, .descriptors = 64});
  expect_spread(2 * 110 * 64, [](const Flow& flow, uint32_t i) { return flow_frame(flow, i, 78 + i % 100); });
}

TEST_F(E1000eQueuesInQemu, hold_frames_of_9014_bytes_and_vlan_tags) {
  run({.mtu = 9000, .queues = 2, .descriptors = 64});
  expect_spread(300, [](const Flow& flow, uint32_t i) {
    return flow_frame(flow, i, i % 2 == 0 ? 9014 : 200, i % 3 == 0 ? 42 : 0);
  });
}

TEST_F(E1000eQueuesInQemu, get_what_is_not_ip_in_the_first) {
  run({.queues = 2, .descriptors = 64});
  const Frames sent{make_frame(1, 60), make_frame(2, 900)};
  Frames taken;
  for (const Frame& frame : sent) machine_->send(frame);
  EXPECT_TRUE(eventually([&] {
    nic_->take(taken, 32, 0);
    return taken.size() == 2;
  }));
  EXPECT_EQ(taken, sent);
}

TEST_F(E1000eQueuesInQemu, count_together_what_the_chip_counts_together) {
  run({.queues = 2, .descriptors = 64});
  expect_spread(400, [](const Flow& flow, uint32_t i) { return flow_frame(flow, i, 100); });
  const QueueCounters together = nic_->port().counters();
  EXPECT_EQ(together.received, 400u);
  EXPECT_EQ(together.missed, 0u);
  EXPECT_EQ(together.bad, 0u);
  for (uint32_t queue = 0; queue < 2; ++queue) {
    EXPECT_EQ(nic_->queue(queue).counters().received, layout::kNotCounted);
    EXPECT_EQ(nic_->queue(queue).counters().missed, layout::kNotCounted);
  }
  for (const Statistic& statistic : nic_->port().statistics()) {
    if (std::string_view(statistic.name) == "rx_packets") {
      EXPECT_EQ(statistic.value, 400u);
    }
    if (std::string_view(statistic.name) == "rx_bytes") {
      EXPECT_EQ(statistic.value, 400u * 104);
    }
  }
}

// One queue at a time: QEMU sends a vector's message once more when the time of its moderation is over, so a
// queue that had a frame may be woken again without one.
TEST_F(E1000eQueuesInQemu, wake_each_its_own_worker) {
  for (const uint32_t mine : {0u, 1u}) {
    nic_.reset();
    run({.queues = 2, .descriptors = 64});
    const auto key = rss_key();
    std::mt19937 random(3);
    for (uint32_t i = 0; i < 40; ++i) {
      Flow flow = random_flow(random);
      while (software_toeplitz(key, flow.tuple(hashes_ports(flow))) % 128 % 2 != mine)
        flow = random_flow(random);
      for (uint32_t queue = 0; queue < 2; ++queue) nic_->queue(queue).enable_wake();
      machine_->send(flow_frame(flow, i, 100));
      ASSERT_TRUE(readable(nic_->queue(mine).wait_fd(), milliseconds(5000))) << "lost wake-up at frame " << i;
      ASSERT_FALSE(readable(nic_->queue(1 - mine).wait_fd(), milliseconds(0))) << i;
      for (uint32_t queue = 0; queue < 2; ++queue) nic_->queue(queue).disable_wake();
      Frames frames;
      ASSERT_TRUE(eventually([&] {
        nic_->take(frames, 32, mine);
        return frames.size() == 1;
      }));
    }
  }
}

TEST_F(E1000eQueuesInQemu, go_on_after_stop_and_start) {
  run({.queues = 2, .descriptors = 64});
  const auto make = [](const Flow& flow, uint32_t i) { return flow_frame(flow, i, 100); };
  expect_spread(150, make);
  nic_->port().stop();
  ASSERT_TRUE(nic_->port().start());
  expect_spread(150, make);
  nic_->port().stop();
  nic_->disarm();
  for (uint32_t queue = 0; queue < 2; ++queue) EXPECT_EQ(nic_->free(queue).size(), 64 + kSpareBuffers);
}

TEST_F(E1000eQueuesInQemu, are_two_and_a_third_is_refused_in_words) {
  const auto port = open_port({.queues = 3});
  ASSERT_FALSE(port);
  EXPECT_EQ(port.error().code, Code::kUsage);
  EXPECT_NE(port.error().text.find("queues=3: 82574L (e1000e) has 2 receive queues"), std::string::npos)
      << port.error().text;
}

TEST_F(E1000eQueuesInQemu, need_msi_x_and_say_so) {
  const auto port = open_port({.queues = 2}, pci::Interrupt::kMsi);
  ASSERT_FALSE(port);
  EXPECT_NE(port.error().message().find("MSI-X"), std::string::npos) << port.error().message();
}

TEST_F(E1000eQueuesInQemu, are_remarked_on_for_they_separate_directions) {
  run({.queues = 2, .descriptors = 64});
  EXPECT_NE(nic_->port().remark().find("2 receive queues"), std::string::npos) << nic_->port().remark();
}

TEST_F(E1000eInQemu, one_queue_is_not_remarked_on) {
  open({});
  EXPECT_EQ(nic_->port().remark(), "");
}

TEST_F(E1000eInQemu, interrupts_are_as_far_apart_as_moderation_says) {
  interrupts_are_as_far_apart_as_moderation_says();
}

}  // namespace
}  // namespace ringcap::nic

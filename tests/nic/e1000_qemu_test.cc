// The e1000 driver against QEMU's 82540EM, 82544GC and 82545EM. QEMU receives nothing for a second after each
// start: a timer of its own (set_rx_control).
#include <algorithm>
#include <atomic>
#include <map>
#include <thread>

#include "tests/nic/nic_in_qemu.h"

namespace ringcap::nic {
namespace {

class E1000InQemu : public NicInQemu, public testing::WithParamInterface<const char*> {
 protected:
  E1000InQemu() : NicInQemu(GetParam(), pci::Interrupt::kIntx) {}
};

INSTANTIATE_TEST_SUITE_P(Chips, E1000InQemu, testing::Values("e1000", "e1000-82544gc", "e1000-82545em"),
                         [](const auto& each) {
                           std::string name = each.param;
                           std::ranges::replace(name, '-', '_');
                           return name;
                         });

TEST_P(E1000InQemu, is_found_by_its_id_and_says_what_it_is) {
  open({});
  EXPECT_EQ(nic_->port().driver(), "e1000");
  EXPECT_EQ(nic_->port().receive_queues().size(), 1u);
  EXPECT_EQ(nic_->queue().descriptors(), 1024u);
  EXPECT_TRUE(nic_->port().transmit_queues().empty());
}

TEST_P(E1000InQemu, has_link_of_1000_mbit_after_start) {
  run({});
  EXPECT_TRUE(nic_->port().link().present);
  EXPECT_EQ(nic_->port().link().mbps, 1000u);
}

TEST_P(E1000InQemu, delivers_frames_for_any_address) { delivers_frames_for_any_address(); }

TEST_P(E1000InQemu, delivers_all_lengths_from_60_to_9014_and_holds_them_in_one_buffer) {
  run({.mtu = 9000, .descriptors = 256});
  expect_through(9014 - 60 + 1, [](uint32_t i) { return 60 + i; });
}

TEST_P(E1000InQemu, delivers_frames_of_the_greatest_mtu) {
  run({.mtu = 16106, .descriptors = 64});
  const Frames sent{make_frame(1, 16124), make_frame(2, 16120), make_frame(3, 60)};
  EXPECT_EQ(through(sent), sent);
}

TEST_P(E1000InQemu, delivers_bursts_of_every_size) { delivers_bursts_of_every_size(62); }

TEST_P(E1000InQemu, leaves_room_for_the_crc_with_crc_1) { leaves_room_for_the_crc_with_crc_1(); }

TEST_P(E1000InQemu, wraps_its_ring_100_times_in_order) {
  run({.descriptors = 64});
  expect_through(100 * 64 + 7, [](uint32_t i) { return 60 + i % 200; });
}

TEST_P(E1000InQemu, leaves_one_and_two_vlan_tags_in_the_frame) { leaves_vlan_tags_in_the_frame(); }

TEST_P(E1000InQemu, drops_what_is_longer_than_its_mtu_and_counts_it_as_bad) {
  run({});
  const Frames good{make_frame(1, 60), make_frame(4, 61)};
  EXPECT_EQ(through(good), good);
  for (const Frame& frame : {good[0], make_frame(2, 1519), make_frame(3, 9000), good[1]})
    ASSERT_TRUE(eventually([&] { return machine_->send(frame); }));
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

TEST_P(E1000InQemu, counts_in_64_bits_what_it_received) {
  run({.descriptors = 64});
  expect_through(300, [](uint32_t) { return 60; });
  EXPECT_EQ(nic_->queue().counters().received, 300u);
  EXPECT_EQ(nic_->queue().counters().received, 300u);  // reading cleared nothing of ours
  std::map<std::string, uint64_t> statistics;
  for (const Statistic& statistic : nic_->port().statistics()) statistics[statistic.name] = statistic.value;
  EXPECT_EQ(statistics["rx_packets"], 300u);
  EXPECT_EQ(statistics["rx_bytes"], 300u * 64);
}

// QEMU may drop one when the ring is full, and then counts it; all that it counts as good are taken.
TEST_P(E1000InQemu, under_a_flood_all_frames_that_the_chip_counted_are_taken) {
  run({.descriptors = 64});
  through({make_frame(0, 60)});
  const uint64_t before = nic_->queue().counters().received - 1;
  ASSERT_EQ(before, 0u);
  uint64_t taken = 1;
  std::atomic<uint32_t> sent{0};
  std::jthread sender([&](const std::stop_token& stop) {
    while (sent < 30'000 && !stop.stop_requested())
      if (machine_->send(make_frame(0, 60 + sent % 1400))) ++sent;
  });
  QueueCounters counters;
  Frames frames;
  uint32_t quiet = 0;
  eventually(
      [&] {
        frames.clear();
        const Burst burst = nic_->take(frames, 8);
        taken += burst.frames;
        quiet = burst.frames == 0 ? quiet + 1 : 0;
        if (quiet < 2000 || sent < 30'000) return false;
        quiet = 0;
        counters = nic_->queue().counters();
        return counters.received == taken + counters.missed;  // or QEMU stood still, and some come yet
      },
      milliseconds(60000));
  EXPECT_EQ(counters.received, taken + counters.missed) << sent << " sent, " << counters.missed << " missed";
}

TEST_P(E1000InQemu, without_free_buffers_counts_frames_and_stays_armed) {
  without_free_buffers_counts_and_stays_armed();
}

TEST_P(E1000InQemu, receives_again_after_stop_and_start_with_and_without_new_buffers) {
  run({.descriptors = 64});
  expect_through(100, [](uint32_t) { return 60; });
  nic_->port().stop();
  ASSERT_TRUE(nic_->port().start());  // goes on in the middle of its ring
  expect_through(100, [](uint32_t) { return 70; });
  nic_->port().stop();
  nic_->queue().disarm(nic_->free());
  EXPECT_EQ(nic_->free().size(), 64 + kSpareBuffers);
  nic_->arm_and_start();
  expect_through(100, [](uint32_t) { return 80; });
  EXPECT_EQ(nic_->queue().counters().received, 300u);
}

TEST_P(E1000InQemu, refuses_two_queues_in_words) {
  const auto port = open_port({.queues = 2});
  ASSERT_FALSE(port);
  EXPECT_EQ(port.error().code, Code::kUsage);
  EXPECT_NE(port.error().message().find("has 1 receive queue"), std::string::npos) << port.error().message();
}

// ---- sleeping and link -------------------------------------------------------------------------------

TEST_P(E1000InQemu, wakes_for_each_frame_and_never_misses_one_with_intx) {
  wakes_for_each_frame(pci::Interrupt::kIntx);
}
TEST_P(E1000InQemu, sleeps_on_when_nothing_comes_and_while_it_is_awake_with_intx) {
  sleeps_on(pci::Interrupt::kIntx);
}
TEST_P(E1000InQemu, reports_link_changes_by_an_event_with_intx) {
  reports_link_changes(pci::Interrupt::kIntx);
}

// ---- transmit ----------------------------------------------------------------------------------------

TEST_P(E1000InQemu, sends_all_lengths_byte_for_byte_in_order_and_completes_them) {
  sends_all_lengths_in_order();
}

TEST_P(E1000InQemu, takes_only_what_fits_and_goes_on_after_completions) { takes_only_what_fits(); }

}  // namespace
}  // namespace ringcap::nic

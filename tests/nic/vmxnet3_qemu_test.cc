// The vmxnet3 driver against QEMU's vmxnet3. That device drops what it has no descriptor for, and counts it:
// so nothing here has more frames on their way than a ring holds, but where they are to be dropped.
#include <map>

#include "tests/nic/nic_in_qemu.h"

namespace ringcap::nic {
namespace {

class Vmxnet3InQemu : public NicInQemu {
 protected:
  static constexpr uint32_t kLongest = 2048 - 7 * 64;  // a frame that a buffer holds, with MTU 1,500

  Vmxnet3InQemu() : NicInQemu("vmxnet3") { in_flight_ = 48; }
  void TearDown() override {
    NicInQemu::TearDown();
    if (machine_) {
      EXPECT_EQ(machine_->last_words(), "");  // of unknown registers and commands
    }
  }

  std::map<std::string, uint64_t> statistics() {
    std::map<std::string, uint64_t> values;
    static_cast<void>(nic_->port().counters());
    for (const Statistic& each : nic_->port().statistics()) values[each.name] = each.value;
    return values;
  }
  // The device has buffers again once the worker has looked.
  void restart() {
    nic_->port().stop();
    const auto started = nic_->port().start();
    ASSERT_TRUE(started) << started.error().message();
    Frames frames;
    nic_->take(frames);
  }
  // All that came is taken; nothing else comes.
  void expect_balance(uint64_t taken) {
    const QueueCounters counted = nic_->queue().counters();
    EXPECT_EQ(counted.received, taken + counted.missed + counted.bad);
  }
};

TEST_F(Vmxnet3InQemu, is_found_by_its_id_and_says_what_it_is) {
  open({});
  EXPECT_EQ(nic_->port().driver(), "vmxnet3");
  EXPECT_EQ(nic_->port().address(), "vfio:0000:00:04.0");
  EXPECT_EQ(nic_->port().receive_queues().size(), 1u);
  EXPECT_TRUE(nic_->port().transmit_queues().empty());
  EXPECT_EQ(nic_->queue().descriptors(), 1024u);
  EXPECT_EQ(nic_->port().remark(), "");
}

TEST_F(Vmxnet3InQemu, delivers_frames_for_any_address) { delivers_frames_for_any_address(); }

TEST_F(Vmxnet3InQemu, delivers_all_lengths_from_60_to_9014_and_holds_them_in_one_buffer) {
  run({.mtu = 9000, .descriptors = 64});
  expect_through(9014 - 60 + 1, [](uint32_t i) { return 60 + i; });
}

TEST_F(Vmxnet3InQemu, delivers_bursts_of_every_size) { delivers_bursts_of_every_size(); }

TEST_F(Vmxnet3InQemu, wraps_its_rings_100_times_in_order) {
  run({.descriptors = 64});  // and 32 slots that stay empty
  expect_through(101 * (64 + 64), [](uint32_t i) { return 60 + i % 200; });
}

TEST_F(Vmxnet3InQemu, fills_the_largest_ring_that_it_takes_to_its_last_descriptor) {
  constexpr uint32_t kMost = 4064;
  run({.descriptors = kMost});
  uint32_t sent = 0;
  ASSERT_TRUE(eventually([&] {
    while (sent <= kMost && machine_->send(make_frame(sent, 60))) ++sent;
    return nic_->queue().counters().received == kMost + 1;
  }));
  EXPECT_EQ(nic_->queue().counters().missed, 1u);
  Frames taken;
  while (nic_->take(taken).frames > 0) {
  }
  ASSERT_EQ(taken.size(), kMost);
  for (uint32_t i = 0; i < kMost; ++i) ASSERT_EQ(taken[i], make_frame(i, 60)) << i;
}

TEST_F(Vmxnet3InQemu, leaves_one_and_two_vlan_tags_in_the_frame) { leaves_vlan_tags_in_the_frame(); }

TEST_F(Vmxnet3InQemu, without_free_buffers_counts_frames_and_stays_armed) {
  without_free_buffers_counts_and_stays_armed();
}

TEST_F(Vmxnet3InQemu, receives_again_after_stop_and_start_with_and_without_new_buffers) {
  run({.descriptors = 64});
  expect_through(100, [](uint32_t) { return 60; });
  for (uint32_t i = 0; i < 3; ++i) {
    restart();
    expect_through(100, [](uint32_t) { return 70; });
  }
  for (uint32_t i = 0; i < 3; ++i) {
    nic_->port().stop();
    nic_->queue().disarm(nic_->free());
    EXPECT_EQ(nic_->free().size(), 64 + kSpareBuffers);
    nic_->arm_and_start();
    expect_through(100, [](uint32_t) { return 80; });
  }
}

TEST_F(Vmxnet3InQemu, does_not_receive_while_it_is_stopped_and_delivers_what_had_come) {
  run({.descriptors = 64});
  const Frame before = make_frame(1, 60);
  ASSERT_TRUE(machine_->send(before));
  ASSERT_TRUE(eventually([&] { return statistics()["ucast pkts rx"] == 1; }));
  nic_->port().stop();
  nic_->port().stop();
  machine_->send(make_frame(2, 60));
  Frames frames;
  EXPECT_FALSE(eventually(
      [&] {
        nic_->take(frames);
        return frames.size() > 1;
      },
      milliseconds(200)));
  EXPECT_EQ(frames, Frames{before});
}

// ---- what it counts ------------------------------------------------------------------------------------

TEST_F(Vmxnet3InQemu, counts_what_it_had_no_descriptor_for_and_the_ledger_balances) {
  run({.descriptors = 64});
  uint32_t sent = 0;
  ASSERT_TRUE(eventually([&] {
    while (sent < 200 && machine_->send(make_frame(sent, 60))) ++sent;
    return nic_->queue().counters().received == 200;
  }));
  EXPECT_EQ(nic_->queue().counters().missed, 136u);
  EXPECT_EQ(nic_->port().counters().missed, 136u);
  EXPECT_EQ(statistics()["pkts rx OOB"], 136u);
  Frames taken;
  while (nic_->take(taken).frames > 0) {
  }
  ASSERT_EQ(taken.size(), 64u);
  for (uint32_t i = 0; i < 64; ++i) EXPECT_EQ(taken[i], make_frame(i, 60));
  expect_balance(64);
  const Frames more{make_frame(1000, 64), make_frame(1001, 1000)};
  EXPECT_EQ(through(more), more);
}

TEST_F(Vmxnet3InQemu, frames_that_do_not_fit_count_once_as_broken_and_the_next_one_arrives) {
  run({.descriptors = 64});
  uint32_t broken = 0, frames = 0;
  for (uint32_t round = 0; round < 20; ++round) {
    const Frames good{make_frame(1, kLongest), make_frame(4, 61)};
    for (const Frame& frame : {good[0], make_frame(2, kLongest + 1), make_frame(3, 9000), good[1]})
      ASSERT_TRUE(eventually([&] { return machine_->send(frame); }));
    Frames taken;
    EXPECT_TRUE(eventually([&] {
      broken += nic_->take(taken).broken;
      return taken.size() == 2;
    }));
    EXPECT_EQ(taken, good);
    frames += 2;
  }
  EXPECT_EQ(broken, 40u);
  EXPECT_EQ(statistics()["pkts rx err"], 40u);
  expect_balance(frames + broken);
}

TEST_F(Vmxnet3InQemu, frames_that_do_not_fit_are_delivered_and_flagged_if_asked_for) {
  run({.descriptors = 64, .bad = true});
  for (const uint32_t length : {kLongest, kLongest + 1}) {
    const Frame frame = make_frame(7, length);
    ASSERT_TRUE(machine_->send(frame));
    std::array<ringcap::Frame, 4> out;
    ASSERT_TRUE(eventually([&] { return nic_->queue().receive(out, nic_->free()).frames == 1; }));
    EXPECT_EQ(out[0].flags, length > kLongest ? layout::kBadLength : 0);
    ASSERT_EQ(out[0].captured, kLongest);
    EXPECT_EQ(std::memcmp(out[0].data, frame.data(), kLongest), 0);
    nic_->give_back(out[0]);
  }
  expect_balance(2);
}

TEST_F(Vmxnet3InQemu, has_the_statistics_of_ethtool_which_only_grow) {
  run({.descriptors = 64, .transmit = true});
  const auto receive = [&] {
    Frame broadcast = make_frame(3, 60), multicast = make_frame(4, 80);
    std::fill_n(broadcast.begin(), 6, uint8_t{0xff});
    multicast[0] = 0x01;
    through({make_frame(1, 60), make_frame(2, 100), broadcast, multicast});
    ASSERT_EQ(transmit_queue().transmit({{place(0, make_frame(5, 90), 0)}}), 1u);
    ASSERT_TRUE(machine_->receive(milliseconds(5000)));
    std::array<uint32_t, 4> cookies;
    ASSERT_TRUE(eventually([&] { return transmit_queue().completed(cookies) == 1; }));
  };
  for (uint32_t round = 1; round <= 3; ++round) {
    receive();
    if (round == 2) restart();
    auto values = statistics();
    EXPECT_EQ(values.size(), 21u);  // and what keeps its interrupts apart
    EXPECT_EQ(values["ucast pkts rx"], 2 * round);
    EXPECT_EQ(values["ucast bytes rx"], 160 * round);
    EXPECT_EQ(values["bcast pkts rx"], round);
    EXPECT_EQ(values["mcast bytes rx"], 80 * round);
    EXPECT_EQ(values["ucast pkts tx"], round);
    EXPECT_EQ(values["ucast bytes tx"], 90 * round);
    EXPECT_EQ(values["pkts rx OOB"], 0u);
    expect_balance(4 * round);
  }
  nic_->port().stop();
  EXPECT_EQ(statistics()["ucast pkts rx"], 6u);
}

// That the last words are empty in the other tests says something only if they can be other.
TEST(Vmxnet3Model, says_with_its_last_words_that_a_command_is_unknown) {
  const auto machine = std::make_shared<Machine>("vmxnet3");
  {
    QtestFunction function(machine);
    const auto bar = *function.bar(1);
    bar->write32(0x20, 0xf00d'0055);
    static_cast<void>(bar->read32(0x20));
  }
  EXPECT_NE(machine->last_words().find("unknown command: f00d0055"), std::string::npos);
}

// ---- what it refuses -----------------------------------------------------------------------------------

TEST_F(Vmxnet3InQemu, refuses_options_that_it_cannot_do_in_words) {
  const std::vector<std::pair<pci::NicOptions, const char*>> cases{
      {{.queues = 2}, "queues=2: this vmxnet3 device (vmxnet3) has 1 receive queue"},
      {{.mtu = 9001}, "mtu=9001: vmxnet3 takes 68 to 9000"},
      {{.descriptors = 72}, "descriptors=72: vmxnet3 takes a multiple of 32 from 64 to 4064"},
      {{.moderation_us = 5}, "moderation=5: vmxnet3 moderates"},
      {{.crc = true}, "crc=1: frames come to vmxnet3 without a CRC"}};
  for (const auto& [options, words] : cases) {
    auto port = open_port(options);
    ASSERT_FALSE(port);
    EXPECT_EQ(port.error().code, Code::kUsage);
    EXPECT_NE(port.error().message().find(words), std::string::npos) << port.error().message();
  }
}

// ---- sleeping and link -----------------------------------------------------------------------------------

TEST_F(Vmxnet3InQemu, wakes_for_each_frame_and_never_misses_one_with_msi_x) {
  wakes_for_each_frame(pci::Interrupt::kMsix);
}
TEST_F(Vmxnet3InQemu, wakes_for_each_frame_and_never_misses_one_with_msi) {
  wakes_for_each_frame(pci::Interrupt::kMsi);
}
TEST_F(Vmxnet3InQemu, wakes_for_each_frame_and_never_misses_one_with_intx) {
  wakes_for_each_frame(pci::Interrupt::kIntx);
}
TEST_F(Vmxnet3InQemu, sleeps_on_when_nothing_comes_after_waking_once_with_msi_x) {
  sleeps_on(pci::Interrupt::kMsix, true);
}
TEST_F(Vmxnet3InQemu, sleeps_on_when_nothing_comes_after_waking_once_with_intx) {
  sleeps_on(pci::Interrupt::kIntx, true);
}
TEST_F(Vmxnet3InQemu, reports_link_changes_by_an_event_with_msi_x) {
  reports_link_changes(pci::Interrupt::kMsix);
}
TEST_F(Vmxnet3InQemu, reports_link_changes_by_an_event_with_msi) {
  reports_link_changes(pci::Interrupt::kMsi);
}
TEST_F(Vmxnet3InQemu, reports_link_changes_by_an_event_with_intx) {
  reports_link_changes(pci::Interrupt::kIntx);
}

TEST_F(Vmxnet3InQemu, says_how_fast_its_link_is) {
  run({.descriptors = 64});
  EXPECT_EQ(nic_->port().link().mbps, 1000u);
  machine_->set_link(false);
  EXPECT_TRUE(eventually([&] { return !nic_->port().link().up; }));
  EXPECT_EQ(nic_->port().link().mbps, 0u);
}

// A sleeping worker is woken when its device has begun anew: until it looks, the device has no buffers.
TEST_F(Vmxnet3InQemu, wakes_its_worker_after_a_restart) {
  run({.descriptors = 64});
  nic_->queue().enable_wake();
  nic_->port().stop();
  ASSERT_TRUE(nic_->port().start());
  EXPECT_TRUE(readable(nic_->queue().wait_fd(), milliseconds(5000)));
  nic_->queue().disable_wake();
  Frames frames;
  nic_->take(frames);
  EXPECT_EQ(through({make_frame(1, 60)}), Frames{make_frame(1, 60)});
}

// ---- transmit ----------------------------------------------------------------------------------------

TEST_F(Vmxnet3InQemu, sends_all_lengths_byte_for_byte_in_order_and_completes_them) {
  sends_all_lengths_in_order();
}
TEST_F(Vmxnet3InQemu, takes_only_what_fits_and_goes_on_after_completions) { takes_only_what_fits(512); }
TEST_F(Vmxnet3InQemu, completes_what_no_wire_could_carry_without_sending_it) {
  completes_what_no_wire_could_carry();
}
TEST_F(Vmxnet3InQemu, sends_on_after_stop_and_start_and_completes_what_the_reset_overtook) {
  sends_on_after_stop_and_start();
}

}  // namespace
}  // namespace ringcap::nic

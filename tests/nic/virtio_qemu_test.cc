// The virtio driver against QEMU's virtio-net-pci, with split rings and with packed ones.
#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <random>

#include "driver/virtio/registers.h"
#include "tests/nic/nic_in_qemu.h"

namespace ringcap::nic {
namespace {

std::string device(bool packed) {
  return fmt::format("virtio-net-pci,disable-legacy=on,iommu_platform=on,packed={}", packed ? "on" : "off");
}

class VirtioInQemu : public NicInQemu, public testing::WithParamInterface<bool> {
 protected:
  VirtioInQemu() : NicInQemu(device(GetParam())) {}
};

INSTANTIATE_TEST_SUITE_P(Rings, VirtioInQemu, testing::Bool(),
                         [](const auto& each) { return each.param ? "packed" : "split"; });

TEST_P(VirtioInQemu, is_found_by_its_id_and_says_what_it_is) {
  open({.descriptors = 256});
  EXPECT_EQ(nic_->port().driver(), "virtio");
  EXPECT_EQ(nic_->port().address(), "vfio:0000:00:04.0");
  EXPECT_EQ(nic_->port().receive_queues().size(), 1u);
  EXPECT_EQ(nic_->queue().descriptors(), 256u);
  EXPECT_EQ(nic_->port().remark(), "");
}

TEST_P(VirtioInQemu, has_as_many_descriptors_as_the_device_and_says_so) {
  open({});
  EXPECT_EQ(nic_->queue().descriptors(), 256u);
  EXPECT_EQ(nic_->port().remark(), "256 descriptors a queue, the most that this device has");
}

TEST_P(VirtioInQemu, delivers_frames_for_any_address) { delivers_frames_for_any_address(); }

TEST_P(VirtioInQemu, delivers_all_lengths_from_60_to_9014_and_holds_them_in_one_buffer) {
  run({.mtu = 9000, .descriptors = 256});
  expect_through(9014 - 60 + 1, [](uint32_t i) { return 60 + i; });
}

TEST_P(VirtioInQemu, delivers_frames_of_the_greatest_mtu) {
  run({.mtu = 15850, .descriptors = 64});
  const Frames sent{make_frame(1, 15872), make_frame(2, 15864), make_frame(3, 60)};
  EXPECT_EQ(through(sent), sent);
}

TEST_P(VirtioInQemu, delivers_bursts_of_every_size) { delivers_bursts_of_every_size(); }

// And past 2^16 frames, where the indices of a split ring wrap.
TEST_P(VirtioInQemu, wraps_its_ring_1000_times_and_its_index_in_order) {
  run({.descriptors = 64});
  expect_through(1030 * 64 + 7, [](uint32_t i) { return 60 + i % 200; });
}

TEST_P(VirtioInQemu, leaves_one_and_two_vlan_tags_in_the_frame) { leaves_vlan_tags_in_the_frame(); }

// The device merges buffers for it; a frame lies in one, or is not delivered.
TEST_P(VirtioInQemu, frames_that_need_several_buffers_count_once_as_broken_and_the_next_one_arrives) {
  run({.descriptors = 64});
  for (uint32_t round = 0; round < 20; ++round) {
    const Frames good{make_frame(1, 1536), make_frame(4, 61)};
    for (const Frame& frame : {good[0], make_frame(2, 1537), make_frame(3, 9000), good[1]})
      ASSERT_TRUE(eventually([&] { return machine_->send(frame); }));
    Frames taken;
    uint32_t broken = 0;
    EXPECT_TRUE(eventually([&] {
      broken += nic_->take(taken).broken;
      return taken.size() == 2;
    }));
    EXPECT_EQ(broken, 2u);
    EXPECT_EQ(taken, good);
  }
}

TEST_P(VirtioInQemu, without_free_buffers_counts_frames_and_stays_armed) {
  without_free_buffers_counts_and_stays_armed();
}

TEST_P(VirtioInQemu, says_that_it_counts_nothing) {
  run({.descriptors = 64});
  through({make_frame(1, 60)});
  EXPECT_EQ(nic_->queue().counters().received, layout::kNotCounted);
  EXPECT_EQ(nic_->queue().counters().missed, layout::kNotCounted);
  EXPECT_EQ(nic_->port().counters().received, layout::kNotCounted);
}

TEST_P(VirtioInQemu, receives_again_after_stop_and_start_with_and_without_new_buffers) {
  run({.descriptors = 64});
  expect_through(100, [](uint32_t) { return 60; });
  for (uint32_t i = 0; i < 3; ++i) {
    nic_->port().stop();
    ASSERT_TRUE(nic_->port().start());
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

TEST_P(VirtioInQemu, does_not_receive_while_it_is_stopped_and_delivers_what_had_come) {
  run({.descriptors = 64});
  Frames frames;
  const Frame before = make_frame(1, 60);
  through({before});
  machine_->send(before);
  nic_->port().stop();
  nic_->port().stop();
  machine_->send(make_frame(2, 60));
  EXPECT_FALSE(eventually(
      [&] {
        nic_->take(frames);
        return frames.size() > 1;
      },
      milliseconds(200)));
  for (const Frame& frame : frames) EXPECT_EQ(frame, before);
}

// ---- queues ------------------------------------------------------------------------------------------

// Behind a tap with several queues. With RSS, QEMU chooses the queue; without, the tap does.
class VirtioQueuesInQemu : public NicInQemu, public testing::WithParamInterface<bool> {
 protected:
  VirtioQueuesInQemu() : NicInQemu(device(GetParam()) + ",mq=on,vectors=10") { tap_queues_ = 4; }
  void with_rss() { device_ += ",rss=on"; }
  static bool hashes_ports(const Flow& flow) {
    return flow.protocol == Protocol::kTcp || flow.protocol == Protocol::kUdp;
  }
  // What the driver told the device: QEMU has no register for it, so it is looked for in memory, behind the
  // table of the command.
  std::array<uint8_t, 40> key() const {
    std::array<uint8_t, 40> found{};
    const auto* memory = reinterpret_cast<const uint8_t*>(machine_->memory());
    for (uint64_t at = 1 << 20; at + 512 < Machine::kMemoryBytes; at += 4096) {
      if (memory[at] != 4 || memory[at + 1] != 1) continue;
      const uint8_t* behind = memory + at + 2 + 8 + 256;
      if (behind[2] == found.size()) std::memcpy(found.data(), behind + 3, found.size());
    }
    return found;
  }
};

INSTANTIATE_TEST_SUITE_P(Rings, VirtioQueuesInQemu, testing::Bool(),
                         [](const auto& each) { return each.param ? "packed" : "split"; });

TEST_P(VirtioQueuesInQemu, spread_flows_over_four_as_a_software_toeplitz_says_each_in_order) {
  with_rss();
  run({.queues = 4, .descriptors = 64});
  expect_spread_by(key(), 4000, hashes_ports,
                   [](const Flow& flow, uint32_t i) { return flow_frame(flow, i, 78 + i % 1400); });
  EXPECT_NE(nic_->port().remark().find("4 receive queues: of "), std::string::npos) << nic_->port().remark();
}

TEST_P(VirtioQueuesInQemu, spread_flows_over_three_of_four) {
  with_rss();
  run({.queues = 3, .descriptors = 64});
  expect_spread_by(key(), 1000, hashes_ports,
                   [](const Flow& flow, uint32_t i) { return flow_frame(flow, i, 100); });
}

TEST_P(VirtioQueuesInQemu, without_rss_get_all_frames_each_flow_in_one_queue_and_in_order) {
  run({.queues = 4, .descriptors = 64});
  EXPECT_NE(nic_->port().remark().find("is the host's choice"), std::string::npos);
  std::mt19937 random(11);
  std::vector<Flow> flows(100);
  for (Flow& flow : flows) flow = random_flow(random);
  std::vector<Frames> taken(4);
  uint32_t sent = 0, came = 0;
  EXPECT_TRUE(
      eventually([&] {  // never more on their way than a ring holds: a tap drops what it has no room for
        while (sent < 4000 && sent - came < 32 && machine_->send(flow_frame(flows[sent % 100], sent, 100)))
          ++sent;
        for (uint32_t queue = 0; queue < 4; ++queue) came += nic_->take(taken[queue], 32, queue).frames;
        return came >= 4000;
      }))
      << came << " of " << sent;
  std::vector<int> queue_of(100, -1);
  std::vector<uint32_t> next(100);
  std::vector<uint32_t> share(4);
  for (uint32_t queue = 0; queue < 4; ++queue) {
    share[queue] = static_cast<uint32_t>(taken[queue].size());
    for (const Frame& frame : taken[queue]) {
      uint32_t flow = 0;  // the one whose next frame this is
      while (flow < 100 && frame != flow_frame(flows[flow], flow + 100 * next[flow], 100)) ++flow;
      ASSERT_LT(flow, 100u) << "a frame that is out of order, or was not sent";
      ++next[flow];
      if (queue_of[flow] < 0) queue_of[flow] = static_cast<int>(queue);
      EXPECT_EQ(queue_of[flow], static_cast<int>(queue));
    }
  }
  EXPECT_GT(std::ranges::count_if(share, [](uint32_t frames) { return frames > 200; }), 1);
}

TEST_P(VirtioQueuesInQemu, go_on_after_stop_and_start) {
  with_rss();
  run({.queues = 4, .descriptors = 64});
  const auto make = [](const Flow& flow, uint32_t i) { return flow_frame(flow, i, 100); };
  expect_spread_by(key(), 400, hashes_ports, make);
  nic_->port().stop();
  ASSERT_TRUE(nic_->port().start());
  expect_spread_by(key(), 400, hashes_ports, make);
}

TEST_P(VirtioQueuesInQemu, have_an_interrupt_each) {
  with_rss();
  run({.queues = 4, .descriptors = 64});
  const auto rss = key();
  std::mt19937 random(3);
  for (uint32_t i = 0; i < 60; ++i) {
    const Flow flow = random_flow(random);
    const uint32_t mine = software_toeplitz(rss, flow.tuple(hashes_ports(flow))) % 128 % 4;
    Frames frames;
    for (uint32_t queue = 0; queue < 4; ++queue) {
      nic_->queue(queue).enable_wake();
      nic_->take(frames, 32, queue);
    }
    ASSERT_TRUE(frames.empty());
    ASSERT_TRUE(machine_->send(flow_frame(flow, i, 100)));
    ASSERT_TRUE(readable(nic_->queue(mine).wait_fd(), milliseconds(5000))) << "lost wake-up at frame " << i;
    for (uint32_t queue = 0; queue < 4; ++queue) {
      EXPECT_EQ(readable(nic_->queue(queue).wait_fd(), milliseconds(0)), queue == mine);
      nic_->queue(queue).disable_wake();
    }
    ASSERT_TRUE(eventually([&] {
      nic_->take(frames, 32, mine);
      return frames.size() == 1;
    }));
  }
}

// ---- what it refuses ---------------------------------------------------------------------------------

class VirtioRefusal : public NicInQemu {
 protected:
  VirtioRefusal() : NicInQemu("") {}
  Error refused(const std::string& device, const pci::NicOptions& options) {
    device_ = device;
    auto port = open_port(options);
    EXPECT_FALSE(port) << device;
    return port ? Error{} : port.error();
  }
};

TEST_F(VirtioRefusal, of_a_device_that_goes_past_the_iommu_names_the_option) {
  const Error error = refused("virtio-net-pci,disable-legacy=on", {});
  EXPECT_EQ(error.code, Code::kNotFound);
  EXPECT_NE(error.message().find("iommu_platform=on"), std::string::npos) << error.message();
}

TEST_F(VirtioRefusal, of_a_device_of_the_old_kind_names_the_option) {
  for (const char* kind : {"virtio-net-pci,disable-modern=on", "virtio-net-pci,disable-legacy=off"}) {
    const Error error = refused(kind, {});
    EXPECT_EQ(error.code, Code::kNotFound);
    EXPECT_NE(error.message().find("disable-legacy=on,iommu_platform=on"), std::string::npos)
        << error.message();
  }
}

TEST_F(VirtioRefusal, of_options_that_it_cannot_do_is_in_words) {
  const std::vector<std::pair<pci::NicOptions, const char*>> cases{
      {{.queues = 2}, "queues=2: this virtio device (virtio) has 1 receive queue"},
      {{.mtu = 15851}, "mtu=15851: virtio takes 68 to 15850"},
      {{.descriptors = 12}, "descriptors=12: virtio takes"},
      {{.moderation_us = 5}, "moderation=5: this virtio device cannot keep its interrupts apart"},
      {{.bad = true}, "bad=1: virtio has no frames"},
      {{.crc = true}, "crc=1: frames come to virtio without a CRC"}};
  for (const auto& [options, words] : cases) {
    const Error error = refused(device(false), options);
    EXPECT_EQ(error.code, Code::kUsage);
    EXPECT_NE(error.message().find(words), std::string::npos) << error.message();
  }
}

// ---- moderation --------------------------------------------------------------------------------------

// QEMU's device as a newer one: it offers VIRTIO_NET_F_NOTF_COAL, and takes the command that goes with it.
// QEMU itself is shown another command in its place. Split rings; QEMU has all structures in one BAR.
struct Coalescing {
  static constexpr uint32_t kNotify = 0x3000, kControlQueue = 2;
  bool refuses = false;  // QEMU is shown the command, which it does not know
  bool accepted = false;
  std::vector<std::pair<uint32_t, uint32_t>> told;  // frames, microseconds
};

class CoalescingBar final : public pci::Bar {
 public:
  CoalescingBar(std::unique_ptr<pci::Bar> bar, Coalescing& state, std::byte* memory)
      : bar_(std::move(bar)), state_(state), memory_(memory) {}
  uint64_t bytes() const override { return bar_->bytes(); }
  uint32_t read32(uint32_t offset) override {
    const bool features = offset == virtio::common::device_feature && offered_word_ == 1;
    return bar_->read32(offset) | (features ? kBit : 0);
  }
  void write32(uint32_t offset, uint32_t value) override {
    if (offset == virtio::common::device_feature_select) offered_word_ = value;
    if (offset == virtio::common::driver_feature_select) taken_word_ = value;
    if (offset == virtio::common::queue_desc && queue_ == Coalescing::kControlQueue) ring_ = value;
    if (offset == virtio::common::driver_feature && taken_word_ == 1) {
      state_.accepted = value & kBit;
      value &= ~kBit;
    }
    bar_->write32(offset, value);
  }
  uint32_t read_narrow(uint32_t offset, uint32_t bytes) override { return bar_->read_narrow(offset, bytes); }
  void write_narrow(uint32_t offset, uint32_t bytes, uint32_t value) override {
    if (offset == virtio::common::queue_select) queue_ = value;
    if (offset >= Coalescing::kNotify && value == Coalescing::kControlQueue) look_at_command();
    bar_->write_narrow(offset, bytes, value);
  }

 private:
  static constexpr uint32_t kBit = 1u << (53 - 32);

  // The ring's first descriptor: the driver gives one command at a time.
  void look_at_command() {
    uint64_t at = 0;
    std::memcpy(&at, memory_ + ring_, sizeof(at));
    uint8_t* command = reinterpret_cast<uint8_t*>(memory_ + at);
    if (command[0] != 6 || command[1] != 1 || state_.refuses) return;
    uint32_t data[2];
    std::memcpy(data, command + 2, sizeof(data));
    state_.told.emplace_back(data[0], data[1]);
    const uint8_t harmless[] = {0, 0, 1};  // promiscuous, once more
    std::memcpy(command, harmless, sizeof(harmless));
  }

  std::unique_ptr<pci::Bar> bar_;
  Coalescing& state_;
  std::byte* memory_;
  uint32_t offered_word_ = 0, taken_word_ = 0, queue_ = 0, ring_ = 0;
};

class CoalescingFunction final : public QtestFunction {
 public:
  CoalescingFunction(const std::shared_ptr<Machine>& machine, pci::Interrupt best, Coalescing& state)
      : QtestFunction(machine, best), state_(state), memory_(machine->memory()) {}
  Result<std::unique_ptr<pci::Bar>> bar(uint32_t index) override {
    auto bar = QtestFunction::bar(index);
    if (!bar) return bar;
    return std::make_unique<CoalescingBar>(std::move(*bar), state_, memory_);
  }

 private:
  Coalescing& state_;
  std::byte* memory_;
};

class VirtioCoalescing : public NicInQemu {
 protected:
  VirtioCoalescing() : NicInQemu(device(false)) {}
  std::unique_ptr<QtestFunction> make_function(pci::Interrupt best) override {
    return std::make_unique<CoalescingFunction>(machine_, best, state_);
  }
  Coalescing state_;
};

TEST_F(VirtioCoalescing, is_told_the_microseconds_at_each_start_and_half_a_ring_of_frames) {
  run({.descriptors = 128, .moderation_us = 70});
  EXPECT_TRUE(state_.accepted);
  EXPECT_EQ(state_.told, (std::vector<std::pair<uint32_t, uint32_t>>{{64, 70}}));
  EXPECT_EQ(statistic(nic_->port(), "rx_queue_0_moderation_us"), 70u);
  nic_->port().stop();
  ASSERT_TRUE(nic_->port().start());
  EXPECT_EQ(state_.told.size(), 2u);
}

TEST_F(VirtioCoalescing, is_left_alone_unless_a_time_is_asked_for) {
  run({.descriptors = 128});
  EXPECT_EQ(state_.told.size(), 0u);
  EXPECT_EQ(statistic(nic_->port(), "rx_queue_0_moderation_us"), 0u);
}

TEST_F(VirtioCoalescing, that_is_refused_is_an_error_in_words) {
  state_.refuses = true;
  open({.descriptors = 128, .moderation_us = 70});
  const Result<void> started = nic_->try_to_start();
  ASSERT_FALSE(started);
  EXPECT_NE(started.error().message().find("it refuses moderation=70"), std::string::npos)
      << started.error().message();
}

// ---- sleeping and link -------------------------------------------------------------------------------

TEST_P(VirtioInQemu, wakes_for_each_frame_and_never_misses_one_with_msi_x) {
  wakes_for_each_frame(pci::Interrupt::kMsix);
}
TEST_P(VirtioInQemu, wakes_for_each_frame_and_never_misses_one_with_intx) {
  wakes_for_each_frame(pci::Interrupt::kIntx);
}
TEST_P(VirtioInQemu, sleeps_on_when_nothing_comes_and_while_it_is_awake_with_msi_x) {
  sleeps_on(pci::Interrupt::kMsix);
}
TEST_P(VirtioInQemu, sleeps_on_when_nothing_comes_and_while_it_is_awake_with_intx) {
  sleeps_on(pci::Interrupt::kIntx);
}
TEST_P(VirtioInQemu, reports_link_changes_by_an_event_with_msi_x) {
  reports_link_changes(pci::Interrupt::kMsix);
}
TEST_P(VirtioInQemu, reports_link_changes_by_an_event_with_intx) {
  reports_link_changes(pci::Interrupt::kIntx);
}

// ---- transmit ----------------------------------------------------------------------------------------

TEST_P(VirtioInQemu, sends_all_lengths_byte_for_byte_in_order_and_completes_them) {
  sends_all_lengths_in_order();
}

TEST_P(VirtioInQemu, takes_only_what_fits_and_goes_on_after_completions) { takes_only_what_fits(512); }

TEST_P(VirtioInQemu, completes_what_no_wire_could_carry_without_sending_it) {
  completes_what_no_wire_could_carry();
}

TEST_P(VirtioInQemu, sends_on_after_stop_and_start_and_completes_what_the_reset_overtook) {
  sends_on_after_stop_and_start();
}

}  // namespace
}  // namespace ringcap::nic

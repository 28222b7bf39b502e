// What the tests of drivers against QEMU's NICs share: a machine, an open port, frames sent and compared.
#pragma once

#include <poll.h>

#include "tests/nic/flows.h"
#include "tests/nic/nic_test.h"
#include "tests/nic/qtest.h"

namespace ringcap::nic {

using Frames = std::vector<Frame>;
using std::chrono::milliseconds;

inline bool readable(int fd, milliseconds deadline) {
  pollfd ready{.fd = fd, .events = POLLIN, .revents = 0};
  return ::poll(&ready, 1, static_cast<int>(deadline.count())) == 1;
}

class NicInQemu : public testing::Test {
 protected:
  static constexpr uint32_t kSpareBuffers = 128;

  explicit NicInQemu(std::string device) : device_(std::move(device)) {}

  Result<std::unique_ptr<Port>> open_port(const pci::NicOptions& options,
                                          pci::Interrupt best = pci::Interrupt::kMsix) {
    machine_ = std::make_shared<Machine>(device_, tap_queues_);
    auto function = std::make_unique<QtestFunction>(machine_, best);
    arena_bytes_ = uint64_t{options.queues} * (options.descriptors + kSpareBuffers) *
                   (options.mtu > 1500 ? 16384 : 2048);
    arena_ = function->allocate(arena_bytes_, 2 << 20);
    return open_nic(std::move(function), options);
  }
  void open(const pci::NicOptions& options, pci::Interrupt best = pci::Interrupt::kMsix) {
    auto port = open_port(options, best);
    ASSERT_TRUE(port) << port.error().message();
    nic_ = std::make_unique<OpenPort>(std::move(*port), arena_, arena_bytes_,
                                      options.descriptors + kSpareBuffers);
  }
  // Until frames come in: a NIC that negotiates has no link at first.
  void run(const pci::NicOptions& options, pci::Interrupt best = pci::Interrupt::kMsix) {
    ASSERT_NO_FATAL_FAILURE(open(options, best));
    ASSERT_NO_FATAL_FAILURE(nic_->arm_and_start());
    ASSERT_TRUE(eventually([&] { return nic_->port().link().up; }));
  }
  void TearDown() override {
    if (nic_) nic_->port().stop();
    nic_.reset();
    if (machine_) {
      EXPECT_EQ(machine_->complaints(), std::vector<std::string>());
    }
  }

  // From all queues.
  Burst take(Frames& frames) {
    Burst sum;
    for (uint32_t queue = 0; queue < nic_->queues(); ++queue) {
      const Burst burst = nic_->take(frames, 32, queue);
      sum.frames += burst.frames;
      sum.broken += burst.broken;
      sum.no_buffer += burst.no_buffer;
      sum.copied += burst.copied;
    }
    return sum;
  }

  // The key that the driver gave the NIC.
  std::array<uint8_t, 40> rss_key() const {
    std::array<uint8_t, 40> key;
    for (uint32_t word = 0; word < 10; ++word) {
      const uint32_t value = machine_->readl(QtestFunction::kRegisters + 0x5c80 + 4 * word);
      std::memcpy(key.data() + 4 * word, &value, 4);
    }
    return key;
  }

  // Sends all, takes all; the frames in the order of their arrival.
  Frames through(const Frames& frames) {
    Frames taken;
    size_t sent = 0;
    eventually(
        [&] {
          for (int i = 0; i < 16 && sent < frames.size() && machine_->send(frames[sent]); ++i) ++sent;
          const Burst burst = take(taken);
          EXPECT_EQ(burst.broken + burst.no_buffer + burst.copied, 0u);
          return taken.size() >= frames.size();
        },
        milliseconds(60000));
    return taken;
  }
  // The same, without keeping them: compared one by one.
  void expect_through(uint32_t count, const std::function<uint32_t(uint32_t)>& length) {
    uint32_t sent = 0, compared = 0;
    const bool all = eventually(
        [&] {
          for (int i = 0; i < 16 && sent < count && machine_->send(make_frame(sent, length(sent))); ++i)
            ++sent;
          Frames taken;
          take(taken);
          for (const Frame& frame : taken) {
            if (frame != make_frame(compared, length(compared)))
              ADD_FAILURE() << "frame " << compared << " differs";
            if (HasFailure()) return true;
            ++compared;
          }
          return compared == count;
        },
        milliseconds(100000));
    EXPECT_TRUE(all);
    EXPECT_EQ(compared, count) << "of " << sent << " sent";
  }

  using MakeFrame = std::function<Frame(const Flow&, uint32_t number)>;
  // Frames of random flows arrive in the queue that a software Toeplitz says, in order. `ports`: whether the
  // chip hashes a flow's ports.
  void expect_spread(uint32_t count, const std::function<bool(const Flow&)>& ports, const MakeFrame& make) {
    expect_spread_by(rss_key(), count, ports, make);
  }
  void expect_spread_by(const std::array<uint8_t, 40>& key, uint32_t count,
                        const std::function<bool(const Flow&)>& ports, const MakeFrame& make) {
    std::mt19937 random(7);
    std::vector<Frames> expected(nic_->queues()), taken(nic_->queues());
    Frames sent;
    for (uint32_t i = 0; i < count; ++i) {
      const Flow flow = random_flow(random);
      sent.push_back(make(flow, i));
      expected[software_toeplitz(key, flow.tuple(ports(flow))) % 128 % nic_->queues()].push_back(sent.back());
    }
    size_t next = 0, came = 0;
    EXPECT_TRUE(eventually([&] {
      // Never more on their way than a ring holds.
      while (next < sent.size() && next - came < 48 && machine_->send(sent[next])) ++next;
      came = 0;
      for (uint32_t queue = 0; queue < nic_->queues(); ++queue) {
        nic_->take(taken[queue], 32, queue);
        came += taken[queue].size();
      }
      return came >= sent.size();
    }));
    for (uint32_t queue = 0; queue < nic_->queues(); ++queue) {
      EXPECT_GT(expected[queue].size(), count / nic_->queues() / 2);  // the test's own flows are spread
      EXPECT_TRUE(taken[queue] == expected[queue]) << "queue " << queue;
    }
  }

  // ---- sleeping and link

  void wakes_for_each_frame(pci::Interrupt interrupt) {
    run({.descriptors = 64}, interrupt);
    ReceiveQueue& queue = nic_->queue();
    for (uint32_t i = 0; i < 200; ++i) {
      Frames frames;
      if (i % 2 == 0) machine_->send(make_frame(i, 60));  // before, or while it falls asleep
      queue.enable_wake();
      if (i % 2 == 1) machine_->send(make_frame(i, 60));
      if (nic_->take(frames).frames == 0) {
        ASSERT_TRUE(readable(queue.wait_fd(), milliseconds(5000))) << "lost wake-up at frame " << i;
      }
      queue.disable_wake();
      ASSERT_TRUE(eventually([&] {
        nic_->take(frames);
        return frames.size() == 1;
      }));
      EXPECT_EQ(frames[0], make_frame(i, 60));
    }
  }

  void sleeps_on(pci::Interrupt interrupt) {
    run({.descriptors = 64}, interrupt);
    ReceiveQueue& queue = nic_->queue();
    through({make_frame(1, 60)});
    EXPECT_FALSE(readable(queue.wait_fd(), milliseconds(50)));  // masked: polling costs no interrupts
    queue.enable_wake();
    EXPECT_FALSE(readable(queue.wait_fd(), milliseconds(100)));  // what was taken does not wake
    queue.disable_wake();
  }

  void reports_link_changes(pci::Interrupt interrupt) {
    run({.descriptors = 64}, interrupt);
    Port& port = nic_->port();
    port.handle_event();
    for (const bool up : {false, true, false}) {
      machine_->set_link(up);
      EXPECT_TRUE(eventually([&] {  // with one vector for all it is the sleeping worker who is told
        nic_->queue().enable_wake();
        readable(nic_->queue().wait_fd(), milliseconds(20));
        nic_->queue().disable_wake();
        if (!readable(port.event_fd(), milliseconds(0))) return false;
        port.handle_event();
        return port.link().up == up;
      })) << up;
    }
  }

  std::shared_ptr<Machine> machine_;
  std::unique_ptr<OpenPort> nic_;
  std::byte* arena_ = nullptr;
  uint64_t arena_bytes_ = 0;
  std::string device_;
  uint32_t tap_queues_ = 0;
};

}  // namespace ringcap::nic

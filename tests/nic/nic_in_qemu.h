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

  // `best`: the interrupts that the device has, unless a test says other ones.
  explicit NicInQemu(std::string device, pci::Interrupt best = pci::Interrupt::kMsix)
      : device_(std::move(device)), best_(best) {}

  Result<std::unique_ptr<Port>> open_port(const pci::NicOptions& options) {
    return open_port(options, best_);
  }
  Result<std::unique_ptr<Port>> open_port(const pci::NicOptions& options, pci::Interrupt best) {
    machine_ = std::make_shared<Machine>(device_, tap_queues_);
    std::unique_ptr<QtestFunction> function = make_function(best);
    arena_bytes_ = uint64_t{options.queues} * (options.descriptors + kSpareBuffers) *
                   (options.mtu > 1500 ? 16384 : 2048);
    arena_ = function->allocate(arena_bytes_, 2 << 20);
    return open_nic(std::move(function), options);
  }
  // Another function for a device that QEMU does not quite have.
  virtual std::unique_ptr<QtestFunction> make_function(pci::Interrupt best) {
    return std::make_unique<QtestFunction>(machine_, best);
  }
  void open(const pci::NicOptions& options) { open(options, best_); }
  void open(const pci::NicOptions& options, pci::Interrupt best) {
    auto port = open_port(options, best);
    ASSERT_TRUE(port) << port.error().message();
    nic_ = std::make_unique<OpenPort>(std::move(*port), arena_, arena_bytes_,
                                      options.descriptors + kSpareBuffers);
  }
  // Until frames come in: a NIC that negotiates has no link at first.
  void run(const pci::NicOptions& options) { run(options, best_); }
  void run(const pci::NicOptions& options, pci::Interrupt best) {
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

  // 1 if it is on its way, beside `before` others.
  uint32_t send_paced(const Frame& frame, size_t before) {
    return before < in_flight_ && machine_->send(frame) ? 1 : 0;
  }
  // Sends all, takes all; the frames in the order of their arrival.
  Frames through(const Frames& frames) {
    Frames taken;
    size_t sent = 0;
    eventually(
        [&] {
          for (int i = 0; i < 16 && sent < frames.size(); ++i)
            sent += send_paced(frames[sent], sent - taken.size());
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
          for (int i = 0; i < 16 && sent < count; ++i)
            sent += send_paced(make_frame(sent, length(sent)), sent - compared);
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

  void delivers_frames_for_any_address() {
    run({.descriptors = 64});
    Frames sent;
    for (const uint8_t first : {uint8_t{0x00}, uint8_t{0x01}, uint8_t{0x33}, uint8_t{0xff}, uint8_t{0x52}}) {
      sent.push_back(make_frame(first, 64));
      sent.back()[0] = first;
    }
    EXPECT_EQ(through(sent), sent);
  }

  void leaves_vlan_tags_in_the_frame() {
    run({.descriptors = 64});
    Frame tagged = make_frame(1, 1518), twice = make_frame(2, 1518);
    std::memcpy(tagged.data() + 12, "\x81\x00\x60\x2a", 4);
    std::memcpy(twice.data() + 12, "\x88\xa8\x00\x07\x81\x00\x00\x08", 8);
    const Frames sent{tagged, twice};
    EXPECT_EQ(through(sent), sent);
  }

  // QEMU works out no CRC, and leaves room for it.
  void leaves_room_for_the_crc_with_crc_1() {
    run({.descriptors = 64, .crc = true});
    const Frame sent = make_frame(1, 100);
    Frames taken;
    ASSERT_TRUE(eventually([&] { return machine_->send(sent); }));
    ASSERT_TRUE(eventually([&] {
      nic_->take(taken);
      return !taken.empty();
    }));
    ASSERT_EQ(taken[0].size(), 104u);
    EXPECT_EQ(std::memcmp(taken[0].data(), sent.data(), 100), 0);
  }

  // Up to `most`, which wait in a ring of 64 all at a time.
  void delivers_bursts_of_every_size(uint32_t most = 64) {
    run({.descriptors = 64});
    through({make_frame(0, 60)});  // it receives from here on
    for (uint32_t size = 1; size <= most; ++size) {
      Frames sent, taken;
      for (uint32_t i = 0; i < size; ++i) sent.push_back(make_frame(size * 100 + i, 60 + size * 7 + i));
      uint32_t next = 0;
      ASSERT_TRUE(eventually([&] {  // all of them wait in the ring
        while (next < size && machine_->send(sent[next])) ++next;
        return next == size;
      }));
      ASSERT_TRUE(eventually([&] {
        nic_->take(taken, size);
        return taken.size() >= size;
      }));
      ASSERT_TRUE(taken == sent) << "bursts of " << size;
    }
  }

  void without_free_buffers_counts_and_stays_armed() {
    run({.descriptors = 64});
    std::vector<uint32_t> taken_away;
    while (!nic_->free().empty()) taken_away.push_back(nic_->free().pop());
    uint32_t sent = 0, no_buffer = 0;
    Frames frames;
    EXPECT_TRUE(eventually([&] {
      for (int i = 0; i < 8 && sent < 192; ++i) sent += send_paced(make_frame(sent, 100), sent - no_buffer);
      no_buffer += nic_->take(frames).no_buffer;
      return no_buffer == 192;
    }));
    EXPECT_TRUE(frames.empty());
    EXPECT_EQ(nic_->queue().held(), 64u);
    for (const uint32_t buffer : taken_away) nic_->free().push(buffer);
    const Frames more{make_frame(1000, 64), make_frame(1001, 1000)};
    EXPECT_EQ(through(more), more);
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

  // `remembers`: what came while interrupts were masked fires, once, when they are not.
  void sleeps_on(pci::Interrupt interrupt, bool remembers = false) {
    run({.descriptors = 64}, interrupt);
    ReceiveQueue& queue = nic_->queue();
    through({make_frame(1, 60)});
    EXPECT_FALSE(readable(queue.wait_fd(), milliseconds(50)));  // masked: polling costs no interrupts
    if (remembers) {
      queue.enable_wake();
      EXPECT_TRUE(readable(queue.wait_fd(), milliseconds(5000)));
      queue.disable_wake();
    }
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

  // ---- transmit

  TransmitQueue& transmit_queue() { return *nic_->port().transmit_queues()[0]; }
  // A frame in the buffer `at`: the lowest are never popped, as the free ones are used last in, first out.
  TransmitFrame place(uint32_t at, const Frame& frame, uint32_t cookie) {
    std::byte* data = nic_->region().buffer(at);
    std::memcpy(data, frame.data(), frame.size());
    return {.data = data,
            .arena_offset = uint64_t{at} * nic_->region().buffer_bytes,
            .length = static_cast<uint32_t>(frame.size()),
            .cookie = cookie};
  }

  void sends_all_lengths_in_order() {
    run({.mtu = 9000, .descriptors = 64, .transmit = true});
    constexpr uint32_t kFirst = 60, kLast = 9014, kBurst = 8;
    std::vector<uint32_t> cookies(64);
    uint32_t completed = 0;
    for (uint32_t length = kFirst; length <= kLast; length += kBurst) {
      std::vector<TransmitFrame> burst;
      Frames expected;
      for (uint32_t i = 0; i < kBurst && length + i <= kLast; ++i) {
        expected.push_back(make_frame(length + i, length + i));
        burst.push_back(place(i, expected.back(), length + i));
      }
      ASSERT_EQ(transmit_queue().transmit(burst), burst.size());
      for (const Frame& frame : expected) {
        const auto got = machine_->receive(milliseconds(5000));
        ASSERT_TRUE(got) << frame.size();
        ASSERT_TRUE(*got == frame) << frame.size();
      }
      ASSERT_TRUE(eventually([&] {
        const uint32_t count = transmit_queue().completed(cookies);
        for (uint32_t i = 0; i < count; ++i) EXPECT_EQ(cookies[i], kFirst + completed++);
        return completed == length - kFirst + burst.size();
      }));
    }
  }

  // `most`: at a time, whatever the ring has.
  void takes_only_what_fits(uint32_t most = 1024) {
    run({.descriptors = 64, .transmit = true});
    std::vector<TransmitFrame> many(3000, place(0, make_frame(1, 60), 0));
    for (uint32_t i = 0; i < many.size(); ++i) many[i].cookie = i;
    std::vector<uint32_t> cookies(256);
    uint32_t given = 0, completed = 0, arrived = 0;
    EXPECT_TRUE(eventually([&] {
      given += transmit_queue().transmit(std::span(many).subspan(given));
      EXPECT_LE(given - completed, most);
      const uint32_t count = transmit_queue().completed(cookies);
      for (uint32_t i = 0; i < count; ++i) EXPECT_EQ(cookies[i], completed++);
      while (machine_->receive(milliseconds(0))) ++arrived;
      return completed == many.size() && arrived == many.size();
    }));
    EXPECT_EQ(arrived, many.size());
  }

  void completes_what_no_wire_could_carry() {
    run({.descriptors = 64, .transmit = true});
    const TransmitFrame good = place(0, make_frame(1, 60), 2);
    TransmitFrame empty = good, huge = good;
    empty.length = 0;
    huge.length = 60000;
    const std::vector<TransmitFrame> frames{empty, huge, good, empty};
    ASSERT_EQ(transmit_queue().transmit(frames), 4u);
    EXPECT_EQ(transmit_queue().refused(), 3u);
    std::vector<uint32_t> cookies(8);
    EXPECT_TRUE(
        eventually([&, done = 0u]() mutable { return (done += transmit_queue().completed(cookies)) == 4; }));
    EXPECT_EQ(machine_->receive(milliseconds(5000)), make_frame(1, 60));
    EXPECT_FALSE(machine_->receive(milliseconds(50)));
  }

  void sends_on_after_stop_and_start() {
    run({.descriptors = 64, .transmit = true});
    std::vector<uint32_t> cookies(64);
    for (uint32_t round = 0; round < 4; ++round) {
      const std::vector<TransmitFrame> frames{place(0, make_frame(round, 60), 2 * round),
                                              place(1, make_frame(round, 61), 2 * round + 1)};
      ASSERT_EQ(transmit_queue().transmit(frames), 2u);
      nic_->port().stop();
      ASSERT_TRUE(nic_->port().start());
      uint32_t done = 0;
      EXPECT_TRUE(eventually([&] {
        const uint32_t count = transmit_queue().completed(cookies);
        for (uint32_t i = 0; i < count; ++i) EXPECT_EQ(cookies[i], 2 * round + done++);
        return done == 2;
      }));
    }
    while (machine_->receive(milliseconds(20))) {
    }
    ASSERT_EQ(transmit_queue().transmit({{place(2, make_frame(9, 100), 9)}}), 1u);
    EXPECT_EQ(machine_->receive(milliseconds(5000)), make_frame(9, 100));
  }

  // Each wake-up is a message. QEMU does not begin a new interval with a message that waited for the end of
  // the last one (e1000e), so of two messages one may come at once. However long anybody sleeps, it is no
  // less.
  void interrupts_are_as_far_apart_as_moderation_says() {
    constexpr int64_t kUs = 8'000;
    constexpr int kWakeUps = 6;
    run({.descriptors = 64, .moderation_us = kUs});
    ReceiveQueue& queue = nic_->queue();
    const auto begin = std::chrono::steady_clock::now();
    for (uint32_t i = 0; i < kWakeUps; ++i) {
      Frames frames;
      queue.enable_wake();
      ASSERT_TRUE(eventually([&] { return machine_->send(make_frame(i, 60)); }));
      ASSERT_TRUE(readable(queue.wait_fd(), milliseconds(20'000)));
      queue.disable_wake();
      ASSERT_TRUE(eventually([&] {
        nic_->take(frames);
        return !frames.empty();
      }));
    }
    EXPECT_GE(std::chrono::steady_clock::now() - begin, std::chrono::microseconds(kWakeUps / 2 * kUs));
  }

  std::shared_ptr<Machine> machine_;
  std::unique_ptr<OpenPort> nic_;
  std::byte* arena_ = nullptr;
  uint64_t arena_bytes_ = 0;
  std::string device_;
  pci::Interrupt best_;
  uint32_t tap_queues_ = 0;
  // Frames that may be on their way: fewer than a ring holds, where QEMU drops what it has no room for.
  size_t in_flight_ = SIZE_MAX;
};

}  // namespace ringcap::nic

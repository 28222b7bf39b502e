// The vmxnet3 driver against a device that writes what it should not, refuses, or vanishes: the test is the
// device, with the rings' memory in its hands. Nothing it writes may lead out of the arena or lose a buffer.
#include <sys/eventfd.h>

#include <algorithm>
#include <cstring>
#include <random>

#include "driver/vmxnet3/port.h"
#include "tests/nic/model.h"
#include "tests/nic/nic_test.h"

namespace ringcap::nic {
namespace {

using namespace vmxnet3;  // NOLINT
using Frame = ringcap::Frame;

constexpr uint32_t kDescriptors = 64, kSlots = kDescriptors + kRingStep, kDone = kSlots + kRingStep;
constexpr uint32_t kBuffers = 100, kBufferBytes = 2048, kLongest = 1600;

std::byte* reach(Chip& chip, uint64_t iova) {
  for (const Chip::Window& window : chip.windows) {
    if (iova >= window.iova && iova < window.iova + window.bytes) return window.data + (iova - window.iova);
  }
  return nullptr;
}

// A completion ring as the device has it.
class DeviceSide {
 public:
  DeviceSide(Chip& chip, const RingAddresses& at)
      : ring_(reach(chip, at.completion)), given_(reach(chip, at.ring)), size_(at.completion_size) {}
  void complete(Completion done) {
    done.words[3] &= ~Completion::kGeneration;
    if (position_ / size_ % 2 == 0) done.words[3] |= Completion::kGeneration;
    std::memcpy(ring_ + sizeof(done) * (position_++ % size_), &done, sizeof(done));
  }
  std::byte* everything() const { return given_; }

 private:
  std::byte* ring_;
  std::byte* given_;
  uint32_t size_;
  uint32_t position_ = 0;
};

// A whole frame of `length` bytes in slot `index`.
Completion whole(uint32_t index, uint32_t length) {
  return {.words = {index | 1u << 14 | 1u << 15, 0, length, 3u << 24}};
}

class Vmxnet3Hostile : public testing::Test, private Counting {
 protected:
  Vmxnet3Hostile() : event_(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)), memory_(kBuffers * kBufferBytes) {
    for (uint32_t i = 0; i < kBuffers; ++i) free_.push(i);
  }
  QueueCounters count() override { return {}; }

  void open(bool bad = false) {
    const ReceiveSettings settings{.descriptors = kDescriptors,
                                   .buffer_need = kBufferBytes,
                                   .bad = bad,
                                   .function = &function_,
                                   .pt = pci::Registers(&bar_),
                                   .vd = pci::Registers(&bar_),
                                   .counting = this,
                                   .control = &control_,
                                   .event_fd = event_.get()};
    queue_ = std::move(*Vmxnet3ReceiveQueue::make(settings));
    ASSERT_TRUE(queue_->arm({memory_.data(), 0, kBufferBytes, kBuffers, 0}, free_));
    begin_anew();
  }
  void begin_anew() {
    device_ = std::make_unique<DeviceSide>(*chip_, queue_->prepare());
    queue_->offer();
    // What is in the old ring first.
    while (receive() > 0) {
    }
    next_ = 0;
  }
  // The next slot that is the device's; moves on.
  uint32_t slot() { return next_++ % kSlots; }

  // Gives all frames back; checks that each lies within its buffer. What was taken.
  uint32_t receive() {
    std::array<Frame, 8> out;
    last_ = queue_->receive(out, free_);
    EXPECT_LE(last_.frames + last_.broken + last_.no_buffer, out.size());
    for (uint32_t i = 0; i < last_.frames; ++i) {
      const std::byte* begin = memory_.data() + size_t{out[i].buffer} * kBufferBytes;
      EXPECT_LT(out[i].buffer, kBuffers);
      EXPECT_GE(out[i].data, begin);
      EXPECT_LE(out[i].data + out[i].captured, begin + kBufferBytes);
      EXPECT_EQ(out[i].captured, out[i].length);
      flags_ = out[i].flags;
      free_.push(out[i].buffer);
    }
    frames_ += last_.frames;
    broken_ += last_.broken;
    return last_.frames + last_.broken + last_.no_buffer;
  }
  void receive_all() {
    frames_ = broken_ = 0;
    while (receive() > 0) {
    }
  }
  void expect_all_buffers() {
    EXPECT_EQ(queue_->held(), kDescriptors);
    queue_->disarm(free_);
    expect_each_buffer_once(free_, kBuffers);
  }

  // Registers that take everything.
  class Sink final : public pci::Bar {
   public:
    uint32_t read32(uint32_t) override { return 0; }
    void write32(uint32_t offset, uint32_t value) override { last = {offset, value}; }
    uint64_t bytes() const override { return 4096; }
    std::pair<uint32_t, uint32_t> last;
  };

  std::shared_ptr<Chip> chip_ = std::make_shared<Chip>();
  ModelFunction function_{chip_};
  Sink bar_;
  Fd event_;
  RxQueueDesc control_{};
  std::vector<std::byte> memory_;
  FreeBuffers free_{kBuffers};
  std::unique_ptr<Vmxnet3ReceiveQueue> queue_;
  std::unique_ptr<DeviceSide> device_;
  uint32_t next_ = 0;
  Burst last_;
  uint64_t frames_ = 0, broken_ = 0;
  uint16_t flags_ = 0;
};

TEST_F(Vmxnet3Hostile, lengths_that_cannot_be_count_as_broken) {
  open();
  for (const uint32_t length : {0u, kLongest + 1, 2048u, 9000u, 0x3fffu})
    device_->complete(whole(slot(), length));
  device_->complete(whole(slot(), kLongest));
  receive_all();
  EXPECT_EQ(broken_, 5u);
  EXPECT_EQ(frames_, 1u);
  expect_all_buffers();
}

TEST_F(Vmxnet3Hostile, frames_that_were_changed_count_as_broken) {
  open();
  Completion merged = whole(slot(), 100), stripped = whole(slot(), 100);
  merged.words[3] = Completion::kMerged << 24;
  stripped.words[2] |= 1u << 15;
  device_->complete(merged);
  device_->complete(stripped);
  receive_all();
  EXPECT_EQ(broken_, 2u);
  EXPECT_EQ(frames_, 0u);
  expect_all_buffers();
}

TEST_F(Vmxnet3Hostile, frame_of_several_descriptors_is_broken_once_and_the_next_one_is_taken) {
  open();
  Completion first = whole(slot(), 1600), middle = whole(slot(), 1600), rest = whole(7, 800);
  first.words[0] &= ~(1u << 14);
  middle.words[0] &= ~(3u << 14);
  rest.words[0] &= ~(1u << 15);
  rest.words[0] |= 1u << 16;  // of the second ring, in which it was given nothing
  for (const Completion& each : {first, middle, rest}) device_->complete(each);
  device_->complete(whole(slot(), 100));
  receive_all();
  EXPECT_EQ(broken_, 1u);
  EXPECT_EQ(frames_, 1u);
  expect_all_buffers();
}

TEST_F(Vmxnet3Hostile, end_of_a_frame_that_never_began_counts_as_broken) {
  open();
  Completion rest = whole(slot(), 100);
  rest.words[0] &= ~(1u << 15);
  device_->complete(rest);
  device_->complete(whole(slot(), 100));
  receive_all();
  EXPECT_EQ(broken_, 1u);
  EXPECT_EQ(frames_, 1u);
  expect_all_buffers();
}

TEST_F(Vmxnet3Hostile, indices_that_the_device_does_not_have_count_as_broken_and_the_next_frame_is_taken) {
  open();
  // The slots behind what it was given, none at all, and one that it gave back already.
  for (const uint32_t index : {kDescriptors, kSlots - 1, kSlots, 0x7ffu, 0xfffu})
    device_->complete(whole(index, 100));
  receive_all();
  EXPECT_EQ(broken_, 5u);
  EXPECT_EQ(frames_, 0u);
  const uint32_t first = slot();
  device_->complete(whole(first, 100));
  device_->complete(whole(first, 100));
  device_->complete(whole(slot(), 100));
  receive_all();
  EXPECT_EQ(broken_, 1u);
  EXPECT_EQ(frames_, 2u);
  expect_all_buffers();
}

TEST_F(Vmxnet3Hostile, slots_that_the_device_passes_over_are_given_to_it_again) {
  open();
  device_->complete(whole(40, 100));
  receive_all();
  EXPECT_EQ(frames_, 1u);
  device_->complete(whole(8, 100));  // one of those that it now has again, further on
  receive_all();
  EXPECT_EQ(frames_, 1u);
  expect_all_buffers();
}

TEST_F(Vmxnet3Hostile, error_without_a_reason_is_flagged_by_what_it_says_of_the_crc) {
  open(true);
  for (const bool correct : {false, true}) {
    Completion done = whole(slot(), 100);
    done.words[2] |= 1u << 14;
    if (correct) done.words[3] |= 1u << 23;
    device_->complete(done);
    receive_all();
    ASSERT_EQ(frames_, 1u);
    EXPECT_EQ(flags_, correct ? layout::kBadLength : layout::kBadCrc);
  }
  EXPECT_EQ(queue_->errors_seen(), 2u);
  expect_all_buffers();
}

TEST_F(Vmxnet3Hostile, device_that_asks_for_it_is_told_of_refilled_slots) {
  open();
  bar_.last = {};
  device_->complete(whole(slot(), 100));
  receive_all();
  EXPECT_EQ(bar_.last.first, 0u);
  control_.updateRxProd = 1;
  device_->complete(whole(slot(), 100));
  receive_all();
  EXPECT_EQ(bar_.last, std::make_pair(pt::RXPROD, kDescriptors + 2));
  expect_all_buffers();
}

TEST_F(Vmxnet3Hostile, random_writes_to_the_rings_lead_nowhere) {
  std::mt19937 random(3);
  open();
  const uint64_t bytes = 16 * (kSlots + kRingStep + kDone);
  uint64_t frames = 0;
  for (uint32_t i = 0; i < 300'000; ++i) {
    if (random() % 4 == 0) {
      device_->everything()[random() % bytes] = static_cast<std::byte>(random());
    } else {
      Completion done = whole(random() % 4 == 0 ? static_cast<uint32_t>(random() % 0x1000) : slot(),
                              static_cast<uint32_t>(random() % 8 == 0 ? random() : random() % 1700));
      if (random() % 16 == 0) done.words[random() % 4] ^= 1u << random() % 32;
      device_->complete(done);
    }
    receive();
    frames += last_.frames;
    if (i % 64 == 0) begin_anew();
  }
  EXPECT_GT(frames, 10'000u);
  expect_all_buffers();
}

// ---- transmit ------------------------------------------------------------------------------------------

class Vmxnet3HostileTransmit : public Vmxnet3Hostile {
 protected:
  Vmxnet3HostileTransmit() {
    queue_ = std::move(*Vmxnet3TransmitQueue::make(
        {.longest = 1522, .function = &function_, .pt = pci::Registers(&bar_), .event_fd = event_.get()}));
    device_ = std::make_unique<DeviceSide>(*chip_, queue_->prepare());
    queue_->offer();
  }
  void transmit(uint32_t count) {
    for (uint32_t i = 0; i < count; ++i) {
      const TransmitFrame frame{.data = memory_.data(), .arena_offset = 0, .length = 60, .cookie = i};
      ASSERT_EQ(queue_->transmit({&frame, 1}), 1u);
    }
  }
  uint32_t completed() {
    std::array<uint32_t, 64> cookies;
    return queue_->completed(cookies);
  }
  std::unique_ptr<Vmxnet3TransmitQueue> queue_;
};

TEST_F(Vmxnet3HostileTransmit, one_completion_may_stand_for_all_before_it) {
  transmit(10);
  device_->complete(whole(6, 0));
  EXPECT_EQ(completed(), 7u);
  device_->complete(whole(9, 0));
  EXPECT_EQ(completed(), 3u);
  EXPECT_FALSE(queue_->broken());
}

TEST_F(Vmxnet3HostileTransmit,
       index_of_a_frame_that_was_not_given_ends_the_queue_and_tells_the_control_thread) {
  transmit(3);
  device_->complete(whole(1, 0));
  device_->complete(whole(3, 0));
  EXPECT_EQ(completed(), 2u);
  EXPECT_TRUE(queue_->broken());
  eventfd_t count;
  EXPECT_EQ(::eventfd_read(event_.get(), &count), 0);
  const TransmitFrame frame{.data = memory_.data(), .arena_offset = 0, .length = 60, .cookie = 9};
  EXPECT_EQ(queue_->transmit({&frame, 1}), 0u);
}

// ---- the whole port ------------------------------------------------------------------------------------

// A device with no more than answers to commands.
class Answers final : public pci::Function {
 public:
  const std::string& address() const override { return inner_.address(); }
  Result<uint32_t> config_read(uint32_t offset, uint32_t) override { return offset == 0 ? 0x15ad : 0x07b0; }
  Result<void> config_write(uint32_t, uint32_t, uint32_t) override { return {}; }
  Result<std::unique_ptr<pci::Bar>> bar(uint32_t) override { return std::make_unique<Registers>(*this); }
  Result<pci::Iova> dma_map(std::byte* data, uint64_t bytes, pci::DmaAccess access) override {
    return inner_.dma_map(data, bytes, access);
  }
  Result<DmaMemory> dma_allocate(uint64_t bytes) override { return inner_.dma_allocate(bytes); }
  Result<bool> reset() override { return false; }
  Result<void> set_bus_master(bool on) override {
    master = on;
    return {};
  }
  Result<pci::Interrupt> enable_interrupts(uint32_t) override { return pci::Interrupt::kNone; }
  int interrupt_fd(uint32_t) const override { return -1; }
  bool consume_interrupt(uint32_t) override { return false; }
  int event_fd() const override { return chip->events.get(); }
  Events consume_events() override { return inner_.consume_events(); }

  bool removed = false, master = false;
  uint32_t revisions = 1, activation = 0, last_command = 0;
  std::vector<uint32_t> unmastered;  // commands that came while the device had no access to memory
  std::shared_ptr<Chip> chip = std::make_shared<Chip>();

 private:
  class Registers final : public pci::Bar {
   public:
    explicit Registers(Answers& device) : device_(device) {}
    uint32_t read32(uint32_t offset) override {
      if (device_.removed) return pci::kAbsent;
      if (offset == vd::VRRS || offset == vd::UVRS) return device_.revisions;
      if (offset != vd::CMD) return 0;
      if (device_.last_command == command::GET_LINK) return 10000u << 16 | 1;
      return device_.last_command == command::ACTIVATE_DEV ? device_.activation : 0;
    }
    void write32(uint32_t offset, uint32_t value) override {
      if (offset != vd::CMD) return;
      device_.last_command = value;
      if (!device_.master) device_.unmastered.push_back(value);
    }
    uint64_t bytes() const override { return 4096; }

   private:
    Answers& device_;
  };
  ModelFunction inner_{chip};
};

class Vmxnet3Fault : public testing::Test {
 protected:
  Vmxnet3Fault() : arena_(kBuffers * kBufferBytes) {
    auto function = std::make_unique<Answers>();
    device_ = function.get();
    function_ = std::move(function);
  }
  void open() {
    auto port = open_nic(std::move(function_), {.descriptors = kDescriptors});
    ASSERT_TRUE(port) << port.error().message();
    nic_ = std::make_unique<OpenPort>(std::move(*port), arena_.data(), arena_.size(), kBuffers);
  }
  std::string refused() {
    const auto port = open_nic(std::move(function_), {.descriptors = kDescriptors});
    EXPECT_FALSE(port);
    return port ? "" : port.error().message();
  }

  std::vector<std::byte> arena_;
  std::unique_ptr<pci::Function> function_;
  Answers* device_;
  std::unique_ptr<OpenPort> nic_;
};

TEST_F(Vmxnet3Fault, device_is_reset_before_it_may_reach_memory) {
  open();
  EXPECT_FALSE(device_->master);
  EXPECT_EQ(device_->unmastered.at(0), command::RESET_DEV);
  device_->master = true;  // as whoever had it before left it
  nic_->arm_and_start();
  EXPECT_TRUE(device_->master);
  const auto& before = device_->unmastered;
  EXPECT_EQ(std::count(before.begin(), before.end(), command::ACTIVATE_DEV), 0);
  nic_->port().stop();
  EXPECT_FALSE(device_->master);
}

TEST_F(Vmxnet3Fault, device_that_refuses_to_start_is_reported_and_has_no_access_to_memory) {
  open();
  device_->activation = 1;
  ASSERT_TRUE(nic_->queue().arm(nic_->region(), nic_->free()));
  const auto started = nic_->port().start();
  ASSERT_FALSE(started);
  EXPECT_NE(started.error().message().find("it refuses to start (result 0x1)"), std::string::npos);
  EXPECT_FALSE(device_->master);
  device_->activation = 0;
  EXPECT_TRUE(nic_->port().start());
}

TEST_F(Vmxnet3Fault, device_of_revisions_that_are_not_known_is_refused) {
  device_->revisions = 6;
  EXPECT_NE(refused().find("it has no revision 1"), std::string::npos);
}

TEST_F(Vmxnet3Fault, device_that_does_not_answer_is_refused) {
  device_->removed = true;
  EXPECT_NE(refused().find("it does not answer"), std::string::npos);
}

TEST_F(Vmxnet3Fault, device_that_vanishes_ends_the_port_and_adds_nothing_to_the_counters) {
  open();
  nic_->arm_and_start();
  EXPECT_TRUE(nic_->port().link().up);
  EXPECT_EQ(nic_->port().link().mbps, 10000u);
  device_->removed = true;
  EXPECT_EQ(nic_->port().counters().received, 0u);
  EXPECT_FALSE(nic_->port().link().present);
  EXPECT_EQ(nic_->port().counters().received, 0u);
  std::vector<std::vector<uint8_t>> frames;
  EXPECT_EQ(nic_->take(frames).frames, 0u);
  nic_->queue().enable_wake();
  nic_->queue().disable_wake();
  nic_->port().stop();
  EXPECT_FALSE(nic_->port().start());
  nic_->disarm();
  EXPECT_EQ(nic_->free().size(), kBuffers);
}

}  // namespace
}  // namespace ringcap::nic

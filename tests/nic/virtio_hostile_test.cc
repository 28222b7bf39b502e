// The virtio queues against a device that writes what it should not: the test is the device, with the rings'
// memory in its hands. Nothing it writes may lead out of the arena or lose a buffer.
#include <sys/eventfd.h>

#include <cstring>
#include <random>

#include "driver/virtio/receive.h"
#include "driver/virtio/transmit.h"
#include "tests/nic/model.h"
#include "tests/nic/nic_test.h"

namespace ringcap::nic {
namespace {

using namespace virtio;  // NOLINT
using Frame = ringcap::Frame;

constexpr uint32_t kSlots = 16, kBuffers = 40, kBufferBytes = 2048;

class NoBar final : public pci::Bar {
 public:
  uint32_t read32(uint32_t) override { return 0; }
  void write32(uint32_t, uint32_t) override {}
  uint64_t bytes() const override { return 4096; }
};

// A ring as the device has it.
class DeviceSide {
 public:
  DeviceSide(Chip& chip, bool packed, const RingAddresses& at, uint32_t size) : packed_(packed), size_(size) {
    for (const Chip::Window& window : chip.windows) {
      const auto find = [&](uint64_t iova) -> std::byte* {
        const bool inside = iova >= window.iova && iova < window.iova + window.bytes;
        return inside ? window.data + (iova - window.iova) : nullptr;
      };
      if (std::byte* found = find(at.descriptors)) descriptors_ = found;
      if (std::byte* found = find(at.device)) device_ = found;
    }
  }
  // Gives back buffer `id`; `length` as the device says it.
  void use(uint32_t id, uint32_t length) {
    if (packed_) {
      std::byte* entry = descriptors_ + size_t{16} * (position_ % size_);
      const bool lap = position_ / size_ % 2 == 0;
      const auto short_id = static_cast<uint16_t>(id);
      const auto flags = static_cast<uint16_t>(lap ? 0x8080 : 0);
      std::memcpy(entry + 8, &length, 4);
      std::memcpy(entry + 12, &short_id, 2);
      std::memcpy(entry + 14, &flags, 2);
      ++position_;
    } else {
      std::memcpy(device_ + 4 + size_t{8} * (position_ % size_), &id, 4);
      std::memcpy(device_ + 8 + size_t{8} * (position_ % size_), &length, 4);
      set_index(static_cast<uint16_t>(++position_));
    }
  }
  void set_index(uint16_t index) { std::memcpy(device_ + 2, &index, 2); }
  std::byte* everything() const { return descriptors_; }

 private:
  bool packed_;
  uint32_t size_;
  std::byte* descriptors_ = nullptr;
  std::byte* device_ = nullptr;
  uint32_t position_ = 0;
};

class VirtioHostile : public testing::TestWithParam<bool> {
 protected:
  VirtioHostile() : event_(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)), memory_(kBuffers * kBufferBytes) {
    for (uint32_t i = 0; i < kBuffers; ++i) free_.push(i);
  }
  bool packed() const { return GetParam(); }

  void open() {
    const ReceiveSettings settings{.descriptors = kSlots,
                                   .buffer_need = kBufferBytes,
                                   .merges = true,
                                   .function = &function_,
                                   .event_fd = event_.get()};
    queue_ = std::move(*(packed() ? VirtioReceiveQueue<PackedRing>::make(settings)
                                  : VirtioReceiveQueue<SplitRing>::make(settings)));
    ASSERT_TRUE(queue_->arm({memory_.data(), 0, kBufferBytes, kBuffers, 0}, free_));
    begin_anew();
  }
  void begin_anew() {
    const RingAddresses at = queue_->prepare();
    device_ = std::make_unique<DeviceSide>(*chip_, packed(), at, kSlots);
    queue_->offer(Doorbell(&bar_, 0, 0));
    receive();
  }
  // Slot s of a queue that was just armed has the buffer that was popped then.
  std::byte* frame_of(uint32_t slot) {
    const uint32_t buffer = kBuffers - 1 - slot;
    return memory_.data() + size_t{buffer} * kBufferBytes + 64 + 64 * (buffer % 8);
  }
  void write_header(uint32_t slot, const Header& header) {
    std::memcpy(frame_of(slot) - sizeof(header), &header, sizeof(header));
  }
  static Header good() {
    Header header{};
    header.num_buffers = 1;
    return header;
  }

  // Gives all frames back; checks that each lies within its buffer.
  Burst receive() {
    std::array<Frame, 8> out;
    const Burst burst = queue_->receive(out, free_);
    EXPECT_LE(burst.frames + burst.broken + burst.no_buffer, out.size());
    for (uint32_t i = 0; i < burst.frames; ++i) {
      const std::byte* begin = memory_.data() + size_t{out[i].buffer} * kBufferBytes;
      EXPECT_LT(out[i].buffer, kBuffers);
      EXPECT_GE(out[i].data, begin);
      EXPECT_LE(out[i].data + out[i].captured, begin + kBufferBytes);
      EXPECT_EQ(out[i].captured, out[i].length);
      free_.push(out[i].buffer);
    }
    return burst;
  }
  void expect_all_buffers() {
    queue_->disarm(free_);
    expect_each_buffer_once(free_, kBuffers);
  }
  bool told() {
    eventfd_t count;
    return ::eventfd_read(event_.get(), &count) == 0;
  }

  std::shared_ptr<Chip> chip_ = std::make_shared<Chip>();
  ModelFunction function_{chip_};
  NoBar bar_;
  Fd event_;
  std::vector<std::byte> memory_;
  FreeBuffers free_{kBuffers};
  std::unique_ptr<VirtioReceive> queue_;
  std::unique_ptr<DeviceSide> device_;
};

INSTANTIATE_TEST_SUITE_P(Rings, VirtioHostile, testing::Bool(),
                         [](const auto& each) { return each.param ? "packed" : "split"; });

TEST_P(VirtioHostile, lengths_that_cannot_be_count_as_broken) {
  open();
  const uint32_t lengths[] = {0, 1, 11, 12, 12 + 1537, 2048, 2049, 0x10000, 0x7fffffff, 0xffffffff};
  uint32_t slot = 0;
  for (const uint32_t length : lengths) {
    write_header(slot, good());
    device_->use(slot++, length);
  }
  uint32_t broken = 0, frames = 0;
  for (int i = 0; i < 4; ++i) {
    const Burst burst = receive();
    broken += burst.broken;
    frames += burst.frames;
  }
  EXPECT_EQ(broken, std::size(lengths));
  EXPECT_EQ(frames, 0u);
  write_header(slot, good());
  device_->use(slot, 12 + 1536);
  EXPECT_EQ(receive().frames, 1u);
  EXPECT_FALSE(queue_->broken());
  expect_all_buffers();
}

TEST_P(VirtioHostile, headers_of_frames_that_are_not_whole_count_as_broken) {
  open();
  Header merged = good(), unfinished = good(), none = good();
  merged.gso_type = 1;
  unfinished.flags = kNeedsChecksum;
  none.num_buffers = 0;
  uint32_t slot = 0;
  for (const Header& header : {merged, unfinished, none}) {
    write_header(slot, header);
    device_->use(slot++, 100);
  }
  EXPECT_EQ(receive().broken, 3u);
  expect_all_buffers();
}

TEST_P(VirtioHostile, frame_of_several_buffers_is_broken_once_and_the_next_one_is_taken) {
  open();
  Header three = good();
  three.num_buffers = 3;
  write_header(0, three);
  for (uint32_t slot = 0; slot < 3; ++slot) device_->use(slot, 12 + 1536);
  write_header(3, good());
  device_->use(3, 112);
  const Burst burst = receive();
  EXPECT_EQ(burst.broken, 1u);
  EXPECT_EQ(burst.frames, 1u);
  expect_all_buffers();
}

TEST_P(VirtioHostile, id_that_no_buffer_has_ends_the_queue_and_tells_the_control_thread) {
  for (const uint32_t id : {16u, 17u, 255u, 0x7fffu, 0xffffu}) {
    open();
    write_header(0, good());
    device_->use(0, 112);
    device_->use(id, 112);
    EXPECT_EQ(receive().frames, 1u);
    EXPECT_TRUE(queue_->broken()) << id;
    EXPECT_TRUE(told());
    device_->use(1, 112);
    EXPECT_EQ(receive().frames, 0u);
    expect_all_buffers();
    for (uint32_t i = 0; i < kBuffers; ++i) free_.push(i);
  }
}

TEST_P(VirtioHostile, index_that_ran_ahead_of_what_was_given_ends_the_queue) {
  if (packed()) return;  // packed rings have none
  open();
  device_->set_index(kSlots + 1);
  EXPECT_EQ(receive().frames, 0u);
  EXPECT_TRUE(queue_->broken());
  EXPECT_TRUE(told());
  expect_all_buffers();
}

TEST_P(VirtioHostile, buffer_that_is_given_back_twice_loses_no_buffer) {
  open();
  for (uint32_t i = 0; i < kSlots; ++i) {
    write_header(5, good());
    device_->use(5, 112);
  }
  for (int i = 0; i < 8; ++i) receive();
  EXPECT_FALSE(queue_->broken());
  expect_all_buffers();
}

TEST_P(VirtioHostile, random_writes_to_the_ring_lead_nowhere) {
  std::mt19937 random(packed() ? 1 : 2);
  open();
  const uint64_t bytes = packed() ? PackedRing<1>::bytes(kSlots) : SplitRing<1>::bytes(kSlots);
  uint64_t frames = 0;
  for (uint32_t i = 0; i < 300'000; ++i) {
    if (random() % 4 == 0) {
      device_->everything()[random() % bytes] = static_cast<std::byte>(random());
    } else {
      const auto slot = static_cast<uint32_t>(random() % (random() % 64 == 0 ? 20 : kSlots));
      for (uint32_t b = 0; b < kBuffers; ++b) {
        Header header = good();
        header.num_buffers = random() % 16 == 0 ? static_cast<uint16_t>(random() % 4) : uint16_t{1};
        std::memcpy(memory_.data() + size_t{b} * kBufferBytes + 52 + 64 * (b % 8), &header, sizeof(header));
      }
      device_->use(slot, static_cast<uint32_t>(random() % 8 == 0 ? random() : random() % 1700));
    }
    frames += receive().frames;
    if (queue_->broken() || i % 64 == 0) begin_anew();
  }
  EXPECT_GT(frames, 10'000u);
  expect_all_buffers();
}

TEST_P(VirtioHostile, what_is_sent_completes_in_order_in_whatever_order_the_device_is_done) {
  const TransmitSettings settings{
      .descriptors = kSlots, .longest = 1522, .function = &function_, .event_fd = event_.get()};
  auto queue = std::move(*(packed() ? VirtioTransmitQueue<PackedRing>::make(settings)
                                    : VirtioTransmitQueue<SplitRing>::make(settings)));
  DeviceSide device(*chip_, packed(), queue->prepare(), kSlots);
  queue->offer(Doorbell(&bar_, 0, 0));
  std::vector<TransmitFrame> frames;
  for (uint32_t i = 0; i < 20; ++i) frames.push_back({.data = memory_.data(), .length = 60, .cookie = i});
  EXPECT_EQ(queue->transmit(frames), kSlots / 2);  // two descriptors a frame
  EXPECT_EQ(queue->transmit(frames), 0u);
  std::array<uint32_t, 32> cookies;
  if (packed()) {
    // Each takes two places in the ring.
    std::byte* ring = device.everything();
    for (const uint16_t id : {uint16_t{2}, uint16_t{1}, uint16_t{0}}) {
      std::byte* entry = ring + 32 * size_t{2u - id};
      const uint16_t flags = 0x8080;
      std::memcpy(entry + 12, &id, 2);
      std::memcpy(entry + 14, &flags, 2);
      EXPECT_EQ(queue->completed(cookies), id == 0 ? 3u : 0u);
    }
  } else {
    for (const uint32_t id : {2u, 1u, 0u}) {
      device.use(2 * id, 0);
      EXPECT_EQ(queue->completed(cookies), id == 0 ? 3u : 0u);
    }
  }
  for (uint32_t i = 0; i < 3; ++i) EXPECT_EQ(cookies[i], i);
  EXPECT_FALSE(queue->broken());
}

TEST_P(VirtioHostile, id_of_a_frame_that_was_not_given_to_send_ends_the_queue) {
  const TransmitSettings settings{
      .descriptors = kSlots, .longest = 1522, .function = &function_, .event_fd = event_.get()};
  for (const uint32_t id : {3u, 100u}) {
    auto queue = std::move(*(packed() ? VirtioTransmitQueue<PackedRing>::make(settings)
                                      : VirtioTransmitQueue<SplitRing>::make(settings)));
    DeviceSide device(*chip_, packed(), queue->prepare(), kSlots);
    queue->offer(Doorbell(&bar_, 0, 0));
    EXPECT_EQ(queue->transmit({{{.data = memory_.data(), .length = 60, .cookie = 1}}}), 1u);
    device.use(packed() ? id : 2 * id, 0);
    std::array<uint32_t, 4> cookies;
    EXPECT_EQ(queue->completed(cookies), 0u);
    EXPECT_TRUE(queue->broken());
    EXPECT_TRUE(told());
  }
}

}  // namespace
}  // namespace ringcap::nic

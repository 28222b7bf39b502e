// NICs that are as fast as memory: each has a receive queue of a driver, and feed() does to its descriptors
// what the device would when frames arrive, and no more. Registers are memory. One thread.
#pragma once

#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "driver/intel/receive.h"
#include "driver/virtio/receive.h"
#include "driver/vmxnet3/receive.h"

namespace ringcap::nic {

inline constexpr uint32_t kDescriptors = 1024, kFrameBytes = 64;

class RegisterMemory;

class FedDevice {
 public:
  virtual ~FedDevice() = default;
  virtual RegisterMemory& registers() = 0;
  virtual std::unique_ptr<ReceiveQueue> take_queue() = 0;
  virtual void set_arena(std::byte* arena) = 0;  // before arm()
  virtual void start() = 0;                      // after it
  // At most as many as are armed.
  virtual void feed(uint32_t frames) = 0;
};

enum class Access { kMapped, kCounted };

class RegisterMemory final : public pci::Bar {
 public:
  explicit RegisterMemory(Access access) : access_(access) {}
  uint32_t read32(uint32_t offset) override {
    ++reads;
    return words_[offset / 4];
  }
  void write32(uint32_t offset, uint32_t value) override {
    ++writes;
    words_[offset / 4] = value;
  }
  void write_narrow(uint32_t, uint32_t, uint32_t) override { ++writes; }
  uint64_t bytes() const override { return sizeof words_; }
  volatile uint32_t* mapped() override { return access_ == Access::kMapped ? words_ : nullptr; }
  uint32_t peek(uint32_t offset) const { return words_[offset / 4]; }

  uint64_t reads = 0, writes = 0;  // unless mapped

 private:
  const Access access_;
  volatile uint32_t words_[64] = {};
};

// A function of which nothing is used but its memory for rings; the device's addresses are the process's.
class MemoryFunction final : public pci::Function {
 public:
  const std::string& address() const override { return address_; }
  Result<uint32_t> config_read(uint32_t, uint32_t) override { return 0; }
  Result<void> config_write(uint32_t, uint32_t, uint32_t) override { return {}; }
  Result<std::unique_ptr<pci::Bar>> bar(uint32_t) override {
    return std::make_unique<RegisterMemory>(Access::kMapped);
  }
  Result<pci::Iova> dma_map(std::byte* data, uint64_t, pci::DmaAccess) override { return address_of(data); }
  Result<DmaMemory> dma_allocate(uint64_t bytes) override {
    const uint64_t whole = (bytes + 4095) & ~uint64_t{4095};
    pages_.emplace_back(static_cast<std::byte*>(std::aligned_alloc(4096, whole)));
    std::byte* data = pages_.back().get();
    std::memset(data, 0, whole);
    return DmaMemory{data, address_of(data), bytes};
  }
  Result<bool> reset() override { return false; }
  Result<void> set_bus_master(bool) override { return {}; }
  Result<pci::Interrupt> enable_interrupts(uint32_t) override { return pci::Interrupt::kNone; }
  int interrupt_fd(uint32_t) const override { return -1; }
  bool consume_interrupt(uint32_t) override { return false; }

  static pci::Iova address_of(std::byte* data) { return pci::Iova{reinterpret_cast<uint64_t>(data)}; }

 private:
  std::string address_ = "memory";
  struct Free {
    void operator()(std::byte* memory) const { std::free(memory); }
  };
  std::vector<std::unique_ptr<std::byte[], Free>> pages_;
};

template <class Codec>
class FedIntel final : public FedDevice, private intel::QueueCounting {
 public:
  explicit FedIntel(Access access = Access::kMapped) : registers_(access) {
    const intel::ReceiveSettings settings{.driver = "fed",
                                          .descriptors = kDescriptors,
                                          .buffer_need = 2048,
                                          .longest_good = 1522,
                                          .colour = true,
                                          .tail = kTail};
    const auto ring = memory_.dma_allocate(kDescriptors * sizeof(intel::Descriptor)).value();
    ring_ = reinterpret_cast<intel::Descriptor*>(ring.data);
    intel::QueueCounting& counting = *this;
    auto queue = std::make_unique<intel::IntelReceiveQueue<Codec>>(settings, intel::Registers(&registers_),
                                                                   ring, counting, intel::Wake{.vector = -1});
    queue_ = queue.get();
    owned_ = std::move(queue);
  }
  RegisterMemory& registers() override { return registers_; }
  std::unique_ptr<ReceiveQueue> take_queue() override { return std::move(owned_); }
  void set_arena(std::byte* arena) override { queue_->set_arena(MemoryFunction::address_of(arena)); }
  void start() override { queue_->open(); }
  void feed(uint32_t frames) override {
    constexpr unsigned kLengthAt = Codec::length(1) == 1 ? 0 : 32;
    constexpr uint64_t kGood = Codec::kDone | Codec::kEndOfPacket | uint64_t{kFrameBytes} << kLengthAt;
    for (uint32_t i = 0; i < frames && head_ != registers_.peek(kTail); ++i) {
      ring_[head_].word = kGood;
      head_ = (head_ + 1) % kDescriptors;
    }
  }

 private:
  static constexpr uint32_t kTail = 16;
  QueueCounters count_queue(uint32_t) override { return {}; }

  RegisterMemory registers_;
  MemoryFunction memory_;
  intel::Descriptor* ring_ = nullptr;
  intel::IntelReceiveQueue<Codec>* queue_ = nullptr;
  std::unique_ptr<ReceiveQueue> owned_;
  uint32_t head_ = 0;
};

// The device of either kind of virtqueue; it asks for no doorbell, as one that polls.
template <template <uint32_t> class RingOf>
class FedVirtio final : public FedDevice {
 public:
  explicit FedVirtio(Access access = Access::kMapped) : registers_(access) {
    auto queue = virtio::VirtioReceiveQueue<RingOf>::make(
        {.descriptors = kDescriptors, .buffer_need = 2048, .merges = true, .function = &memory_});
    owned_ = std::move(queue.value());
    queue_ = owned_.get();
  }
  RegisterMemory& registers() override { return registers_; }
  std::unique_ptr<ReceiveQueue> take_queue() override { return std::move(owned_); }
  void set_arena(std::byte* arena) override { queue_->set_arena(MemoryFunction::address_of(arena)); }
  void start() override {
    const virtio::RingAddresses at = queue_->prepare();
    descriptors_ = reinterpret_cast<Descriptor*>(at.descriptors);
    given_ = reinterpret_cast<volatile uint16_t*>(at.driver);
    back_ = reinterpret_cast<volatile uint16_t*>(at.device);
    back_[kPacked ? 1 : 0] = 1;  // no doorbell
    queue_->offer(virtio::Doorbell(&registers_, 0, 0));
  }
  void feed(uint32_t frames) override {
    for (uint32_t i = 0; i < frames; ++i) kPacked ? use_packed() : use_split();
    if (!kPacked) back_[1] = static_cast<uint16_t>(done_);
  }

 private:
  static constexpr bool kPacked = RingOf<1>::kPacked;
  static constexpr uint32_t kWritten = sizeof(virtio::Header) + kFrameBytes;
  struct Descriptor {
    uint64_t address;
    uint32_t bytes;
    uint16_t id;
    volatile uint16_t flags;
  };
  // As is written before every frame.
  static void write_header(uint64_t address) {
    virtio::Header header{};
    header.num_buffers = 1;
    std::memcpy(reinterpret_cast<void*>(address), &header, sizeof header);
  }
  void use_split() {
    if (static_cast<uint16_t>(done_) == given_[1]) return;
    const uint32_t place = done_++ % kDescriptors;
    const uint32_t used[] = {given_[2 + place], kWritten};
    write_header(descriptors_[used[0]].address);
    std::memcpy(const_cast<uint16_t*>(back_) + 2 + 4 * place, used, sizeof used);
  }
  void use_packed() {
    constexpr uint16_t kAvailable = 1u << 7, kUsed = 1u << 15;
    const bool lap = done_ / kDescriptors % 2 == 0;
    Descriptor& next = descriptors_[done_ % kDescriptors];
    if ((next.flags & (kAvailable | kUsed)) != (lap ? kAvailable : kUsed)) return;
    write_header(next.address);
    next.bytes = kWritten;
    next.flags = lap ? kAvailable | kUsed : 0;
    ++done_;
  }

  RegisterMemory registers_;
  MemoryFunction memory_;
  virtio::VirtioReceive* queue_ = nullptr;
  std::unique_ptr<virtio::VirtioReceive> owned_;
  Descriptor* descriptors_ = nullptr;
  volatile uint16_t *given_ = nullptr, *back_ = nullptr;
  uint32_t done_ = 0;
};

// It asks for no doorbell, as QEMU's.
class FedVmxnet3 final : public FedDevice, private vmxnet3::Counting {
 public:
  explicit FedVmxnet3(Access access = Access::kMapped) : registers_(access) {
    auto queue = vmxnet3::Vmxnet3ReceiveQueue::make({.descriptors = kDescriptors,
                                                     .buffer_need = 2048,
                                                     .function = &memory_,
                                                     .pt = pci::Registers(&registers_),
                                                     .vd = pci::Registers(&registers_),
                                                     .counting = this,
                                                     .control = &control_});
    owned_ = std::move(queue.value());
    queue_ = owned_.get();
  }
  RegisterMemory& registers() override { return registers_; }
  std::unique_ptr<ReceiveQueue> take_queue() override { return std::move(owned_); }
  void set_arena(std::byte* arena) override { queue_->set_arena(MemoryFunction::address_of(arena)); }
  void start() override {
    at_ = queue_->prepare();
    queue_->offer();
  }
  void feed(uint32_t frames) override {
    auto* given = reinterpret_cast<volatile vmxnet3::Descriptor*>(at_.ring);
    auto* done = reinterpret_cast<vmxnet3::Completion*>(at_.completion);
    for (uint32_t i = 0; i < frames; ++i, ++done_) {
      const uint32_t slot = done_ % at_.ring_size;
      const bool lap = done_ / at_.ring_size % 2 == 0;
      if (((given[slot].word & vmxnet3::rxd::GEN) != 0) != lap) return;
      constexpr uint32_t kBegin = 1u << 15, kEnd = 1u << 14, kCompletion = 3u << 24;
      const bool turn = done_ / at_.completion_size % 2 == 0;
      done[done_ % at_.completion_size] = {
          .words = {slot | kBegin | kEnd, 0, kFrameBytes,
                    kCompletion | (turn ? vmxnet3::Completion::kGeneration : 0)}};
    }
  }

 private:
  QueueCounters count() override { return {}; }

  RegisterMemory registers_;
  MemoryFunction memory_;
  vmxnet3::RxQueueDesc control_{};
  vmxnet3::Vmxnet3ReceiveQueue* queue_ = nullptr;
  std::unique_ptr<vmxnet3::Vmxnet3ReceiveQueue> owned_;
  vmxnet3::RingAddresses at_{};
  uint32_t done_ = 0;
};

}  // namespace ringcap::nic

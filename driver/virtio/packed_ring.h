// A packed virtqueue, the driver's side ("Packed Virtqueues"): one ring of descriptors in which driver and
// device write over each other's. Who has one is told by two bits that turn over with every lap. The
// interface is SplitRing's, and so are its rules.
#pragma once

#include "driver/virtio/split_ring.h"

namespace ringcap::virtio {

template <uint32_t kChain>
class PackedRing {
 public:
  static uint64_t bytes(uint32_t size) { return 16 * uint64_t{size} + 128; }
  static constexpr bool kPacked = true;

  PackedRing() = default;
  // `size`: descriptors, a multiple of kChain to 32,768.
  PackedRing(const pci::Function::DmaMemory& memory, uint32_t size)
      : memory_(memory.data), iova_(static_cast<uint64_t>(memory.iova)), size_(size) {}

  uint32_t slots() const { return size_ / kChain; }
  RingAddresses addresses() const {
    return {iova_, iova_ + uint64_t{16} * size_, iova_ + uint64_t{16} * size_ + 64};
  }

  void clear() {
    std::memset(memory_, 0, bytes(size_));
    give_ = take_ = Place{0, true};
    outstanding_ = 0;
    want_interrupts(false);
  }

  void give(uint32_t id, const Piece& piece)
    requires(kChain == 1)
  {
    write(descriptor(give_.index), id, piece, 0);
    advance(give_);
    ++outstanding_;
  }
  // The first descriptor last: with it, the device has both.
  void give(uint32_t id, const Piece& first, const Piece& second)
    requires(kChain == 2)
  {
    write(descriptor(give_.index + 1), id, second, 0);
    write(descriptor(give_.index), id, first, kNext);
    advance(give_);
    ++outstanding_;
  }
  bool publish() {
    full_fence();  // the descriptors before the look at the flag: or both sides could wait for the other
    return word(16 * size_ + 64 + 2).load(std::memory_order_relaxed) != kDisable;
  }

  // Pairs with the device's store: after it, the rest and the buffer can be read.
  bool some() {
    const uint16_t flags = std::atomic_ref(descriptor(take_.index).flags).load(std::memory_order_acquire);
    return (flags & (kAvailable | kUsed)) == (take_.lap ? kAvailable | kUsed : 0);
  }

  Take take(Used& used) {
    if (!some()) return Take::kNothing;
    Descriptor& next = descriptor(take_.index);
    used = {next.id, next.bytes};
    if (used.id >= slots() || outstanding_ == 0) return Take::kNonsense;
    --outstanding_;
    advance(take_);
    return Take::kOne;
  }

  void want_interrupts(bool on) {
    word(16 * size_ + 2).store(on ? kEnable : kDisable, std::memory_order_relaxed);
    full_fence();
  }

 private:
  struct Descriptor {
    uint64_t address;
    uint32_t bytes;
    uint16_t id;
    uint16_t flags;
  };
  struct Place {
    uint32_t index;
    bool lap;  // the "ring wrap counter"
  };
  static constexpr uint16_t kNext = 1, kWrite = 2, kAvailable = 1u << 7, kUsed = 1u << 15;
  static constexpr uint16_t kEnable = 0, kDisable = 1;  // of an event suppression structure

  void write(Descriptor& to, uint32_t id, const Piece& piece, uint16_t next) {
    to.address = piece.iova;
    to.bytes = piece.bytes;
    to.id = static_cast<uint16_t>(id);
    pci::publish_to_device();
    const auto flags =
        static_cast<uint16_t>(next | (piece.device_writes ? kWrite : 0) | (give_.lap ? kAvailable : kUsed));
    std::atomic_ref(to.flags).store(flags, std::memory_order_release);
  }
  void advance(Place& place) const {
    place.index += kChain;
    if (place.index < size_) return;
    place.index = 0;
    place.lap = !place.lap;
  }
  Descriptor& descriptor(uint32_t index) { return reinterpret_cast<Descriptor*>(memory_)[index]; }
  std::atomic_ref<uint16_t> word(uint64_t offset) {
    return std::atomic_ref(*reinterpret_cast<uint16_t*>(memory_ + offset));
  }

  std::byte* memory_ = nullptr;
  uint64_t iova_ = 0;
  uint32_t size_ = 0;
  Place give_{0, true};
  Place take_{0, true};
  uint32_t outstanding_ = 0;
};

}  // namespace ringcap::virtio

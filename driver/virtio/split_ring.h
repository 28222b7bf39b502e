// A split virtqueue, the driver's side ("Split Virtqueues"): a table of descriptors, a ring in which the
// driver gives them, a ring in which the device gives them back. What a queue is a template over; PackedRing
// is the other. Every buffer that is given has kChain descriptors, and an id below slots().
//
// One thread, but clear(): whoever sets the device up, while neither the device nor the thread uses the ring.
// Everything that the device writes is checked: an id or a count that cannot be is nonsense(), and the ring
// must not be used any more.
#pragma once

#include <atomic>
#include <cstdint>
#include <cstring>

#include "capture/base/fence.h"
#include "driver/pci/access.h"
#include "driver/pci/function.h"

namespace ringcap::virtio {

// A buffer that the device is done with.
struct Used {
  uint32_t id;
  uint32_t length;  // bytes that it says it wrote
};

// One part of a buffer.
struct Piece {
  uint64_t iova;
  uint32_t bytes;
  bool device_writes;
};

// Where the device finds a ring.
struct RingAddresses {
  uint64_t descriptors, driver, device;
};

enum class Take { kNothing, kOne, kNonsense };

template <uint32_t kChain>
class SplitRing {
 public:
  static uint64_t bytes(uint32_t size) { return device_area(size) + 4 + 8 * uint64_t{size} + 64; }
  static constexpr bool kPacked = false;

  SplitRing() = default;
  // `size`: descriptors, a power of two to 32,768.
  SplitRing(const pci::Function::DmaMemory& memory, uint32_t size)
      : memory_(memory.data), iova_(static_cast<uint64_t>(memory.iova)), size_(size) {}

  uint32_t slots() const { return size_ / kChain; }
  RingAddresses addresses() const {
    return {iova_, iova_ + uint64_t{16} * size_, iova_ + device_area(size_)};
  }

  // As a device that was reset expects it: nothing given, no interrupts wanted.
  void clear() {
    std::memset(memory_, 0, bytes(size_));
    given_ = seen_ = taken_ = 0;
    want_interrupts(false);
  }

  // In any order of ids. The device sees them at publish().
  void give(uint32_t id, const Piece& piece)
    requires(kChain == 1)
  {
    descriptor(id) = {piece.iova, piece.bytes, piece.device_writes ? kWrite : uint16_t{0}, 0};
    available(given_++) = static_cast<uint16_t>(id);
  }
  void give(uint32_t id, const Piece& first, const Piece& second)
    requires(kChain == 2)
  {
    const auto head = static_cast<uint16_t>(2 * id);
    descriptor(head) = {first.iova, first.bytes, kNext, static_cast<uint16_t>(head + 1)};
    descriptor(head + 1u) = {second.iova, second.bytes, second.device_writes ? kWrite : uint16_t{0}, 0};
    available(given_++) = head;
  }
  // True if the device wants to be told.
  bool publish() {
    pci::publish_to_device();
    word(driver_index()).store(given_, std::memory_order_release);
    full_fence();  // the index before the look at the flag: or both sides could wait for the other
    return !(word(device_flags()).load(std::memory_order_relaxed) & kNoNotify);
  }

  // False: take() would find nothing.
  bool some() {
    return taken_ != seen_ || taken_ != word(device_flags() + 2).load(std::memory_order_relaxed);
  }

  Take take(Used& used) {
    if (taken_ == seen_) {
      // Pairs with the device's store: after it, entries and buffers can be read.
      seen_ = word(device_flags() + 2).load(std::memory_order_acquire);
      if (taken_ == seen_) return Take::kNothing;
      if (static_cast<uint16_t>(seen_ - taken_) > static_cast<uint16_t>(given_ - taken_))
        return Take::kNonsense;
    }
    uint32_t entry[2];
    std::memcpy(entry, memory_ + device_area(size_) + 4 + size_t{8} * (taken_ & (size_ - 1)), sizeof(entry));
    used = {entry[0] / kChain, entry[1]};
    if (entry[0] >= size_ || entry[0] % kChain != 0) return Take::kNonsense;
    ++taken_;
    return Take::kOne;
  }

  // Takes effect for what the device does after it; look once more before sleeping.
  void want_interrupts(bool on) {
    word(16 * size_).store(on ? 0 : kNoInterrupt, std::memory_order_relaxed);
    full_fence();
  }

 private:
  struct Descriptor {
    uint64_t address;
    uint32_t bytes;
    uint16_t flags;
    uint16_t next;
  };
  static constexpr uint16_t kNext = 1, kWrite = 2, kNoInterrupt = 1, kNoNotify = 1;

  // What the device writes begins at a cache line of its own.
  static uint64_t device_area(uint32_t size) { return (18 * uint64_t{size} + 6 + 63) & ~uint64_t{63}; }
  uint64_t driver_index() const { return 16 * uint64_t{size_} + 2; }
  uint64_t device_flags() const { return device_area(size_); }
  Descriptor& descriptor(uint32_t index) { return reinterpret_cast<Descriptor*>(memory_)[index]; }
  uint16_t& available(uint16_t position) {
    return reinterpret_cast<uint16_t*>(memory_ + driver_index() + 2)[position & (size_ - 1)];
  }
  std::atomic_ref<uint16_t> word(uint64_t offset) {
    return std::atomic_ref(*reinterpret_cast<uint16_t*>(memory_ + offset));
  }

  std::byte* memory_ = nullptr;
  uint64_t iova_ = 0;
  uint32_t size_ = 0;
  uint16_t given_ = 0;  // buffers given: the index that publish() stores
  uint16_t seen_ = 0;   // the device's index, as of the last look
  uint16_t taken_ = 0;
};

}  // namespace ringcap::virtio

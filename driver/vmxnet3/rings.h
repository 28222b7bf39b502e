// The rings of a vmxnet3 queue, the driver's side: one in which the driver gives buffers, one in which the
// device gives them back. Who has a slot is told by a bit that turns over with every lap, so that nobody
// clears anything. One thread, but clear(): whoever sets the device up, while neither the device nor the
// thread uses the ring. Every index that the device writes is checked.
#pragma once

#include <atomic>
#include <cstdint>
#include <cstring>
#include <vector>

#include "driver/pci/function.h"
#include "driver/vmxnet3/registers.h"

namespace ringcap::vmxnet3 {

// A place in a ring, and the generation bit that is right there.
class Place {
 public:
  uint32_t index() const { return index_; }
  bool generation() const { return generation_; }
  void advance(uint32_t size) {
    if (++index_ < size) return;
    index_ = 0;
    generation_ = !generation_;
  }

 private:
  uint32_t index_ = 0;
  bool generation_ = true;
};

// Where the device gives back.
class CompletionRing {
 public:
  CompletionRing() = default;
  CompletionRing(std::byte* memory, uint32_t size)
      : ring_(reinterpret_cast<Completion*>(memory)), size_(size) {}
  static uint64_t bytes(uint32_t size) { return uint64_t{size} * sizeof(Completion); }
  uint32_t size() const { return size_; }
  void clear() {
    std::memset(static_cast<void*>(ring_), 0, bytes(size_));
    next_ = {};
  }
  // What the device gave back next, each word read once; it stays next. False: nothing.
  bool look(Completion& out) const {
    Completion& next = ring_[next_.index()];
    // Pairs with the device's store: after it, the rest and the buffer can be read.
    out.words[3] = std::atomic_ref(next.words[3]).load(std::memory_order_acquire);
    if (((out.words[3] & Completion::kGeneration) != 0) != next_.generation()) return false;
    out.words[0] = std::atomic_ref(next.words[0]).load(std::memory_order_relaxed);
    out.words[2] = std::atomic_ref(next.words[2]).load(std::memory_order_relaxed);
    return true;
  }
  void advance() { next_.advance(size_); }
  bool take(Completion& out) {
    if (!look(out)) return false;
    advance();
    return true;
  }

 private:
  Completion* ring_ = nullptr;
  uint32_t size_ = 0;
  Place next_;
};

// Where the driver gives, in order, and the device takes, in order. Positions only grow; slots between the
// oldest that the device has and the next to give are the device's. One slot at least stays empty.
class GiveRing {
 public:
  GiveRing() = default;
  GiveRing(std::byte* memory, uint32_t size) : ring_(reinterpret_cast<Descriptor*>(memory)), size_(size) {}
  static uint64_t bytes(uint32_t size) { return uint64_t{size} * sizeof(Descriptor); }
  uint32_t size() const { return size_; }
  void clear() {
    std::memset(static_cast<void*>(ring_), 0, bytes(size_));
    next_ = {};
    oldest_ = given_ = 0;
  }
  uint32_t given() const { return given_; }             // how many the device has
  uint32_t next_slot() const { return next_.index(); }  // the one that give() fills
  uint32_t oldest_slot() const { return oldest_; }

  void give(uint64_t address, uint32_t length, uint32_t generation_bit, uint32_t more) {
    ring_[next_.index()].more = more;
    give(address, length, generation_bit);
  }
  // Where nothing but 0 is ever in the last word.
  void give(uint64_t address, uint32_t length, uint32_t generation_bit) {
    Descriptor& slot = ring_[next_.index()];
    slot.address = address;
    // The device has it with this store.
    std::atomic_ref(slot.word).store(length | (next_.generation() ? generation_bit : 0),
                                     std::memory_order_release);
    next_.advance(size_);
    ++given_;
  }
  // How many slots the device is done with if it is done with `index`: 0 if it does not have that one.
  uint32_t done_with(uint32_t index) const {
    if (index >= size_) return 0;
    const uint32_t ahead = index >= oldest_ ? index - oldest_ : index + size_ - oldest_;
    return ahead < given_ ? ahead + 1 : 0;
  }
  // The oldest slot is ours again.
  void take_back() {
    if (++oldest_ == size_) oldest_ = 0;
    --given_;
  }

 private:
  Descriptor* ring_ = nullptr;
  uint32_t size_ = 0;
  Place next_;
  uint32_t oldest_ = 0;
  uint32_t given_ = 0;
};

// Where the device finds the rings of a queue.
struct RingAddresses {
  uint64_t ring, second, completion;
  uint32_t ring_size, second_size, completion_size;
};

}  // namespace ringcap::vmxnet3

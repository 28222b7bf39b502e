// SendMemory: a sender's memory and its line in the ledger, written by the test as a client would, or as no
// client should; and the engine's Sender over it. One mapping for both sides, so that the thread sanitizer
// sees them. For tests of what serves senders.
#pragma once

#include <sys/mman.h>

#include <cstdlib>
#include <cstring>
#include <memory>
#include <span>
#include <vector>

#include "capture/engine/sender.h"
#include "capture/ledger/ledger.h"

namespace ringcap::test {

class SendMemory {
 public:
  explicit SendMemory(uint32_t slots = 64, uint32_t slot_bytes = 2048, uint64_t rate = 0)
      : slots_(slots), slot_bytes_(slot_bytes) {
    const size_t bytes = layout::send_bytes(slots, slot_bytes);
    void* memory = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) std::abort();
    base_ = static_cast<std::byte*>(memory);
    produce(layout::kFirstPosition);
    sender_ = std::make_shared<engine::Sender>(engine::SenderSetup{.id = 1,
                                                                   .slots = slots,
                                                                   .slot_bytes = slot_bytes,
                                                                   .rate = rate,
                                                                   .entry = &entry_,
                                                                   .memory = Mapping::adopt(memory, bytes)});
    if (!sender_->make_bell()) std::abort();
    entry_.consumed.store(layout::kFirstPosition);
  }

  engine::Sender& sender() { return *sender_; }
  const std::shared_ptr<engine::Sender>& shared() { return sender_; }
  layout::SenderEntry& entry() { return entry_; }
  uint32_t slots() const { return slots_; }
  uint32_t area() const { return slots_ * slot_bytes_; }
  std::byte* frames() { return base_ + layout::send_frames_offset(slots_); }
  uint64_t produced() const { return produced_; }
  uint64_t room() const { return slots_ - (produced_ - entry_.consumed.load(std::memory_order_acquire)); }

  // A request as it is, said to be there by the next publish().
  void ask(uint32_t offset, uint32_t length) {
    put_request(produced_ & (slots_ - 1), offset, length);
    ++produced_;
  }
  void put_request(uint64_t slot, uint32_t offset, uint32_t length) {
    const layout::SendRequest request{offset, length};
    uint64_t word = 0;
    std::memcpy(&word, &request, sizeof word);
    reinterpret_cast<std::atomic<uint64_t>*>(base_ + sizeof(layout::SendLine))[slot].store(
        word, std::memory_order_relaxed);
  }
  // A frame as libringcap queues it: in its slot's part of the area.
  void queue(std::span<const std::byte> frame) {
    const auto offset = static_cast<uint32_t>((produced_ & (slots_ - 1)) * slot_bytes_);
    std::memcpy(frames() + offset, frame.data(), frame.size());
    ask(offset, static_cast<uint32_t>(frame.size()));
  }
  void publish() { produce(produced_); }
  // The count, whatever it is.
  void produce(uint64_t count) {
    reinterpret_cast<layout::SendLine*>(base_)->produced.store(count, std::memory_order_release);
  }

  // What everybody can read of it.
  ledger::Sender counts() const {
    const auto get = [](const std::atomic<uint64_t>& word) { return word.load(std::memory_order_relaxed); };
    ledger::Sender counts;
    counts.asked = get(entry_.asked);
    counts.refused = get(entry_.refused);
    counts.sent = get(entry_.sent);
    counts.dropped = get(entry_.dropped);
    counts.pending = get(entry_.pending);
    counts.limited = get(entry_.limited);
    counts.bytes = get(entry_.bytes);
    return counts;
  }

 private:
  uint32_t slots_, slot_bytes_;
  std::byte* base_ = nullptr;
  layout::SenderEntry entry_{};
  std::shared_ptr<engine::Sender> sender_;
  uint64_t produced_ = layout::kFirstPosition;
};

// A frame that no other number has.
inline std::vector<std::byte> numbered_frame(uint64_t number, size_t bytes = 60) {
  std::vector<std::byte> frame(bytes, static_cast<std::byte>(number * 7));
  std::memcpy(frame.data(), &number, sizeof number);
  return frame;
}

}  // namespace ringcap::test

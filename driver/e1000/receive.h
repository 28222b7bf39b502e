// The receive queue of an e1000e port: one ring of descriptors, private to the driver.
//
// One worker calls arm(), receive(), disarm() and the wake functions. The control thread calls counters(),
// and start() while frames cannot come in; it may do so while the worker keeps polling, as it must after
// a PCIe error: the worker never writes anything but its own slots and the tail.
//
//   slot      who has it        changes hands by
//   armed     the device        worker: the tail (RDT) moves past it
//   done      the worker        device: DD in the descriptor's word
//
// There is always one slot more than the device may use (the tail itself), so full and empty differ.
#pragma once

#include <atomic>
#include <cstdint>
#include <vector>

#include "capture/port/port.h"
#include "driver/e1000/descriptors.h"
#include "driver/e1000/registers.h"
#include "driver/e1000/statistics.h"
#include "driver/pci/function.h"

namespace ringcap::e1000 {

// How the queue's interrupt comes, and whom it tells of a link change where there is one vector for all.
struct Wake {
  pci::Function* function = nullptr;
  bool own_vector = false;  // MSI-X: vector 0 is this queue's alone
  int link_event_fd = -1;   // an eventfd
};

class E1000ReceiveQueue final : public ReceiveQueue {
 public:
  struct Settings {
    uint32_t descriptors = 0;
    uint32_t buffer_need = 0;   // smallest buffer_bytes that arm() accepts
    uint32_t longest_good = 0;  // bytes of the longest frame that is not a length error
    bool bad = false;           // RCTL.SBP
    bool colour = false;        // frames may start behind the buffer's first byte
  };

  E1000ReceiveQueue(Settings settings, Registers registers, pci::Function::DmaMemory ring,
                    Statistics& statistics, Wake wake);

  uint32_t descriptors() const override { return settings_.descriptors; }
  Result<void> arm(const Region& region, FreeBuffers& free) override;
  void disarm(FreeBuffers& free) override;
  Burst receive(std::span<Frame> out, FreeBuffers& free) override;
  uint32_t held() const override { return held_; }
  layout::Clock clock() const override { return layout::Clock::kHost; }
  QueueCounters counters() override;

  int wait_fd() const override { return wake_.function->interrupt_fd(0); }
  void enable_wake() override;
  void disable_wake() override;

  // Control thread. Where the device reaches the arena: before arm().
  void set_arena(pci::Iova arena) { arena_ = static_cast<uint64_t>(arena); }
  bool armed() const { return held_in_ring_.load(std::memory_order_acquire); }
  uint32_t buffer_bytes() const { return region_.buffer_bytes; }
  // Tells the device of the ring, after a reset and before RCTL.EN. It goes on where the worker will look.
  void program();
  // After RCTL.EN: gives the device all armed slots.
  void open();

 private:
  // Where a frame starts in buffer `index`. 2 KiB apart, all starts would fall into the same few cache
  // sets; so they are spread over eight lines. Only where frames are short: see port.cc.
  uint32_t start_of(uint32_t index) const { return settings_.colour ? 64 * (index % 8) : 0; }
  uint64_t address_of(uint32_t index) const {
    return arena_ + region_.arena_offset + uint64_t{index} * region_.buffer_bytes + start_of(index);
  }
  uint32_t after(uint32_t slot) const { return slot + 1 == settings_.descriptors ? 0 : slot + 1; }
  uint32_t before(uint32_t slot) const { return (slot == 0 ? settings_.descriptors : slot) - 1; }

  bool device_is_past(uint32_t slot);
  void take(uint32_t slot, uint64_t word, std::span<Frame> out, FreeBuffers& free, Burst& burst);
  bool broken(uint64_t word, Burst& burst);
  uint16_t flags_of(uint64_t word) const;
  void rearm(uint32_t slot) { receive::give(ring_[slot], address_of(buffers_[slot])); }

  Settings settings_;
  Registers registers_;
  ReceiveDescriptor* ring_;
  uint64_t ring_iova_;
  Statistics& statistics_;
  Wake wake_;
  uint64_t arena_ = 0;

  // The worker's.
  Region region_;
  std::vector<uint32_t> buffers_;  // of each slot
  uint32_t next_ = 0;              // the slot that the device writes to next
  uint32_t held_ = 0;
  uint32_t longest_ = 0;    // bytes that fit behind start_of()
  bool in_broken_ = false;  // within a frame that did not fit in one buffer

  // Written by the worker, read by the control thread.
  std::atomic<uint32_t> position_{0};  // next_, as of the last receive(); pairs with program()
  std::atomic<bool> held_in_ring_{false};
};

}  // namespace ringcap::e1000

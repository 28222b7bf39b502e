// The receive queue of a vmxnet3 device. Every descriptor has a buffer for one whole frame; what does not fit
// comes with an error. The second ring that a queue has, for the rest of long frames, is never filled.
//
//   |<- 64 * (index % 8) ->| frame ...                    | the rest |
//
// One worker calls arm(), receive(), disarm() and the wake functions; the control thread prepare() and
// offer(). Nothing that the device writes is believed: an index that it does not have, a length beyond the
// buffer, parts of frames, merged frames and stripped tags count as broken.
#pragma once

#include <array>
#include <atomic>
#include <memory>
#include <vector>

#include "capture/port/port.h"
#include "driver/pci/access.h"
#include "driver/pci/frame_places.h"
#include "driver/pci/function.h"
#include "driver/pci/handover.h"
#include "driver/vmxnet3/rings.h"
#include "driver/vmxnet3/structures.h"

namespace ringcap::vmxnet3 {

// Where the queue's counters come from: the port, which can ask the device.
class Counting {
 public:
  virtual QueueCounters count() = 0;

 protected:
  ~Counting() = default;
};

struct ReceiveSettings {
  uint32_t descriptors = 0;  // a multiple of kRingStep
  uint32_t buffer_need = 0;  // smallest buffer_bytes that arm() accepts
  bool bad = false;          // frames with errors are delivered
  pci::Function* function = nullptr;
  pci::Registers pt, vd;  // BAR 0 and 1
  Counting* counting = nullptr;
  const RxQueueDesc* control = nullptr;
  int vector = -1;           // of the queue; -1: none, it can only be polled
  bool line = false;         // the vector is an interrupt line (INTx)
  Shared* events = nullptr;  // if the vector is everybody's: where the device says why it came
  int event_fd = -1;         // an eventfd: the control thread's, to tell it of events
};

class Vmxnet3ReceiveQueue final : public ReceiveQueue {
 public:
  // The last start of a frame in its buffer.
  static constexpr uint32_t kLastStart = 7 * 64;

  static Result<std::unique_ptr<Vmxnet3ReceiveQueue>> make(const ReceiveSettings& settings);

  uint32_t descriptors() const override { return settings_.descriptors; }
  Result<void> arm(const Region& region, FreeBuffers& free) override;
  void disarm(FreeBuffers& free) override;
  Burst receive(std::span<Frame> out, FreeBuffers& free) override;
  uint32_t held() const override { return held_; }
  layout::Clock clock() const override { return layout::Clock::kHost; }
  QueueCounters counters() override { return settings_.counting->count(); }
  int wait_fd() const override;
  void enable_wake() override;
  void disable_wake() override;

  // Control thread. The rings as a device that is activated expects them; once it is active, the worker gets
  // them.
  RingAddresses prepare();
  void offer();
  void set_arena(pci::Iova arena) { arena_ = static_cast<uint64_t>(arena); }  // before arm()
  bool armed() const { return armed_.load(std::memory_order_acquire); }
  // Frames with ERR, delivered or broken: the device counts them as errors, and gave them to us.
  uint64_t errors_seen() const { return errors_seen_.load(std::memory_order_relaxed); }

 private:
  struct Rings {
    GiveRing given;
    CompletionRing done;
    std::vector<uint32_t> buffers;  // of each slot
    RingAddresses addresses{};

    void clear() {
      given.clear();
      done.clear();
    }
  };

  explicit Vmxnet3ReceiveQueue(const ReceiveSettings& settings) : settings_(settings) {}

  void give(uint32_t buffer);
  uint32_t take_back();
  void go_over();
  void drain(std::span<Frame> out, FreeBuffers& free, Burst& burst);
  uint32_t take_run(std::span<Frame> out, FreeBuffers& free);
  void take(const Completion& done, std::span<Frame> out, FreeBuffers& free, Burst& burst);
  uint32_t deliver(const Completion& done, uint32_t buffer, std::span<Frame> out, FreeBuffers& free,
                   Burst& burst);
  bool good(const Completion& done);
  uint16_t flags_of(const Completion& done) const;
  void mask(bool on) const;

  ReceiveSettings settings_;
  std::array<Rings, 2> rings_;
  pci::Handover handover_;
  int prepared_ = 0;    // the control thread's: the rings that the device has
  bool taken_ = false;  // the control thread's: the worker is there already
  uint64_t arena_ = 0;

  // The worker's.
  pci::FramePlaces places_;
  uint32_t held_ = 0;
  uint32_t longest_ = 0;      // bytes of a frame that fit
  bool in_frame_ = false;     // within one that takes several descriptors
  Rings* current_ = nullptr;  // nullptr: none that may be used

  std::atomic<bool> armed_{false};  // written by the worker
  // Rings 0 are filled, and no device had them yet. Set by the worker, taken back by the control thread.
  std::atomic<bool> fresh_{false};
  std::atomic<uint64_t> errors_seen_{0};  // written by the worker
};

}  // namespace ringcap::vmxnet3

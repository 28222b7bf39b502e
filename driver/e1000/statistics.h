// What the 82574L counts, accumulated to 64 bits: its registers clear when they are read, and stick at
// 32 bits of ones when nobody reads (48 minutes of 64-byte frames).
//
// How they enter the ledger (received by device = taken + missed + bad):
//   received  GPRC + MPC + bad, and with bad=1 those bad frames that were delivered
//   missed    MPC: the packet buffer was full. GPRC does not have these. RNBC is not loss (a frame that
//   waited) bad       CRCERRS + RUC + RFC + ROC + RJC; with bad=1 none: such frames are delivered, and taken
// Control thread, but count_bad_delivered(): the worker.
#pragma once

#include <atomic>
#include <cstdint>

#include "capture/port/port.h"
#include "driver/e1000/registers.h"

namespace ringcap::e1000 {

class Statistics {
 public:
  explicit Statistics(bool bad_delivered) : bad_delivered_(bad_delivered) {}

  // Reads the registers; nothing is added where the device does not answer.
  void update(const Registers& registers);
  // Reads them and forgets: what the device counted before it was ours.
  static void clear(const Registers& registers);
  QueueCounters counters() const;
  uint64_t transmitted() const { return transmitted_; }
  void count_bad_delivered() {
    bad_taken_.store(bad_taken_.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
  }

 private:
  bool bad_delivered_;
  uint64_t good_ = 0;
  uint64_t missed_ = 0;
  uint64_t bad_ = 0;
  uint64_t transmitted_ = 0;
  std::atomic<uint64_t> bad_taken_{0};
};

}  // namespace ringcap::e1000

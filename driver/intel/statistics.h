// What a NIC counts, accumulated to 64 bits: its registers clear when they are read, and stick at ones when
// nobody reads (32 bits: 48 minutes of 64-byte frames). By the names that `ethtool -S` gives them. Control
// thread.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "capture/port/port.h"
#include "driver/intel/access.h"

namespace ringcap::intel {

struct Counter {
  const char* name;
  uint32_t offset;
  bool wide = false;  // 64 bits: reading the upper half, at offset + 4, clears both
  // Reading clears it, says the manual; QEMU's e1000, which is what most of these chips are today, keeps it.
  // So it is looked for: three readings that are the same, and not 0.
  bool may_keep = false;
};

// Those that all Intel gigabit NICs have.
std::span<const Counter> common_counters();

class Statistics {
 public:
  explicit Statistics(std::span<const Counter> counters);

  // Reads the registers; nothing is added where the device does not answer.
  void update(const Registers& registers);
  // Reads them and forgets: what the device counted before it was ours.
  void clear(const Registers& registers);
  // The sum of the counter at `offset`; 0 if it is not one of ours.
  uint64_t of(uint32_t offset) const;
  // A number that is no register's, among them; where it is. `name` lasts as long as the object.
  size_t add(const char* name) {
    all_.push_back({name, 0});
    return all_.size() - 1;
  }
  void set(size_t at, uint64_t value) { all_[at].value = value; }
  // Of names that last as long as the object.
  std::span<const Statistic> all() const { return all_; }

 private:
  std::vector<uint64_t> read_news(const Registers& registers);
  uint64_t read_news(const Registers& registers, size_t counter);

  std::vector<Counter> counters_;
  struct Kept {
    bool keeps = false;  // seen to keep its value
    uint64_t last = 0;   // at the last look
  };
  std::vector<Kept> kept_;      // the same order
  std::vector<Statistic> all_;  // the same order
};

}  // namespace ringcap::intel

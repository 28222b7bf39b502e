// What a vmxnet3 device counts, as its statistics in memory (structures.h) are after GET_STATS: 64 bits wide,
// but they may begin anew whenever the device is activated. Here they are sums that only grow, by the names
// of `ethtool -S`. Control thread.
#pragma once

#include <array>
#include <span>

#include "capture/port/port.h"
#include "driver/vmxnet3/structures.h"

namespace ringcap::vmxnet3 {

class Statistics {
 public:
  Statistics();

  // Adds what was counted since the last look.
  void update(const TxQueueDesc& transmit, const RxQueueDesc& receive);
  // Forgets it: what was counted for somebody else, or while nothing was to come in.
  void skip(const TxQueueDesc& transmit, const RxQueueDesc& receive);

  uint64_t good() const;       // received: uni-, multi- and broadcast
  uint64_t no_buffer() const;  // there was no descriptor for it
  uint64_t errors() const;     // received with an error
  // Of the receive queue's interrupt (registers.h): not counted, but asked for in the same breath.
  void set_moderation(uint8_t level) { all_.back().value = level; }
  std::span<const Statistic> all() const { return all_; }

 private:
  using Values = std::array<uint64_t, 2 * kStatistics>;
  static Values read(const TxQueueDesc& transmit, const RxQueueDesc& receive);

  Values last_{};
  std::array<Statistic, 2 * kStatistics + 1> all_;
};

}  // namespace ringcap::vmxnet3

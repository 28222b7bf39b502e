// Latencies of one sample, and the line of JSON about them. One thread.
#pragma once

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <vector>

namespace ringcap::bench {

class Latencies {
 public:
  void add(uint64_t ns) { ns_.push_back(ns); }
  size_t size() const { return ns_.size(); }

  // On stdout: count, median and 99th percentile in ns. The first tenth is left out: caches and clocks
  // settle.
  void print(double share) {
    ns_.erase(ns_.begin(), ns_.begin() + static_cast<long>(ns_.size() / 10));
    std::ranges::sort(ns_);
    const auto at = [&](size_t percent) { return ns_.empty() ? 0 : ns_[(ns_.size() - 1) * percent / 100]; };
    fmt::print("{{\"count\": {}, \"median_ns\": {}, \"p99_ns\": {}, \"share\": {:.3f}}}\n", ns_.size(),
               at(50), at(99), share);
  }

 private:
  std::vector<uint64_t> ns_;
};

}  // namespace ringcap::bench

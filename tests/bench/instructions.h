// How many instructions a NIC's receive path takes, in a guest whose clock is the count of instructions that
// its one processor has executed (tests/vm/run --count-instructions): there the time stamp counter is that
// count, whatever the machine under it is busy with. Shared by ringcap's program and the peer's, so that both
// are counted alike. Instructions are not time: registers, cache misses and DMA cost nothing here.
//
// Nic:  uint32_t receive()   takes at most kBurst frames
//       uint64_t look()      reads the length and 8 bytes of each frame of the last receive()
//       void give_back()     gives the buffers of the last receive() back
//
// Medians, because the kernel's own work falls into a burst now and then. One thread.
#pragma once

#include <x86intrin.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <fstream>
#include <string>
#include <vector>

namespace ringcap::bench {

inline constexpr uint32_t kBurst = 32;

class Median {
 public:
  void add(uint64_t value) { values_.push_back(value); }
  size_t size() const { return values_.size(); }
  double value() {
    if (values_.empty()) return 0;
    const auto middle = values_.begin() + static_cast<ptrdiff_t>(values_.size() / 2);
    std::nth_element(values_.begin(), middle, values_.end());
    return static_cast<double>(*middle);
  }
  double a_frame() { return value() / kBurst; }

 private:
  std::vector<uint64_t> values_;
};

// What reading the counter takes itself.
inline uint64_t cost_of_reading() {
  Median costs;
  for (int i = 0; i < 1000; ++i) {
    const uint64_t before = __rdtsc();
    costs.add(__rdtsc() - before);
  }
  return static_cast<uint64_t>(costs.value());
}

// Leaves the device alone while its ring fills up: QEMU writes a status twice, and nobody should look in
// between (docs/drivers.md).
inline void let_it_fill() {
  for (const uint64_t end = __rdtsc() + 3'000'000; __rdtsc() < end;) _mm_pause();
}

// Prints a line of JSON; the exit status. `ready`: a file that tells the sender to begin; no frame may come
// before.
template <class Nic>
int count_instructions(Nic& nic, const std::string& ready, size_t bursts) {
  constexpr uint32_t kBurstsAtOnce = 16;  // of the 31 that a ring of 1,024 has
  constexpr int kPatience = 2000;
  const uint64_t own = cost_of_reading();
  Median empty, alone, both, looked;
  for (int i = 0; i < 1000; ++i) {
    const uint64_t before = __rdtsc();
    const uint32_t got = nic.receive();
    const uint64_t after = __rdtsc();
    if (got == 0) empty.add(after - before - own);
  }
  std::ofstream(ready) << "\n";
  uint64_t seen = 0;
  for (int i = 0; i < kPatience && looked.size() < bursts; ++i) {
    let_it_fill();
    for (uint32_t k = 0; k < kBurstsAtOnce; ++k) {
      const bool look = k % 2 == 1;
      const uint64_t before = __rdtsc();
      const uint32_t got = nic.receive();
      const uint64_t received = __rdtsc();
      if (look) seen += nic.look();
      nic.give_back();
      const uint64_t after = __rdtsc();
      if (got < kBurst) break;
      alone.add(received - before - own);
      (look ? looked : both).add(after - before - 2 * own);
    }
  }
  std::printf(R"({"alone": %.2f, "both": %.2f, "looked": %.2f, "empty": %.0f, "bursts": %zu, "seen": %llu})"
              "\n",
              alone.a_frame(), both.a_frame(), looked.a_frame(), empty.value(), alone.size(),
              static_cast<unsigned long long>(seen));
  return looked.size() >= bursts ? 0 : 1;
}

}  // namespace ringcap::bench

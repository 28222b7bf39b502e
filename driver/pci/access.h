// How a driver waits for a NIC, and how what it writes to memory is ordered with what it writes to registers.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <thread>

namespace ringcap::pci {

// What a read gives when nobody answers.
inline constexpr uint32_t kAbsent = ~0u;

// Everything that was stored to memory before is seen by the device before it sees the next register write.
inline void publish_to_device() {
#if defined(__x86_64__)
  asm volatile("" ::: "memory");
#elif defined(__aarch64__)
  asm volatile("dmb oshst" ::: "memory");
#else
#error "say how stores to memory are ordered before stores to a device"
#endif
}

// False if `done` did not hold before the deadline.
inline bool wait_for(std::chrono::milliseconds deadline, const std::function<bool()>& done) {
  const auto end = std::chrono::steady_clock::now() + deadline;
  while (!done()) {
    if (std::chrono::steady_clock::now() > end) return false;
    std::this_thread::sleep_for(std::chrono::microseconds(200));
  }
  return true;
}

}  // namespace ringcap::pci

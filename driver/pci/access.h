// How a driver waits for a NIC, and how what it writes to memory is ordered with what it writes to registers.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <thread>

#include "driver/pci/function.h"

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

// Register access: a load or a store where the BAR is mapped, a call elsewhere (tests, odd kernels).
class Registers {
 public:
  Registers() = default;
  explicit Registers(Bar* bar) : bar_(bar), mapped_(bar->mapped()) {}
  uint32_t read(uint32_t offset) const { return mapped_ ? mapped_[offset / 4] : bar_->read32(offset); }
  void write(uint32_t offset, uint32_t value) const {
    if (mapped_) {
      mapped_[offset / 4] = value;
    } else {
      bar_->write32(offset, value);
    }
  }

 private:
  Bar* bar_ = nullptr;
  volatile uint32_t* mapped_ = nullptr;
};

}  // namespace ringcap::pci

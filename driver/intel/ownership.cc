#include "driver/intel/ownership.h"

#include <chrono>

namespace ringcap::intel {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds kSemaphoreDeadline{10}, kOwnerDeadline{200};
constexpr uint32_t kSmbi = 1u << 0, kSwesmbi = 1u << 1;  // SWSM
constexpr uint32_t kRegsmp = 1u << 31;                   // SW_FW_SYNC

}  // namespace

Ownership::Ownership(const Registers& registers, const Semaphores& where, uint32_t bit)
    : registers_(registers), where_(where), bit_(bit) {
  wait_for(kOwnerDeadline, [&] {
    lock();
    const uint32_t owners = registers_.read(where_.sw_fw_sync);
    const bool free = !(owners & (bit_ | bit_ << where_.firmware_shift));
    if (free) registers_.write(where_.sw_fw_sync, owners | bit_);
    unlock();
    return free;
  });
}

Ownership::~Ownership() {
  lock();
  registers_.clear(where_.sw_fw_sync, bit_);
  unlock();
}

void Ownership::lock() {
  wait_for(kSemaphoreDeadline, [&] { return !(registers_.read(where_.swsm) & kSmbi); });
  wait_for(kSemaphoreDeadline, [&] {
    if (where_.by_reading) return !(registers_.read(where_.sw_fw_sync) & kRegsmp);
    registers_.set(where_.swsm, kSwesmbi);
    return (registers_.read(where_.swsm) & kSwesmbi) != 0;
  });
}

void Ownership::unlock() {
  if (where_.by_reading) registers_.clear(where_.sw_fw_sync, kRegsmp);
  registers_.clear(where_.swsm, kSmbi | kSwesmbi);
}

}  // namespace ringcap::intel

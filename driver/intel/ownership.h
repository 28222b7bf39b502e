// Who may use what several drivers and the firmware share (a PHY, the link's configuration): whoever has its
// bit in SW_FW_SYNC, which itself is changed under a semaphore. The datasheets' "Software and Firmware
// Synchronization". A semaphore that nobody gives back was left by a driver that died: it is taken, after a
// fraction of a second. Control thread.
#pragma once

#include <cstdint>

#include "driver/intel/access.h"

namespace ringcap::intel {

// Where a family has it.
struct Semaphores {
  uint32_t swsm = 0;            // SMBI, SWESMBI
  uint32_t sw_fw_sync = 0;      // who has what
  unsigned firmware_shift = 0;  // from a driver's bit to the firmware's
  // X540 and later: between drivers and firmware it is SW_FW_SYNC.REGSMP, taken by reading it as 0.
  bool by_reading = false;
};

// Has `bit` of SW_FW_SYNC as long as it lives.
class Ownership {
 public:
  Ownership(const Registers& registers, const Semaphores& where, uint32_t bit);
  ~Ownership();
  Ownership(const Ownership&) = delete;
  Ownership& operator=(const Ownership&) = delete;

 private:
  void lock();
  void unlock();

  const Registers& registers_;
  const Semaphores where_;
  const uint32_t bit_;
};

}  // namespace ringcap::intel

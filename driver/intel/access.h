// How the drivers of Intel's NICs reach their registers.
//
// Control thread, but where a queue says otherwise: a worker writes its queue's tail and the registers of its
// interrupt, a forwarder its queue's tail. Those are safe beside the control thread: each thread touches bits
// of its own, and masks and causes set or clear by a write.
#pragma once

#include <cstdint>

#include "driver/pci/access.h"

namespace ringcap::intel {

using pci::kAbsent;  // no register of these NICs can have this value but counters
using pci::publish_to_device;
using pci::wait_for;

class Registers : public pci::Registers {
 public:
  using pci::Registers::Registers;
  void set(uint32_t offset, uint32_t bits) const { write(offset, read(offset) | bits); }
  void clear(uint32_t offset, uint32_t bits) const { write(offset, read(offset) & ~bits); }
  // Returns once all writes before it have reached the device.
  void flush() const { static_cast<void>(read(8)); }  // STATUS
};

}  // namespace ringcap::intel

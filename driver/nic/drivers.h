// Which driver goes with which NIC. A new family is a folder of its own and a line in drivers.cc.
// Called by whoever opens a port (control thread, with privileges).
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "capture/base/error.h"
#include "capture/port/port.h"
#include "driver/pci/dump.h"
#include "driver/pci/function.h"
#include "driver/pci/nic_options.h"

namespace ringcap {

struct NicDriver {
  uint16_t vendor;
  uint16_t device;
  const char* driver;  // Port::driver()
  const char* name;    // of the chip
  Result<std::unique_ptr<Port>> (*open)(std::unique_ptr<pci::Function>, const pci::NicOptions&);
  Result<std::vector<pci::RegisterValue>> (*dump)(pci::Function&);
  bool on_silicon = false;  // run on the real chip, not only on a model of it
  bool in_qemu = true;      // run against QEMU's model of the chip; else only against the one in the tests
  bool stamps = false;      // has a timestamp for every frame: timestamps=adapter
  // What keeps its interrupts apart (moderation=): "US" a number of microseconds, "auto" as its own load is.
  const char* moderation = kModerationAll;
  static constexpr const char* kModerationAll = "auto|off|US";
};

std::span<const NicDriver> nic_drivers();

// The driver for these PCI ids, or nullptr.
const NicDriver* find_nic_driver(uint32_t vendor, uint32_t device);

// Opens the function with the driver for its PCI ids. The function is given back when the port is destroyed.
Result<std::unique_ptr<Port>> open_nic(std::unique_ptr<pci::Function> function,
                                       const pci::NicOptions& options);

// The function's registers, by the table of its driver; as whoever reached it left them.
Result<std::vector<pci::RegisterValue>> dump_nic(pci::Function& function);

}  // namespace ringcap

// PCI network devices as sysfs shows them. Called by `devices`, `bind`, `unbind`, `doctor`; changes nothing.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "capture/base/error.h"
#include "tools/system_files.h"

namespace ringcap::tools {

struct Nic {
  std::string address;  // "0000:03:00.0"
  uint16_t vendor = 0;
  uint16_t device = 0;
  uint32_t pci_class = 0;               // 24 bits: 0x020000 is Ethernet
  std::string driver;                   // bound to; "": none
  std::string driver_override;          // "": none
  std::string iommu_group;              // "": behind no IOMMU
  int node = -1;                        // NUMA; -1: not known
  std::vector<std::string> interfaces;  // of the kernel; empty where it is bound to vfio-pci

  bool is_network() const { return pci_class >> 16 == 0x02; }
};

// kNotFound lists the NICs that there are.
Result<Nic> read_nic(const Roots& roots, const std::string& address);
// All PCI devices of the class "network", by address.
std::vector<Nic> list_nics(const Roots& roots);
// The NIC that `text` names: a PCI address, or one of its interfaces.
Result<Nic> find_nic(const Roots& roots, const std::string& text);

// The PCI address behind an interface; "" where there is none (a virtual interface).
std::string pci_address_of(const Roots& roots, const std::string& interface);

// Other devices of the same IOMMU group that keep it from being used: "0000:03:00.1 (igb)".
std::vector<std::string> group_blockers(const Roots& roots, const Nic& nic);

}  // namespace ringcap::tools

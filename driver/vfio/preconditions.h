// What must hold before a PCI function can be opened through VFIO, and which of it does not: read from
// sysfs and /dev, nothing is opened or changed. Any thread.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "capture/base/error.h"
#include "driver/vfio/roots.h"

namespace ringcap::vfio {

// The IOMMU group of the function at `address` ("0000:03:00.0"), if everything is in place: the device
// exists, an IOMMU serves it, it is bound to vfio-pci, /dev/vfio is there. Otherwise the first of these
// that is not, with what mends it.
Result<std::string> find_group(const Roots& roots, const std::string& address);

// Path of the group's file in /dev.
std::string group_path(const Roots& roots, const std::string& group);

// The driver that the function is bound to; empty: none.
std::string bound_driver(const Roots& roots, const std::string& address);

// Why the group cannot be used: its devices whose drivers stand in the way.
Error not_viable(const Roots& roots, const std::string& group);
// Why opening the group's file failed with `number`: held by whom, or not permitted.
Error cannot_open_group(const Roots& roots, const std::string& group, int number);
// Why mapping `bytes` for DMA failed with `number`: usually the limit on locked memory.
Error cannot_map(uint64_t bytes, int number);

// "NAME (pid N)" of the processes that have `path` open, as far as this process may see.
std::vector<std::string> holders(const Roots& roots, const std::string& path);

}  // namespace ringcap::vfio

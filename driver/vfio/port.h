// vfio: ports. Opens a NIC that is bound to vfio-pci, with the driver for it. Control thread, with the
// privileges that /dev/vfio asks for.
#pragma once

#include <memory>
#include <string>

#include "capture/base/error.h"
#include "capture/port/port.h"
#include "driver/pci/dump.h"
#include "driver/pci/nic_options.h"

namespace ringcap {

// `address`: "0000:03:00.0" or "03:00.0".
Result<std::unique_ptr<Port>> open_vfio_port(const std::string& address, const pci::NicOptions& options);

// The registers of the NIC at a PCI address, as VFIO's reset left them. Errors: as open_vfio_port(); also
// where an engine has it.
Result<std::vector<pci::RegisterValue>> dump_vfio(const std::string& address);

}  // namespace ringcap

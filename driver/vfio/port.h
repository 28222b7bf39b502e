// vfio: ports. Opens a NIC that is bound to vfio-pci, with the driver for it. Control thread, with the
// privileges that /dev/vfio asks for.
#pragma once

#include <memory>
#include <string>

#include "capture/base/error.h"
#include "capture/port/port.h"
#include "driver/pci/nic_options.h"

namespace ringcap {

// `address`: "0000:03:00.0" or "03:00.0".
Result<std::unique_ptr<Port>> open_vfio_port(const std::string& address, const pci::NicOptions& options);

}  // namespace ringcap

#include "driver/vfio/port.h"

#include "driver/nic/drivers.h"
#include "driver/vfio/function.h"

namespace ringcap {

Result<std::unique_ptr<Port>> open_vfio_port(const std::string& address, const pci::NicOptions& options) {
  Result<std::unique_ptr<pci::Function>> function = vfio::VfioFunction::open(address);
  if (!function) return std::unexpected(function.error());
  return open_nic(std::move(*function), options);
}

Result<std::vector<pci::RegisterValue>> dump_vfio(const std::string& address) {
  Result<std::unique_ptr<pci::Function>> function = vfio::VfioFunction::open(address);
  if (!function) return std::unexpected(function.error());
  return dump_nic(**function);
}

}  // namespace ringcap

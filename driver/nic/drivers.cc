#include "driver/nic/drivers.h"

#include <fmt/format.h>

#include <string>

#include "driver/e1000/port.h"
#include "driver/e1000e/port.h"
#include "driver/igb/port.h"
#include "driver/intel/dump.h"
#include "driver/ixgbe/dump.h"
#include "driver/ixgbe/port.h"
#include "driver/virtio/port.h"
#include "driver/vmxnet3/port.h"

namespace ringcap {
namespace {

constexpr uint32_t kVendorId = 0x00, kDeviceId = 0x02;  // PCI Local Bus 3.0, 6.2.1

// Of the igb family, what QEMU does not have: all of it stamps frames.
constexpr NicDriver model_only(uint16_t device, const char* name) {
  return {0x8086, device, "igb", name, igb::IgbPort::open, intel::dump_igb, false, false, true};
}

// QEMU has none of the ixgbe family.
constexpr NicDriver ixgbe_chip(uint16_t device, const char* name, bool stamps = false) {
  return {0x8086, device, "ixgbe", name, ixgbe::IxgbePort::open, ixgbe::dump, false, false, stamps};
}

constexpr NicDriver virtio_device(uint16_t device, const char* name) {
  return {
      0x1af4,       device, "virtio", name,  virtio::VirtioPort::open,
      virtio::dump, false,  true,     false, "off, and US where the device offers VIRTIO_NET_F_NOTF_COAL"};
}

constexpr NicDriver kDrivers[] = {
    {0x8086, 0x100e, "e1000", "Intel 82540EM", e1000::E1000Port::open, intel::dump_8254x},
    {0x8086, 0x100c, "e1000", "Intel 82544GC", e1000::E1000Port::open, intel::dump_8254x},
    {0x8086, 0x100f, "e1000", "Intel 82545EM", e1000::E1000Port::open, intel::dump_8254x},
    {0x8086, 0x1010, "e1000", "Intel 82546EB", e1000::E1000Port::open, intel::dump_8254x, false, false},
    {0x8086, 0x10d3, "e1000e", "Intel 82574L", e1000e::E1000ePort::open, intel::dump_82574},
    {0x8086, 0x10c9, "igb", "Intel 82576", igb::IgbPort::open, intel::dump_igb},
    {0x8086, 0x10e8, "igb", "Intel 82576, four ports", igb::IgbPort::open, intel::dump_igb},
    {0x8086, 0x1526, "igb", "Intel 82576 ET2, four ports", igb::IgbPort::open, intel::dump_igb},
    model_only(0x150e, "Intel 82580"),
    model_only(0x1516, "Intel 82580, two ports"),
    model_only(0x1521, "Intel I350"),
    model_only(0x1f41, "Intel I354"),
    model_only(0x1533, "Intel I210"),
    model_only(0x157b, "Intel I210, without flash"),
    model_only(0x1539, "Intel I211"),
    ixgbe_chip(0x10fb, "Intel 82599, SFP+ (X520)"),
    ixgbe_chip(0x154d, "Intel 82599, SFP+ (X520-2)"),
    ixgbe_chip(0x154a, "Intel 82599, SFP+, four ports"),
    ixgbe_chip(0x1557, "Intel 82599EN, SFP+"),
    ixgbe_chip(0x1528, "Intel X540"),
    ixgbe_chip(0x1560, "Intel X540, one port"),
    ixgbe_chip(0x1563, "Intel X550", true),
    ixgbe_chip(0x15d1, "Intel X550, one port", true),
    virtio_device(0x1041, "virtio network device"),
    virtio_device(0x1000, "virtio network device, transitional"),
    {0x15ad, 0x07b0, "vmxnet3", "VMware vmxnet3", vmxnet3::Vmxnet3Port::open, vmxnet3::dump, false, true,
     false, "auto|off"},
};

Error unknown(const std::string& address, uint32_t vendor, uint32_t device) {
  std::string known;
  for (const NicDriver& driver : kDrivers) {
    known += fmt::format("{}{} ({:04x}:{:04x})", known.empty() ? "" : ", ", driver.name, driver.vendor,
                         driver.device);
  }
  return {
      Code::kNotFound,
      fmt::format("{} is {:04x}:{:04x}, which no driver of ringcap's knows", address, vendor, device),
      fmt::format(
          "supported: {}; a NIC of another kind can be captured through its kernel driver: packet:INTERFACE",
          known)};
}

}  // namespace

std::span<const NicDriver> nic_drivers() { return kDrivers; }

const NicDriver* find_nic_driver(uint32_t vendor, uint32_t device) {
  for (const NicDriver& driver : kDrivers) {
    if (driver.vendor == vendor && driver.device == device) return &driver;
  }
  return nullptr;
}

namespace {

Result<const NicDriver*> driver_of(pci::Function& function) {
  const Result<uint32_t> vendor = function.config_read(kVendorId, 2);
  if (!vendor) return std::unexpected(vendor.error());
  const Result<uint32_t> device = function.config_read(kDeviceId, 2);
  if (!device) return std::unexpected(device.error());
  const NicDriver* driver = find_nic_driver(*vendor, *device);
  if (driver == nullptr) return std::unexpected(unknown(function.address(), *vendor, *device));
  return driver;
}

}  // namespace

Result<std::unique_ptr<Port>> open_nic(std::unique_ptr<pci::Function> function,
                                       const pci::NicOptions& options) {
  const Result<const NicDriver*> driver = driver_of(*function);
  if (!driver) return std::unexpected(driver.error());
  return (*driver)->open(std::move(function), options);
}

Result<std::vector<pci::RegisterValue>> dump_nic(pci::Function& function) {
  const Result<const NicDriver*> driver = driver_of(function);
  if (!driver) return std::unexpected(driver.error());
  return (*driver)->dump(function);
}

}  // namespace ringcap

#include "tools/nic.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <filesystem>

#include "driver/ports/address.h"

namespace ringcap::tools {
namespace {

std::string device_path(const Roots& roots, const std::string& address) {
  return roots.sysfs + "/bus/pci/devices/" + address;
}

std::vector<std::string> interfaces_of(const Roots& roots, const std::string& address) {
  std::vector<std::string> names;
  for (const std::string& name : list_directory(roots.sysfs + "/class/net")) {
    if (pci_address_of(roots, name) == address) names.push_back(name);
  }
  return names;
}

Nic read(const Roots& roots, const std::string& address) {
  const std::string path = device_path(roots, address);
  Nic nic;
  nic.address = address;
  nic.vendor = static_cast<uint16_t>(read_number(path + "/vendor").value_or(0));
  nic.device = static_cast<uint16_t>(read_number(path + "/device").value_or(0));
  nic.pci_class = static_cast<uint32_t>(read_number(path + "/class").value_or(0));
  nic.driver = link_name(path + "/driver");
  nic.driver_override = read_text(path + "/driver_override").value_or("");
  if (nic.driver_override == "(null)") nic.driver_override.clear();  // how sysfs writes "none"
  nic.iommu_group = link_name(path + "/iommu_group");
  const auto node = read_number(path + "/numa_node");
  nic.node = node ? static_cast<int>(*node) : -1;
  nic.interfaces = interfaces_of(roots, address);
  return nic;
}

std::string known_nics(const Roots& roots) {
  std::vector<std::string> names;
  for (const Nic& nic : list_nics(roots)) {
    names.push_back(nic.interfaces.empty()
                        ? nic.address
                        : fmt::format("{} ({})", nic.address, fmt::join(nic.interfaces, ", ")));
  }
  return names.empty() ? "this machine has no PCI NIC"
                       : fmt::format("NICs of this machine: {}", fmt::join(names, ", "));
}

}  // namespace

// The function may be a few levels up: .../0000:00:03.0/virtio2/net/eth0.
std::string pci_address_of(const Roots& roots, const std::string& interface) {
  std::error_code error;
  auto path = std::filesystem::canonical(roots.sysfs + "/class/net/" + interface + "/device", error);
  for (; !error && path.has_relative_path(); path = path.parent_path()) {
    if (const auto address = normal_pci_address(path.filename().string())) return *address;
  }
  return "";
}

Result<Nic> read_nic(const Roots& roots, const std::string& address) {
  if (exists(device_path(roots, address))) return read(roots, address);
  return fail(Code::kNotFound, fmt::format("there is no PCI device {}", address), known_nics(roots));
}

std::vector<Nic> list_nics(const Roots& roots) {
  std::vector<Nic> nics;
  for (const std::string& address : list_directory(roots.sysfs + "/bus/pci/devices")) {
    Nic nic = read(roots, address);
    if (nic.is_network()) nics.push_back(std::move(nic));
  }
  return nics;
}

Result<Nic> find_nic(const Roots& roots, const std::string& text) {
  if (const auto address = normal_pci_address(text)) return read_nic(roots, *address);
  if (!exists(roots.sysfs + "/class/net/" + text)) {
    return fail(Code::kNotFound, fmt::format("'{}' is neither a PCI address nor an interface", text),
                known_nics(roots));
  }
  const std::string address = pci_address_of(roots, text);
  if (!address.empty()) return read_nic(roots, address);
  return fail(Code::kUsage, fmt::format("interface {} has no PCI device behind it", text),
              fmt::format("it can be captured where it is: ringcap capture packet:{}", text));
}

std::vector<std::string> group_blockers(const Roots& roots, const Nic& nic) {
  std::vector<std::string> blockers;
  const std::string group = roots.sysfs + "/kernel/iommu_groups/" + nic.iommu_group + "/devices";
  for (const std::string& address : list_directory(group)) {
    const std::string driver = link_name(device_path(roots, address) + "/driver");
    const bool harmless =
        driver.empty() || driver == "vfio-pci" || driver == "pci-stub" || driver == "pcieport";
    if (address != nic.address && !harmless) blockers.push_back(fmt::format("{} ({})", address, driver));
  }
  return blockers;
}

}  // namespace ringcap::tools

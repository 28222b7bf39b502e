#include "tools/device_list.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <net/if.h>

#include <nlohmann/json.hpp>

#include "capture/base/run_dir.h"
#include "driver/nic/drivers.h"
#include "tools/bind_record.h"
#include "tools/table.h"

namespace ringcap::tools {
namespace {

using Json = nlohmann::ordered_json;

Interface read_interface(const Roots& roots, const std::string& name) {
  const std::string path = roots.sysfs + "/class/net/" + name;
  Interface interface;
  interface.name = name;
  interface.mac = read_text(path + "/address").value_or("");
  interface.pci_address = pci_address_of(roots, name);
  interface.mtu = static_cast<uint32_t>(read_number(path + "/mtu").value_or(0));
  interface.up = read_number(path + "/flags").value_or(0) & IFF_UP;
  return interface;
}

Json text_or_null(const std::string& text) { return text.empty() ? Json() : Json(text); }

std::string id_of(const Nic& nic) { return fmt::format("{:04x}:{:04x}", nic.vendor, nic.device); }

Json nic_json(const Nic& nic) {
  const NicDriver* driver = find_nic_driver(nic.vendor, nic.device);
  Json out;
  out["address"] = nic.address;
  out["port"] = "vfio:" + nic.address;
  out["id"] = id_of(nic);
  out["model"] = driver ? Json(driver->name) : Json();
  out["node"] = nic.node < 0 ? Json() : Json(nic.node);
  out["iommu_group"] = text_or_null(nic.iommu_group);
  out["driver"] = text_or_null(nic.driver);
  out["interfaces"] = nic.interfaces;
  out["was_interface"] = text_or_null(bound_interface(nic.address));
  out["ringcap_driver"] = driver ? Json(driver->driver) : Json();
  out["on_silicon"] = driver ? Json(driver->on_silicon) : Json();
  out["in_qemu"] = driver ? Json(driver->in_qemu) : Json();
  out["adapter_timestamps"] = driver ? Json(driver->stamps) : Json();
  out["moderation"] = driver ? Json(driver->moderation) : Json();
  return out;
}

Json interface_json(const Interface& interface) {
  return {{"name", interface.name},
          {"port", "packet:" + interface.name},
          {"up", interface.up},
          {"mtu", interface.mtu},
          {"mac", text_or_null(interface.mac)},
          {"pci_address", text_or_null(interface.pci_address)}};
}

std::string support_text(const Nic& nic) {
  const NicDriver* driver = find_nic_driver(nic.vendor, nic.device);
  if (driver == nullptr) return "no driver";
  const char* proof = driver->on_silicon ? "" : " (never run on the real chip)";
  if (!driver->in_qemu) proof = " (never run on the real chip: only the in-process model has run it)";
  const std::string_view moderation = driver->moderation;
  return fmt::format(
      "{}{}{}{}", driver->driver, proof, driver->stamps ? ", timestamps=adapter" : "",
      moderation == NicDriver::kModerationAll ? "" : fmt::format(", moderation={}", moderation));
}

std::string interface_of(const Nic& nic) {
  if (!nic.interfaces.empty()) return fmt::format("{}", fmt::join(nic.interfaces, ","));
  const std::string was = bound_interface(nic.address);
  return was.empty() ? "" : fmt::format("({})", was);
}

std::string nics_text(const std::vector<Nic>& nics) {
  if (nics.empty()) return "NICs: none on this machine's PCI bus\n";
  std::vector<std::vector<std::string>> rows = {
      {"NIC", "ID", "NODE", "IOMMU GROUP", "KERNEL'S DRIVER", "INTERFACE", "RINGCAP'S DRIVER"}};
  for (const Nic& nic : nics) {
    rows.push_back({nic.address, id_of(nic), nic.node < 0 ? "" : std::to_string(nic.node), nic.iommu_group,
                    nic.driver, interface_of(nic), support_text(nic)});
  }
  return format_table(rows);
}

std::string interfaces_text(const std::vector<Interface>& interfaces) {
  std::vector<std::vector<std::string>> rows = {{"INTERFACE", "STATE", "MTU", "MAC", "NIC", "PORT"}};
  for (const Interface& interface : interfaces) {
    rows.push_back({interface.name, interface.up ? "up" : "down", std::to_string(interface.mtu),
                    interface.mac, interface.pci_address, "packet:" + interface.name});
  }
  return format_table(rows);
}

}  // namespace

std::vector<Interface> list_interfaces(const Roots& roots) {
  std::vector<Interface> interfaces;
  for (const std::string& name : list_directory(roots.sysfs + "/class/net")) {
    if (exists(roots.sysfs + "/class/net/" + name + "/mtu"))
      interfaces.push_back(read_interface(roots, name));
  }
  return interfaces;
}

DeviceList list_devices(const Roots& roots) {
  return {list_nics(roots), list_interfaces(roots), list_engines()};
}

nlohmann::ordered_json devices_json(const DeviceList& devices) {
  Json out = {{"schema", "ringcap.devices/1"},
              {"nics", Json::array()},
              {"interfaces", Json::array()},
              {"engines", Json::array()}};
  for (const Nic& nic : devices.nics) out["nics"].push_back(nic_json(nic));
  for (const Interface& interface : devices.interfaces)
    out["interfaces"].push_back(interface_json(interface));
  for (const std::string& engine : devices.engines) out["engines"].push_back({{"name", engine}});
  return out;
}

std::string devices_text(const DeviceList& devices) {
  std::string out = nics_text(devices.nics) + "\n" + interfaces_text(devices.interfaces) + "\n";
  if (devices.engines.empty()) return out + "Engines: none runs\n";
  return out + fmt::format("Engines that run: {}\n", fmt::join(devices.engines, ", "));
}

Json registers_json(const std::string& address, const std::vector<pci::RegisterValue>& registers) {
  Json out = {{"schema", "ringcap.registers/1"}, {"address", address}, {"registers", Json::array()}};
  for (const pci::RegisterValue& each : registers)
    out["registers"].push_back({{"name", each.name}, {"offset", each.offset}, {"value", each.value}});
  return out;
}

std::string registers_text(const std::vector<pci::RegisterValue>& registers) {
  std::vector<std::vector<std::string>> rows = {{"REGISTER", "OFFSET", "VALUE"}};
  for (const pci::RegisterValue& each : registers)
    rows.push_back({each.name, fmt::format("{:#07x}", each.offset), fmt::format("{:#010x}", each.value)});
  return format_table(rows);
}

}  // namespace ringcap::tools

// Everything on this machine that could be captured, as `ringcap devices` prints it. Changes nothing.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "driver/pci/dump.h"
#include "tools/nic.h"

namespace ringcap::tools {

struct Interface {
  std::string name;
  std::string mac;
  std::string pci_address;  // "" for a virtual one
  uint32_t mtu = 0;
  bool up = false;
};

struct DeviceList {
  std::vector<Nic> nics;
  std::vector<Interface> interfaces;
  std::vector<std::string> engines;  // running
};

std::vector<Interface> list_interfaces(const Roots& roots);
DeviceList list_devices(const Roots& roots);

// The schema ringcap.devices/1.
nlohmann::ordered_json devices_json(const DeviceList& devices);
std::string devices_text(const DeviceList& devices);

// The schema ringcap.registers/1.
nlohmann::ordered_json registers_json(const std::string& address,
                                      const std::vector<pci::RegisterValue>& registers);
std::string registers_text(const std::vector<pci::RegisterValue>& registers);

}  // namespace ringcap::tools

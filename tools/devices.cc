// ringcap devices: what can be captured here.
#include <nlohmann/json.hpp>

#include "driver/vfio/port.h"
#include "tools/cli.h"
#include "tools/device_list.h"

namespace ringcap::tools {
namespace {

namespace po = boost::program_options;

int show_registers(const std::string& address, bool json) {
  const Result<Nic> nic = find_nic({}, address);
  if (!nic) return report(nic.error());
  const auto registers = dump_vfio(nic->address);
  if (!registers) return report(registers.error());
  print_text(json ? registers_json(nic->address, *registers).dump() + "\n" : registers_text(*registers));
  return finish(kExitOk);
}

}  // namespace

int run_devices(const Words& words) {
  bool json = false, registers = false;
  std::string address;
  Cli cli(
      {.command = "devices",
       .usage = "[OPTION]... [ADDRESS]",
       .summary =
           "Lists what can be captured: NICs (through VFIO), interfaces of the kernel, and engines that run.",
       .example = "ringcap devices"});
  cli.json(&json);
  cli.options()("registers", po::bool_switch(&registers),
                "the registers of the NIC at ADDRESS, which must be bound to vfio-pci and not in use");
  cli.take(&address, "ADDRESS", true);
  if (auto status = cli.parse(words)) return *status;

  if (registers == address.empty())
    return report({Code::kUsage, "--registers and ADDRESS need each other",
                   "ringcap devices --registers 0000:03:00.0"});
  if (registers) return show_registers(address, json);
  const DeviceList devices = list_devices({});
  print_text(json ? devices_json(devices).dump() + "\n" : devices_text(devices));
  return finish(kExitOk);
}

}  // namespace ringcap::tools

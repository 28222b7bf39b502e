// ringcap devices: what can be captured here.
#include <nlohmann/json.hpp>

#include "tools/cli.h"
#include "tools/device_list.h"

namespace ringcap::tools {

int run_devices(const Words& words) {
  bool json = false;
  Cli cli(
      {.command = "devices",
       .usage = "[OPTION]...",
       .summary =
           "Lists what can be captured: NICs (through VFIO), interfaces of the kernel, and engines that run.",
       .example = "ringcap devices"});
  cli.json(&json);
  if (auto status = cli.parse(words)) return *status;

  const DeviceList devices = list_devices({});
  print_text(json ? devices_json(devices).dump() + "\n" : devices_text(devices));
  return finish(kExitOk);
}

}  // namespace ringcap::tools

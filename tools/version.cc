// ringcap version: what a bug report must say.
#include <sys/utsname.h>

#include <nlohmann/json.hpp>

#include "capture/layout/layout.h"
#include "tools/cli.h"

namespace ringcap::tools {

int run_version(const Words& words) {
  bool json = false;
  Cli cli(
      {.command = "version",
       .usage = "[OPTION]...",
       .summary = "Prints the versions of ringcap, of the layout of its shared memory, and of the kernel.",
       .example = "ringcap version",
       .manual = "ringcap"});
  cli.json(&json);
  if (auto status = cli.parse(words)) return *status;

  utsname kernel{};
  ::uname(&kernel);
  const std::string layout = fmt::format("{}.{}", layout::kMajor, layout::kMinor);
  if (json) {
    const nlohmann::ordered_json out = {{"schema", "ringcap.version/1"},
                                        {"ringcap", RINGCAP_VERSION},
                                        {"layout", layout},
                                        {"kernel", kernel.release}};
    print("{}\n", out.dump());
  } else {
    print("ringcap {}\nlayout  {}\nkernel  {}\n", RINGCAP_VERSION, layout, kernel.release);
  }
  return finish(kExitOk);
}

}  // namespace ringcap::tools

// ringcap bridge: frames of one port leave through the other, both ways, and can be captured meanwhile.
#include <fmt/format.h>

#include "capture/base/names.h"
#include "tools/cli.h"
#include "tools/engine_options.h"
#include "tools/engine_run.h"

namespace ringcap::tools {
namespace po = boost::program_options;
namespace {

struct BridgeWords {
  std::string first, second, name, group = "ringcap", user = "ringcap";
  std::vector<std::string> filter;
  EngineWords engine;
};

// A packet socket also sees what leaves through its interface, by whomever: sent on, that would come back.
Result<PortAddress> bridge_port(const std::string& text) {
  auto port = parse_port_address(text);
  if (port) port->outgoing = false;
  return port;
}

Result<MadeEngine> open_bridge(const BridgeWords& words) {
  std::vector<PortAddress> ports;
  for (const std::string* text : {&words.first, &words.second}) {
    auto port = bridge_port(*text);
    if (!port) return std::unexpected(port.error());
    ports.push_back(std::move(*port));
  }
  if (ports[0].kind == ports[1].kind && ports[0].address == ports[1].address && !ports[0].address.empty())
    return fail(Code::kUsage,
                fmt::format("{} twice: a frame never goes back to the port that it came from", words.first),
                "name two ports");
  auto filter = engine_filter(words.filter);
  if (!filter) return std::unexpected(filter.error());
  auto options = engine_options(words.engine, ports);
  if (!options) return std::unexpected(options.error());
  options->name = words.name.empty() ? name_for(ports.front()) : words.name;
  if (auto valid = check_name("engine name", options->name); !valid) return std::unexpected(valid.error());
  options->group = words.group;
  options->forwards = {{.from = 0, .to = 1, .filter = *filter}, {.from = 1, .to = 0, .filter = *filter}};
  return make_engine(std::move(*options), ports);
}

}  // namespace

int run_bridge(const Words& words) {
  BridgeWords bridge;
  Cli cli({.command = "bridge",
           .usage = "[OPTION]... PORT PORT [FILTER]",
           .summary =
               "Sends what one PORT receives out of the other, both ways, until it is told to end. FILTER "
               "says which frames; the engine can be captured from like any other and sees all of them.",
           .example = "ringcap bridge packet:eth0 tap:lab0 not port 22"});
  cli.options()("name", po::value(&bridge.name)->value_name("NAME"),
                "the engine's name; made from the first port if not given");
  cli.options()("group", po::value(&bridge.group)->value_name("GROUP"), "whose members may attach");
  cli.options()("user", po::value(&bridge.user)->value_name("USER"),
                "run as USER once devices and memory are open; \"\" stays root");
  add_engine_options(cli, bridge.engine);
  cli.take(&bridge.first, "PORT");
  cli.take(&bridge.second, "PORT");
  cli.take_rest(&bridge.filter, "FILTER");
  if (auto status = cli.parse(words)) return *status;
  hold_signals();
  const auto made = open_bridge(bridge);
  if (!made) return report(made.error());
  return run_engine(*made, {.user = bridge.user, .asked = cli.given("user")});
}

}  // namespace ringcap::tools

// ringcap up: runs an engine in the foreground. ringcap down: ends one.
#include <fmt/format.h>
#include <grp.h>

#include <optional>

#include "capture/base/names.h"
#include "libcap/client/client.h"
#include "tools/cli.h"
#include "tools/cluster_options.h"
#include "tools/engine_options.h"
#include "tools/engine_run.h"
#include "tools/hash_key.h"
#include "tools/transparent.h"

namespace ringcap::tools {
namespace po = boost::program_options;

namespace {

constexpr uint32_t kEthernet = 1;  // LINKTYPE_ETHERNET: what engines' filters are compiled for

struct UpWords {
  std::string port;
  std::vector<std::string> more_ports, clusters;
  std::string hash_key, name, filter, group = "ringcap", user = "ringcap";
  Count wait_consumers{};
  bool until_end = false;
  std::string send_group;
  Count send_rate{};
  TransparentWords transparent;
  Duration confirm{};
  EngineWords engine;
};

Result<std::optional<engine::SendOptions>> send_options(const UpWords& words) {
  if (words.send_group.empty()) {
    if (words.send_rate.value == 0) return std::nullopt;
    return fail(Code::kUsage, "--send-rate: nobody may send", "say who: --send-group GROUP");
  }
  const group* found = ::getgrnam(words.send_group.c_str());
  if (found == nullptr)
    return fail(Code::kUsage, fmt::format("--send-group {}: there is no such group", words.send_group),
                fmt::format("groupadd --system {}", words.send_group));
  return engine::SendOptions{.group = found->gr_gid, .rate = words.send_rate.value};
}

Result<std::vector<PortAddress>> parse_ports(const UpWords& words) {
  std::vector<PortAddress> ports;
  std::vector<std::string> texts{words.port};
  texts.insert(texts.end(), words.more_ports.begin(), words.more_ports.end());
  for (const auto& text : texts) {
    auto port = parse_port_address(text);
    if (!port) return std::unexpected(port.error());
    ports.push_back(std::move(*port));
  }
  return ports;
}

// What the words say, all of it looked at before anything is opened or a NIC taken; but for the name.
Result<engine::EngineOptions> options_of(const UpWords& words, const std::vector<PortAddress>& ports) {
  auto options = engine_options(words.engine, ports);
  if (!options) return options;
  options->group = words.group;
  options->wait_consumers = static_cast<uint32_t>(words.wait_consumers.value);
  options->until_end = words.until_end;
  auto filter = engine_filter({words.filter});
  if (!filter) return std::unexpected(filter.error());
  options->filter = *filter;
  if (!words.hash_key.empty()) {
    auto key = parse_hash_key(words.hash_key);
    if (!key) return std::unexpected(key.error());
    options->hash_key = *key;
  }
  for (const auto& text : words.clusters) {
    auto cluster = parse_cluster(text);
    if (!cluster) return std::unexpected(cluster.error());
    options->clusters.push_back(std::move(*cluster));
  }
  auto send = send_options(words);
  if (!send) return std::unexpected(send.error());
  options->send = *send;
  if (words.name.empty()) return options;
  if (auto valid = check_name("engine name", words.name); !valid) return std::unexpected(valid.error());
  return options;
}

Result<void> check_filter_fits(const MadeEngine& made) {
  for (const Port* port : made.ports)
    if (port->link_type() != kEthernet)
      return fail(Code::kUsage,
                  fmt::format("the frames of {} are not Ethernet (link type {}): --filter is not possible",
                              port->address(), port->link_type()),
                  fmt::format("leave it out, or filter while capturing: ringcap capture {} -w FILE FILTER",
                              port->address()));
  return {};
}

Result<MadeEngine> open_engine(const UpWords& words) {
  auto ports = parse_ports(words);
  if (!ports) return std::unexpected(ports.error());
  auto beside = Beside::prepare(words.transparent, *ports);
  if (!beside) return std::unexpected(beside.error());
  auto options = options_of(words, *ports);
  if (!options) return std::unexpected(options.error());
  if (auto taken = beside->take_nic(ports->front()); !taken) return std::unexpected(taken.error());
  options->name = words.name.empty() ? name_for(ports->front()) : words.name;
  auto tap = beside->open(options->name);
  if (!tap) return std::unexpected(tap.error());
  if (auto added = beside->add_to(*options); !added) return std::unexpected(added.error());
  const bool filtered = options->filter != nullptr;
  auto made = make_engine(std::move(*options), *ports, std::move(*tap));
  if (!made) return made;
  if (filtered)
    if (auto fits = check_filter_fits(*made); !fits) return std::unexpected(fits.error());
  beside->belongs_to(made->engine.get());
  beside->configure();
  return made;
}

}  // namespace

int run_up(const Words& words) {
  UpWords up;
  Cli cli({.command = "up",
           .usage = "[OPTION]... PORT [PORT]...",
           .summary = "Runs an engine that captures the PORTs, until it is told to end (ringcap down, ^C).",
           .example = "ringcap up gen:rate=1000 --name demo --arena 64M"});
  cli.options()("name", po::value(&up.name)->value_name("NAME"),
                "the engine's name; made from the port if not given");
  cli.options()("filter", po::value(&up.filter)->value_name("FILTER"),
                "drop what does not match, for everybody");
  cli.options()(
      "cluster", po::value(&up.clusters)->composing()->value_name("CLUSTER"),
      "NAME[,kind=K][,level=L][,stall=keep|move][,stall_ms=N][,filter=F], repeatable; F goes to the end");
  cli.options()("hash-key", po::value(&up.hash_key)->value_name("HEX"),
                "key of the flow hash, 32 hexadecimal digits; a random one if not given");
  cli.options()("group", po::value(&up.group)->value_name("GROUP"), "whose members may attach");
  cli.options()("user", po::value(&up.user)->value_name("USER"),
                "run as USER once devices and memory are open; \"\" stays root");
  cli.options()("wait-consumers", po::value(&up.wait_consumers)->value_name("N"),
                "start the ports when so many consumers have attached");
  cli.options()("until-end", po::bool_switch(&up.until_end),
                "end when the sources have ended and every consumer has left");
  cli.options()("transparent", po::value(&up.transparent.mode)->value_name("MODE"),
                "what the kernel gets, through a TAP: off (nothing), both (everything), filter (what --pass "
                "matches); kernel-first: of a packet: port, which the kernel keeps");
  cli.options()("pass", po::value(&up.transparent.pass)->value_name("FILTER"),
                "with --transparent filter: for the kernel; what a remote login needs if not given");
  cli.options()("tap", po::value(&up.transparent.tap)->value_name("NAME"),
                "name of the TAP; the engine's if not given");
  cli.options()(
      "adopt", po::bool_switch(&up.transparent.adopt),
      "the TAP takes the place of the NIC's interface: name, addresses, routes; all goes back when the "
      "engine ends, however it does. Binds the NIC if the kernel has it");
  cli.options()("confirm", po::value(&up.confirm)->value_name("SECONDS"),
                "with --adopt: undo everything after SECONDS, unless `ringcap bind --keep` comes before");
  cli.options()("send-group", po::value(&up.send_group)->value_name("GROUP"),
                "whose members may send, besides root and the engine's user; nobody may if not given");
  cli.options()("send-rate", po::value(&up.send_rate)->value_name("PPS"),
                "frames a second that each sender may send; no limit if not given");
  add_engine_options(cli, up.engine);
  cli.take(&up.port, "PORT");
  cli.take_rest(&up.more_ports, "PORT");
  cli.default_config([&] { return up.name.empty() ? std::string() : "/etc/ringcap/" + up.name + ".conf"; });
  if (auto status = cli.parse(words)) return *status;

  up.transparent.confirm_ns = up.confirm.ns;
  hold_signals();
  const auto made = open_engine(up);
  if (!made) return report(made.error());
  return run_engine(*made, {.user = up.user, .asked = cli.given("user")});
}

int run_down(const Words& words) {
  std::string name;
  Duration wait{10'000'000'000};
  Cli cli({.command = "down",
           .usage = "[OPTION]... NAME",
           .summary = "Ends a running engine and waits until it has ended.",
           .example = "ringcap down demo"});
  cli.options()("wait", po::value(&wait)->value_name("TIME"), "how long to wait for it, 10s if not given");
  cli.take(&name, "NAME");
  if (auto status = cli.parse(words)) return *status;
  if (auto stopped = client::stop_engine(name, static_cast<int>(wait.ns / 1'000'000)); !stopped)
    return report(stopped.error());
  return finish(kExitOk);
}

}  // namespace ringcap::tools

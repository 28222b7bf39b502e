#include "tools/engine_options.h"

#include <sched.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <fstream>

#include "capture/base/run_dir.h"
#include "capture/filter/machine_code.h"
#include "capture/ledger/ledger.h"
#include "driver/ports/open.h"
#include "tools/bind_record.h"
#include "tools/filter_text.h"
#include "tools/forward_claims.h"

namespace ringcap::tools {
namespace po = boost::program_options;

void add_engine_options(Cli& cli, EngineWords& w) {
  cli.options()("memory", po::value(&w.memory)->value_name("KIND"),
                "where the frames lie: memfd (hugepages, sealed), hugetlbfs (a file of the mount), plain (no "
                "hugepages)");
  cli.options()("arena", po::value(&w.arena)->value_name("BYTES"), "memory for frames, 256M if not given");
  cli.options()("page", po::value(&w.page)->value_name("BYTES"), "size of the hugepages: 2M or 1G");
  cli.options()("node", po::value(&w.node)->value_name("N"),
                "NUMA node of the memory; the port's if not given");
  cli.options()("ring", po::value(&w.ring)->value_name("FRAMES"),
                "frames that a consumer's ring holds, per worker, if it does not ask for another number");
  cli.options()("poll", po::value(&w.poll)->value_name("HOW"),
                "adaptive (polls under load, else sleeps), busy (never sleeps), sleep (sleeps at once)");
  cli.options()("cores", po::value(&w.cores)->value_name("LIST"),
                "processors for the workers, in turn: 2,3 or 4-7");
}

namespace {

Result<engine::Poll> parse_poll(const std::string& word) {
  if (word == "adaptive") return engine::Poll::kAdaptive;
  if (word == "busy") return engine::Poll::kBusy;
  if (word == "sleep") return engine::Poll::kSleep;
  return fail(Code::kUsage, fmt::format("--poll {}: there is adaptive, busy and sleep", word));
}

Result<std::vector<int>> parse_cores(const std::string& list) {
  std::vector<int> cores;
  const auto bad = [&] {
    return fail(Code::kUsage, fmt::format("--cores {}: expected numbers like 2,3 or 4-7", list));
  };
  for (size_t at = 0; at < list.size();) {
    const size_t comma = std::min(list.find(',', at), list.size());
    int first = 0, last = 0, used = 0;
    const std::string part = list.substr(at, comma - at);
    if (std::sscanf(part.c_str(), "%d-%d%n", &first, &last, &used) != 2 ||
        used != static_cast<int>(part.size())) {
      if (std::sscanf(part.c_str(), "%d%n", &first, &used) != 1 || used != static_cast<int>(part.size()))
        return bad();
      last = first;
    }
    if (first < 0 || last < first || last >= CPU_SETSIZE) return bad();
    for (int cpu = first; cpu <= last; ++cpu) cores.push_back(cpu);
    at = comma + 1;
  }
  const long have = ::sysconf(_SC_NPROCESSORS_CONF);
  for (const int cpu : cores)
    if (cpu >= have)
      return fail(Code::kUsage,
                  fmt::format("--cores {}: this machine has processors 0 to {}", list, have - 1));
  return cores;
}

int node_of(const PortAddress& port) {
  std::string path;
  if (port.kind == PortKind::kVfio) path = "/sys/bus/pci/devices/" + port.address + "/numa_node";
  if (port.kind == PortKind::kPacket) path = "/sys/class/net/" + port.address + "/device/numa_node";
  int node = -1;
  if (!path.empty()) std::ifstream(path) >> node;
  return node;
}

}  // namespace

Result<engine::EngineOptions> engine_options(const EngineWords& w, const std::vector<PortAddress>& ports) {
  engine::EngineOptions options;
  const auto kind = memory::parse_memory_kind(w.memory);
  if (!kind)
    return fail(Code::kUsage, fmt::format("--memory {}: there is memfd, hugetlbfs and plain", w.memory));
  if (*kind == layout::MemoryKind::kPlain)
    spdlog::warn(
        "without hugepages: expect fewer frames a second; `ringcap doctor` says how to get hugepages");
  if (w.page.value != 0 && !std::has_single_bit(w.page.value))
    return fail(Code::kUsage, fmt::format("--page {}: there is 2M and 1G", w.page.value));
  if (w.ring.value < layout::kMinRingSlots || w.ring.value > layout::kMaxRingSlots)
    return fail(Code::kUsage, fmt::format("--ring {}: expected {} to {} frames", w.ring.value,
                                          layout::kMinRingSlots, layout::kMaxRingSlots));
  auto poll = parse_poll(w.poll);
  if (!poll) return std::unexpected(poll.error());
  auto cores = parse_cores(w.cores);
  if (!cores) return std::unexpected(cores.error());
  options.arena = {.kind = *kind,
                   .bytes = w.arena.value,
                   .page_bytes = w.page.value,
                   .node = w.node == -2 ? node_of(ports.front()) : w.node,
                   .engine = {}};
  options.ring_slots = static_cast<uint32_t>(w.ring.value);
  options.poll = *poll;
  options.cpus = std::move(*cores);
  return options;
}

Result<engine::Filter> engine_filter(const std::vector<std::string>& words) {
  constexpr uint32_t kEthernet = 1;  // LINKTYPE_ETHERNET
  auto program = compile_filter(words, "", kEthernet);
  if (!program) return std::unexpected(program.error());
  if (program->empty()) return engine::Filter{};
  auto valid = filter::validate(*program);
  if (!valid) return std::unexpected(valid.error());
  filter::compile_or_say(*valid, [](const std::string& text) { spdlog::warn("{}", text); });
  return std::make_shared<filter::Program>(std::move(*valid));
}

bool MadeEngine::source_failed() const {
  return std::ranges::any_of(ports, [](const Port* port) { return !port->problem().empty(); });
}

namespace {

// Each pair of ports once, whichever way frames go between them.
std::vector<std::pair<std::string, std::string>> forwarded_pairs(const std::vector<engine::Forward>& forwards,
                                                                 const std::vector<const Port*>& ports) {
  std::vector<std::pair<std::string, std::string>> pairs;
  for (const engine::Forward& f : forwards) {
    const auto& [one, other] = std::minmax(f.from, f.to);
    std::pair<std::string, std::string> pair{ports[one]->address(), ports[other]->address()};
    if (std::ranges::find(pairs, pair) == pairs.end()) pairs.push_back(std::move(pair));
  }
  return pairs;
}

}  // namespace

Result<MadeEngine> make_engine(engine::EngineOptions options, const std::vector<PortAddress>& addresses,
                               std::unique_ptr<Port> last) {
  MadeEngine made;
  std::vector<std::unique_ptr<Port>> ports;
  const bool everybody_sends = options.send.has_value();
  for (uint32_t i = 0; i < addresses.size(); ++i) {
    const bool sends = everybody_sends || std::ranges::count(options.forwards, i, &engine::Forward::to) != 0;
    auto port = open_port(addresses[i], {.sends = sends});
    if (!port) return std::unexpected(port.error());
    made.ports.push_back(port->get());
    ports.push_back(std::move(*port));
  }
  if (last) {
    made.ports.push_back(last.get());
    ports.push_back(std::move(last));
  }
  const std::string name = options.name;
  const bool listens = options.listen;
  const auto pairs = forwarded_pairs(options.forwards, made.ports);
  auto engine = engine::Engine::create(std::move(options), std::move(ports));
  if (!engine) return std::unexpected(engine.error());
  if (listens)
    if (auto claimed = claim_forwards(name, pairs); !claimed) return std::unexpected(claimed.error());
  made.engine = std::move(*engine);
  return made;
}

std::string name_for(const PortAddress& port) {
  const auto running = list_engines();
  return default_engine_name(port, bound_interface, [&](const std::string& name) {
    return std::ranges::find(running, name) != running.end();
  });
}

PortLosses port_losses(const layout::Header& header) {
  const auto ledger = ledger::read(header);
  PortLosses losses;
  for (const auto& worker : ledger.workers) losses.no_buffer += worker.no_buffer;
  const uint64_t missed = ledger::missed(header);
  losses.missed_known = missed != layout::kNotCounted;
  if (losses.missed_known) losses.missed = missed;
  return losses;
}

}  // namespace ringcap::tools

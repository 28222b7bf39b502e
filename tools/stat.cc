// ringcap stat: an engine's ledger, and whether its sums hold.
#include <arpa/inet.h>
#include <fmt/ranges.h>
#include <netinet/in.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <chrono>
#include <ctime>
#include <nlohmann/json.hpp>

#include "capture/base/run_dir.h"
#include "capture/cluster/kind.h"
#include "capture/ledger/ledger.h"
#include "libcap/client/client.h"
#include "tools/cli.h"
#include "tools/moderation_text.h"

namespace ringcap::tools {
namespace po = boost::program_options;
namespace {

using nlohmann::ordered_json;

std::string time_text(uint64_t ns) {
  const auto seconds = static_cast<time_t>(ns / 1'000'000'000);
  tm parts{};
  ::gmtime_r(&seconds, &parts);
  char text[32];
  std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &parts);
  return fmt::format("{}.{:09}Z", text, ns % 1'000'000'000);
}

uint64_t now_ns() {
  timespec now{};
  ::clock_gettime(CLOCK_REALTIME, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
}

ordered_json counter(uint64_t value) {
  return value == layout::kNotCounted ? ordered_json(nullptr) : ordered_json(value);
}

ordered_json taker_json(const ledger::Taker& t) {
  return {{"considered", t.considered}, {"not_matched", t.not_matched},
          {"offered", t.offered},       {"published", t.published},
          {"dropped", t.dropped},       {"released", t.released},
          {"in_ring", t.in_ring},       {"reclaiming", t.reclaiming},
          {"reclaimed", t.reclaimed},   {"late", t.late},
          {"filter_ns", t.filter_ns}};
}

ordered_json buffers_json(const ledger::Buffers& b) {
  return {{"total", b.total},
          {"port", b.port},
          {"free", b.free},
          {"referenced", b.referenced},
          {"in_hand", b.in_hand}};
}

ordered_json port_json(const ledger::Port& p) {
  ordered_json queues = ordered_json::array();
  for (const auto& q : p.queues)
    queues.push_back({{"queue", q.queue},
                      {"worker", q.worker},
                      {"received", counter(q.received)},
                      {"missed", counter(q.missed)},
                      {"bad", counter(q.bad)},
                      {"taken", q.taken},
                      {"at_rest", q.at_rest},
                      {"ended", q.ended}});
  ordered_json statistics = ordered_json::object();
  for (const auto& [name, value] : p.statistics) statistics[name] = value;
  return {{"port", p.address},
          {"driver", p.driver},
          {"present", p.present},
          {"link", {{"up", p.up}, {"mbps", p.mbps}}},
          {"mtu", p.mtu},
          {"received", counter(p.received)},
          {"missed", counter(p.missed)},
          {"bad", counter(p.bad)},
          {"taken", p.taken},
          {"at_rest", p.at_rest},
          {"queues", queues},
          {"statistics", statistics}};
}

ordered_json worker_json(const ledger::Worker& w, size_t number) {
  return {{"worker", number},         {"taken", w.taken},
          {"broken", w.broken},       {"filtered", w.filtered},
          {"no_buffer", w.no_buffer}, {"considered", w.considered},
          {"wanted", w.wanted},       {"unwanted", w.unwanted},
          {"copied", w.copied},       {"bytes", w.bytes},
          {"rounds", w.rounds},       {"sleeps", w.sleeps},
          {"wakeups", w.wakeups},     {"clock_steps", w.clock_steps},
          {"filter_ns", w.filter_ns}, {"cut", w.cut},
          {"unplaced", w.unplaced},   {"buffers", buffers_json(w.buffers)}};
}

ordered_json consumer_json(const ledger::Consumer& c) {
  const auto name_or_null = [](const std::string& name) {
    return name.empty() ? ordered_json(nullptr) : ordered_json(name);
  };
  constexpr const char* kPlaces[] = {"none", "engine", "library"};
  ordered_json out = {{"id", c.id},
                      {"name", c.name},
                      {"pid", c.pid},
                      {"uid", c.uid},
                      {"cluster", name_or_null(c.cluster)},
                      {"member", name_or_null(c.member)},
                      {"state", c.state == layout::ConsumerState::kAttached ? "attached" : "leaving"},
                      {"ring", {{"size", c.ring_slots}}},
                      {"filter", kPlaces[std::min<uint32_t>(static_cast<uint32_t>(c.filter), 2)]},
                      {"attached_at", time_text(c.attached_ns)}};
  out.update(taker_json(c.total));
  return out;
}

std::string address_text(const layout::TrackedFlow& flow, const uint8_t (&end)[16], uint16_t port) {
  char text[INET6_ADDRSTRLEN] = {};
  if (flow.version == 0)
    return fmt::format("{:02x}:{:02x}:{:02x}:{:02x}:{:02x}:{:02x}", end[0], end[1], end[2], end[3], end[4],
                       end[5]);
  ::inet_ntop(flow.version == 6 ? AF_INET6 : AF_INET, end, text, sizeof text);
  if (port == 0) return text;
  return flow.version == 6 ? fmt::format("[{}]:{}", text, port) : fmt::format("{}:{}", text, port);
}

std::string protocol_text(const layout::TrackedFlow& flow) {
  if (flow.version == 0) return fmt::format("0x{:04x}", flow.type);
  switch (flow.protocol) {
    case IPPROTO_TCP:
      return "tcp";
    case IPPROTO_UDP:
      return "udp";
    case IPPROTO_SCTP:
      return "sctp";
    case IPPROTO_ICMP:
      return "icmp";
    case IPPROTO_ICMPV6:
      return "icmp6";
    default:
      return fmt::format("ip {}", flow.protocol);
  }
}

const char* kind_text(const ledger::Cluster& c) {
  return cluster::kind_name(static_cast<cluster::Kind>(c.kind));
}
const char* level_text(const ledger::Cluster& c) {
  return cluster::level_name(static_cast<cluster::Level>(c.level));
}

// The members of a cluster, in the consumers' order.
std::vector<const ledger::Consumer*> members_of(const ledger::Ledger& l, const ledger::Cluster& c) {
  std::vector<const ledger::Consumer*> members;
  for (const auto& consumer : l.consumers)
    if (consumer.cluster == c.name && consumer.state == layout::ConsumerState::kAttached)
      members.push_back(&consumer);
  return members;
}

// The most that a member was given over the mean; 0: nothing was.
double imbalance(const std::vector<const ledger::Consumer*>& members) {
  uint64_t most = 0, sum = 0;
  for (const auto* m : members) {
    most = std::max(most, m->load());
    sum += m->load();
  }
  return sum == 0
             ? 0
             : static_cast<double>(most) * static_cast<double>(members.size()) / static_cast<double>(sum);
}

size_t one_sided(const ledger::Cluster& c) {
  return static_cast<size_t>(std::ranges::count_if(c.flows, &ledger::Flow::one_sided));
}

ordered_json flow_json(const ledger::Flow& f) {
  return {{"protocol", protocol_text(f.flow)},
          {"a", address_text(f.flow, f.flow.a, f.flow.port_a)},
          {"b", address_text(f.flow, f.flow.b, f.flow.port_b)},
          {"hash", f.flow.hash},
          {"frames", f.frames},
          {"bytes", f.bytes},
          {"error", f.error},
          {"one_sided", f.one_sided()}};
}

ordered_json cluster_json(const ledger::Ledger& l, const ledger::Cluster& c) {
  const auto members = members_of(l, c);
  ordered_json member_list = ordered_json::array(), flows = ordered_json::array();
  for (const auto* m : members)
    member_list.push_back({{"member", m->member},
                           {"consumer", m->id},
                           {"name", m->name},
                           {"slots", c.slots_of(m->slot)},
                           {"considered", m->total.considered},
                           {"load", m->load()},
                           {"dropped", m->total.dropped}});
  for (const auto& f : c.flows) flows.push_back(flow_json(f));
  return {{"cluster", c.name},
          {"kind", kind_text(c)},
          {"level", level_text(c)},
          {"filtered", c.filtered},
          {"stall", c.stall == layout::Stall::kMove ? "move" : "keep"},
          {"stall_ms", c.stall_ms},
          {"stalled", c.stalled},
          {"uid", c.uid == ~uint32_t{0} ? ordered_json(nullptr) : ordered_json(c.uid)},
          {"slots", c.slots},
          {"moves", c.moves},
          {"considered", c.total.considered},
          {"not_matched", c.total.not_matched},
          {"offered", c.total.offered},
          {"twice", c.total.twice},
          {"unassigned", c.total.unassigned},
          {"departed", c.total.departed},
          {"filter_ns", c.total.filter_ns},
          {"members", member_list},
          {"imbalance", imbalance(members)},
          {"one_sided", one_sided(c)},
          {"flows", flows}};
}

ordered_json forwarder_json(const ledger::Ledger& l, const ledger::Forwarder& f) {
  ordered_json json = {{"from", l.ports[f.from].address}, {"to", l.ports[f.to].address}};
  json.update(taker_json(f.total));
  json.update({{"taken", f.taken},
               {"sent", f.sent},
               {"refused", f.refused},
               {"pending", f.pending},
               {"bytes", f.bytes}});
  return json;
}

ordered_json sender_json(const ledger::Ledger& l, const ledger::Sender& s) {
  return {{"id", s.id},
          {"name", s.name},
          {"pid", s.pid},
          {"uid", s.uid},
          {"port", l.ports[s.port].address},
          {"queue", s.queue},
          {"asked", s.asked},
          {"sent", s.sent},
          {"refused", s.refused},
          {"limited", s.limited},
          {"dropped", s.dropped},
          {"pending", s.pending},
          {"bytes", s.bytes}};
}

ordered_json ledger_json(const ledger::Ledger& l, const ledger::Check& check) {
  ordered_json unbalanced = ordered_json::array(), ports = ordered_json::array(),
               workers = ordered_json::array(), consumers = ordered_json::array(),
               clusters = ordered_json::array(), forwarders = ordered_json::array(),
               senders = ordered_json::array();
  for (const auto& m : check.unbalanced)
    unbalanced.push_back({{"sum", m.sum}, {"where", m.where}, {"left", m.left}, {"right", m.right}});
  for (const auto& p : l.ports) ports.push_back(port_json(p));
  for (size_t i = 0; i < l.workers.size(); ++i) workers.push_back(worker_json(l.workers[i], i));
  for (const auto& c : l.consumers) consumers.push_back(consumer_json(c));
  for (const auto& c : l.clusters) clusters.push_back(cluster_json(l, c));
  for (const auto& f : l.forwarders) forwarders.push_back(forwarder_json(l, f));
  for (const auto& s : l.senders) senders.push_back(sender_json(l, s));
  const uint64_t now = now_ns();
  return {
      {"schema", "ringcap.stat/1"},
      {"time", time_text(now)},
      {"engine",
       {{"name", l.engine},
        {"hash_key",
         fmt::format("{:016x}{:016x}", __builtin_bswap64(l.hash_key[0]), __builtin_bswap64(l.hash_key[1]))},
        {"version", l.version},
        {"pid", l.pid},
        {"uptime_s", static_cast<double>(now - std::min(now, l.started_ns)) / 1e9},
        {"clock", ledger::clock_name(l.clock)},
        {"memory",
         {{"kind", ledger::memory_name(l.memory)}, {"page_bytes", l.page_bytes}, {"bytes", l.arena_bytes}}}}},
      {"verdict", ledger::to_string(check.verdict)},
      {"unbalanced", unbalanced},
      {"ports", ports},
      {"workers", workers},
      {"consumers", consumers},
      {"clusters", clusters},
      {"forwarders", forwarders},
      {"senders", senders},
      {"departed",
       {{"count", l.departed},
        {"consumers", ordered_json::array()},
        {"total", taker_json(l.departed_total)}}},
      {"buffers", buffers_json(l.buffers)}};
}

std::string count_text(uint64_t value) {
  return value == layout::kNotCounted ? "?" : fmt::format("{}", value);
}

void print_table(const ledger::Ledger& l, const ledger::Check& check) {
  print("engine {}  pid {}  {} {}  clock {}\n", l.engine, l.pid, l.arena_bytes >> 20, "MiB arena",
        ledger::clock_name(l.clock));
  for (const auto& p : l.ports) {
    print("port {} ({})  {}\n", p.address, p.driver, !p.present ? "gone" : p.up ? "link up" : "link down");
    for (const auto& q : p.queues)
      print("  queue {:<3} received {} = taken {} + missed {} + bad {}{}\n", q.queue, count_text(q.received),
            q.taken, count_text(q.missed), count_text(q.bad),
            q.ended     ? "  (ended)"
            : q.at_rest ? ""
                        : "  (in motion)");
    if (p.queues.size() > 1 && p.received != layout::kNotCounted)
      print("  together  received {} = taken {} + missed {} + bad {}{}\n", p.received, p.taken,
            count_text(p.missed), count_text(p.bad), p.at_rest ? "" : "  (in motion)");
    if (const std::string apart = moderation_text(p); !apart.empty()) print("  interrupts {}\n", apart);
  }
  for (size_t i = 0; i < l.workers.size(); ++i) {
    const auto& w = l.workers[i];
    print("worker {:<4} taken {} = broken {} + filtered {} + no buffer {} + considered {}  (copied {})\n", i,
          w.taken, w.broken, w.filtered, w.no_buffer, w.considered, w.copied);
    print("            considered {} = wanted {} + unwanted {}\n", w.considered, w.wanted, w.unwanted);
    if (w.cut != 0)
      print("            {} frames were longer than a buffer and are cut (a larger mtu= has room)\n", w.cut);
  }
  for (const auto& c : l.consumers)
    print(
        "consumer {} considered {} = not matched {} + offered {}; offered = published {} + dropped {}; in "
        "ring {}\n",
        c.name, c.total.considered, c.total.not_matched, c.total.offered, c.total.published, c.total.dropped,
        c.total.in_ring);
  for (const auto& f : l.forwarders) {
    print(
        "forwarder {} to {}: considered {} = not matched {} + offered {}; offered = published {} + dropped "
        "{}\n",
        l.ports[f.from].address, l.ports[f.to].address, f.total.considered, f.total.not_matched,
        f.total.offered, f.total.published, f.total.dropped);
    print("            taken {} = sent {} + refused {} + pending {}\n", f.taken, f.sent, f.refused,
          f.pending);
  }
  for (const auto& s : l.senders)
    print("sender {} to {}: asked {} = sent {} + refused {} + dropped {} + pending {}; limited {}\n", s.name,
          l.ports[s.port].address, s.asked, s.sent, s.refused, s.dropped, s.pending, s.limited);
  for (const auto& c : l.clusters)
    print(
        "cluster {} ({}, {}) considered {} + twice {} = not matched {} + offered {}; unassigned {}; {} "
        "members\n",
        c.name, kind_text(c), level_text(c), c.total.considered, c.total.twice, c.total.not_matched,
        c.total.offered, c.total.unassigned, members_of(l, c).size());
  if (l.departed != 0)
    print("departed {}  published {} = released {} + reclaimed {}; dropped {}\n", l.departed,
          l.departed_total.published, l.departed_total.released, l.departed_total.reclaimed,
          l.departed_total.dropped);
  print("buffers {} = port {} + free {} + referenced {} + in hand {}\n", l.buffers.total, l.buffers.port,
        l.buffers.free, l.buffers.referenced, l.buffers.in_hand);
  for (const auto& m : check.unbalanced)
    print("UNBALANCED {}: {} ({} and {})\n", m.where, m.sum, m.left, m.right);
  print("verdict: {}\n", ledger::to_string(check.verdict));
}

Result<std::string> only_engine() {
  const auto names = list_engines();
  if (names.size() == 1) return names.front();
  if (names.empty()) return fail(Code::kNotFound, "no engine runs", "start one: ringcap up PORT");
  return fail(Code::kUsage, "more than one engine runs: which?",
              fmt::format("ringcap stat {}", names.front()));
}

// What `--cluster` shows: who has how much of it, and what its largest flows are.
void print_cluster(const ledger::Ledger& l, const ledger::Cluster& c) {
  constexpr size_t kShownFlows = 10;
  const auto members = members_of(l, c);
  print("cluster {}  kind {}  level {}  {} slots  stall {}{}\n", c.name, kind_text(c), level_text(c), c.slots,
        c.stall == layout::Stall::kMove ? fmt::format("move after {} ms", c.stall_ms) : "keep",
        c.filtered ? "  filtered" : "");
  print("frames    considered {} + twice {} = not matched {} + offered {}\n", c.total.considered,
        c.total.twice, c.total.not_matched, c.total.offered);
  print("          offered {} = members {} + departed {} + unassigned {}\n", c.total.offered, c.total.members,
        c.total.departed, c.total.unassigned);
  print("{:<24} {:>7} {:>8} {:>16} {:>8} {:>14}\n", "member", "slots", "share", "frames", "share", "dropped");
  uint64_t sum = 0;
  for (const auto* m : members) sum += m->load();
  for (const auto* m : members) {
    const uint32_t slots = c.slots_of(m->slot);
    print("{:<24} {:>7} {:>7.2f}% {:>16} {:>7.2f}% {:>14}\n", m->member, slots,
          c.slots == 0 ? 0 : 100.0 * slots / c.slots, m->load(),
          sum == 0 ? 0 : 100.0 * static_cast<double>(m->load()) / static_cast<double>(sum), m->total.dropped);
  }
  print(
      "imbalance {:.2f} (the most over the mean, since a member last came or went)  slots moved {}  members "
      "that do not read {}\n",
      imbalance(members), c.moves, c.stalled);
  if (const size_t sided = one_sided(c); sided != 0)
    print(
        "{} of the {} largest flows were seen in one direction only: is the other one on another link or in "
        "another engine?\n",
        sided, c.flows.size());
  print("largest flows (estimated from one frame in {})\n", 16);
  for (size_t i = 0; i < std::min(kShownFlows, c.flows.size()); ++i) {
    const auto& f = c.flows[i];
    print("  {:<6} {} - {}  frames {}  bytes {}{}\n", protocol_text(f.flow),
          address_text(f.flow, f.flow.a, f.flow.port_a), address_text(f.flow, f.flow.b, f.flow.port_b),
          f.frames, f.bytes, f.one_sided() ? "  one direction" : "");
  }
}

Result<const ledger::Cluster*> find_cluster(const ledger::Ledger& l, const std::string& name) {
  const auto found = std::ranges::find(l.clusters, name, &ledger::Cluster::name);
  if (found != l.clusters.end()) return &*found;
  std::vector<std::string> names;
  names.reserve(l.clusters.size());
  for (const auto& c : l.clusters) names.push_back(c.name);
  return fail(Code::kNotFound, fmt::format("engine {} has no cluster {}", l.engine, name),
              names.empty() ? fmt::format("make one: ringcap capture {}@{} ...", l.engine, name)
                            : fmt::format("there is {}", fmt::join(names, ", ")));
}

}  // namespace

int run_stat(const Words& words) {
  std::string name, cluster;
  bool json = false;
  Cli cli(
      {.command = "stat",
       .usage = "[OPTION]... [NAME]",
       .summary = "Shows the ledger of a running engine: where every frame went, and whether the sums hold.",
       .example = "ringcap stat demo --json"});
  cli.options()("cluster", po::value(&cluster)->value_name("CLUSTER"),
                "show this cluster: its members, their load, its largest flows");
  cli.json(&json);
  cli.take(&name, "NAME", true);
  if (auto status = cli.parse(words)) return *status;
  if (name.empty()) {
    auto only = only_engine();
    if (!only) return report(only.error());
    name = *only;
  }
  auto state = client::observe(name);
  if (!state) return report(state.error());
  const auto ledger = ledger::read(*state->at<const layout::Header>(0));
  const auto check = ledger::check(ledger);
  const ledger::Cluster* one = nullptr;
  if (!cluster.empty()) {
    auto found = find_cluster(ledger, cluster);
    if (!found) return report(found.error());
    one = *found;
  }
  if (json)
    // A consumer may call itself anything; what is not UTF-8 is replaced.
    print("{}\n", (one == nullptr ? ledger_json(ledger, check) : cluster_json(ledger, *one))
                      .dump(1, ' ', false, ordered_json::error_handler_t::replace));
  else if (one != nullptr)
    print_cluster(ledger, *one);
  else
    print_table(ledger, check);
  return finish(check.verdict == ledger::Verdict::kUnbalanced ? kExitFault : kExitOk);
}

}  // namespace ringcap::tools

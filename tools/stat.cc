// ringcap stat: an engine's ledger, and whether its sums hold.
#include <spdlog/spdlog.h>

#include <chrono>
#include <ctime>
#include <nlohmann/json.hpp>

#include "capture/base/run_dir.h"
#include "capture/ledger/ledger.h"
#include "libcap/client/client.h"
#include "tools/cli.h"

namespace ringcap::tools {
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
          {"reclaimed", t.reclaimed},   {"late", t.late}};
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
  return {{"port", p.address},    {"driver", p.driver},
          {"present", p.present}, {"link", {{"up", p.up}, {"mbps", p.mbps}}},
          {"mtu", p.mtu},         {"queues", queues}};
}

ordered_json worker_json(const ledger::Worker& w, size_t number) {
  return {{"worker", number},
          {"taken", w.taken},
          {"broken", w.broken},
          {"filtered", w.filtered},
          {"no_buffer", w.no_buffer},
          {"considered", w.considered},
          {"wanted", w.wanted},
          {"unwanted", w.unwanted},
          {"copied", w.copied},
          {"bytes", w.bytes},
          {"rounds", w.rounds},
          {"sleeps", w.sleeps},
          {"wakeups", w.wakeups},
          {"clock_steps", w.clock_steps},
          {"buffers", buffers_json(w.buffers)}};
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

ordered_json ledger_json(const ledger::Ledger& l, const ledger::Check& check) {
  ordered_json unbalanced = ordered_json::array(), ports = ordered_json::array(),
               workers = ordered_json::array(), consumers = ordered_json::array();
  for (const auto& m : check.unbalanced)
    unbalanced.push_back({{"sum", m.sum}, {"where", m.where}, {"left", m.left}, {"right", m.right}});
  for (const auto& p : l.ports) ports.push_back(port_json(p));
  for (size_t i = 0; i < l.workers.size(); ++i) workers.push_back(worker_json(l.workers[i], i));
  for (const auto& c : l.consumers) consumers.push_back(consumer_json(c));
  const uint64_t now = now_ns();
  return {
      {"schema", "ringcap.stat/1"},
      {"time", time_text(now)},
      {"engine",
       {{"name", l.engine},
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
      {"clusters", ordered_json::array()},
      {"forwarders", ordered_json::array()},
      {"senders", ordered_json::array()},
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
  }
  for (size_t i = 0; i < l.workers.size(); ++i) {
    const auto& w = l.workers[i];
    print("worker {:<4} taken {} = broken {} + filtered {} + no buffer {} + considered {}  (copied {})\n", i,
          w.taken, w.broken, w.filtered, w.no_buffer, w.considered, w.copied);
    print("            considered {} = wanted {} + unwanted {}\n", w.considered, w.wanted, w.unwanted);
  }
  for (const auto& c : l.consumers)
    print(
        "consumer {} considered {} = not matched {} + offered {}; offered = published {} + dropped {}; in "
        "ring {}\n",
        c.name, c.total.considered, c.total.not_matched, c.total.offered, c.total.published, c.total.dropped,
        c.total.in_ring);
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

}  // namespace

int run_stat(const Words& words) {
  std::string name;
  bool json = false;
  Cli cli(
      {.command = "stat",
       .usage = "[OPTION]... [NAME]",
       .summary = "Shows the ledger of a running engine: where every frame went, and whether the sums hold.",
       .example = "ringcap stat demo --json"});
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
  if (json)
    // A consumer may call itself anything; what is not UTF-8 is replaced.
    print("{}\n", ledger_json(ledger, check).dump(1, ' ', false, ordered_json::error_handler_t::replace));
  else
    print_table(ledger, check);
  return finish(check.verdict == ledger::Verdict::kUnbalanced ? kExitFault : kExitOk);
}

}  // namespace ringcap::tools

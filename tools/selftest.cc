// ringcap selftest: tries everything that the driver of a NIC relies on, and says what came of it.
#include <csignal>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "capture/base/run_dir.h"
#include "capture/base/units.h"
#include "capture/ledger/ledger.h"
#include "capture/memory/arena.h"
#include "capture/memory/hugepages.h"
#include "driver/vfio/function.h"
#include "libcap/client/client.h"
#include "tools/cli.h"
#include "tools/selftest_report.h"

namespace ringcap::tools {
namespace {

namespace po = boost::program_options;

volatile std::sig_atomic_t stopped = 0;
void on_signal(int) { stopped = 1; }

struct SelfTestWords {
  std::string address;
  Bytes arena{uint64_t{16} << 20};
  Duration link_wait{5'000'000'000};
  bool json = false, mac = false;
};

// The NIC's name, and the command that frees it.
Result<void> not_used_by_an_engine(const std::string& address) {
  for (const std::string& name : list_engines()) {
    const auto state = client::observe(name);
    if (!state) continue;  // it has just ended, or is another user's: opening the NIC says the rest
    const auto ledger = ledger::read(*state->at<const layout::Header>(0));
    for (const ledger::Port& port : ledger.ports) {
      if (port.address != "vfio:" + address || !port.present) continue;
      return fail(Code::kSystem, fmt::format("the engine {} uses {}", name, address), "ringcap down " + name);
    }
  }
  return {};
}

// In hugepages, as an engine's; if there are none, in ordinary pages, which the NIC cannot tell.
Result<memory::Arena> make_arena(uint64_t bytes, int node, Bench& bench) {
  memory::ArenaOptions options{.bytes = bytes, .node = node, .engine = "selftest"};
  auto arena = memory::Arena::create(options);
  if (!arena) {
    options.kind = layout::MemoryKind::kPlain;
    const std::string why = arena.error().text;
    arena = memory::Arena::create(options);
    if (arena) bench.memory = fmt::format("{} in ordinary pages ({})", format_bytes(arena->bytes()), why);
  } else {
    bench.memory = fmt::format("{} in pages of {}", format_bytes(arena->bytes()),
                               memory::page_name(arena->page_bytes()));
  }
  return arena;
}

Result<void> check_words(const SelfTestWords& words) {
  if (words.arena.value >= selftest::kLeastArena) return {};
  return fail(Code::kUsage,
              fmt::format("--arena {}: too small for the test", format_bytes(words.arena.value)),
              fmt::format("--arena 16M, or at least {}M", selftest::kLeastArena >> 20));
}

int test(const SelfTestWords& words) {
  if (const auto fine = check_words(words); !fine) return report(fine.error());
  const Result<Nic> nic = find_nic({}, words.address);
  if (!nic) return report(nic.error());
  if (const auto is_free = not_used_by_an_engine(nic->address); !is_free) return report(is_free.error());
  Bench bench = examine_bench({}, *nic);
  // Before anything is printed: not bound, or in use.
  if (const auto function = vfio::VfioFunction::open(nic->address); !function)
    return report(function.error());
  const auto arena = make_arena(words.arena.value, nic->node, bench);
  if (!arena) return report(arena.error());

  if (!words.json) print_text(bench_text(bench));
  selftest::Settings settings{.open = [&] { return vfio::VfioFunction::open(nic->address); },
                              .arena = arena->data(),
                              .arena_bytes = arena->bytes(),
                              .link_wait_ms = static_cast<uint32_t>(words.link_wait.ns / 1'000'000)};
  settings.stopped = [] { return stopped != 0; };
  if (!words.json) {
    settings.tell = [](const selftest::Check& check) {
      print_text(check_text(check));
      std::fflush(stdout);  // the next part may take a while
    };
  }
  const auto done = selftest::run(settings);
  if (!done) return report(done.error());
  const bool complete = stopped == 0;
  print_text(words.json ? selftest_json(bench, *done, complete, words.mac).dump() + "\n"
                        : verdict_text(*done, complete, words.mac));
  return finish(has_failed(*done) ? kExitFault : complete ? kExitOk : kExitError);
}

void handle_signals() {
  struct sigaction action{};
  action.sa_handler = on_signal;
  for (const int number : {SIGINT, SIGTERM, SIGHUP}) ::sigaction(number, &action, nullptr);
}

}  // namespace

int run_selftest(const Words& words) {
  SelfTestWords own;
  Cli cli(
      {.command = "selftest",
       .usage = "[OPTION]... ADDRESS",
       .summary =
           "Tries what the driver of a NIC relies on: reset, registers, frames of all lengths through its "
           "loopback, every buffer, counters, interrupts, link; nothing is sent to the wire. Exit status 7: "
           "a part failed.",
       .example = "ringcap bind 0000:03:00.0\nringcap selftest 0000:03:00.0"});
  cli.options()("arena", po::value(&own.arena)->value_name("BYTES"),
                "memory that the NIC writes to and reads, 16M if not given")(
      "link-wait", po::value(&own.link_wait)->value_name("TIME"),
      "how long to wait for link, 5s if not given")("mac", po::bool_switch(&own.mac),
                                                    "show the NIC's own address whole");
  cli.json(&own.json);
  cli.take(&own.address, "ADDRESS");
  if (auto status = cli.parse(words)) return *status;
  handle_signals();
  return test(own);
}

}  // namespace ringcap::tools

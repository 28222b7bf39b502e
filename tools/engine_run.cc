#include "tools/engine_run.h"

#include <spdlog/spdlog.h>

#include <csignal>

#include "tools/privileges.h"

namespace ringcap::tools {
namespace {

engine::Engine* running = nullptr;  // for the signal handler; set before the handler is

void on_signal(int) { running->request_stop(); }

void mask_signals(int how) {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGINT);
  sigaddset(&set, SIGTERM);
  ::sigprocmask(how, &set, nullptr);
}

void handle_signals(engine::Engine& engine) {
  running = &engine;
  struct sigaction action{};
  action.sa_handler = on_signal;
  ::sigaction(SIGINT, &action, nullptr);
  ::sigaction(SIGTERM, &action, nullptr);
  action.sa_handler = SIG_IGN;
  ::sigaction(SIGPIPE, &action, nullptr);
  mask_signals(SIG_UNBLOCK);
}

}  // namespace

void hold_signals() { mask_signals(SIG_BLOCK); }

int run_engine(const MadeEngine& made, const RunAs& as) {
  engine::Engine& engine = *made.engine;
  if (auto became = become_user(as.user, as.asked); !became) return report(became.error());
  handle_signals(engine);
  spdlog::info("engine {} is up; see it: ringcap stat {}", engine.name(), engine.name());
  if (auto ran = engine.run(); !ran) return report(ran.error());
  const PortLosses losses = port_losses(engine.header());
  spdlog::info("engine {} has ended; lost before the consumers: {} by the ports, {} without a buffer",
               engine.name(),
               losses.missed_known ? fmt::format("{} missed", losses.missed) : "a number not counted",
               losses.no_buffer);
  if (made.source_failed()) return finish(kExitError);
  return finish(losses.missed + losses.no_buffer != 0 ? kExitLost : kExitOk);
}

}  // namespace ringcap::tools

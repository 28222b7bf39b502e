// Engine: one running capture of one or more ports, with a name. Made, started and ended by one thread
// (a tool's main thread); the control thread and the workers are its own. Everything it holds (memory,
// devices, sockets, lock) goes when it is destroyed, and with the process if that is killed.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "capture/base/error.h"
#include "capture/base/fd.h"
#include "capture/engine/control.h"
#include "capture/engine/forwarders.h"
#include "capture/engine/state.h"
#include "capture/engine/worker.h"
#include "capture/filter/program.h"
#include "capture/memory/arena.h"
#include "capture/port/port.h"

namespace ringcap::engine {

struct EngineOptions {
  std::string name;
  memory::ArenaOptions arena;
  uint32_t ring_slots = 16384;  // default per consumer and worker
  Poll poll = Poll::kAdaptive;
  std::vector<int> cpus;          // of the workers, in turn; empty: wherever the kernel likes
  std::string group = "ringcap";  // may attach; ignored where there is no such group
  uint32_t wait_consumers = 0;    // the sources start when so many have attached
  bool until_end = false;         // end when the sources have ended and all consumers have left
  bool listen = true;             // false: consumers of this process only
  uint32_t filter_budget = 256;
  std::optional<HashKey> hash_key;       // empty: a random one
  Filter filter;                         // empty: every frame
  std::vector<ClusterOptions> clusters;  // declared from the start
  std::vector<Forward> forwards;         // by number of the port
  std::optional<SendOptions> send;       // empty: nobody may send
  // Called by the control thread: when a descriptor turns readable, when a port's link changed.
  std::vector<Watch> watches;
  std::function<void(uint32_t port, const Link& link)> on_link;
};

class Engine {
 public:
  // Takes the lock, the memory and the ports; nothing runs yet. On an error everything is as before.
  static Result<std::unique_ptr<Engine>> create(EngineOptions options,
                                                std::vector<std::unique_ptr<Port>> ports);
  ~Engine();

  // A client's end of a control socket inside this process; before run().
  Result<Fd> connect_inside() { return control_->connect_inside(); }

  // Runs the workers and, in the calling thread, the control thread's loop, until request_stop(). Every
  // frame that the ports gave is then accounted for, and the ledger stays readable for who has it mapped.
  Result<void> run();
  // Any thread, also in a signal handler.
  void request_stop() { control_->request_stop(); }
  // Control thread (a Watch): what a forward sends from the next plan on; an empty filter: everything.
  void set_forward_filter(uint32_t forward, Filter filter) {
    control_->set_forward_filter(forward, std::move(filter));
  }

  layout::Header& header() { return state_.header(); }
  const memory::Arena& arena() const { return arena_; }
  const std::string& name() const { return options_.name; }

 private:
  explicit Engine(EngineOptions options) : options_(std::move(options)) {}
  Result<void> open(std::vector<std::unique_ptr<Port>> ports);
  Result<void> take_name();
  Result<void> divide_arena();
  Result<void> make_state();
  Result<void> make_workers();
  Result<void> make_forwarders();
  Result<void> make_control();
  std::vector<Port*> port_pointers() const;
  Result<Fd> listen();

  EngineOptions options_;
  Fd lock_;
  std::string socket_path_;
  std::vector<std::unique_ptr<Port>> ports_;
  std::vector<ReceiveQueue*> queues_;  // by source
  std::vector<StateSource> sources_;
  memory::Arena arena_;
  std::vector<Region> regions_;       // by worker
  std::vector<Region> send_regions_;  // by transmit queue; empty where nobody may send
  HashKey hash_key_;
  State state_;
  Fd events_fd_;
  std::vector<std::unique_ptr<Worker>> workers_;
  uint64_t forward_slots_ = 0;  // of each ring of a forwarder
  std::unique_ptr<Forwarders> forwarders_;
  std::unique_ptr<Control> control_;
};

}  // namespace ringcap::engine

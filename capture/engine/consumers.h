// Consumers: who is attached, what they were granted, and what has not come back yet. Control thread
// only; what workers need of a consumer is its TakerRings, which live until every worker let go.
//
// A consumer's life:
//   from      to        why
//   -         joining   a valid hello; the next plan names its rings
//   joining   attached  all workers have seen that plan; the descriptors are sent
//   joining,  leaving   its socket closed, it said detach, or it wrote nonsense into its control area;
//   attached            the next plan names its rings no longer
//   leaving   -         all workers have reclaimed what it held; slot, slots and memory are free again
#pragma once

#include <sys/socket.h>

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "capture/base/error.h"
#include "capture/base/fd.h"
#include "capture/engine/plan.h"
#include "capture/engine/state.h"
#include "capture/engine/taker.h"
#include "capture/memory/shared_memory.h"
#include "capture/message/message.h"

namespace ringcap::engine {

struct Consumer {
  uint64_t id = 0;
  uint32_t slot = 0;
  uint32_t ring_slots = 0;
  std::string name;     // "tcpdump[4242]"
  Fd socket;            // workers wake through it, so it stays open until they let go
  bool closed = false;  // the other side is gone
  memory::SharedMemory rings;
  memory::SharedMemory control;
  std::unique_ptr<filter::Program> filter;  // evaluated by the workers
  layout::FilterPlace filter_place = layout::FilterPlace::kNone;
  std::vector<std::unique_ptr<TakerRing>> taker_rings;  // by worker
  uint64_t joins_with_plan = 0;
  bool attached = false;
  bool leaving = false;
  uint32_t held_by = 0;  // workers that have not let go
  uint64_t dropped_logged = 0;
  uint64_t logged_at_ns = 0;
};

struct ConsumerLimits {
  uint32_t workers = 0;
  uint64_t slots = 0;  // per worker, for all rings together
  uint32_t default_ring_slots = 16384;
  uint32_t filter_budget = 256;  // instructions; a longer filter is the library's to evaluate
  uint32_t buffer_bytes = 0;     // for the message about a shortage
  bool arena_sealed = true;
};

class Consumers {
 public:
  Consumers(State& state, ConsumerLimits limits, std::string engine);

  // Grants what `hello` asks for, or says why not. `peer`: who connected (SO_PEERCRED); `inside`: through
  // a socketpair of this process. The consumer joins with the next plan.
  Result<Consumer*> admit(const message::Hello& hello, const ucred& peer, bool inside, Fd socket);
  Consumer* find(uint64_t id);
  // The next plan will not name it. False if it was leaving already.
  bool leave(Consumer& consumer);
  // A worker let go of consumer `id`; true when it was the last one (the consumer is gone then).
  // Its memory stays until free_gone(): a plan that a worker has not looked at yet may still name its rings.
  bool let_go(uint64_t id);
  // Every worker has seen the newest plan: nobody will look at a consumer that is gone any more.
  void free_gone() { gone_.clear(); }
  // The rings of all that have not left, by worker.
  std::vector<std::vector<TakerRing*>> plan_rings() const;
  size_t count() const { return consumers_.size(); }
  void for_each(const std::function<void(Consumer&)>& visit);

 private:
  Result<uint32_t> grant_slots(const message::Hello& hello) const;
  Result<uint32_t> free_slot() const;
  Result<void> make_memory(Consumer& consumer);
  Result<void> take_filter(const message::Hello& hello, Consumer& consumer) const;
  void make_rings(Consumer& consumer);
  void write_entry(const Consumer& consumer, const message::Hello& hello, const ucred& peer);

  State& state_;
  ConsumerLimits limits_;
  std::string engine_;
  std::map<uint64_t, std::unique_ptr<Consumer>> consumers_;
  std::vector<std::unique_ptr<Consumer>> gone_;
  uint64_t next_id_ = 1;
  uint64_t slots_granted_ = 0;
};

}  // namespace ringcap::engine

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
#include "capture/engine/clusters.h"
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
  std::string cluster;  // "": none
  Fd socket;            // workers wake through it, so it stays open until they let go
  bool closed = false;  // the other side is gone
  memory::SharedMemory rings;
  memory::SharedMemory control;
  TakerFilter filter;    // evaluated by the workers
  Seat* seat = nullptr;  // in a cluster; the clusters' while it has not left
  layout::FilterPlace filter_place = layout::FilterPlace::kNone;
  std::vector<std::unique_ptr<TakerRing>> taker_rings;  // by worker
  uint64_t joins_with_plan = 0;
  uint64_t missing_from_plan = 0;  // the first plan that does not name it any more; 0: there is none yet
  uint64_t filter_with_plan = 0;   // the plan that brings the filter it asked for last; 0: told already
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
  uint32_t ports = 1;
  uint32_t forwards = 0;  // the last places of the table are theirs
};

class Consumers {
 public:
  Consumers(State& state, ConsumerLimits limits, std::string engine);

  // Grants what `hello` asks for, or says why not. `peer`: who connected (SO_PEERCRED); `inside`: through
  // a socketpair of this process. The consumer joins with the next plan.
  Result<Consumer*> admit(const message::Hello& hello, const ucred& peer, bool inside, Fd socket);
  Consumer* find(uint64_t id);
  // The next plan will not name it. False if it was leaving already.
  bool leave(Consumer& consumer, layout::Detached why = layout::Detached::kNot);
  // A worker let go of consumer `id`; true when it was the last one (the consumer is gone then).
  // Its memory stays until free_gone(): a plan that a worker has not looked at yet may still name its rings.
  bool let_go(uint64_t id);
  // Every worker goes by plan `seen`: nobody will look any more at a consumer that is gone and that neither
  // it nor a later one names. (A worker may let go of a consumer that misbehaved while its plan still names
  // it.)
  void free_gone(uint64_t seen);
  // Another filter for an attached consumer, from the next plan on. Errors: kFilter.
  Result<void> set_filter(Consumer& consumer, const message::SetFilter& wanted);
  // The rings and filters of all that have not left, and the clusters.
  void fill(Plan& plan);
  Clusters& clusters() { return clusters_; }
  size_t count() const { return consumers_.size(); }
  void for_each(const std::function<void(Consumer&)>& visit);

 private:
  Result<uint32_t> grant_slots(const message::Hello& hello) const;
  Result<uint32_t> free_slot() const;
  Result<void> make_memory(Consumer& consumer);
  Result<void> take_filter(const message::SetFilter& wanted, Consumer& consumer) const;
  Result<void> take_seat(const message::Hello& hello, const ucred& peer, Consumer& consumer);
  void make_rings(Consumer& consumer);
  void write_entry(const Consumer& consumer, const ucred& peer);

  State& state_;
  ConsumerLimits limits_;
  std::string engine_;
  Clusters clusters_;
  std::map<uint64_t, std::unique_ptr<Consumer>> consumers_;
  std::vector<std::unique_ptr<Consumer>> gone_;
  uint64_t next_id_ = 1;
  uint64_t slots_granted_ = 0;
};

}  // namespace ringcap::engine

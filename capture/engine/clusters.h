// Clusters: the groups of consumers that share an engine's frames, and who serves which slots. Control thread
// only. Workers see what it builds into the plan; readers see the state's ClusterEntries.
//
// A cluster is made by the engine's options or by the first consumer that joins it, and stays until the
// engine ends. A consumer that joins takes a seat: a member name (its own, or PROGRAM-N) and a number. The
// seat is given back when the consumer leaves; its slots move with the next plan.
//
// A member's life, with `stall=move`:
//   from      to        why
//   -         serving   joined
//   serving   stalled   its ring had frames and its cursor stood still for stall_ms; others take its slots
//   stalled   serving   its cursor moved: it gets its own slots again
//   any       -         its consumer left
// The last one that serves keeps its slots: there is nobody to move them to.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "capture/base/error.h"
#include "capture/cluster/kind.h"
#include "capture/cluster/slots.h"
#include "capture/engine/plan.h"
#include "capture/engine/state.h"

namespace ringcap::engine {

struct ClusterOptions {
  std::string name;
  cluster::Kind kind = cluster::Kind::kFlow5;
  cluster::Level level = cluster::Level::kInner;
  Filter filter;  // empty: every frame
  layout::Stall stall = layout::Stall::kKeep;
  uint32_t stall_ms = 1000;
};

// What a consumer holds of a cluster.
struct Seat {
  uint32_t cluster = 0;
  uint8_t number = cluster::kNobody;  // while it serves
  std::string member;
  uint16_t consumer = 0;  // its place in the state's table
  bool stalled = false;
  uint64_t cursor = 0;            // of all its rings together, when it last moved
  uint64_t moved_at_ns = 0;       // and when that was
  std::vector<TakerRing*> rings;  // by worker
  TakerFilter filter;             // its own
};

// What joins: as a hello says it.
struct Joining {
  std::string cluster, member, program;
  std::optional<cluster::Kind> kind = {};  // that it insists on
  std::optional<cluster::Level> level = {};
  uint32_t uid = 0;
  uint16_t consumer = 0;
};

class Clusters {
 public:
  // `queues`, `ports`: of the engine, for the kinds that balance by them.
  Clusters(State& state, uint32_t queues, uint32_t ports) : state_(state), queues_(queues), ports_(ports) {}

  // Before the engine runs. Errors: a name twice, too many.
  Result<void> declare(const ClusterOptions& options, uint32_t uid);
  // Takes a seat, which stays where it is until leave(). Errors: kPermission (somebody else's cluster),
  // kUsage (another kind, a member name that is taken), kSystem (no room).
  Result<Seat*> join(const Joining& joining);
  void leave(Seat* seat);
  // kNotFound: there is no such cluster, and which there are.
  Result<void> set_filter(const std::string& name, Filter filter, uint32_t uid);

  // Looks which members stall or have come to themselves; true if the table changed.
  bool check_stalls(uint64_t now_ns);
  // Whether any cluster wants to be looked at, and how often.
  std::optional<uint32_t> shortest_stall_ms() const;

  // The plan's part. `filter_index` puts a filter among the plan's and says where.
  std::vector<PlanCluster> plan(uint32_t workers, const std::function<uint32_t(const Filter&)>& filter_index);

 private:
  struct Cluster {
    uint32_t number = 0;
    ClusterOptions options;
    std::optional<uint32_t> uid;  // nobody's: the engine's own, for whoever may attach
    cluster::Slots slots;
    std::vector<std::unique_ptr<Seat>> seats;
  };

  Result<Cluster*> make(const ClusterOptions& options, std::optional<uint32_t> uid);
  Cluster* find(const std::string& name);
  Result<Cluster*> find_or_make(const Joining& joining);
  static Result<void> agree(const Cluster& cluster, const Joining& joining);
  static Result<std::string> member_name(const Cluster& cluster, const Joining& joining);
  bool check_stall(Cluster& cluster, Seat& seat, uint64_t now_ns);
  static uint32_t serving(const Cluster& cluster);
  void note_loads(const Cluster& cluster);
  void write_entry(const Cluster& cluster);

  State& state_;
  uint32_t queues_;
  uint32_t ports_;
  std::vector<std::unique_ptr<Cluster>> clusters_;
};

}  // namespace ringcap::engine

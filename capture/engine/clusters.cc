#include "capture/engine/clusters.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <cctype>

#include "capture/base/names.h"

namespace ringcap::engine {
namespace {

constexpr uint32_t kRoot = 0;

// A program's name as a member's: what a name cannot hold becomes '-', and "-255" still fits behind it.
std::string as_name(const std::string& program) {
  std::string name = program.substr(0, layout::kNameBytes - 6);
  std::ranges::replace_if(
      name, [](unsigned char c) { return std::isalnum(c) == 0 && c != '.' && c != '_' && c != '-'; }, '-');
  return name.empty() || std::isalnum(static_cast<unsigned char>(name[0])) == 0 ? "x" + name : name;
}

std::string balance_text(cluster::Kind kind, cluster::Level level) {
  return fmt::format("kind {}, level {}", cluster::kind_name(kind), cluster::level_name(level));
}

}  // namespace

Clusters::Cluster* Clusters::find(const std::string& name) {
  const auto found = std::ranges::find(clusters_, name, [](const auto& c) { return c->options.name; });
  return found == clusters_.end() ? nullptr : found->get();
}

Result<Clusters::Cluster*> Clusters::make(const ClusterOptions& options, std::optional<uint32_t> uid) {
  if (auto valid = check_name("cluster", options.name); !valid) return std::unexpected(valid.error());
  if (clusters_.size() == layout::kMaxClusters)
    return fail(Code::kSystem, fmt::format("there are {} clusters already: no more fit", clusters_.size()),
                "join one that there is (ringcap stat shows them), or start another engine");
  const uint32_t slots = options.kind == cluster::Kind::kQueue  ? queues_
                         : options.kind == cluster::Kind::kPort ? ports_
                                                                : cluster::kSlots;
  clusters_.push_back(std::make_unique<Cluster>(Cluster{.number = static_cast<uint32_t>(clusters_.size()),
                                                        .options = options,
                                                        .uid = uid,
                                                        .slots = cluster::Slots(slots),
                                                        .seats = {}}));
  write_entry(*clusters_.back());
  return clusters_.back().get();
}

Result<void> Clusters::declare(const ClusterOptions& options, uint32_t) {
  if (find(options.name) != nullptr)
    return fail(Code::kUsage, fmt::format("cluster {} is declared twice", options.name));
  if (auto made = make(options, std::nullopt); !made) return std::unexpected(made.error());
  return {};
}

Result<Clusters::Cluster*> Clusters::find_or_make(const Joining& j) {
  Cluster* cluster = find(j.cluster);
  if (cluster != nullptr) {
    if (auto agreed = agree(*cluster, j); !agreed) return std::unexpected(agreed.error());
    return cluster;
  }
  ClusterOptions options;
  options.name = j.cluster;
  options.kind = j.kind.value_or(options.kind);
  options.level = j.level.value_or(options.level);
  return make(options, j.uid);
}

Result<void> Clusters::agree(const Cluster& cluster, const Joining& j) {
  const ClusterOptions& o = cluster.options;
  if (cluster.uid && *cluster.uid != j.uid && j.uid != kRoot)
    return fail(
        Code::kPermission,
        fmt::format("cluster {} belongs to the user with the number {}", o.name, *cluster.uid),
        "join it as that user, take another name, or let the engine declare it (ringcap up --cluster)");
  const cluster::Kind kind = j.kind.value_or(o.kind);
  const cluster::Level level = j.level.value_or(o.level);
  if (kind == o.kind && level == o.level) return {};
  return fail(Code::kUsage,
              fmt::format("cluster {} balances by {}, and {} was asked for", o.name,
                          balance_text(o.kind, o.level), balance_text(kind, level)),
              "ask for the same, or take another cluster's name");
}

Result<std::string> Clusters::member_name(const Cluster& cluster, const Joining& j) {
  const auto taken = [&](const std::string& name) {
    return std::ranges::any_of(cluster.seats, [&](const auto& seat) { return seat->member == name; });
  };
  if (!j.member.empty()) {
    if (auto valid = check_name("member", j.member); !valid) return std::unexpected(valid.error());
    if (taken(j.member))
      return fail(Code::kUsage, fmt::format("cluster {} has a member {} already", j.cluster, j.member),
                  fmt::format("take another name, or none: @{}", j.cluster));
    return j.member;
  }
  const std::string program = as_name(j.program);
  for (uint32_t n = 0;; ++n)
    if (auto name = fmt::format("{}-{}", program, n); !taken(name)) return name;
}

Result<Seat*> Clusters::join(const Joining& j) {
  auto found = find_or_make(j);
  if (!found) return std::unexpected(found.error());
  Cluster& cluster = **found;
  auto member = member_name(cluster, j);
  if (!member) return std::unexpected(member.error());
  const uint8_t number = cluster.slots.join(*member);
  if (number == cluster::kNobody)
    return fail(Code::kSystem,
                fmt::format("cluster {} has {} members already", j.cluster, cluster::kMaxMembers));
  auto seat = std::make_unique<Seat>();
  seat->cluster = cluster.number;
  seat->number = number;
  seat->member = *member;
  seat->consumer = j.consumer;
  cluster.seats.push_back(std::move(seat));
  write_entry(cluster);
  spdlog::info("{} joined cluster {}: {} of {} slots", *member, j.cluster, cluster.slots.served_by(number),
               cluster.slots.count());
  return cluster.seats.back().get();
}

void Clusters::leave(Seat* seat) {
  Cluster& cluster = *clusters_[seat->cluster];
  if (seat->number != cluster::kNobody) cluster.slots.leave(seat->number);
  std::erase_if(cluster.seats, [&](const auto& s) { return s.get() == seat; });
  write_entry(cluster);
}

Result<void> Clusters::set_filter(const std::string& name, Filter filter, uint32_t uid) {
  Cluster* cluster = find(name);
  if (cluster == nullptr) {
    std::vector<std::string> names;
    names.reserve(clusters_.size());
    for (const auto& c : clusters_) names.push_back(c->options.name);
    return fail(Code::kNotFound, fmt::format("there is no cluster {}", name),
                names.empty() ? "this engine has none" : fmt::format("there is {}", fmt::join(names, ", ")));
  }
  if (uid != kRoot && (!cluster->uid || *cluster->uid != uid))
    return fail(Code::kPermission, fmt::format("only its owner and root may change cluster {}", name),
                "use sudo");
  cluster->options.filter = std::move(filter);
  write_entry(*cluster);
  return {};
}

// ---- stalls --------------------------------------------------------------------------------------

uint32_t Clusters::serving(const Cluster& cluster) { return cluster.slots.members(); }

// Cursors are the consumer's words: only whether they change is of interest.
bool Clusters::check_stall(Cluster& cluster, Seat& seat, uint64_t now_ns) {
  uint64_t cursor = 0, in_ring = 0;
  for (size_t w = 0; w < seat.rings.size(); ++w) {
    cursor += seat.rings[w]->control->cursor.load(std::memory_order_relaxed);
    in_ring += layout::taker_block(state_.header(), state_.worker(static_cast<uint32_t>(w)), seat.consumer)
                   .in_ring.load(std::memory_order_relaxed);
  }
  const bool moved = cursor != seat.cursor || (in_ring == 0 && !seat.stalled);
  seat.cursor = cursor;
  if (moved || seat.moved_at_ns == 0) seat.moved_at_ns = now_ns;
  if (seat.stalled) {
    if (!moved) return false;
    seat.stalled = false;
    seat.number = cluster.slots.join(seat.member);
    spdlog::info("member {} of cluster {} reads again: it has its slots back", seat.member,
                 cluster.options.name);
    return true;
  }
  if (now_ns - seat.moved_at_ns < uint64_t{cluster.options.stall_ms} * 1'000'000 || serving(cluster) < 2)
    return false;
  cluster.slots.leave(seat.number);
  seat.number = cluster::kNobody;
  seat.stalled = true;
  spdlog::warn("member {} of cluster {} does not read: others serve its slots", seat.member,
               cluster.options.name);
  return true;
}

bool Clusters::check_stalls(uint64_t now_ns) {
  bool changed = false;
  for (const auto& cluster : clusters_) {
    if (cluster->options.stall != layout::Stall::kMove) continue;
    bool here = false;
    for (const auto& seat : cluster->seats) here |= check_stall(*cluster, *seat, now_ns);
    if (here) write_entry(*cluster);
    changed |= here;
  }
  return changed;
}

std::optional<uint32_t> Clusters::shortest_stall_ms() const {
  std::optional<uint32_t> shortest;
  for (const auto& c : clusters_)
    if (c->options.stall == layout::Stall::kMove)
      shortest = std::min(shortest.value_or(c->options.stall_ms), c->options.stall_ms);
  return shortest;
}

// ---- what others see -----------------------------------------------------------------------------

std::vector<PlanCluster> Clusters::plan(uint32_t workers,
                                        const std::function<uint32_t(const Filter&)>& filter_index) {
  std::vector<PlanCluster> plans;
  for (const auto& cluster : clusters_) {
    PlanCluster& p = plans.emplace_back();
    p.number = cluster->number;
    p.kind = cluster->options.kind;
    p.level = cluster->options.level;
    p.filter = filter_index(cluster->options.filter);
    p.slot_count = cluster->slots.count();
    std::ranges::copy(cluster->slots.table(), p.slots.begin());
    p.members.resize(workers);
    for (const auto& seat : cluster->seats) {
      if (seat->number == cluster::kNobody) continue;  // stalled
      const uint32_t incoming = filter_index(seat->filter.incoming);
      const uint32_t outgoing = filter_index(seat->filter.outgoing);
      for (uint32_t w = 0; w < workers; ++w) {
        auto& members = p.members[w];
        if (members.size() <= seat->number) members.resize(seat->number + size_t{1});
        members[seat->number] = {seat->rings[w], incoming, outgoing};
      }
      if (cluster->slots.served_by(seat->number) != 0) p.turns.push_back(seat->number);
    }
  }
  return plans;
}

// From here on the members' load is counted anew: what they had by another table says nothing of this one.
void Clusters::note_loads(const Cluster& cluster) {
  for (const auto& seat : cluster.seats) {
    uint64_t considered = 0;
    for (uint32_t w = 0; w < state_.header().workers.count; ++w)
      considered += layout::taker_block(state_.header(), state_.worker(w), seat->consumer)
                        .considered.load(std::memory_order_relaxed);
    state_.consumer(seat->consumer).considered_before.store(considered, std::memory_order_relaxed);
  }
}

void Clusters::write_entry(const Cluster& cluster) {
  note_loads(cluster);
  auto& e = state_.cluster(cluster.number);
  const layout::SequenceWrite writing(e.sequence);
  e.used = 1;
  e.kind = static_cast<uint32_t>(cluster.options.kind);
  e.level = static_cast<uint32_t>(cluster.options.level);
  e.stall = static_cast<uint32_t>(cluster.options.stall);
  e.stall_ms = cluster.options.stall_ms;
  e.filtered = cluster.options.filter ? 1 : 0;
  e.uid = cluster.uid.value_or(~uint32_t{0});
  e.members = static_cast<uint32_t>(cluster.seats.size());
  e.stalled = static_cast<uint32_t>(
      std::ranges::count_if(cluster.seats, [](const auto& seat) { return seat->stalled; }));
  e.slots = cluster.slots.count();
  e.moves = cluster.slots.moves();
  put_name(e.name, sizeof e.name, cluster.options.name);
  std::array<uint16_t, cluster::kMaxMembers + 1> consumer_of;
  consumer_of.fill(layout::kNoConsumer);
  for (const auto& seat : cluster.seats)
    if (seat->number != cluster::kNobody) consumer_of[seat->number] = seat->consumer;
  for (uint32_t slot = 0; slot < cluster.slots.count(); ++slot)
    e.consumers[slot] = consumer_of[cluster.slots.table()[slot]];
}

}  // namespace ringcap::engine

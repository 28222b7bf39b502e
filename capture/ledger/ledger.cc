#include "capture/ledger/ledger.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "capture/layout/view.h"

namespace ringcap::ledger {
namespace {

using layout::entry;

uint64_t get(const std::atomic<uint64_t>& word) { return word.load(std::memory_order_relaxed); }

template <size_t N>
std::string text(const char (&field)[N]) {
  return {field, strnlen(field, N)};
}

bool inside(const layout::Table& table, uint64_t bytes, size_t entry_bytes) {
  return table.offset <= bytes && table.stride >= entry_bytes && table.count <= layout::kMaxConsumers * 4 &&
         uint64_t{table.stride} * table.count <= bytes - table.offset;
}

Taker copy_taker(const layout::TakerBlock& b) {
  return {.considered = get(b.considered),
          .not_matched = get(b.not_matched),
          .offered = get(b.offered),
          .published = get(b.published),
          .dropped = get(b.dropped),
          .released = get(b.released),
          .in_ring = get(b.in_ring),
          .reclaiming = get(b.reclaiming),
          .reclaimed = get(b.reclaimed),
          .late = get(b.late),
          .filter_ns = get(b.filter_ns),
          .cluster = static_cast<uint32_t>(get(b.cluster))};
}

ClusterCounts copy_cluster(const layout::ClusterBlock& b) {
  return {.considered = get(b.considered),
          .not_matched = get(b.not_matched),
          .offered = get(b.offered),
          .twice = get(b.twice),
          .unassigned = get(b.unassigned),
          .members = get(b.members),
          .departed = get(b.departed),
          .filter_ns = get(b.filter_ns)};
}

Cluster read_cluster(const layout::Header& header, uint32_t number) {
  const auto& e = entry<layout::ClusterEntry>(header, header.clusters, number);
  Cluster cluster;
  layout::read_sequenced(e.sequence, [&] {
    cluster.number = number;
    cluster.name = text(e.name);
    cluster.kind = e.kind;
    cluster.level = e.level;
    cluster.stall = static_cast<layout::Stall>(e.stall);
    cluster.stall_ms = e.stall_ms;
    cluster.uid = e.uid;
    cluster.members = e.members;
    cluster.stalled = e.stalled;
    cluster.slots = std::min(e.slots, layout::kClusterSlots);
    cluster.filtered = e.filtered != 0;
    cluster.moves = e.moves;
    cluster.consumers.assign(e.consumers, e.consumers + cluster.slots);
  });
  return cluster;
}

// A worker's sample of a cluster's flows. What is torn by a write at the same time is wrong once, in a list
// of estimates.
void read_flows(const layout::Header& header, const layout::WorkerEntry& worker, Cluster& cluster) {
  auto& block = layout::cluster_block(header, worker, cluster.number);
  const uint64_t weight = get(block.flow_weight);
  for (uint32_t i = 0; i < layout::kTrackedFlows; ++i) {
    uint64_t words[layout::kTrackedFlowWords];
    const std::atomic<uint64_t>* const from = layout::tracked_flow(block, i);
    for (size_t w = 0; w < layout::kTrackedFlowWords; ++w) words[w] = get(from[w]);
    Flow flow;
    std::memcpy(&flow.flow, words, sizeof words);
    flow.frames = (uint64_t{flow.flow.a_to_b} + flow.flow.b_to_a) * weight;
    flow.bytes = flow.flow.bytes * weight;
    flow.error = flow.flow.inherited * weight;
    if (flow.frames != 0) cluster.flows.push_back(flow);
  }
}

// A flow that several workers saw (its directions, where the NIC separates them) is one.
void join_flows(Cluster& cluster) {
  std::vector<Flow> joined;
  for (const Flow& flow : cluster.flows) {
    const auto same = [&](const Flow& other) {
      return std::memcmp(other.flow.a, flow.flow.a, offsetof(layout::TrackedFlow, inherited)) == 0;
    };
    const auto found = std::ranges::find_if(joined, same);
    if (found == joined.end()) {
      joined.push_back(flow);
      continue;
    }
    found->frames += flow.frames;
    found->bytes += flow.bytes;
    found->error += flow.error;
    found->flow.a_to_b += flow.flow.a_to_b;
    found->flow.b_to_a += flow.flow.b_to_a;
  }
  std::ranges::sort(joined, std::ranges::greater{}, &Flow::frames);
  cluster.flows = std::move(joined);
}

void copy_worker(const layout::WorkerEntry& w, Worker& to) {
  to.taken = get(w.taken);
  to.broken = get(w.broken);
  to.filtered = get(w.filtered);
  to.no_buffer = get(w.no_buffer);
  to.considered = get(w.considered);
  to.wanted = get(w.wanted);
  to.unwanted = get(w.unwanted);
  to.copied = get(w.copied);
  to.bytes = get(w.bytes);
  to.rounds = get(w.rounds);
  to.sleeps = get(w.sleeps);
  to.wakeups = get(w.wakeups);
  to.clock_steps = get(w.clock_steps);
  to.filter_ns = get(w.filter_ns);
  to.cut = get(w.cut);
  to.unplaced = get(w.unplaced);
  to.buffers = {.total = get(w.buffers_total),
                .port = get(w.buffers_port),
                .free = get(w.buffers_free),
                .referenced = get(w.buffers_referenced),
                .in_hand = get(w.buffers_in_hand)};
}

Queue read_queue(const layout::SourceEntry& s) {
  Queue queue;
  layout::read_sequenced(s.sequence, [&] {
    queue = {.port = s.port,
             .queue = s.queue,
             .worker = s.worker,
             .received = get(s.received),
             .missed = get(s.missed),
             .bad = get(s.bad),
             .taken = get(s.taken),
             .ended = get(s.ended) != 0,
             .at_rest = false};
    queue.at_rest = get(s.at_rest) == queue.taken + 1;  // the worker may have moved on since
  });
  return queue;
}

Port read_port(const layout::Header& header, uint32_t index) {
  const auto& p = entry<layout::PortEntry>(header, header.ports, index);
  Port port{.address = text(p.address),
            .driver = text(p.driver),
            .mtu = p.mtu,
            .link_type = p.link_type,
            .mbps = p.link_mbps.load(std::memory_order_relaxed),
            .up = p.link_up.load(std::memory_order_relaxed) != 0,
            .present = p.present.load(std::memory_order_relaxed) != 0,
            .queues = {},
            .statistics = {}};
  for (uint32_t i = 0; i < header.sources.count; ++i) {
    const auto& source = entry<layout::SourceEntry>(header, header.sources, i);
    if (source.port == index) port.queues.push_back(read_queue(source));
  }
  for (const Queue& queue : port.queues) port.taken += queue.taken;
  layout::read_sequenced(p.sequence, [&] {
    port.received = get(p.received);
    port.missed = get(p.missed);
    port.bad = get(p.bad);
    port.at_rest = get(p.at_rest) == port.taken + 1;
  });
  for (uint32_t i = 0; i < header.statistics.count; ++i) {
    const auto& statistic = entry<layout::StatisticEntry>(header, header.statistics, i);
    if (statistic.port == index) port.statistics.emplace_back(text(statistic.name), get(statistic.value));
  }
  return port;
}

std::optional<Consumer> read_consumer(const layout::Header& header, uint32_t slot) {
  const auto& c = entry<layout::ConsumerEntry>(header, header.consumers, slot);
  Consumer consumer;
  layout::read_sequenced(c.sequence, [&] {
    consumer = {.slot = slot,
                .id = get(c.id),
                .pid = c.pid,
                .uid = c.uid,
                .ring_slots = c.ring_slots,
                .attached_ns = c.attached_ns,
                .state = static_cast<layout::ConsumerState>(c.state.load(std::memory_order_relaxed)),
                .filter = static_cast<layout::FilterPlace>(c.filter),
                .name = text(c.name),
                .cluster = text(c.cluster),
                .member = text(c.member),
                .total = {},
                .considered_before = get(c.considered_before)};
  });
  if (consumer.state == layout::ConsumerState::kFree) return std::nullopt;
  return consumer;
}

// The lines of one forward (one for each worker) belong together.
void read_forwarders(const layout::Header& header, Ledger& ledger) {
  for (uint32_t i = 0; i < header.forwarders.count; ++i) {
    const auto& e = entry<layout::ForwarderEntry>(header, header.forwarders, i);
    const auto same = [&](const Forwarder& f) { return f.from == e.from && f.to == e.to; };
    auto found = std::ranges::find_if(ledger.forwarders, same);
    if (found == ledger.forwarders.end()) {
      ledger.forwarders.push_back({.from = e.from, .to = e.to, .slot = e.slot, .total = {}});
      found = ledger.forwarders.end() - 1;
    }
    Forwarder one;
    layout::read_sequenced(e.sequence, [&] {
      one.taken = get(e.taken);
      one.sent = get(e.sent);
      one.refused = get(e.refused);
      one.pending = get(e.pending);
      one.bytes = get(e.bytes);
    });
    found->taken += one.taken;
    found->sent += one.sent;
    found->refused += one.refused;
    found->pending += one.pending;
    found->bytes += one.bytes;
  }
  for (Forwarder& forwarder : ledger.forwarders)
    for (const Worker& worker : ledger.workers) forwarder.total.add(worker.takers[forwarder.slot]);
}

void read_senders(const layout::Header& header, Ledger& ledger) {
  for (uint32_t i = 0; i < header.senders.count; ++i) {
    const auto& e = entry<layout::SenderEntry>(header, header.senders, i);
    if (e.state.load(std::memory_order_relaxed) == static_cast<uint32_t>(layout::SenderState::kFree))
      continue;
    ledger.senders.push_back(read_sender(header, i));
    ledger.senders.back().name = text(e.name);
  }
}

// Collects the sums that do not hold.
class Sums {
 public:
  void expect(const char* sum, const std::string& where, uint64_t left, uint64_t right) {
    if (left != right) check_.unbalanced.push_back({sum, where, left, right});
  }
  void cannot_be_told() { told_ = false; }
  Check result() {
    if (!check_.unbalanced.empty())
      check_.verdict = Verdict::kUnbalanced;
    else if (!told_)
      check_.verdict = Verdict::kCannotBeTold;
    return std::move(check_);
  }

 private:
  Check check_;
  bool told_ = true;
};

void check_taker(Sums& sums, const Taker& t, const std::string& where) {
  sums.expect("considered = not_matched + offered", where, t.considered, t.not_matched + t.offered);
  sums.expect("offered = published + dropped", where, t.offered, t.published + t.dropped);
  sums.expect("published = released + in_ring + reclaiming + reclaimed", where, t.published,
              t.released + t.in_ring + t.reclaiming + t.reclaimed);
}

void check_cluster(Sums& sums, const ClusterCounts& c, const std::string& where) {
  sums.expect("considered + twice = not_matched + offered", where, c.considered + c.twice,
              c.not_matched + c.offered);
  sums.expect("offered = members + departed + unassigned", where, c.offered,
              c.members + c.departed + c.unassigned);
}

void check_worker(Sums& sums, const Worker& w, uint32_t index) {
  const auto where = fmt::format("worker {}", index);
  if (w.torn) return sums.cannot_be_told();
  sums.expect("taken = broken + filtered + no_buffer + considered", where, w.taken,
              w.broken + w.filtered + w.no_buffer + w.considered);
  sums.expect("considered = wanted + unwanted", where, w.considered, w.wanted + w.unwanted);
  sums.expect("total = port + free + referenced + in_hand", where, w.buffers.total,
              w.buffers.port + w.buffers.free + w.buffers.referenced + w.buffers.in_hand);
  for (uint32_t slot = 0; slot < w.takers.size(); ++slot)
    check_taker(sums, w.takers[slot],
                slot + 1 == w.takers.size() ? where + ", departed consumers"
                                            : fmt::format("{}, consumer slot {}", where, slot));
  for (uint32_t number = 0; number < w.clusters.size(); ++number)
    check_cluster(sums, w.clusters[number], fmt::format("{}, cluster {}", where, number));
}

void check_forwarder(Sums& sums, const Ledger& ledger, const Forwarder& f) {
  const auto where =
      fmt::format("forwarder {} to {}", ledger.ports[f.from].address, ledger.ports[f.to].address);
  sums.expect("taken = sent + refused + pending", where, f.taken, f.sent + f.refused + f.pending);
  // The forwarder was read after the workers, which learn from it what is done.
  if (f.total.released > f.sent + f.refused)
    sums.expect("released <= sent + refused", where, f.total.released, f.sent + f.refused);
}

void check_sender(Sums& sums, const Sender& s) {
  sums.expect("asked = refused + sent + dropped + pending", fmt::format("sender {}", s.name), s.asked,
              s.refused + s.sent + s.dropped + s.pending);
}

// Of a queue, or of a port; false if the device does not count all of it.
template <typename Counted>
bool check_received(Sums& sums, const Counted& c, const std::string& where) {
  const auto known = [](uint64_t counter) { return counter != layout::kNotCounted; };
  if (!known(c.received) || !known(c.missed) || !known(c.bad)) return false;
  if (c.at_rest)
    sums.expect("received = taken + missed + bad", where, c.received, c.taken + c.missed + c.bad);
  return true;
}

// What queues cannot say, the port may say of all of them together.
void check_port(Sums& sums, const Port& port) {
  bool told = true;
  for (const Queue& queue : port.queues)
    told &= check_received(sums, queue, fmt::format("{} queue {}", port.address, queue.queue));
  const bool together = check_received(sums, port, port.address);
  if (!told && !together) sums.cannot_be_told();
}

}  // namespace

void Taker::add(const Taker& o) {
  considered += o.considered;
  not_matched += o.not_matched;
  offered += o.offered;
  published += o.published;
  dropped += o.dropped;
  released += o.released;
  in_ring += o.in_ring;
  reclaiming += o.reclaiming;
  reclaimed += o.reclaimed;
  late += o.late;
  filter_ns += o.filter_ns;
  cluster = o.cluster;
}

void ClusterCounts::add(const ClusterCounts& o) {
  considered += o.considered;
  not_matched += o.not_matched;
  offered += o.offered;
  twice += o.twice;
  unassigned += o.unassigned;
  members += o.members;
  departed += o.departed;
  filter_ns += o.filter_ns;
}

// Seen often enough that the other direction should have been among the sample.
bool Flow::one_sided() const {
  constexpr uint32_t kEnough = 16;
  return flow.a_to_b + flow.b_to_a >= kEnough && (flow.a_to_b == 0 || flow.b_to_a == 0);
}

uint32_t Cluster::slots_of(uint32_t consumer_slot) const {
  return static_cast<uint32_t>(std::ranges::count(consumers, static_cast<uint16_t>(consumer_slot)));
}

void Buffers::add(const Buffers& o) {
  total += o.total;
  port += o.port;
  free += o.free;
  referenced += o.referenced;
  in_hand += o.in_hand;
}

const char* to_string(Verdict verdict) {
  switch (verdict) {
    case Verdict::kBalanced:
      return "balanced";
    case Verdict::kUnbalanced:
      return "unbalanced";
    case Verdict::kCannotBeTold:
      return "cannot be told";
  }
  return "cannot be told";
}

const char* clock_name(layout::Clock clock) {
  switch (clock) {
    case layout::Clock::kHost:
      return "host";
    case layout::Clock::kKernel:
      return "kernel";
    case layout::Clock::kAdapter:
      return "adapter";
    case layout::Clock::kFile:
      return "file";
  }
  return "unknown";
}

const char* memory_name(layout::MemoryKind kind) {
  switch (kind) {
    case layout::MemoryKind::kMemfd:
      return "memfd";
    case layout::MemoryKind::kHugetlbfs:
      return "hugetlbfs";
    case layout::MemoryKind::kPlain:
      return "plain";
  }
  return "unknown";
}

Result<const layout::Header*> check_state(std::span<const std::byte> state) {
  const auto* header = reinterpret_cast<const layout::Header*>(state.data());
  if (state.size() < sizeof(layout::Header) ||
      header->magic.load(std::memory_order_acquire) != layout::kMagic)
    return fail(Code::kVersion, "this is not the state of a ringcap engine");
  if (header->major != layout::kMajor)
    return fail(
        Code::kVersion,
        fmt::format(
            "the engine uses version {} of the shared memory's layout, this program {}: the {} is older",
            header->major, layout::kMajor, header->major < layout::kMajor ? "engine" : "program"),
        "bring both to the same version of ringcap");
  const uint64_t bytes = state.size();
  const uint64_t takers_end = header->takers.offset + uint64_t{header->takers.stride} * header->takers.count;
  if (!inside(header->ports, bytes, sizeof(layout::PortEntry)) ||
      !inside(header->sources, bytes, sizeof(layout::SourceEntry)) ||
      !inside(header->workers, bytes, sizeof(layout::WorkerEntry)) ||
      !inside(header->consumers, bytes, sizeof(layout::ConsumerEntry)) ||
      !inside(header->regions, bytes, sizeof(layout::RegionEntry)) ||
      !inside(header->statistics, bytes, sizeof(layout::StatisticEntry)) ||
      !inside(header->forwarders, bytes, sizeof(layout::ForwarderEntry)) ||
      !inside(header->senders, bytes, sizeof(layout::SenderEntry)) ||
      header->takers.stride < sizeof(layout::TakerBlock) || takers_end > header->workers.stride ||
      header->takers.count != header->consumers.count + 1 ||
      !inside(header->clusters, bytes, sizeof(layout::ClusterEntry)) ||
      header->cluster_blocks.stride < layout::kClusterBlockBytes ||
      header->cluster_blocks.count != header->clusters.count ||
      header->cluster_blocks.offset + uint64_t{header->cluster_blocks.stride} * header->cluster_blocks.count >
          header->workers.stride)
    return fail(Code::kVersion, "the engine's state has tables that do not fit into it");
  return header;
}

// The worker's own counters in one reading, each taker's in another: a round of the worker may be shorter
// than copying 257 blocks, and every sum is within one of them.
void read_worker(const layout::Header& header, uint32_t index, Worker& worker) {
  const auto& from = entry<layout::WorkerEntry>(header, header.workers, index);
  worker.torn = !layout::read_sequenced(from.sequence, [&] { copy_worker(from, worker); });
  for (uint32_t slot = 0; slot < worker.takers.size(); ++slot) {
    const auto& block = layout::taker_block(header, from, slot);
    if (worker.torn)
      worker.takers[slot] = copy_taker(block);
    else
      worker.torn = !layout::read_sequenced(from.sequence, [&] { worker.takers[slot] = copy_taker(block); });
  }
  for (uint32_t number = 0; number < worker.clusters.size(); ++number) {
    const auto& block = layout::cluster_block(header, from, number);
    layout::read_sequenced(from.sequence, [&] { worker.clusters[number] = copy_cluster(block); });
  }
}

Taker read_taker(const layout::Header& header, uint32_t slot) {
  Taker total;
  for (uint32_t i = 0; i < header.workers.count; ++i) {
    const auto& from = entry<layout::WorkerEntry>(header, header.workers, i);
    Taker one;
    layout::read_sequenced(from.sequence, [&] { one = copy_taker(layout::taker_block(header, from, slot)); });
    total.add(one);
  }
  return total;
}

uint64_t missed(const layout::Header& header) {
  const auto of_queues = [&](uint32_t port) {
    uint64_t sum = 0;
    for (uint32_t i = 0; i < header.sources.count && sum != layout::kNotCounted; ++i) {
      const auto& source = entry<layout::SourceEntry>(header, header.sources, i);
      if (source.port != port) continue;
      const uint64_t missed = get(source.missed);
      sum = missed == layout::kNotCounted ? missed : sum + missed;
    }
    return sum;
  };
  uint64_t total = 0;
  for (uint32_t port = 0; port < header.ports.count; ++port) {
    const uint64_t together = get(entry<layout::PortEntry>(header, header.ports, port).missed);
    const uint64_t missed = together != layout::kNotCounted ? together : of_queues(port);
    if (missed == layout::kNotCounted) return missed;
    total += missed;
  }
  return total;
}

Sender read_sender(const layout::Header& header, uint32_t index) {
  const auto& e = entry<layout::SenderEntry>(header, header.senders, index);
  Sender sender;
  layout::read_sequenced(e.sequence, [&] {
    sender = {.id = get(e.id),
              .name = {},
              .pid = e.pid,
              .uid = e.uid,
              .port = e.port,
              .queue = e.queue,
              .asked = get(e.asked),
              .refused = get(e.refused),
              .sent = get(e.sent),
              .dropped = get(e.dropped),
              .pending = get(e.pending),
              .limited = get(e.limited),
              .bytes = get(e.bytes)};
  });
  return sender;
}

Ledger read(const layout::Header& header) {
  Ledger ledger{.engine = text(header.name),
                .version = text(header.version),
                .pid = header.pid,
                .started_ns = header.started_ns,
                .hash_key = {header.hash_key[0], header.hash_key[1]},
                .clock = static_cast<layout::Clock>(header.clock),
                .memory = static_cast<layout::MemoryKind>(header.memory),
                .state = static_cast<layout::EngineState>(header.state.load(std::memory_order_acquire)),
                .page_bytes = header.page_bytes,
                .arena_bytes = header.arena_bytes,
                .ports = {},
                .workers = {},
                .consumers = {},
                .clusters = {},
                .forwarders = {},
                .senders = {},
                .departed = header.departed.load(std::memory_order_relaxed),
                .departed_total = {},
                .buffers = {}};
  for (uint32_t i = 0; i < header.ports.count; ++i) ledger.ports.push_back(read_port(header, i));
  for (uint32_t slot = 0; slot < header.consumers.count; ++slot)
    if (auto consumer = read_consumer(header, slot)) ledger.consumers.push_back(std::move(*consumer));
  for (uint32_t number = 0; number < header.clusters.count; ++number)
    if (entry<layout::ClusterEntry>(header, header.clusters, number).used != 0)
      ledger.clusters.push_back(read_cluster(header, number));
  for (uint32_t i = 0; i < header.workers.count; ++i) {
    Worker worker;
    worker.takers.resize(header.takers.count);
    worker.clusters.resize(ledger.clusters.size());
    read_worker(header, i, worker);
    for (auto& cluster : ledger.clusters) {
      cluster.total.add(worker.clusters[cluster.number]);
      read_flows(header, entry<layout::WorkerEntry>(header, header.workers, i), cluster);
    }
    for (auto& consumer : ledger.consumers) consumer.total.add(worker.takers[consumer.slot]);
    ledger.departed_total.add(worker.takers.back());
    ledger.buffers.add(worker.buffers);
    ledger.workers.push_back(std::move(worker));
  }
  for (auto& cluster : ledger.clusters) join_flows(cluster);
  read_forwarders(header, ledger);
  read_senders(header, ledger);
  return ledger;
}

Check check(const Ledger& ledger) {
  Sums sums;
  for (uint32_t i = 0; i < ledger.workers.size(); ++i) check_worker(sums, ledger.workers[i], i);
  for (const auto& port : ledger.ports) check_port(sums, port);
  for (const auto& forwarder : ledger.forwarders) check_forwarder(sums, ledger, forwarder);
  for (const auto& sender : ledger.senders) check_sender(sums, sender);
  return sums.result();
}

}  // namespace ringcap::ledger

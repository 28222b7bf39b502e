#include "capture/engine/state.h"

#include <unistd.h>

#include <cstring>
#include <ctime>

namespace ringcap::engine {
namespace {

// Lays the tables out one after the other.
class Placer {
 public:
  explicit Placer(uint64_t start) : end_(layout::align_line(start)) {}
  layout::Table place(size_t stride, size_t count) {
    const layout::Table table{end_, static_cast<uint32_t>(layout::align_line(stride)),
                              static_cast<uint32_t>(count)};
    end_ += uint64_t{table.stride} * table.count;
    return table;
  }
  uint64_t bytes() const { return (end_ + 4095) & ~uint64_t{4095}; }

 private:
  uint64_t end_;
};

struct Tables {
  layout::Table ports, sources, workers, takers, consumers, regions, clusters, cluster_blocks, statistics,
      forwarders, senders;
  uint64_t bytes = 0;
};

Tables place_tables(const StateShape& shape) {
  Tables t;
  t.takers = {layout::align_line(sizeof(layout::WorkerEntry)), sizeof(layout::TakerBlock),
              layout::kMaxConsumers + 1};
  t.cluster_blocks = {t.takers.offset + uint64_t{t.takers.stride} * t.takers.count,
                      static_cast<uint32_t>(layout::align_line(layout::kClusterBlockBytes)),
                      layout::kMaxClusters};
  const uint64_t worker_bytes =
      t.cluster_blocks.offset + uint64_t{t.cluster_blocks.stride} * t.cluster_blocks.count;
  Placer placer(sizeof(layout::Header));
  t.ports = placer.place(sizeof(layout::PortEntry), shape.ports.size());
  t.sources = placer.place(sizeof(layout::SourceEntry), shape.sources.size());
  t.regions = placer.place(sizeof(layout::RegionEntry), shape.regions.size());
  size_t statistics = 0;
  for (const StatePort& port : shape.ports) statistics += port.statistics.size();
  t.statistics = placer.place(sizeof(layout::StatisticEntry), statistics);
  t.consumers = placer.place(sizeof(layout::ConsumerEntry), layout::kMaxConsumers);
  t.clusters = placer.place(sizeof(layout::ClusterEntry), layout::kMaxClusters);
  t.forwarders = placer.place(sizeof(layout::ForwarderEntry), shape.forwarders.size());
  t.senders = placer.place(sizeof(layout::SenderEntry), layout::kMaxSenders);
  t.workers = placer.place(worker_bytes, shape.regions.size());
  t.bytes = placer.bytes();
  return t;
}

void fill_header(layout::Header& h, const StateShape& shape, const Tables& t) {
  h.major = layout::kMajor;
  h.minor = layout::kMinor;
  h.header_bytes = sizeof(layout::Header);
  h.state_bytes = t.bytes;
  h.arena_bytes = shape.arena->bytes();
  h.page_bytes = shape.arena->page_bytes();
  h.started_ns = realtime_ns();
  h.pid = static_cast<uint32_t>(::getpid());
  h.memory = static_cast<uint32_t>(shape.arena->kind());
  h.clock = static_cast<uint32_t>(shape.sources.empty() ? layout::Clock::kHost : shape.sources.front().clock);
  put_name(h.name, sizeof h.name, shape.name);
  put_name(h.version, sizeof h.version, RINGCAP_VERSION);
  h.ports = t.ports;
  h.sources = t.sources;
  h.workers = t.workers;
  h.takers = t.takers;
  h.consumers = t.consumers;
  h.regions = t.regions;
  h.clusters = t.clusters;
  h.cluster_blocks = t.cluster_blocks;
  h.hash_key[0] = shape.hash_key.k0;
  h.hash_key[1] = shape.hash_key.k1;
  h.statistics = t.statistics;
  h.forwarders = t.forwarders;
  h.senders = t.senders;
}

void fill_port(layout::PortEntry& port, const StatePort& shape) {
  port.mtu = shape.mtu;
  port.queues = shape.queues;
  port.link_type = shape.link_type;
  put_name(port.address, sizeof port.address, shape.address);
  put_name(port.driver, sizeof port.driver, shape.driver);
  for (auto* counter : {&port.received, &port.missed, &port.bad})
    counter->store(layout::kNotCounted, std::memory_order_relaxed);
}

void fill_statistics(State& state, const std::vector<StatePort>& ports) {
  uint32_t next = 0;
  for (uint32_t i = 0; i < ports.size(); ++i) {
    for (const std::string& name : ports[i].statistics) {
      layout::StatisticEntry& entry = state.statistic(next++);
      entry.port = i;
      put_name(entry.name, sizeof entry.name, name);
    }
  }
}

}  // namespace

void put_name(char* field, size_t bytes, const std::string& text) {
  std::memset(field, 0, bytes);
  text.copy(field, bytes - 1);
}

uint64_t realtime_ns() {
  timespec now{};
  ::clock_gettime(CLOCK_REALTIME, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
}

Result<State> State::create(const StateShape& shape) {
  const Tables tables = place_tables(shape);
  State state;
  auto memory = memory::SharedMemory::create("ringcap-state-" + shape.name, tables.bytes);
  if (!memory) return std::unexpected(memory.error());
  state.memory_ = std::move(*memory);
  fill_header(state.header(), shape, tables);
  for (uint32_t i = 0; i < shape.ports.size(); ++i) fill_port(state.port(i), shape.ports[i]);
  fill_statistics(state, shape.ports);
  for (uint32_t i = 0; i < shape.sources.size(); ++i) {
    auto& source = state.source(i);
    source.port = shape.sources[i].port;
    source.queue = shape.sources[i].queue;
    source.worker = shape.sources[i].worker;
    source.clock = static_cast<uint32_t>(shape.sources[i].clock);
  }
  for (uint32_t i = 0; i < shape.forwarders.size(); ++i) {
    auto& forwarder = state.forwarder(i);
    forwarder.from = shape.forwarders[i].from;
    forwarder.to = shape.forwarders[i].to;
    forwarder.worker = shape.forwarders[i].worker;
    forwarder.slot = shape.forwarders[i].slot;
    forwarder.queue = shape.forwarders[i].queue;
  }
  for (uint32_t i = 0; i < shape.regions.size(); ++i) {
    const Region& region = shape.regions[i];
    layout::entry<layout::RegionEntry>(state.header(), tables.regions, i) = {
        region.arena_offset, uint64_t{region.count} * region.buffer_bytes, region.buffer_bytes, i};
    state.worker(i).lag_ns = shape.lags_ns[i];
  }
  state.header().magic.store(layout::kMagic, std::memory_order_release);  // pairs with check_state()
  if (auto sealed = state.memory_.seal_read_only(); !sealed) return std::unexpected(sealed.error());
  return state;
}

}  // namespace ringcap::engine

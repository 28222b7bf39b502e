// The state memory, made: header, tables, and who is where. Control thread, while an engine starts.
#pragma once

#include <string>
#include <vector>

#include "capture/base/error.h"
#include "capture/frame/hash.h"
#include "capture/layout/layout.h"
#include "capture/layout/view.h"
#include "capture/memory/arena.h"
#include "capture/memory/shared_memory.h"
#include "capture/port/port.h"

namespace ringcap::engine {

struct StatePort {
  std::string address, driver;
  uint32_t mtu = 0, queues = 0, link_type = 0;
  std::vector<std::string> statistics = {};  // their names
};
// What one worker hands one forwarder.
struct StateForwarder {
  uint32_t from = 0, to = 0, worker = 0, slot = 0, queue = 0;
};
struct StateSource {
  uint32_t port = 0, queue = 0, worker = 0;
  layout::Clock clock = layout::Clock::kHost;
};

struct StateShape {
  std::string name;
  std::vector<StatePort> ports;
  std::vector<StateSource> sources;
  std::vector<StateForwarder> forwarders = {};
  std::vector<Region> regions;    // by worker
  std::vector<uint64_t> lags_ns;  // by worker
  const memory::Arena* arena = nullptr;
  HashKey hash_key{};
};

class State {
 public:
  // Makes the memory, fills in what never changes, stores the magic last, and seals it read-only.
  static Result<State> create(const StateShape& shape);

  layout::Header& header() { return *memory_.at<layout::Header>(0); }
  int fd() const { return memory_.fd(); }
  uint64_t bytes() const { return memory_.bytes(); }

  layout::PortEntry& port(uint32_t i) {
    return layout::entry<layout::PortEntry>(header(), header().ports, i);
  }
  layout::SourceEntry& source(uint32_t i) {
    return layout::entry<layout::SourceEntry>(header(), header().sources, i);
  }
  layout::WorkerEntry& worker(uint32_t i) {
    return layout::entry<layout::WorkerEntry>(header(), header().workers, i);
  }
  layout::ClusterEntry& cluster(uint32_t i) {
    return layout::entry<layout::ClusterEntry>(header(), header().clusters, i);
  }
  // Statistic `i` of the table: those of the first port, then those of the second, and so on.
  layout::StatisticEntry& statistic(uint32_t i) {
    return layout::entry<layout::StatisticEntry>(header(), header().statistics, i);
  }
  layout::ForwarderEntry& forwarder(uint32_t i) {
    return layout::entry<layout::ForwarderEntry>(header(), header().forwarders, i);
  }
  layout::SenderEntry& sender(uint32_t i) {
    return layout::entry<layout::SenderEntry>(header(), header().senders, i);
  }
  layout::ConsumerEntry& consumer(uint32_t i) {
    return layout::entry<layout::ConsumerEntry>(header(), header().consumers, i);
  }

 private:
  memory::SharedMemory memory_;
};

// Copies a name into a field, cut where it is longer, always ended by a zero.
void put_name(char* field, size_t bytes, const std::string& text);
uint64_t realtime_ns();

}  // namespace ringcap::engine

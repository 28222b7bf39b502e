#include "capture/engine/port_readings.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <array>

#include "capture/base/monotonic.h"
#include "capture/layout/view.h"

namespace ringcap::engine {

PortReadings::PortReadings(State& state, std::vector<Port*> ports, std::vector<ReceiveQueue*> queues,
                           std::vector<Worker*> workers, OnLink on_link)
    : state_(state),
      ports_(std::move(ports)),
      queues_(std::move(queues)),
      workers_(std::move(workers)),
      on_link_(std::move(on_link)),
      rest_(static_cast<uint32_t>(workers_.size())),
      queues_rest_(queues_.size()),
      ports_rest_(ports_.size()),
      workers_of_(ports_.size()),
      links_(ports_.size()) {
  for (uint32_t i = 0; i < queues_.size(); ++i) {
    const auto& source = state_.source(i);
    workers_of_[source.port].push_back(source.worker);
  }
}

std::vector<uint64_t> PortReadings::rounds_ended() const {
  std::vector<uint64_t> rounds;
  rounds.reserve(workers_.size());
  for (const Worker* worker : workers_) rounds.push_back(worker->rounds_ended());
  return rounds;
}

// What the device says of all queues together, and what it counts besides.
void PortReadings::refresh_counters(uint32_t i) {
  const QueueCounters counters = ports_[i]->counters();
  uint64_t taken = 0, lag_ns = 0;
  for (uint32_t s = 0; s < queues_.size(); ++s) {
    const auto& source = state_.source(s);
    if (source.port != i) continue;
    taken += source.taken.load(std::memory_order_relaxed);
    lag_ns = std::max(lag_ns, queues_[s]->lag_ns());
  }
  const bool rests = rest_.of(ports_rest_[i], taken, counters.received, workers_of_[i], lag_ns);
  auto& entry = state_.port(i);
  {
    const layout::SequenceWrite writing(entry.sequence);
    entry.received.store(counters.received, std::memory_order_relaxed);
    entry.missed.store(counters.missed, std::memory_order_relaxed);
    entry.bad.store(counters.bad, std::memory_order_relaxed);
    entry.at_rest.store(rests ? taken + 1 : 0, std::memory_order_relaxed);
  }
  uint32_t place = 0;
  for (uint32_t before = 0; before < i; ++before)
    place += static_cast<uint32_t>(ports_[before]->statistics().size());
  for (const Statistic& statistic : ports_[i]->statistics())
    state_.statistic(place++).value.store(statistic.value, std::memory_order_relaxed);
}

void PortReadings::refresh_queue(uint32_t i) {
  auto& source = state_.source(i);
  const QueueCounters counters = queues_[i]->counters();
  const uint64_t taken = source.taken.load(std::memory_order_relaxed);
  const std::array workers{source.worker};
  const bool rests = rest_.of(queues_rest_[i], taken, counters.received, workers, queues_[i]->lag_ns());
  const layout::SequenceWrite writing(source.sequence);
  source.received.store(counters.received, std::memory_order_relaxed);
  source.missed.store(counters.missed, std::memory_order_relaxed);
  source.bad.store(counters.bad, std::memory_order_relaxed);
  source.ended.store(queues_[i]->ended() ? 1 : 0, std::memory_order_relaxed);
  source.at_rest.store(rests ? taken + 1 : 0, std::memory_order_relaxed);
}

void PortReadings::refresh_link(uint32_t i) {
  Port& port = *ports_[i];
  port.handle_event();
  const Link link = port.link();
  auto& entry = state_.port(i);
  const std::optional<Link>& last = links_[i];
  if (last && link.up == last->up && link.present == last->present && link.mbps == last->mbps) return;
  if (!link.present)
    spdlog::error("{} is gone; what it received stays readable", port.address());
  else
    spdlog::info("{}: link {}{}", port.address(), link.up ? "up" : "down",
                 link.mbps != 0 ? fmt::format(", {} Mbit/s", link.mbps) : "");
  links_[i] = link;
  const layout::SequenceWrite writing(entry.sequence);
  entry.link_up.store(link.up ? 1 : 0, std::memory_order_relaxed);
  entry.link_mbps.store(link.mbps, std::memory_order_relaxed);
  entry.present.store(link.present ? 1 : 0, std::memory_order_relaxed);
  if (on_link_) on_link_(i, link);
}

void PortReadings::refresh() {
  rest_.begin(rounds_ended(), monotonic_ns());
  for (uint32_t i = 0; i < ports_.size(); ++i) refresh_counters(i);
  for (uint32_t i = 0; i < queues_.size(); ++i) refresh_queue(i);
  rest_.end(rounds_ended());
  for (uint32_t i = 0; i < ports_.size(); ++i) refresh_link(i);
}

}  // namespace ringcap::engine

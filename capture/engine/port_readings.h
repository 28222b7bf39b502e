// PortReadings: what ports and queues count, and their links, copied into the state memory at each look, with
// whether each is at rest (rest.h). Links that change are logged.
//
// Control thread only. The ports, queues and workers must outlive it.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include "capture/engine/rest.h"
#include "capture/engine/state.h"
#include "capture/engine/worker.h"
#include "capture/port/port.h"

namespace ringcap::engine {

using OnLink = std::function<void(uint32_t port, const Link& link)>;

class PortReadings {
 public:
  // `queues`: by source. `on_link`: called when a port's link has changed; may be empty.
  PortReadings(State& state, std::vector<Port*> ports, std::vector<ReceiveQueue*> queues,
               std::vector<Worker*> workers, OnLink on_link);

  // Reads everything.
  void refresh();
  // One port's device says that something happened.
  void refresh_link(uint32_t port);
  // From now on nobody takes a frame any more.
  void workers_ended() { rest_.workers_ended(); }

 private:
  void refresh_counters(uint32_t port);
  void refresh_queue(uint32_t source);
  std::vector<uint64_t> rounds_ended() const;  // by worker

  State& state_;
  const std::vector<Port*> ports_;
  const std::vector<ReceiveQueue*> queues_;
  const std::vector<Worker*> workers_;
  const OnLink on_link_;
  Rest rest_;
  std::vector<Rest::Watched> queues_rest_, ports_rest_;
  std::vector<std::vector<uint32_t>> workers_of_;  // by port
  std::vector<std::optional<Link>> links_;         // as of the last reading
};

}  // namespace ringcap::engine

// Plan: the immutable description of what workers do with frames. Built by the control thread and
// published by one release store; a worker looks at it at the start of each round and stores the number
// it has seen (WorkerEntry::plan_seen). When all have seen plan n, what only plan n - 1 named is freed.
// Every change while an engine runs is a new plan.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "capture/engine/taker.h"
#include "capture/filter/program.h"

namespace ringcap::engine {

struct Plan {
  uint64_t number = 0;
  std::shared_ptr<const filter::Program> filter;  // the engine's; nullptr: every frame
  std::vector<std::vector<TakerRing*>> takers;    // by worker
};

}  // namespace ringcap::engine

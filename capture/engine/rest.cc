#include "capture/engine/rest.h"

#include <algorithm>

namespace ringcap::engine {

void Rest::begin(std::span<const uint64_t> rounds_ended, uint64_t now_ns) {
  ++reading_;
  now_ns_ = now_ns;
  for (size_t i = 0; i < workers_.size(); ++i) {
    Worker& worker = workers_[i];
    // One round may have been in the middle when the mark was set: the one after it is whole.
    if (worker.mark_reading != 0 && rounds_ended[i] >= worker.mark_rounds + 2)
      worker.looked_since = worker.mark_reading;
  }
}

void Rest::end(std::span<const uint64_t> rounds_ended) {
  for (size_t i = 0; i < workers_.size(); ++i) {
    Worker& worker = workers_[i];
    // A mark stays until a whole round has come after it: else quick readings would move it on for ever.
    if (worker.looked_since != worker.mark_reading) continue;
    worker.mark_reading = reading_;
    worker.mark_rounds = rounds_ended[i];
  }
}

void Rest::workers_ended() {
  for (Worker& worker : workers_) worker.looked_since = ~uint64_t{0};
}

bool Rest::of(Watched& watched, uint64_t taken, uint64_t received, std::span<const uint32_t> workers,
              uint64_t lag_ns) const {
  if (taken != watched.taken || received != watched.received) {
    watched = {.taken = taken, .received = received, .since_reading = reading_, .since_ns = now_ns_};
    return false;
  }
  return now_ns_ - watched.since_ns >= lag_ns && std::ranges::all_of(workers, [&](uint32_t number) {
           return workers_[number].looked_since >= watched.since_reading;
         });
}

}  // namespace ringcap::engine

// Rest: when the sum "received = taken + missed + bad" of a queue or a port can be told.
//
// A device counts a frame before its worker takes it, so the two numbers belong together only when nothing
// is on its way between them. That two readings say the same does not show it: the worker may not have run
// in between. At rest is what said the same at two readings, the time apart that a frame may lie in the
// queue, while every worker concerned began and ended a round that took nothing.
//
// Control thread only.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace ringcap::engine {

class Rest {
 public:
  // What one queue or port said last, and since which reading.
  struct Watched {
    uint64_t taken = ~uint64_t{0}, received = ~uint64_t{0};
    uint64_t since_reading = 0, since_ns = 0;
  };

  explicit Rest(uint32_t workers) : workers_(workers) {}

  // Around the reading of all counters: how many rounds each worker has ended (Worker::rounds_ended(), read
  // before the first counter and after the last one). `now_ns`: monotonic.
  void begin(std::span<const uint64_t> rounds_ended, uint64_t now_ns);
  void end(std::span<const uint64_t> rounds_ended);
  // The workers have ended: nobody takes anything any more.
  void workers_ended();

  // Between the two. Whether a queue of `worker`, or a port all of whose queues' workers are `workers`,
  // rests.
  bool of(Watched& watched, uint64_t taken, uint64_t received, std::span<const uint32_t> workers,
          uint64_t lag_ns) const;

 private:
  struct Worker {
    uint64_t mark_reading = 0, mark_rounds = 0;  // as many rounds had ended after that reading
    uint64_t looked_since = 0;                   // a whole round came after that reading; 0: none did
  };
  std::vector<Worker> workers_;
  uint64_t reading_ = 0;
  uint64_t now_ns_ = 0;
};

}  // namespace ringcap::engine

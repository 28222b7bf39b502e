// A port with several receive queues whose frames come back to it: flows, each of which must come back whole
// through one queue, in order, and together through all of them. One thread.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "capture/port/port.h"

namespace ringcap::selftest {

class Spread {
 public:
  // So many that the NIC's hash leaves none of 16 queues without one.
  static constexpr uint32_t kFlows = 512, kRounds = 3;
  static constexpr uint32_t kDescriptors = 64;  // what the port is to be opened with

  // The port was opened for sending and is not prepared.
  Spread(std::unique_ptr<Port> port, std::byte* arena, uint64_t arena_bytes);
  ~Spread();
  Result<void> start();

  // Once frames come back at all, sends one of each flow, kRounds times. An error says which frame did not,
  // how it differed, or which queue it should not have come through. Ends early, without one, when `stopped`.
  Result<void> exchange(uint32_t deadline_ms, const std::function<bool()>& stopped);

  // Of each queue, how many flows came through it.
  std::vector<uint32_t> flows_of_queues() const;

 private:
  struct Queue {
    ReceiveQueue* queue;
    Region region;
    FreeBuffers free;
    uint32_t next = 0;  // numbers below came through it, or through others
  };

  bool send(uint32_t number);
  Result<void> receive(const std::function<Result<void>(uint32_t queue, const Frame&)>& use);
  Result<void> check(uint32_t queue, const Frame& frame);
  bool probe(uint32_t deadline_ms, const std::function<bool()>& stopped);

  std::unique_ptr<Port> port_;
  std::byte* arena_;
  uint64_t arena_bytes_;
  std::vector<Queue> queues_;
  Region outgoing_;
  FreeBuffers to_send_;
  std::vector<int> queue_of_;  // of each flow; -1: not known yet
  std::vector<bool> came_;     // of each number
  uint32_t back_ = 0;          // how many
};

}  // namespace ringcap::selftest

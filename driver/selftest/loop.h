// A port whose frames come back to it: sends, receives, and compares byte for byte. Every buffer of the arena
// takes its turn, to send from and to receive into. One thread.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "capture/port/port.h"

namespace ringcap::selftest {

// What a frame is filled with behind its header.
enum class Pattern { kZeros, kOnes, kAlternating, kCounting, kRandom };
inline constexpr Pattern kPatterns[] = {Pattern::kZeros, Pattern::kOnes, Pattern::kAlternating,
                                        Pattern::kCounting, Pattern::kRandom};
const char* name_of(Pattern pattern);

inline constexpr uint32_t kShortest = 60;  // bytes without CRC

struct Shape {
  uint32_t length = kShortest;  // bytes without CRC
  Pattern pattern = Pattern::kRandom;
};

class Loop {
 public:
  // The port has one receive queue and one to send; it was opened and is not prepared.
  Loop(std::unique_ptr<Port> port, std::byte* arena, uint64_t arena_bytes);
  ~Loop();
  Result<void> start();

  // Sends frames as `next` shapes them (called with their number, from 0 on) until `count` have come back.
  // An error says which did not, or how it differed. Ends early, without one, when `stopped`.
  Result<void> exchange(uint64_t count, const std::function<Shape(uint64_t)>& next,
                        const std::function<bool()>& stopped);
  // Whether frames come back at all, before the deadline; at its end nothing is on its way. Once, before
  // exchange().
  bool probe(uint32_t deadline_ms, const std::function<bool()>& stopped);

  Port& port() { return *port_; }
  ReceiveQueue& queue() { return *port_->receive_queues()[0]; }
  // All that was sent; all that came back, and its bytes with CRC.
  uint64_t sent() const { return sent_; }
  uint64_t delivered() const { return delivered_; }
  uint64_t delivered_bytes() const { return bytes_; }
  uint32_t buffers() const { return region_.count; }
  // Buffers that were never received into, and never sent from.
  uint32_t never_received() const;
  uint32_t never_sent() const;

 private:
  struct Expected {
    uint32_t number;
    Shape shape;
  };

  void send(uint64_t count, const std::function<Shape(uint64_t)>& next);
  bool send_one(Shape shape);
  Result<uint32_t> receive();
  Result<uint32_t> take(const std::function<Result<void>(const Frame&)>& use);
  Result<void> compare(const Frame& frame, const Expected& expected) const;
  void settle();

  std::unique_ptr<Port> port_;
  std::byte* arena_;
  uint64_t arena_bytes_;
  Region region_;
  FreeBuffers free_;
  // Buffers that are neither with the queue, nor free for it, nor being sent: what was received into is sent
  // from next, and the other way round.
  std::deque<uint32_t> to_send_, to_receive_;
  std::deque<Expected> expected_;
  std::vector<bool> received_into_, sent_from_;
  uint64_t sent_ = 0, delivered_ = 0, bytes_ = 0;
  uint64_t counted_from_ = 0;  // numbers below are probe()'s
};

}  // namespace ringcap::selftest

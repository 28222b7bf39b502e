// What the tests of NIC drivers share: a port with an arena and free buffers, and frames to send.
#pragma once

#include <gtest/gtest.h>

#include <chrono>
#include <cstring>
#include <functional>
#include <memory>
#include <vector>

#include "capture/port/port.h"
#include "driver/nic/drivers.h"

namespace ringcap::nic {

// False if it did not come true before the deadline.
inline bool eventually(const std::function<bool()>& holds,
                       std::chrono::milliseconds deadline = std::chrono::seconds(20)) {
  const auto end = std::chrono::steady_clock::now() + deadline;
  while (!holds()) {
    if (std::chrono::steady_clock::now() > end) return false;
  }
  return true;
}

// A frame of `length` bytes whose content follows from `number`. Bytes 12 and 13 are no EtherType in use.
inline std::vector<uint8_t> make_frame(uint32_t number, uint32_t length) {
  std::vector<uint8_t> frame(length);
  uint32_t state = number * 2654435761u + 1;
  for (uint8_t& byte : frame) byte = static_cast<uint8_t>((state = state * 1664525u + 1013904223u) >> 24);
  constexpr uint8_t kHead[] = {0x02, 0, 0, 0, 0, 1, 0x02, 0, 0, 0, 0, 2, 0x88, 0xb5};
  std::memcpy(frame.data(), kHead, std::min<size_t>(sizeof(kHead), length));
  if (length >= 18) std::memcpy(frame.data() + 14, &number, 4);
  return frame;
}

// A port as workers have it: for each queue a region, with all its buffers free or armed.
class OpenPort {
 public:
  // `arena` begins at a page and has `arena_bytes`; `buffers` for each queue.
  OpenPort(std::unique_ptr<Port> port, std::byte* arena, uint64_t arena_bytes, uint32_t buffers)
      : port_(std::move(port)) {
    const uint64_t bytes = uint64_t{port_->buffer_need()} * buffers;
    for (uint32_t q = 0; q < port_->receive_queues().size(); ++q) {
      regions_.push_back({.base = arena + q * bytes,
                          .arena_offset = q * bytes,
                          .buffer_bytes = port_->buffer_need(),
                          .count = buffers,
                          .number = static_cast<uint8_t>(q)});
      free_.emplace_back(buffers);
      for (uint32_t i = 0; i < buffers; ++i) free_[q].push(i);
    }
    EXPECT_LE(regions_.size() * bytes, arena_bytes);
    EXPECT_TRUE(port_->prepare({.arena = arena, .arena_bytes = arena_bytes}));
  }
  void arm_and_start() {
    const auto started = try_to_start();
    ASSERT_TRUE(started) << started.error().message();
  }
  Result<void> try_to_start() {
    for (uint32_t q = 0; q < regions_.size(); ++q) {
      if (const auto armed = queue(q).arm(regions_[q], free_[q]); !armed) return armed;
    }
    return port_->start();
  }
  void disarm() {
    for (uint32_t q = 0; q < regions_.size(); ++q) queue(q).disarm(free_[q]);
  }

  Port& port() { return *port_; }
  uint32_t queues() const { return static_cast<uint32_t>(regions_.size()); }
  ReceiveQueue& queue(uint32_t q = 0) { return *port_->receive_queues()[q]; }
  const Region& region(uint32_t q = 0) const { return regions_[q]; }
  FreeBuffers& free(uint32_t q = 0) { return free_[q]; }
  // Hands a taken frame's buffer back.
  void give_back(const ringcap::Frame& frame, uint32_t q = 0) { free_[q].push(frame.buffer); }

  // One receive(): the frames' bytes, their buffers given back.
  Burst take(std::vector<std::vector<uint8_t>>& frames, size_t most = 32, uint32_t q = 0) {
    std::vector<ringcap::Frame> out(most);
    const Burst burst = queue(q).receive(out, free_[q]);
    for (uint32_t i = 0; i < burst.frames; ++i) {
      const auto* data = reinterpret_cast<const uint8_t*>(out[i].data);
      frames.emplace_back(data, data + out[i].captured);
      give_back(out[i], q);
    }
    return burst;
  }

 private:
  std::unique_ptr<Port> port_;
  std::vector<Region> regions_;
  std::vector<FreeBuffers> free_;
};

// That the free buffers are all those of the region, each of them once: none was lost, none is in two places.
inline void expect_each_buffer_once(FreeBuffers& free, uint32_t buffers) {
  std::vector<bool> seen(buffers);
  ASSERT_EQ(free.size(), buffers);
  while (!free.empty()) {
    const uint32_t buffer = free.pop();
    ASSERT_LT(buffer, buffers);
    EXPECT_FALSE(seen[buffer]) << buffer;
    seen[buffer] = true;
  }
}

// As of the last counters(); all ones: the port has none of that name.
inline uint64_t statistic(Port& port, const std::string& name) {
  for (const Statistic& each : port.statistics())
    if (each.name == name) return each.value;
  return ~uint64_t{0};
}

}  // namespace ringcap::nic

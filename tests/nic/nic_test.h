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

// A port as a worker has it: all its queue's buffers, and some free ones.
class OpenPort {
 public:
  // `arena` begins at a page and has `arena_bytes`.
  OpenPort(std::unique_ptr<Port> port, std::byte* arena, uint64_t arena_bytes, uint32_t buffers)
      : port_(std::move(port)), free_(buffers) {
    region_ = {.base = arena,
               .arena_offset = 0,
               .buffer_bytes = port_->buffer_need(),
               .count = buffers,
               .number = 0};
    for (uint32_t i = 0; i < buffers; ++i) free_.push(i);
    EXPECT_TRUE(port_->prepare({.arena = arena, .arena_bytes = arena_bytes}));
  }
  void arm_and_start() {
    const auto armed = queue().arm(region_, free_);
    ASSERT_TRUE(armed) << armed.error().message();
    const auto started = port_->start();
    ASSERT_TRUE(started) << started.error().message();
  }

  Port& port() { return *port_; }
  ReceiveQueue& queue() { return *port_->receive_queues()[0]; }
  const Region& region() const { return region_; }
  FreeBuffers& free() { return free_; }
  // Hands a taken frame's buffer back.
  void give_back(const ringcap::Frame& frame) { free_.push(frame.buffer); }

  // One receive(): the frames' bytes, their buffers given back.
  Burst take(std::vector<std::vector<uint8_t>>& frames, size_t most = 32) {
    std::vector<ringcap::Frame> out(most);
    const Burst burst = queue().receive(out, free_);
    for (uint32_t i = 0; i < burst.frames; ++i) {
      const auto* data = reinterpret_cast<const uint8_t*>(out[i].data);
      frames.emplace_back(data, data + out[i].captured);
      give_back(out[i]);
    }
    return burst;
  }

 private:
  std::unique_ptr<Port> port_;
  Region region_;
  FreeBuffers free_;
};

}  // namespace ringcap::nic

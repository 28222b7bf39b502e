// A port run as an engine would run it, in this process, by one thread: for tests of ports.
#pragma once

#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>

#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>
#include <utility>
#include <vector>

#include "capture/port/port.h"
#include "harness.h"

namespace ringcap::test {

using Bytes = std::vector<std::byte>;

// Random bytes behind two addresses and an EtherType that no protocol of the host listens to.
inline Bytes random_frame(std::mt19937& random, size_t bytes) {
  Bytes frame(bytes);
  for (std::byte& byte : frame) byte = static_cast<std::byte>(random());
  frame[0] = frame[6] = std::byte{0x02};
  if (bytes > 13) {
    frame[12] = std::byte{0x88};
    frame[13] = std::byte{0xb5};
  }
  return frame;
}

inline void send_frame(const Fd& fd, const Bytes& frame) {
  ASSERT_EQ(::send(fd.get(), frame.data(), frame.size(), 0), static_cast<ssize_t>(frame.size()))
      << std::strerror(errno);
}

struct Captured {
  Bytes data;
  uint32_t length = 0;
  uint32_t queue = 0;
  uint16_t flags = 0;
  uint64_t timestamp_ns = 0;
};

// A port as an engine would run it, with one thread for everything.
class PortCapture {
 public:
  explicit PortCapture(std::unique_ptr<Port> port, uint32_t buffer_bytes = 2048, uint32_t buffers = 512)
      : port_(std::move(port)), free_(buffers) {
    arena_.reset(static_cast<std::byte*>(
        std::aligned_alloc(4096, (size_t{buffer_bytes} * buffers + 4095) / 4096 * 4096)));
    region_ = {.base = arena_.get(), .buffer_bytes = buffer_bytes, .count = buffers};
    for (uint32_t i = 0; i < buffers; ++i) free_.push(i);
    for (const auto& queue : queues()) EXPECT_TRUE(queue->arm(region_, free_));
    EXPECT_TRUE(port_->start());
  }
  virtual ~PortCapture() { port_->stop(); }

  Port& port() { return *port_; }
  std::span<const std::unique_ptr<ReceiveQueue>> queues() { return port_->receive_queues(); }
  FreeBuffers& free() { return free_; }
  const Burst& totals() const { return totals_; }

  // Takes frames until there are `count` of them, or patience ends.
  std::vector<Captured> take(size_t count) {
    std::vector<Captured> taken;
    const auto deadline = std::chrono::steady_clock::now() + kPatience;
    while (taken.size() < count && std::chrono::steady_clock::now() < deadline) {
      if (!take_once(taken)) wait();
    }
    return taken;
  }
  // One burst of each queue; whether anything came.
  bool take_once(std::vector<Captured>& taken) {
    bool any = false;
    for (uint32_t number = 0; number < queues().size(); ++number) {
      std::vector<Frame> frames(64);
      const Burst burst = queues()[number]->receive(frames, free_);
      totals_.frames += burst.frames;
      totals_.broken += burst.broken;
      totals_.no_buffer += burst.no_buffer;
      totals_.copied += burst.copied;
      totals_.cut += burst.cut;
      for (uint32_t i = 0; i < burst.frames; ++i) keep(frames[i], number, taken);
      any = any || burst.frames + burst.broken + burst.no_buffer != 0;
    }
    return any;
  }
  // Sleeps until a queue says that there may be frames.
  void wait(int timeout_ms = 100) {
    std::vector<pollfd> polled;
    for (const auto& queue : queues()) {
      queue->enable_wake();
      polled.push_back({.fd = queue->wait_fd(), .events = POLLIN, .revents = 0});
    }
    ::poll(polled.data(), polled.size(), timeout_ms);
    for (const auto& queue : queues()) queue->disable_wake();
  }
  QueueCounters counters() {
    QueueCounters sum{.received = 0, .missed = 0, .bad = 0};
    for (const auto& queue : queues()) {
      const QueueCounters one = queue->counters();
      sum.received += one.received;
      sum.missed += one.missed;
    }
    return sum;
  }

 private:
  struct Free {
    void operator()(std::byte* data) const { std::free(data); }
  };

  void keep(const Frame& frame, uint32_t queue, std::vector<Captured>& taken) {
    const std::byte* const start = region_.buffer(frame.buffer);
    EXPECT_GE(frame.data, start);
    EXPECT_LE(frame.data + frame.captured, start + region_.buffer_bytes);
    taken.push_back({.data = Bytes(frame.data, frame.data + frame.captured),
                     .length = frame.length,
                     .queue = queue,
                     .flags = frame.flags,
                     .timestamp_ns = frame.timestamp_ns});
    free_.push(frame.buffer);
  }

  std::unique_ptr<Port> port_;
  std::unique_ptr<std::byte, Free> arena_;
  Region region_;
  FreeBuffers free_;
  Burst totals_;
};

}  // namespace ringcap::test

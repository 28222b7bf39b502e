// SlowQueue: a transmit queue that takes only some, completes when it is told to, in any order, and refuses
// what is too long. It sees to it that nobody touches a frame before it is completed. One thread, but
// refused().
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <deque>
#include <random>
#include <vector>

#include "capture/port/port.h"

namespace ringcap::test {

class SlowQueue : public TransmitQueue {
 public:
  static constexpr uint32_t kLongest = 1514;

  uint32_t at_once = 1000;    // frames of one transmit()
  uint32_t room = 1000;       // frames that it holds
  bool completes = true;      // by itself, at the next completed()
  std::vector<uint64_t> out;  // the first eight bytes of each frame that was sent, in order

  uint32_t transmit(std::span<const TransmitFrame> frames) override {
    const auto free = static_cast<uint32_t>(room - std::min<size_t>(room, held_.size() + done_.size()));
    const auto count = std::min({static_cast<uint32_t>(frames.size()), at_once, free});
    for (const TransmitFrame& frame : frames.first(count)) take(frame);
    return count;
  }

  uint32_t completed(std::span<uint32_t> cookies) override {
    if (completes) complete(static_cast<uint32_t>(held_.size()));
    const auto count = static_cast<uint32_t>(std::min(cookies.size(), done_.size()));
    std::copy_n(done_.begin(), count, cookies.begin());
    done_.erase(done_.begin(), done_.begin() + count);
    return count;
  }

  uint64_t refused() const override { return refused_.load(std::memory_order_relaxed); }

  // The device is done with the `count` frames that it has had longest, or with any.
  void complete(uint32_t count) {
    for (; count != 0 && !held_.empty(); --count) finish(0);
  }
  void complete_any(uint32_t count, std::mt19937& random) {
    for (; count != 0 && !held_.empty(); --count) finish(random() % held_.size());
  }
  // ... with the one that is so many places behind the first.
  void finish(size_t place) {
    const Held& held = held_[place];
    EXPECT_EQ(std::memcmp(held.frame.data, held.bytes.data(), held.bytes.size()), 0)
        << "a frame was touched before it was completed";
    done_.push_back(held.frame.cookie);
    held_.erase(held_.begin() + static_cast<ptrdiff_t>(place));
  }
  size_t held() const { return held_.size(); }
  uint64_t bytes() const { return bytes_; }

 private:
  struct Held {
    TransmitFrame frame;
    std::vector<std::byte> bytes;
  };

  void take(const TransmitFrame& frame) {
    held_.push_back({frame, {frame.data, frame.data + frame.length}});
    if (frame.length > kLongest) {
      refused_.fetch_add(1, std::memory_order_relaxed);
      return;
    }
    uint64_t number = 0;
    std::memcpy(&number, frame.data, sizeof number);
    out.push_back(number);
    bytes_ += frame.length;
  }

  std::vector<Held> held_;
  std::deque<uint32_t> done_;
  std::atomic<uint64_t> refused_{0};
  uint64_t bytes_ = 0;
};

}  // namespace ringcap::test

// A hostile sender: writes anything into its memory between the forwarder's rounds. Whatever it does, its
// sums hold at every step, only whole frames of its own memory leave, a well-behaved sender beside it loses
// nothing, and after it has left every buffer is free again. Input: pairs of an operation and a value.
#include <cstdlib>
#include <cstring>
#include <span>

#include "capture/engine/forwarder.h"
#include "tests/unit/capture/engine/send_memory.h"

namespace {

using ringcap::test::SendMemory;

constexpr uint32_t kBuffers = 64, kBufferBytes = 2048, kSlots = 64;

void require(bool condition) {
  if (!condition) std::abort();
}

// A port that completes at once or late, and takes some.
class Wire : public ringcap::TransmitQueue {
 public:
  uint32_t at_once = 64;
  bool holds_back = false;

  uint32_t transmit(std::span<const ringcap::TransmitFrame> frames) override {
    uint32_t taken = 0;
    for (; taken < frames.size() && taken < at_once && count_ < kBuffers; ++taken) {
      const auto& frame = frames[taken];
      require(frame.length >= 14 && frame.length <= kBufferBytes);
      for (uint32_t i = 0; i < frame.length; ++i) all_bytes_ ^= frame.data[i];  // each can be read
      cookies_[count_++] = frame.cookie;
    }
    return taken;
  }
  uint32_t completed(std::span<uint32_t> out) override {
    if (holds_back) return 0;
    const auto count = static_cast<uint32_t>(std::min<size_t>(out.size(), count_));
    std::copy_n(cookies_, count, out.begin());
    std::copy(cookies_ + count, cookies_ + count_, cookies_);
    count_ -= count;
    return count;
  }
  uint64_t refused() const override { return 0; }

 private:
  std::byte all_bytes_{};
  uint32_t cookies_[kBuffers] = {};
  uint32_t count_ = 0;
};

struct Engine {
  std::vector<std::byte> arena{size_t{kBuffers} * kBufferBytes};
  Wire wire;
  ringcap::engine::Forwarder forwarder{{.rings = {},
                                        .queue = &wire,
                                        .arena = arena.data(),
                                        .region = {arena.data(), 0, kBufferBytes, kBuffers, 0},
                                        .wake_socket = {},
                                        .thread_name = "fuzz"}};
};

void require_balance(const SendMemory& memory) {
  const auto c = memory.counts();
  require(c.asked == c.refused + c.sent + c.dropped + c.pending);
}

void play(Engine& engine, SendMemory& hostile, const uint8_t* data, size_t size) {
  for (size_t at = 0; at + 9 <= size && at < size_t{9} * 64; at += 9) {
    uint64_t value = 0;
    std::memcpy(&value, data + at + 1, sizeof value);
    const auto low = static_cast<uint32_t>(value), high = static_cast<uint32_t>(value >> 32);
    switch (data[at] % 7) {
      case 0:
        hostile.produce(value);
        break;
      case 1:
        hostile.ask(low, high);
        hostile.publish();
        break;
      case 2:
        hostile.ask(low % hostile.area(), high % (kBufferBytes + 16));
        hostile.publish();
        break;
      case 3:
        hostile.put_request(low % kSlots, high, low);
        break;
      case 4:
        std::memcpy(hostile.frames() + low % (hostile.area() - 8), &value, 8);
        break;
      case 5:
        engine.wire.at_once = low % 65;
        break;
      default:
        engine.wire.holds_back = (value & 1) != 0;
        break;
    }
    for (uint64_t rounds = value % 4; rounds > 0; --rounds) engine.forwarder.round();
    require_balance(hostile);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Engine engine;
  SendMemory hostile(kSlots, kBufferBytes), honest(kSlots, kBufferBytes);
  engine.forwarder.add(hostile.shared());
  engine.forwarder.add(honest.shared());
  const std::vector<std::byte> frame(60);
  for (uint32_t i = 0; i < kSlots; ++i) honest.queue(frame);
  honest.publish();
  play(engine, hostile, data, size);
  engine.wire.at_once = kBuffers;
  engine.wire.holds_back = false;
  hostile.sender().close();
  honest.sender().close();
  for (int i = 0; i < 100; ++i) engine.forwarder.round();
  require(honest.sender().gone() && honest.counts().sent == kSlots && honest.counts().pending == 0);
  require(hostile.sender().gone() && hostile.counts().pending == 0);
  require_balance(hostile);
  // Every buffer is free: the next sender gets all of them at once.
  SendMemory last(kSlots, kBufferBytes);
  engine.forwarder.add(last.shared());
  for (uint32_t i = 0; i < kBuffers; ++i) last.queue(frame);
  last.publish();
  engine.wire.holds_back = true;
  engine.forwarder.round();
  require(last.counts().pending == kBuffers);
  return 0;
}

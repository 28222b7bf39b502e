#include "driver/selftest/loop.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstring>

namespace ringcap::selftest {
namespace {

using Clock = std::chrono::steady_clock;

constexpr uint32_t kOnTheirWay = 16;  // frames; fewer than any ring holds
constexpr uint32_t kBurst = 32;
// Much longer than any NIC takes, as long as a machine may stand still.
constexpr std::chrono::seconds kLost{10};
constexpr std::chrono::milliseconds kAgain{50}, kQuiet{100};
constexpr uint32_t kNumberAt = 14, kPatternAt = 18, kCrc = 4;

uint8_t byte_of(Pattern pattern, uint32_t at) {
  switch (pattern) {
    case Pattern::kZeros:
      return 0;
    case Pattern::kOnes:
      return 0xff;
    case Pattern::kAlternating:
      return at % 2 ? 0xaa : 0x55;
    case Pattern::kCounting:
      return static_cast<uint8_t>(at);
    case Pattern::kRandom:
      return static_cast<uint8_t>((at * 2654435761u ^ at * 40503u << 7) >> 17);
  }
  return 0;
}

// What frame `number` has behind its header: made once, and read from another place for each frame.
const std::byte* content_of(Pattern pattern, uint32_t number) {
  constexpr uint32_t kLongest = 16'384, kStep = 256, kPlaces = 61;
  using Table = std::array<std::byte, kLongest + kStep * kPlaces>;
  static const std::vector<Table> tables = [] {
    std::vector<Table> made(std::size(kPatterns));
    for (const Pattern each : kPatterns) {
      for (uint32_t at = 0; at < made[0].size(); ++at)
        made[static_cast<size_t>(each)][at] = std::byte{byte_of(each, at)};
    }
    return made;
  }();
  return tables[static_cast<size_t>(pattern)].data() + size_t{number % kPlaces} * kStep;
}

// From a station to another that nobody is, of a type for experiments (IEEE 802, 9.2.3).
std::array<std::byte, kPatternAt> header_of(uint32_t number) {
  constexpr uint8_t kHead[kNumberAt] = {0x02, 0, 0, 0, 0, 1, 0x02, 0, 0, 0, 0, 2, 0x88, 0xb5};
  std::array<std::byte, kPatternAt> header;
  std::memcpy(header.data(), kHead, sizeof(kHead));
  std::memcpy(header.data() + kNumberAt, &number, sizeof(number));
  return header;
}

void write_frame(std::byte* data, uint32_t number, Shape shape) {
  const auto header = header_of(number);
  std::memcpy(data, header.data(), header.size());
  std::memcpy(data + kPatternAt, content_of(shape.pattern, number), shape.length - kPatternAt);
}

// Of a frame of 60 bytes or more.
uint32_t number_of(const Frame& frame) {
  uint32_t number = 0;
  std::memcpy(&number, frame.data + kNumberAt, sizeof(number));
  return number;
}

}  // namespace

const char* name_of(Pattern pattern) {
  constexpr std::array kNames{"zeros", "ones", "alternating bits", "counting bytes", "random bytes"};
  return kNames[static_cast<size_t>(pattern)];
}

Loop::Loop(std::unique_ptr<Port> port, std::byte* arena, uint64_t arena_bytes)
    : port_(std::move(port)), arena_(arena), arena_bytes_(arena_bytes) {
  const uint32_t bytes = port_->buffer_need();
  region_ = {.base = arena,
             .arena_offset = 0,
             .buffer_bytes = bytes,
             .count = static_cast<uint32_t>(arena_bytes / bytes),
             .number = 0};
  free_ = FreeBuffers(region_.count);
  received_into_.resize(region_.count);
  sent_from_.resize(region_.count);
}

Loop::~Loop() {
  port_->stop();
  if (queue().held() != 0) queue().disarm(free_);
}

Result<void> Loop::start() {
  if (region_.count < queue().descriptors() + 4 * kBurst) {
    return fail(Code::kUsage, fmt::format("an arena of {} bytes is too small for this test", arena_bytes_),
                "ringcap selftest --arena 16M ...");
  }
  if (auto ready = port_->prepare({.arena = arena_, .arena_bytes = arena_bytes_}); !ready) return ready;
  for (uint32_t buffer = 0; buffer < queue().descriptors(); ++buffer) free_.push(buffer);
  for (uint32_t buffer = queue().descriptors(); buffer < region_.count; ++buffer) to_send_.push_back(buffer);
  if (auto armed = queue().arm(region_, free_); !armed) return armed;
  return port_->start();
}

Result<void> Loop::exchange(uint64_t count, const std::function<Shape(uint64_t)>& next,
                            const std::function<bool()>& stopped) {
  const uint64_t end = sent_ + count, first = sent_;
  auto last_seen = Clock::now();
  while ((sent_ < end || !expected_.empty()) && !stopped()) {
    send(end, [&](uint64_t number) { return next(number - first); });
    const Result<uint32_t> came = receive();
    if (!came) return std::unexpected(came.error());
    const auto now = Clock::now();
    if (*came != 0) last_seen = now;
    if (now - last_seen < kLost) continue;
    return fail(Code::kSystem,
                fmt::format("frame {} of {} bytes did not come back within {} s", expected_.front().number,
                            expected_.front().shape.length, kLost.count()));
  }
  return {};
}

// Again and again: what is sent before link is there is lost.
bool Loop::probe(uint32_t deadline_ms, const std::function<bool()>& stopped) {
  const auto end = Clock::now() + std::chrono::milliseconds(deadline_ms);
  auto again = Clock::now();
  bool came = false;
  while (!came && Clock::now() < end && !stopped()) {
    settle();
    if (Clock::now() >= again && send_one({})) again += kAgain;
    const auto taken = take([&](const Frame& frame) -> Result<void> {
      came = came || number_of(frame) < sent_;
      return {};
    });
    if (!taken) return false;
  }
  const auto quiet = Clock::now() + kQuiet;
  while (came && Clock::now() < quiet && !stopped()) {
    settle();
    if (!take([](const Frame&) -> Result<void> { return {}; })) return false;
  }
  expected_.clear();
  counted_from_ = sent_;
  return came;
}

// ---- sending -------------------------------------------------------------------------------------------

void Loop::send(uint64_t count, const std::function<Shape(uint64_t)>& next) {
  settle();
  while (sent_ < count && expected_.size() < kOnTheirWay) {
    if (!send_one(next(sent_))) return;
  }
}

bool Loop::send_one(Shape shape) {
  if (to_send_.empty()) std::swap(to_send_, to_receive_);  // many were lost
  if (to_send_.empty()) return false;
  const uint32_t buffer = to_send_.front();
  const auto number = static_cast<uint32_t>(sent_);
  write_frame(region_.buffer(buffer), number, shape);
  const TransmitFrame frame{.data = region_.buffer(buffer),
                            .arena_offset = region_.arena_offset + uint64_t{buffer} * region_.buffer_bytes,
                            .length = shape.length,
                            .cookie = buffer};
  if (port_->transmit_queues()[0]->transmit({&frame, 1}) != 1) return false;
  to_send_.pop_front();
  sent_from_[buffer] = true;
  expected_.push_back({number, shape});
  ++sent_;
  return true;
}

void Loop::settle() {
  std::array<uint32_t, kBurst> cookies;
  const uint32_t count = port_->transmit_queues()[0]->completed(cookies);
  to_receive_.insert(to_receive_.end(), cookies.begin(), cookies.begin() + count);
}

// ---- receiving -----------------------------------------------------------------------------------------

Result<uint32_t> Loop::receive() {
  return take([&](const Frame& frame) -> Result<void> {
    if (number_of(frame) < counted_from_) return {};  // one of probe()'s that was late
    if (expected_.empty()) return fail(Code::kSystem, "a frame came that nobody sent");
    const Expected expected = expected_.front();
    expected_.pop_front();
    return compare(frame, expected);
  });
}

// Free buffers are given to the queue only when those it had are used up, and never more are taken than there
// are: so each has its turn.
Result<uint32_t> Loop::take(const std::function<Result<void>(const Frame&)>& use) {
  for (uint32_t i = free_.empty() ? kBurst : 0; i > 0 && !to_receive_.empty(); --i) {
    free_.push(to_receive_.front());
    to_receive_.pop_front();
  }
  std::array<Frame, kBurst> frames;
  const Burst burst = free_.empty()
                          ? Burst{}
                          : queue().receive(std::span(frames).first(std::min(kBurst, free_.size())), free_);
  if (burst.broken != 0)
    return fail(Code::kSystem, fmt::format("the NIC reported {} broken frames", burst.broken));
  for (uint32_t i = 0; i < burst.frames; ++i) {
    to_send_.push_back(frames[i].buffer);
    received_into_[frames[i].buffer] = true;
    ++delivered_;
    bytes_ += frames[i].length + kCrc;
    if (auto fine = use(frames[i]); !fine) return std::unexpected(fine.error());
  }
  return burst.frames;
}

Result<void> Loop::compare(const Frame& frame, const Expected& expected) const {
  const uint32_t length = expected.shape.length;
  const auto header = header_of(expected.number);
  const std::byte* content = content_of(expected.shape.pattern, expected.number);
  if (frame.captured == length && std::memcmp(frame.data, header.data(), kPatternAt) == 0 &&
      std::memcmp(frame.data + kPatternAt, content, length - kPatternAt) == 0)
    return {};
  const std::string which =
      fmt::format("frame {} ({} bytes, {})", expected.number, length, name_of(expected.shape.pattern));
  if (const uint32_t number = number_of(frame); number != expected.number)
    return fail(Code::kSystem, fmt::format("{} did not come back; number {} came instead", which, number));
  if (frame.captured != length)
    return fail(Code::kSystem, fmt::format("{} came back with {} bytes", which, frame.captured));
  const auto sent = [&](uint32_t at) { return at < kPatternAt ? header[at] : content[at - kPatternAt]; };
  uint32_t at = 0;
  while (at + 1 < length && frame.data[at] == sent(at)) ++at;
  return fail(Code::kSystem,
              fmt::format("{} came back with byte {} as {:#04x}, sent was {:#04x}", which, at,
                          static_cast<uint32_t>(frame.data[at]), static_cast<uint32_t>(sent(at))));
}

uint32_t Loop::never_received() const {
  return static_cast<uint32_t>(std::ranges::count(received_into_, false));
}
uint32_t Loop::never_sent() const { return static_cast<uint32_t>(std::ranges::count(sent_from_, false)); }

}  // namespace ringcap::selftest

#include "driver/selftest/spread.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstring>

namespace ringcap::selftest {
namespace {

using Clock = std::chrono::steady_clock;
using FrameBytes = std::array<std::byte, 64>;

constexpr uint32_t kOnTheirWay = 16;  // frames; fewer than any ring holds
constexpr uint32_t kBurst = 32, kSpare = 32;
constexpr uint32_t kNumberAt = 34, kNumbers = Spread::kFlows * Spread::kRounds;
// The number of probe()'s frames.
constexpr uint32_t kProbe = 1u << 30;
// Much longer than any NIC takes, as long as a machine may stand still.
constexpr std::chrono::seconds kLost{10};
constexpr std::chrono::milliseconds kAgain{50}, kQuiet{100};

// RFC 1071, of IPv4's header.
void put_checksum(FrameBytes& frame) {
  uint32_t sum = 0;
  for (uint32_t at = 14; at < 34; at += 2)
    sum += static_cast<uint32_t>(frame[at]) << 8 | static_cast<uint32_t>(frame[at + 1]);
  sum = (sum & 0xffff) + (sum >> 16);
  sum = ~((sum & 0xffff) + (sum >> 16));
  frame[24] = static_cast<std::byte>(sum >> 8);
  frame[25] = static_cast<std::byte>(sum);
}

// The last 17 bits of a flow's two addresses, at random. A Toeplitz hash is linear, and its key is drawn anew
// at each start: were only a few bits different, there would be keys by which a queue gets none of the flows
// (with 11 bits and 16 queues, one key in 140; with 34, one in 10^9).
std::array<uint32_t, 2> ends_of(uint32_t flow) {
  uint64_t mixed = (flow + 1) * 0x9e37'79b9'7f4a'7c15u;  // splitmix64's finaliser
  mixed = (mixed ^ mixed >> 30) * 0xbf58'476d'1ce4'e5b9u;
  mixed = (mixed ^ mixed >> 27) * 0x94d0'49bb'1331'11ebu;
  mixed ^= mixed >> 31;
  return {static_cast<uint32_t>(mixed & 0x1'ffff), static_cast<uint32_t>(mixed >> 17 & 0x1'ffff)};
}

void put_address(FrameBytes& frame, uint32_t at, uint32_t address) {
  for (uint32_t i = 0; i < 4; ++i) frame[at + i] = static_cast<std::byte>(address >> (24 - 8 * i));
}

// IPv4 of a protocol for experiments (RFC 3692: 253), between addresses for tests of network devices (RFC
// 2544: 198.18.0.0/15), which tell the flows apart: every NIC that has RSS hashes those.
FrameBytes frame_of(uint32_t number) {
  constexpr uint8_t kHead[] = {0x02, 0,    0, 0, 0,  1, 0x02, 0, 0, 0,  0,   2, 0x08,
                               0x00, 0x45, 0, 0, 50, 0, 0,    0, 0, 64, 253, 0, 0};
  constexpr uint32_t kNetwork = 198u << 24 | 18u << 16;
  FrameBytes frame{};
  std::memcpy(frame.data(), kHead, sizeof(kHead));
  const auto [from, to] = ends_of(number % Spread::kFlows);
  put_address(frame, 26, kNetwork + from);
  put_address(frame, 30, kNetwork + to);
  put_checksum(frame);
  std::memcpy(frame.data() + kNumberAt, &number, sizeof(number));
  for (uint32_t at = kNumberAt + sizeof(number); at < frame.size(); ++at)
    frame[at] = static_cast<std::byte>(number * 7 + at);
  return frame;
}

uint32_t number_of(const Frame& frame) {
  uint32_t number = 0;
  std::memcpy(&number, frame.data + kNumberAt, sizeof(number));
  return number;
}

}  // namespace

Spread::Spread(std::unique_ptr<Port> port, std::byte* arena, uint64_t arena_bytes)
    : port_(std::move(port)),
      arena_(arena),
      arena_bytes_(arena_bytes),
      queue_of_(kFlows, -1),
      came_(kNumbers) {
  const uint32_t bytes = port_->buffer_need();
  uint64_t at = 0;
  const auto region = [&](uint32_t count, size_t number) {
    const Region made{.base = arena_ + at,
                      .arena_offset = at,
                      .buffer_bytes = bytes,
                      .count = count,
                      .number = static_cast<uint8_t>(number)};
    at += uint64_t{count} * bytes;
    return made;
  };
  queues_.reserve(port_->receive_queues().size());
  for (const auto& queue : port_->receive_queues()) {
    const uint32_t count = queue->descriptors() + kSpare;
    queues_.push_back({queue.get(), region(count, queues_.size()), FreeBuffers(count)});
  }
  outgoing_ = region(kOnTheirWay, queues_.size());
  to_send_ = FreeBuffers(kOnTheirWay);
}

Spread::~Spread() {
  port_->stop();
  for (Queue& each : queues_)
    if (each.queue->held() != 0) each.queue->disarm(each.free);
}

Result<void> Spread::start() {
  const uint64_t needed = outgoing_.arena_offset + uint64_t{outgoing_.count} * outgoing_.buffer_bytes;
  if (needed > arena_bytes_) {
    return fail(Code::kUsage, fmt::format("an arena of {} bytes is too small for this test", arena_bytes_),
                "ringcap selftest --arena 16M ...");
  }
  if (auto ready = port_->prepare({.arena = arena_, .arena_bytes = arena_bytes_}); !ready) return ready;
  for (Queue& each : queues_) {
    for (uint32_t buffer = 0; buffer < each.region.count; ++buffer) each.free.push(buffer);
    if (auto armed = each.queue->arm(each.region, each.free); !armed) return armed;
  }
  for (uint32_t buffer = 0; buffer < outgoing_.count; ++buffer) to_send_.push(buffer);
  return port_->start();
}

// ---- exchange ------------------------------------------------------------------------------------------

Result<void> Spread::exchange(uint32_t deadline_ms, const std::function<bool()>& stopped) {
  if (!probe(deadline_ms, stopped)) {
    if (stopped()) return {};
    return fail(Code::kSystem, fmt::format("nothing comes back with {} queues", queues_.size()));
  }
  uint32_t sent = 0;
  auto last_seen = Clock::now();
  while (back_ < kNumbers && !stopped()) {
    while (sent < kNumbers && sent - back_ < kOnTheirWay && send(sent)) ++sent;
    const uint32_t before = back_;
    const auto fine = receive([&](uint32_t queue, const Frame& frame) { return check(queue, frame); });
    if (!fine) return fine;
    const auto now = Clock::now();
    if (back_ != before) last_seen = now;
    if (now - last_seen < kLost) continue;
    const auto missing = static_cast<uint32_t>(std::ranges::find(came_, false) - came_.begin());
    return fail(Code::kSystem, fmt::format("frame {} of flow {} did not come back within {} s",
                                           missing / kFlows, missing % kFlows, kLost.count()));
  }
  return {};
}

// What is sent before link is there is lost. At the end nothing is on its way.
bool Spread::probe(uint32_t deadline_ms, const std::function<bool()>& stopped) {
  const auto end = Clock::now() + std::chrono::milliseconds(deadline_ms);
  auto again = Clock::now();
  bool came = false;
  const auto look = [&](uint32_t, const Frame& frame) -> Result<void> {
    came = came || number_of(frame) == kProbe;
    return {};
  };
  while (!came && Clock::now() < end && !stopped()) {
    if (Clock::now() >= again && send(kProbe)) again += kAgain;
    if (!receive(look)) return false;
  }
  const auto quiet = Clock::now() + kQuiet;
  while (came && Clock::now() < quiet && !stopped())
    if (!receive(look)) return false;
  return came;
}

bool Spread::send(uint32_t number) {
  TransmitQueue& queue = *port_->transmit_queues()[0];
  std::array<uint32_t, kBurst> cookies;
  const uint32_t done = queue.completed(cookies);
  for (uint32_t i = 0; i < done; ++i) to_send_.push(cookies[i]);
  if (to_send_.empty()) return false;
  const uint32_t buffer = to_send_.pop();
  const FrameBytes bytes = frame_of(number);
  std::memcpy(outgoing_.buffer(buffer), bytes.data(), bytes.size());
  const TransmitFrame frame{
      .data = outgoing_.buffer(buffer),
      .arena_offset = outgoing_.arena_offset + uint64_t{buffer} * outgoing_.buffer_bytes,
      .length = static_cast<uint32_t>(bytes.size()),
      .cookie = buffer};
  if (queue.transmit({&frame, 1}) == 1) return true;
  to_send_.push(buffer);
  return false;
}

// From every queue what is there; after the first that is not fine, no more.
Result<void> Spread::receive(const std::function<Result<void>(uint32_t queue, const Frame&)>& use) {
  std::array<Frame, kBurst> frames;
  for (uint32_t number = 0; number < queues_.size(); ++number) {
    Queue& from = queues_[number];
    const Burst burst = from.queue->receive(frames, from.free);
    Result<void> fine;
    for (uint32_t i = 0; i < burst.frames; ++i) {
      if (fine) fine = use(number, frames[i]);
      from.free.push(frames[i].buffer);
    }
    if (!fine) return fine;
    if (burst.broken == 0) continue;
    return fail(Code::kSystem,
                fmt::format("the NIC reported {} broken frames in receive queue {}", burst.broken, number));
  }
  return {};
}

Result<void> Spread::check(uint32_t queue, const Frame& frame) {
  const uint32_t number = number_of(frame);
  if (number == kProbe) return {};  // one that was late
  const FrameBytes expected = frame_of(number);
  if (number >= kNumbers || frame.captured != expected.size() ||
      std::memcmp(frame.data, expected.data(), expected.size()) != 0)
    return fail(Code::kSystem, fmt::format("a frame came back changed through receive queue {}", queue));
  const uint32_t flow = number % kFlows;
  if (came_[number]) return fail(Code::kSystem, fmt::format("a frame of flow {} came back twice", flow));
  if (number < queues_[queue].next)
    return fail(
        Code::kSystem,
        fmt::format("a frame of flow {} came after a later one through receive queue {}", flow, queue));
  if (queue_of_[flow] >= 0 && queue_of_[flow] != static_cast<int>(queue)) {
    return fail(Code::kSystem, fmt::format("flow {} came through receive queue {}, and then through {}", flow,
                                           queue_of_[flow], queue));
  }
  queue_of_[flow] = static_cast<int>(queue);
  queues_[queue].next = number + 1;
  came_[number] = true;
  ++back_;
  return {};
}

std::vector<uint32_t> Spread::flows_of_queues() const {
  std::vector<uint32_t> flows(queues_.size());
  for (const int queue : queue_of_)
    if (queue >= 0) ++flows[static_cast<size_t>(queue)];
  return flows;
}

}  // namespace ringcap::selftest

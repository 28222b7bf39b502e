#include "driver/tap/queue.h"

#include <sys/eventfd.h>
#include <sys/uio.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

namespace ringcap::tap {

namespace {

// Frames start at one of eight cache lines: see docs/architecture.md.
constexpr uint32_t kColours = 8;
constexpr uint32_t kLine = 64;
// More than the longest frame of any TAP: an MTU of 65,521, header and tag.
constexpr uint32_t kRestBytes = 65536 + kLine;

}  // namespace

TapQueue::TapQueue(int fd, Device& device, bool alone, uint32_t longest, Fd quiet)
    : fd_(fd),
      device_(device),
      alone_(alone),
      longest_(longest),
      quiet_(std::move(quiet)),
      rest_(new std::byte[kRestBytes]) {}

Result<void> TapQueue::arm(const Region& region, FreeBuffers&) {
  region_ = region;
  return {};
}

void TapQueue::start() {
  running_.store(true, std::memory_order_release);  // pairs with open()
  ::eventfd_write(quiet_.get(), 1);
}

void TapQueue::disable_wake() {
  eventfd_t drained = 0;
  ::eventfd_read(quiet_.get(), &drained);
}

Burst TapQueue::receive(std::span<Frame> out, FreeBuffers& free) {
  Burst burst;
  uint32_t taken = 0;
  for (; open() && taken < out.size(); ++taken) {
    const bool room = !free.empty();
    const uint32_t buffer = room ? *free.top(1) : 0;
    const uint32_t start = room ? colour(buffer) : 0;
    const ssize_t bytes = room ? read_frame(region_.buffer(buffer) + start, region_.buffer_bytes - start)
                               : read_frame(nullptr, 0);
    if (bytes < 0 && (errno == EAGAIN || errno == EINTR)) break;
    if (bytes < 0 && errno == EBADFD) {
      gone_ = true;
      break;
    }
    if (bytes < 0) {
      ++burst.broken;
    } else if (!room) {
      ++burst.no_buffer;
    } else {
      burst.cut += fill(out[burst.frames++], free.pop(), static_cast<uint32_t>(bytes));
    }
  }
  burst.copied = burst.frames;
  if (taken != 0) taken_.store(taken_.load(std::memory_order_relaxed) + taken, std::memory_order_relaxed);
  return burst;
}

// The frame's length, though only `room` bytes of it are at `data`; the others are in rest_.
ssize_t TapQueue::read_frame(std::byte* data, uint32_t room) {
  const std::array parts{iovec{.iov_base = data, .iov_len = room},
                         iovec{.iov_base = rest_.get(), .iov_len = kRestBytes}};
  return ::readv(fd_, parts.data(), static_cast<int>(parts.size()));
}

bool TapQueue::fill(Frame& frame, uint32_t buffer, uint32_t length) {
  const uint32_t start = colour(buffer);
  const uint32_t room = region_.buffer_bytes - start;
  frame = Frame{};
  frame.length = length;
  frame.captured = static_cast<uint16_t>(std::min(length, region_.buffer_bytes));
  frame.data = region_.buffer(buffer) + start;
  frame.buffer = buffer;
  if (length > room) straighten(frame, room);
  const bool cut = frame.captured < length;
  frame.flags = static_cast<uint16_t>(layout::kCopied | layout::kOutgoing | (cut ? layout::kTruncated : 0));
  return cut;
}

// A frame that only fits a buffer from its start on, or not at all.
void TapQueue::straighten(Frame& frame, uint32_t room) const {
  std::byte* const start = region_.buffer(frame.buffer);
  std::memmove(start, frame.data, room);
  std::memcpy(start + room, rest_.get(), frame.captured - room);
  frame.data = start;
}

uint32_t TapQueue::colour(uint32_t buffer) const {
  const uint32_t offset = buffer % kColours * kLine;
  return offset + longest_ <= region_.buffer_bytes ? offset : 0;
}

QueueCounters TapQueue::counters() {
  if (!alone_) return {.bad = 0};
  const uint64_t missed = device_.dropped();
  return {.received = taken() + missed, .missed = missed, .bad = 0};
}

}  // namespace ringcap::tap

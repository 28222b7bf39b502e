#include "driver/packet/queue.h"

#include <linux/if_ether.h>
#include <linux/if_packet.h>

#include <algorithm>

#include "capture/base/monotonic.h"
#include "driver/packet/copy.h"

namespace ringcap::packet {

namespace {

// Frames start at one of so many lines of their buffer in turn. Starts that are a power of two apart fall
// into the same few sets of the first-level cache.
constexpr uint32_t kColours = 16;
constexpr uint32_t kTargetsAhead = 8;
// How long a worker sleeps while blocks come full. A ring has room for several times that at the rate that
// the kernel can do.
constexpr uint64_t kGatherNs = 2'000'000;
// A block is handed over after kRetireMs; kernels before 6.18 round that up to a tick and may add one
// (4 ms each on Debian). Then its worker may be asleep by the clock.
constexpr uint64_t kLagNs = 8'000'000 + kGatherNs;
// Frames of two processors can reach the ring in another order than they were stamped, by a moment. Back
// by more than this is the clock being set.
constexpr uint64_t kReorderNs = 100'000'000;

// One writer, so no read-modify-write.
void add(std::atomic<uint64_t>& counter, uint64_t count) {
  counter.store(counter.load(std::memory_order_relaxed) + count, std::memory_order_relaxed);
}

}  // namespace

PacketQueue::PacketQueue(PacketSocket socket, bool ethernet)
    : socket_(std::move(socket)),
      ring_(socket_.ring().data(), kBlockBytes, socket_.blocks()),
      ethernet_(ethernet) {}

uint64_t PacketQueue::lag_ns() const { return kLagNs; }

Result<void> PacketQueue::arm(const Region& region, FreeBuffers&) {
  if (region.buffer_bytes < 2 * kLine) return fail(Code::kUsage, "buffers are too small for packet:");
  region_ = region;
  add(abandoned_, ring_.discard());
  armed_.store(true, std::memory_order_relaxed);
  return {};
}

void PacketQueue::disarm(FreeBuffers&) { armed_.store(false, std::memory_order_relaxed); }

void PacketQueue::enable_wake() { gather_until_ns_ = ring_.take_full() ? monotonic_ns() + kGatherNs : 0; }

void PacketQueue::disable_wake() {
  gather_until_ns_ = 0;
  socket_.clear_error();
}

Result<void> PacketQueue::start() { return socket_.accept(region_.buffer_bytes); }

Burst PacketQueue::receive(std::span<Frame> out, FreeBuffers& free) {
  Burst burst;
  uint32_t taken = 0;
  for (; taken < out.size() && ring_.ready(); ++taken) {
    fetch_target(free);
    const KernelFrame from = ring_.front();
    if (from.data == nullptr) {
      ++burst.broken;
    } else if (free.empty()) {
      ++burst.no_buffer;
    } else {
      burst.cut += fill(out[burst.frames++], from, free.pop());
    }
    ring_.advance();
  }
  burst.copied = burst.frames;
  if (taken != 0) add(taken_, taken);
  return burst;
}

// Asks for the line that a frame some frames from now goes to: each buffer is on a page of its own, so a
// store to it waits for the page's translation.
void PacketQueue::fetch_target(const FreeBuffers& free) const {
  if (free.size() >= kTargetsAhead) __builtin_prefetch(place(*free.top(kTargetsAhead), kLine), 1);
}

bool PacketQueue::fill(Frame& frame, const KernelFrame& from, uint32_t buffer) {
  const bool tagged =
      ethernet_ && (from.status & TP_STATUS_VLAN_VALID) != 0 && from.captured >= kAddressesBytes;
  const uint32_t bytes = std::min(from.captured, region_.buffer_bytes);
  uint32_t captured = bytes;
  frame = Frame{};
  frame.buffer = buffer;
  frame.data = place(buffer, bytes + kTagBytes);
  const auto room = static_cast<uint32_t>(region_.buffer(buffer) + region_.buffer_bytes - frame.data);
  if (tagged) {
    const bool tpid_known = (from.status & TP_STATUS_VLAN_TPID_VALID) != 0;
    const uint16_t tpid = tpid_known ? from.vlan_tpid : uint16_t{ETH_P_8021Q};
    captured = copy_with_tag(frame.data, from.data, bytes, tpid, from.vlan_tci, room);
  } else {
    copy_bytes(frame.data, from.data, bytes, from.readable, room);
  }
  frame.timestamp_ns = stamp(from.timestamp_ns);
  frame.captured = static_cast<uint16_t>(captured);
  frame.length = from.length + (tagged ? kTagBytes : 0);
  frame.flags = layout::kCopied;
  if (from.type == PACKET_OUTGOING) frame.flags |= layout::kOutgoing;
  const bool cut = captured < frame.length;
  if (cut) frame.flags |= layout::kTruncated;
  return cut;
}

// Where a frame of at most `bytes` bytes goes: coloured where it fits, else at the buffer's start.
std::byte* PacketQueue::place(uint32_t buffer, uint32_t bytes) const {
  const uint32_t colour = buffer % kColours * kLine;
  return region_.buffer(buffer) + (colour + bytes + kLine <= region_.buffer_bytes ? colour : 0);
}

// Within a ring time never goes back, unless the clock was set.
uint64_t PacketQueue::stamp(uint64_t timestamp_ns) {
  const bool reordered = timestamp_ns < last_ns_ && last_ns_ - timestamp_ns < kReorderNs;
  if (!reordered) last_ns_ = timestamp_ns;
  return last_ns_;
}

QueueCounters PacketQueue::counters() {
  const Statistics statistics = socket_.take_statistics();
  received_ += statistics.received;
  dropped_ += statistics.dropped;
  const uint64_t settled =
      taken_.load(std::memory_order_relaxed) + abandoned_.load(std::memory_order_relaxed) + dropped_;
  uint64_t missed = dropped_ + abandoned_.load(std::memory_order_relaxed);
  if (!armed_.load(std::memory_order_relaxed) && received_ > settled) missed += received_ - settled;
  return {.received = received_, .missed = missed, .bad = 0};
}

}  // namespace ringcap::packet

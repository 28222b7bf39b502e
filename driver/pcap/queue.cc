#include "driver/pcap/queue.h"

#include <algorithm>
#include <cstring>

#include "capture/base/monotonic.h"
#include "capture/frame/parse.h"

namespace ringcap::pcap {
namespace {

constexpr uint32_t kMaxLooks = 1024;  // frames that one receive() looks at, those of other queues included
constexpr HashKey kFlowKey{0x72696e67'6361702d, 0x66696c65'666c6f77};
constexpr uint64_t kForEver = ~uint64_t{0};
constexpr uint32_t kColours = 8;  // frames start at one of eight cache lines: see docs/architecture.md

}  // namespace

PcapQueue::PcapQueue(pcapfile::Reader reader, const PcapOptions& options, uint32_t number, const Start& start)
    : reader_(std::move(reader)),
      start_(start),
      number_(number),
      queues_(options.queues),
      waits_(options.full_waits),
      paced_(options.speed != 0),
      passes_left_(options.loop == 0 ? kForEver : options.loop - 1),
      timeline_(options.speed) {}

Result<void> PcapQueue::arm(const Region& region, FreeBuffers&) {
  region_ = region;
  return {};
}

Burst PcapQueue::receive(std::span<Frame> out, FreeBuffers& free) {
  Burst burst;
  const uint64_t origin_ns = start_.origin_ns.load(std::memory_order_acquire);
  if (origin_ns == 0 || ended_.load(std::memory_order_relaxed)) return burst;
  const uint64_t now_ns = paced_ ? monotonic_ns() : 0;
  for (uint32_t look = 0; look < kMaxLooks && burst.frames + burst.no_buffer < out.size(); ++look) {
    if (!have_frame_ && !find_frame()) break;
    if (!have_frame_) continue;
    if (paced_ && origin_ns + due_after_ns_ > now_ns) break;
    if (free.empty() && waits_) break;
    have_frame_ = false;
    if (free.empty())
      ++burst.no_buffer;
    else {
      burst.cut += record_.captured > region_.buffer_bytes;
      fill(out[burst.frames++], free.pop());
    }
  }
  burst.copied = burst.frames;
  const uint64_t received = received_.load(std::memory_order_relaxed) + burst.frames + burst.no_buffer;
  received_.store(received, std::memory_order_relaxed);
  return burst;
}

// Looks at the next frame of the file; have_frame_ says whether it is ours. False: there is none for now.
bool PcapQueue::find_frame() {
  switch (reader_.next(record_)) {
    case pcapfile::Reader::Status::kRecord:
      stamp_ns_ = timeline_.stamp(record_.timestamp_ns);
      have_frame_ = queues_ == 1 || is_mine();
      if (paced_) due_after_ns_ = timeline_.due_after_ns(stamp_ns_);
      return true;
    case pcapfile::Reader::Status::kNotYet:
      return false;
    case pcapfile::Reader::Status::kEnd:
      return begin_pass();
    case pcapfile::Reader::Status::kError:
      end(reader_.error().message());
  }
  return false;
}

bool PcapQueue::begin_pass() {
  const bool again = passes_left_ > 0 && timeline_.begin_pass();
  if (!again) {
    end({});
    return false;
  }
  if (passes_left_ != kForEver) --passes_left_;
  if (const Result<void> done = reader_.rewind(); !done) {
    end(done.error().message());
    return false;
  }
  return true;
}

void PcapQueue::end(std::string problem) {
  problem_ = std::move(problem);
  ended_.store(true, std::memory_order_release);  // pairs with ended()
}

bool PcapQueue::is_mine() {
  if (record_.link_type != 1) return number_ == 0;  // the parser knows Ethernet
  Frame frame{.timestamp_ns = record_.timestamp_ns,
              .captured = static_cast<uint16_t>(std::min<uint32_t>(record_.captured, UINT16_MAX)),
              .data = const_cast<std::byte*>(record_.data)};  // the parser only reads
  parse_frame(frame, kFlowKey, fragments_);
  return frame.hash % queues_ == number_;
}

void PcapQueue::fill(Frame& frame, uint32_t buffer) const {
  const uint32_t captured = std::min(record_.captured, region_.buffer_bytes);
  const uint32_t colour = buffer % kColours * 64;
  std::byte* const data = region_.buffer(buffer) + (captured + colour <= region_.buffer_bytes ? colour : 0);
  std::memcpy(data, record_.data, captured);
  const int flags = layout::kCopied | (captured < record_.length ? layout::kTruncated : 0);
  frame = {.timestamp_ns = stamp_ns_,
           .length = record_.length,
           .captured = static_cast<uint16_t>(captured),
           .flags = static_cast<uint16_t>(flags),
           .data = data,
           .buffer = buffer};
}

QueueCounters PcapQueue::counters() {
  return {.received = received_.load(std::memory_order_relaxed), .missed = 0, .bad = 0};
}

// Only where the next thing to come is what a pipe's writer writes.
int PcapQueue::wait_fd() const {
  const bool stopped = start_.origin_ns.load(std::memory_order_relaxed) == 0;
  return reader_.seekable() || have_frame_ || stopped || ended() ? -1 : reader_.fd();
}

uint64_t PcapQueue::next_due_ns() const {
  const uint64_t origin_ns = start_.origin_ns.load(std::memory_order_relaxed);
  if (origin_ns == 0) return monotonic_ns() + 1'000'000;  // look again whether it has started
  return paced_ && have_frame_ ? origin_ns + due_after_ns_ : 0;
}

}  // namespace ringcap::pcap

#include "driver/gen/port.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <bit>
#include <cstring>
#include <utility>

#include "capture/base/monotonic.h"
#include "driver/gen/frames.h"

namespace ringcap {
namespace {

constexpr uint32_t kArmed = 1024;
constexpr uint32_t kPrefetchAhead = 16;
constexpr uint32_t kColours = 8;  // frames start at one of eight cache lines: see docs/architecture.md

class GenQueue final : public ReceiveQueue {
 public:
  GenQueue(const GenOptions& options, uint32_t queue)
      : options_(options),
        fixed_length_(options.size),
        left_(options.count == 0 ? ~uint64_t{0} : share(options.count, queue, options.queues)),
        rate_(static_cast<double>(options.rate) / options.queues) {
    for (const uint32_t length :
         fixed_length_ != 0 ? std::vector<uint32_t>{fixed_length_} : std::vector<uint32_t>{64, 594, 1514})
      templates_.push_back(gen::make_templates(options.mix,
                                               std::max<uint64_t>(options.flows / options.queues, 1), length,
                                               options.seed + queue * 0x1000193ull));
    flows_ = templates_.front().frames.size();
    plain_ = fixed_length_ != 0 && options.write == gen::Write::kHead &&
             (options.mix == gen::Mix::kIpv4 || options.mix == gen::Mix::kVlan);
  }

  uint32_t descriptors() const override { return kArmed; }
  uint32_t held() const override { return held_; }
  layout::Clock clock() const override { return layout::Clock::kHost; }
  bool ended() const override { return ended_.load(std::memory_order_relaxed); }
  bool waits_for_takers() const override { return options_.waits; }
  void enable_flow(bool on) { running_.store(on, std::memory_order_release); }

  QueueCounters counters() override {
    const uint64_t missed = missed_.load(std::memory_order_relaxed);
    return {.received = produced_.load(std::memory_order_relaxed) + missed, .missed = missed, .bad = 0};
  }

  Result<void> arm(const Region& region, FreeBuffers& free) override {
    region_ = region;
    if (free.size() < kArmed) return fail(Code::kSystem, "too few buffers for the generator's queue");
    for (auto& buffer : armed_) buffer = free.pop();
    held_ = kArmed;
    const uint32_t longest = fixed_length_ != 0 ? fixed_length_ : 1514;
    const uint32_t spare = region.buffer_bytes - std::min(region.buffer_bytes, longest);
    colours_ = std::min(kColours, std::bit_floor(spare / 64 + 1)) - 1;
    return {};
  }

  void disarm(FreeBuffers& free) override {
    for (uint32_t i = 0; i < held_; ++i) free.push(armed_[i]);
    held_ = 0;
  }

  Burst receive(std::span<Frame> out, FreeBuffers& free) override {
    const auto due = static_cast<uint32_t>(std::min<uint64_t>(due_frames(), out.size()));
    if (due == 0) return {};
    const uint32_t frames = std::min(due, free.size());
    if (plain_)
      fill_plain(out.data(), frames, free);
    else
      fill_other(out.data(), frames, free);
    Burst burst{.frames = frames};
    if (!waits_for_takers()) {  // the NIC's frames came all the same: their buffers stay armed
      burst.no_buffer = due - frames;
      sequence_ += burst.no_buffer;
    }
    note_taken(burst.frames + burst.no_buffer);
    return burst;
  }

  // Only a paced generator has a next frame to wait for.
  uint64_t next_due_ns() const override {
    if (!running_.load(std::memory_order_relaxed)) return monotonic_ns() + 1'000'000;
    if (rate_ == 0) return 0;
    return started_ns_ + static_cast<uint64_t>(static_cast<double>(paced_ + 1) * 1e9 / rate_);
  }

 private:
  static uint64_t share(uint64_t count, uint32_t queue, uint32_t queues) {
    return count / queues + (queue < count % queues ? 1 : 0);
  }

  // How many frames have come by now. More than the armed buffers hold are missed, as a NIC would.
  uint64_t due_frames() {
    if (!running_.load(std::memory_order_acquire) || ended_.load(std::memory_order_relaxed)) return 0;
    if (rate_ == 0) return left_;
    const uint64_t now = monotonic_ns();
    if (started_ns_ == 0) started_ns_ = now;
    const auto until = static_cast<uint64_t>(static_cast<double>(now - started_ns_) * rate_ / 1e9);
    uint64_t due = std::min(until - std::min(until, paced_), left_);
    if (due > kArmed && !waits_for_takers()) {
      const uint64_t missed = due - kArmed;
      missed_.store(missed_.load(std::memory_order_relaxed) + missed, std::memory_order_relaxed);
      count_down(missed);
      paced_ += missed;
      sequence_ += missed;
      due = kArmed;
    }
    return due;
  }

  void note_taken(uint64_t taken) {
    produced_.store(produced_.load(std::memory_order_relaxed) + taken, std::memory_order_relaxed);
    paced_ += taken;
    count_down(taken);
  }

  void count_down(uint64_t frames) {
    if (options_.count == 0) return;
    left_ -= frames;
    if (left_ == 0) ended_.store(true, std::memory_order_relaxed);
  }

  // What a Frame of a fixed length says beside where it is, as it lies in a Frame: one store.
  struct FixedPart {
    uint64_t location = 0;
    uint32_t length;
    uint32_t hash = 0;
    uint16_t captured;
    uint16_t flags = 0;
    uint32_t offsets_source_reserved = 0;
  };
  static_assert(sizeof(FixedPart) == offsetof(Frame, data) - offsetof(Frame, location));

  // As DMA would: writes frames into the armed buffers, and arms others in their place. The members it
  // works with are in locals: a store of bytes may change anything, as far as the compiler knows.
  void fill_plain(Frame* out, uint32_t frames, FreeBuffers& free) {
    const uint32_t* fresh = free.top(frames) + frames;
    uint32_t* const armed = armed_.data();
    std::byte* const base = region_.base;
    const size_t buffer_bytes = region_.buffer_bytes;
    const uint32_t colours = colours_;
    const auto start = [&](uint32_t buffer) {
      return base + buffer * buffer_bytes + size_t{64} * (buffer & colours);
    };
    const FixedPart fixed{.length = fixed_length_, .captured = static_cast<uint16_t>(fixed_length_)};
    const gen::Template* const templates = templates_.front().frames.data();
    const uint64_t flows = flows_;
    uint64_t flow = flow_, sequence = sequence_;
    uint32_t next = next_;
    for (uint32_t i = 0; i < frames; ++i) {
      // A device would have written into our cache already; we fetch the line that comes some frames later.
      __builtin_prefetch(start(armed[(next + kPrefetchAhead) % kArmed]), 1);
      const uint32_t buffer = std::exchange(armed[next++ % kArmed], *--fresh);
      std::byte* data = start(buffer);
      std::memcpy(data, &templates[flow], sizeof(gen::Template));
      std::memcpy(data + gen::kSequenceOffset, &sequence, sizeof sequence);
      std::memcpy(&out[i].location, &fixed, sizeof fixed);
      out[i].data = data;
      out[i].buffer = buffer;
      ++sequence;
      flow = flow + 1 == flows ? 0 : flow + 1;
    }
    flow_ = flow;
    sequence_ = sequence;
    next_ = next;
    free.drop(frames);
  }

  // The same for imix, IPv6, write=0 and write=all.
  void fill_other(Frame* out, uint32_t frames, FreeBuffers& free) {
    for (uint32_t i = 0; i < frames; ++i) {
      const uint32_t buffer = std::exchange(armed_[next_++ % kArmed], free.pop());
      std::byte* data = region_.buffer(buffer) + size_t{64} * (buffer & colours_);
      const uint32_t length = write_other(data);
      out[i] = {};
      out[i].length = length;
      out[i].captured = static_cast<uint16_t>(length);
      out[i].data = data;
      out[i].buffer = buffer;
      ++sequence_;
      if (++flow_ == flows_) flow_ = 0;
    }
  }

  // Straight into the buffer: a copy that is patched first would be read again before it is written.
  void write_head(const gen::Templates& templates, std::byte* data) const {
    std::memcpy(data, templates.frames[flow_].bytes.data(), sizeof(gen::Template));
    if (templates.ipv6[flow_] == 0) [[likely]] {
      std::memcpy(data + gen::kSequenceOffset, &sequence_, sizeof sequence_);
    } else {
      const auto low = static_cast<uint16_t>(sequence_);
      std::memcpy(data + gen::kSequenceOffsetIpv6, &low, sizeof low);
    }
  }

  // imix, write=0, write=all.
  uint32_t write_other(std::byte* data) {
    const uint32_t length =
        fixed_length_ != 0 ? fixed_length_ : gen::kImixLengths[sequence_ % gen::kImixLengths.size()];
    const auto& templates = templates_.size() == 1 ? templates_[0]
                                                   : templates_[length == 64    ? 0
                                                                : length == 594 ? 1
                                                                                : 2];
    if (options_.write == gen::Write::kAll && length > 64)
      std::memset(data + 64, static_cast<int>(sequence_ & 0xff), length - 64);
    if (options_.write != gen::Write::kNothing) write_head(templates, data);
    return length;
  }

  const GenOptions options_;
  const uint32_t fixed_length_;            // 0: imix
  std::vector<gen::Templates> templates_;  // one, or one for each of imix's lengths
  uint64_t flows_ = 1;
  bool plain_ = false;
  Region region_;
  std::array<uint32_t, kArmed> armed_{};
  uint32_t held_ = 0;
  uint32_t colours_ = 0;
  uint32_t next_ = 0;
  uint64_t flow_ = 0;
  uint64_t sequence_ = 0;
  uint64_t left_;
  double rate_;  // of this queue; 0: as fast as possible
  uint64_t started_ns_ = 0;
  uint64_t paced_ = 0;  // frames that were due until now
  std::atomic<uint64_t> produced_{0};
  std::atomic<uint64_t> missed_{0};
  std::atomic<bool> ended_{false};
  std::atomic<bool> running_{false};
};

class GenPort final : public Port {
 public:
  explicit GenPort(const GenOptions& options) : options_(options) {
    for (uint32_t q = 0; q < options.queues; ++q) queues_.push_back(std::make_unique<GenQueue>(options, q));
  }
  const std::string& address() const override { return options_.address; }
  std::string driver() const override { return "gen"; }
  uint32_t mtu() const override { return options_.mtu; }
  uint32_t buffer_need() const override { return options_.size == 0 ? 1514 : options_.size; }
  std::span<const std::unique_ptr<ReceiveQueue>> receive_queues() const override { return queues_; }
  Result<void> start() override {
    set_running(true);
    return {};
  }
  void stop() override { set_running(false); }

 private:
  void set_running(bool on) {
    for (auto& queue : queues_) static_cast<GenQueue&>(*queue).enable_flow(on);
  }
  GenOptions options_;
  std::vector<std::unique_ptr<ReceiveQueue>> queues_;
};

}  // namespace

Result<std::unique_ptr<Port>> open_gen_port(const GenOptions& options) {
  if (options.size != 0 && (options.size < 60 || options.size > 16000))
    return fail(Code::kUsage,
                fmt::format("gen: frames of {} bytes: expected 60 to 16000, or imix", options.size));
  return std::make_unique<GenPort>(options);
}

}  // namespace ringcap

#include "driver/intel/receive.h"

#include <fmt/format.h>
#include <sys/eventfd.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "driver/intel/registers.h"

namespace ringcap::intel {
namespace {

// How far device_is_past() looks ahead.
constexpr uint32_t kLookAhead = 64;

}  // namespace

template <class Codec>
IntelReceiveQueue<Codec>::IntelReceiveQueue(ReceiveSettings settings, Registers registers,
                                            pci::Function::DmaMemory ring, QueueCounting& counting, Wake wake)
    : settings_(settings),
      registers_(registers),
      ring_(reinterpret_cast<Descriptor*>(ring.data)),
      ring_iova_(static_cast<uint64_t>(ring.iova)),
      counting_(counting),
      wake_(wake),
      buffers_(settings.descriptors),
      stamps_(settings.clock),
      moderation_(settings.descriptors, settings.throttle.frame_ns) {
  const bool adapts = settings.moderation_us == pci::kModerationAuto;
  moderation_us_ = adapts ? moderation_.interval_us() : settings.throttle.real_us(settings.moderation_us);
}

// ---- arm, program, open: in this order ------------------------------------------------------------

template <class Codec>
Result<void> IntelReceiveQueue<Codec>::arm(const Region& region, FreeBuffers& free) {
  const uint32_t bytes = region.buffer_bytes;
  const bool known = bytes == 2048 || bytes == 4096 || bytes == 8192 || bytes == 16384;
  if (!known || bytes < settings_.buffer_need) {
    return fail(Code::kUsage,
                fmt::format("{}: buffers of {} bytes; they must have 2048, 4096, 8192 or 16384, "
                            "and at least {} for this MTU",
                            settings_.driver, bytes, settings_.buffer_need));
  }
  if (free.size() < settings_.descriptors) {
    return fail(Code::kUsage,
                fmt::format("{}: {} descriptors need as many buffers, {} are free", settings_.driver,
                            settings_.descriptors, free.size()),
                "use a larger arena or fewer descriptors");
  }
  places_ = {.base = region.base,
             .device = arena_ + region.arena_offset,
             .buffer_bytes = bytes,
             .colours = settings_.colour ? 7u : 0u};
  longest_ = places_.longest() - Codec::kStampBytes;
  for (uint32_t slot = 0; slot < settings_.descriptors; ++slot) {
    buffers_[slot] = free.pop();
    rearm(slot);
  }
  next_ = 0;
  in_broken_ = false;
  held_ = settings_.descriptors;
  position_.store(0, std::memory_order_relaxed);
  held_in_ring_.store(true, std::memory_order_release);  // pairs with armed()
  return {};
}

template <class Codec>
void IntelReceiveQueue<Codec>::disarm(FreeBuffers& free) {
  if (held_ == 0) return;
  held_in_ring_.store(false, std::memory_order_release);
  for (uint32_t slot = 0; slot < settings_.descriptors; ++slot) {
    Codec::give(ring_[slot], 0);
    free.push(buffers_[slot]);
  }
  held_ = 0;
}

// Not slot 0: after a PCIe error the worker is somewhere in the ring, and some slots before the device's may
// be done and not yet taken.
template <class Codec>
uint32_t IntelReceiveQueue<Codec>::resume_at() {
  uint32_t head = position_.load(std::memory_order_acquire);
  for (uint32_t i = 0; i + 1 < settings_.descriptors && (Codec::load(ring_[head]) & Codec::kDone); ++i) {
    head = after(head);
  }
  return head;
}

template <class Codec>
void IntelReceiveQueue<Codec>::open() {
  publish_to_device();
  registers_.write(settings_.tail, before(position_.load(std::memory_order_acquire)));
}

// ---- receive ---------------------------------------------------------------------------------------

// Nearly always there is nothing but whole, good frames: take_run() has those. What it stops at, take_one()
// looks at closely.
template <class Codec>
Burst IntelReceiveQueue<Codec>::receive(std::span<Frame> out, FreeBuffers& free) {
  Burst burst;
  if (held_ == 0 || !(Codec::load(ring_[next_]) & Codec::kDone)) return burst;
  const uint32_t first = next_;
  stamps_.refresh();
  for (size_t left = out.size(); left != 0;) {
    const uint32_t run = take_run(out.subspan(burst.frames, left), free);
    burst.frames += run;
    left -= run;
    if (left == 0 || (run != 0 && next_ == 0)) continue;
    if (!take_one(out, free, burst)) break;
    --left;
  }
  if (next_ == first) return burst;
  came_frames_ += burst.frames;
  came_bytes_ += uint64_t{burst.frames} * out[0].length;
  // One write for all of them: it is the only thing here that crosses the bus.
  publish_to_device();
  registers_.write(settings_.tail, before(next_));
  position_.store(next_, std::memory_order_release);  // pairs with resume_at()
  return burst;
}

// Frames that need no second look, one after the other and not beyond the ring's end; how many. Everything
// that the loop needs is in a local variable: what it stores could otherwise be one of the members.
template <class Codec>
uint32_t IntelReceiveQueue<Codec>::take_run(std::span<Frame> out, FreeBuffers& free) {
  if (settings_.bad || in_broken_) return 0;
  const auto most = std::min({static_cast<uint32_t>(out.size()), settings_.descriptors - next_, free.size()});
  const pci::FramePlaces places = places_;
  const uint32_t longest = longest_;
  const uint32_t* fresh = free.top(most) + most;
  uint32_t* buffer = buffers_.data() + next_;
  Descriptor* descriptor = ring_ + next_;
  Frame *const begin = out.data(), *const end = begin + most, *frame = begin;
  for (; frame != end; ++frame, ++buffer, ++descriptor) {
    const uint64_t word = Codec::load(*descriptor);
    const uint32_t length = Codec::length(word) - Codec::kStampBytes;
    if ((word & kLookedAt) != kPlain || length - 1 >= longest) break;  // so are 0, and less
    std::byte* start = places.frame(*buffer);
    pci::fill(*frame, start + Codec::kStampBefore, *buffer, length,
              Codec::kStamps ? layout::kAdapterTime : 0);
    if constexpr (Codec::kStamps) frame->timestamp_ns = stamp_of(start, length);
    *buffer = *--fresh;
    Codec::give(*descriptor, places.address(*buffer));
  }
  const auto run = static_cast<uint32_t>(frame - begin);
  free.drop(run);
  next_ = next_ + run == settings_.descriptors ? 0 : next_ + run;
  return run;
}

// False: nothing is there.
template <class Codec>
bool IntelReceiveQueue<Codec>::take_one(std::span<Frame> out, FreeBuffers& free, Burst& burst) {
  const uint64_t word = Codec::load(ring_[next_]);
  if (!(word & Codec::kDone)) return false;
  if (Codec::length(word) == 0 && !device_is_past(next_)) return false;
  take(next_, word, out, free, burst);
  next_ = after(next_);
  return true;
}

// A slot that says done but has no bytes is not believed until the device has gone on: QEMU stores DD
// twice, and the second store can come after the slot was given back (docs/drivers.md).
template <class Codec>
bool IntelReceiveQueue<Codec>::device_is_past(uint32_t slot) {
  for (uint32_t i = 0; i < kLookAhead; ++i) {
    slot = after(slot);
    const uint64_t word = Codec::load(ring_[slot]);
    if ((word & Codec::kDone) && Codec::length(word) != 0) return true;
  }
  return false;
}

template <class Codec>
void IntelReceiveQueue<Codec>::take(uint32_t slot, uint64_t word, std::span<Frame> out, FreeBuffers& free,
                                    Burst& burst) {
  if (broken(word, burst)) return rearm(slot);
  if (free.empty()) {
    ++burst.no_buffer;
    return rearm(slot);
  }
  const uint16_t flags = flags_of(word);
  const uint32_t buffer = buffers_[slot];
  const bool stamped = word & Codec::kStamped;
  Frame& frame = out[burst.frames++];
  std::byte* start = places_.frame(buffer);
  const uint32_t length = Codec::length(word) - extra(word);
  pci::fill(frame, start + (stamped ? Codec::kStampBefore : 0), buffer, length,
            static_cast<uint16_t>(flags | (stamped ? layout::kAdapterTime : 0)));
  if constexpr (Codec::kStamps) frame.timestamp_ns = stamped ? stamp_of(start, length) : stamps_.now();
  if (flags)
    bad_delivered_.store(bad_delivered_.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
  buffers_[slot] = free.pop();
  rearm(slot);
}

// A frame that does not lie whole in one buffer, or that the device should not have delivered. One that
// spans several slots counts once.
template <class Codec>
bool IntelReceiveQueue<Codec>::broken(uint64_t word, Burst& burst) {
  const bool whole = word & Codec::kEndOfPacket;
  const bool continues = in_broken_;
  in_broken_ = !whole;
  if (continues) return true;
  const uint32_t length = Codec::length(word) - extra(word);
  if (whole && length - 1 < longest_ && (settings_.bad || !(word & Codec::kErrors))) return false;
  ++burst.broken;
  return true;
}

template <class Codec>
uint16_t IntelReceiveQueue<Codec>::flags_of(uint64_t word) const {
  if (!settings_.bad) return 0;
  const uint32_t length = Codec::length(word) - extra(word);
  const bool wrong_length = length < settings_.shortest_good || length > settings_.longest_good;
  return static_cast<uint16_t>((word & Codec::kErrors ? layout::kBadCrc : 0) |
                               (wrong_length ? layout::kBadLength : 0));
}

// Of the frame of `length` bytes in the buffer that the device wrote to from `start` on.
template <class Codec>
uint64_t IntelReceiveQueue<Codec>::stamp_of(const std::byte* start, uint32_t length) {
  if constexpr (Codec::kStamps) {
    const std::byte* low = start + (Codec::kStampBefore != 0 ? 0 : length) + Codec::kStampLow;
    uint32_t words[2];
    std::memcpy(words, low, sizeof words);
    return stamps_.at(words[0], words[1]);
  }
  return 0;
}

// Going to sleep: the interval for the interrupt that is waited for.
template <class Codec>
void IntelReceiveQueue<Codec>::adapt() {
  const uint64_t frames = std::exchange(came_frames_, 0), bytes = std::exchange(came_bytes_, 0);
  if (settings_.moderation_us != pci::kModerationAuto || settings_.throttle.offset == 0) return;
  moderation_.brought(frames, bytes);
  const uint32_t interval_us = moderation_.interval_us();
  if (interval_us == moderation_us_.load(std::memory_order_relaxed)) return;
  moderation_us_.store(interval_us, std::memory_order_relaxed);
  registers_.write(settings_.throttle.offset,
                   settings_.throttle.value(interval_us) | settings_.throttle.keep_count);
}

// ---- sleeping ----------------------------------------------------------------------------------------

// What happened before is cleared, or it would fire at once although the worker has seen it; what happens
// after is a cause again, and fires as soon as it is unmasked. Between the two, receive() looks once more.
template <class Codec>
void IntelReceiveQueue<Codec>::enable_wake() {
  if (wake_.vector < 0) return;
  adapt();
  registers_.write(wake_.cause, wake_.bits);
  registers_.write(wake_.set, wake_.bits | wake_.link_bits);
  registers_.flush();
}

template <class Codec>
void IntelReceiveQueue<Codec>::disable_wake() {
  if (wake_.vector < 0) return;
  registers_.write(wake_.clear, wake_.bits | wake_.link_bits);
  if (!wake_.own_vector) {
    // Reading clears, and makes the device let go of its line before the line is unmasked.
    const uint32_t causes = registers_.read(wake_.cause);
    if (causes != kAbsent && (causes & wake_.link_bits)) ::eventfd_write(wake_.link_event_fd, 1);
  }
  wake_.function->consume_interrupt(static_cast<uint32_t>(wake_.vector));
}

template class IntelReceiveQueue<LegacyReceive>;
template class IntelReceiveQueue<ExtendedReceive>;
template class IntelReceiveQueue<TenGigabitReceive>;
template class IntelReceiveQueue<StampedReceive>;
template class IntelReceiveQueue<StampedTenGigabitReceive>;

}  // namespace ringcap::intel

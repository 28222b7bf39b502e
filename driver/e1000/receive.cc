#include "driver/e1000/receive.h"

#include <fmt/format.h>
#include <sys/eventfd.h>

namespace ringcap::e1000 {
namespace {

// How far device_is_past() looks ahead.
constexpr uint32_t kLookAhead = 64;
constexpr uint32_t kShortestGood = 60;  // IEEE 802.3, 3.2.7, without CRC

}  // namespace

E1000ReceiveQueue::E1000ReceiveQueue(Settings settings, Registers registers, pci::Function::DmaMemory ring,
                                     Statistics& statistics, Wake wake)
    : settings_(settings),
      registers_(registers),
      ring_(reinterpret_cast<ReceiveDescriptor*>(ring.data)),
      ring_iova_(static_cast<uint64_t>(ring.iova)),
      statistics_(statistics),
      wake_(wake),
      buffers_(settings.descriptors) {}

// ---- arm, program, open: in this order ------------------------------------------------------------

Result<void> E1000ReceiveQueue::arm(const Region& region, FreeBuffers& free) {
  const uint32_t bytes = region.buffer_bytes;
  const bool known = bytes == 2048 || bytes == 4096 || bytes == 8192 || bytes == 16384;
  if (!known || bytes < settings_.buffer_need) {
    return fail(Code::kUsage,
                fmt::format("e1000e: buffers of {} bytes; they must have 2048, 4096, 8192 or 16384, "
                            "and at least {} for this MTU",
                            bytes, settings_.buffer_need));
  }
  if (free.size() < settings_.descriptors) {
    return fail(Code::kUsage,
                fmt::format("e1000e: {} descriptors need as many buffers, {} are free", settings_.descriptors,
                            free.size()),
                "use a larger arena or fewer descriptors");
  }
  region_ = region;
  longest_ = bytes - (settings_.colour ? start_of(7) : 0);
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

void E1000ReceiveQueue::disarm(FreeBuffers& free) {
  if (held_ == 0) return;
  held_in_ring_.store(false, std::memory_order_release);
  for (uint32_t slot = 0; slot < settings_.descriptors; ++slot) {
    receive::give(ring_[slot], 0);
    free.push(buffers_[slot]);
  }
  held_ = 0;
}

// Datasheet, "Receive Initialization". The ring need not start at slot 0: after a PCIe error the worker is
// somewhere in it, and some slots before the device's may be done and not yet taken.
void E1000ReceiveQueue::program() {
  uint32_t head = position_.load(std::memory_order_acquire);
  for (uint32_t i = 0; i + 1 < settings_.descriptors && (receive::load(ring_[head]) & receive::kDone); ++i) {
    head = after(head);
  }
  registers_.write(RDBAL, static_cast<uint32_t>(ring_iova_));
  registers_.write(RDBAH, static_cast<uint32_t>(ring_iova_ >> 32));
  registers_.write(RDLEN, settings_.descriptors * sizeof(ReceiveDescriptor));
  registers_.write(RDTR, 0);
  registers_.write(RADV, 0);
  // Fetch descriptors when fewer than 32 are left on the chip and 4 are to be had; write each back at once.
  registers_.write(RXDCTL, dctl::GRAN | 1u << dctl::WTHRESH_SHIFT | 4u << dctl::HTHRESH_SHIFT | 32u);
  registers_.write(RDH, head);
  registers_.write(RDT, head);
}

void E1000ReceiveQueue::open() {
  publish_to_device();
  registers_.write(RDT, before(position_.load(std::memory_order_acquire)));
}

// ---- receive ---------------------------------------------------------------------------------------

Burst E1000ReceiveQueue::receive(std::span<Frame> out, FreeBuffers& free) {
  Burst burst;
  const uint32_t first = next_;
  for (size_t looked = 0; held_ != 0 && looked < out.size(); ++looked) {
    const uint64_t word = receive::load(ring_[next_]);
    if (!(word & receive::kDone)) break;
    if (receive::length(word) == 0 && !device_is_past(next_)) break;
    take(next_, word, out, free, burst);
    next_ = after(next_);
  }
  if (next_ == first) return burst;
  // One write for all of them: it is the only thing here that crosses the bus.
  publish_to_device();
  registers_.write(RDT, before(next_));
  position_.store(next_, std::memory_order_release);  // pairs with program()
  return burst;
}

// A slot that says done but has no bytes is not believed until the device has gone on: QEMU stores DD
// twice, and the second store can come after the slot was given back (docs/drivers.md).
bool E1000ReceiveQueue::device_is_past(uint32_t slot) {
  for (uint32_t i = 0; i < kLookAhead; ++i) {
    slot = after(slot);
    const uint64_t word = receive::load(ring_[slot]);
    if ((word & receive::kDone) && receive::length(word) != 0) return true;
  }
  return false;
}

void E1000ReceiveQueue::take(uint32_t slot, uint64_t word, std::span<Frame> out, FreeBuffers& free,
                             Burst& burst) {
  if (broken(word, burst)) return rearm(slot);
  if (free.empty()) {
    ++burst.no_buffer;
    return rearm(slot);
  }
  const uint32_t buffer = buffers_[slot];
  Frame& frame = out[burst.frames++];
  frame.data = region_.buffer(buffer) + start_of(buffer);
  frame.buffer = buffer;
  frame.length = receive::length(word);
  frame.captured = static_cast<uint16_t>(frame.length);
  frame.flags = flags_of(word);
  frame.hash = 0;
  frame.l3_half = frame.l4_half = 0;
  if (frame.flags) statistics_.count_bad_delivered();
  buffers_[slot] = free.pop();
  rearm(slot);
}

// A frame that does not lie whole in one buffer, or that the device should not have delivered. One that
// spans several slots counts once.
bool E1000ReceiveQueue::broken(uint64_t word, Burst& burst) {
  const bool whole = word & receive::kEndOfPacket;
  const bool continues = in_broken_;
  in_broken_ = !whole;
  if (continues) return true;
  const uint32_t length = receive::length(word);
  if (whole && length != 0 && length <= longest_ && (settings_.bad || !(word & receive::kErrors)))
    return false;
  ++burst.broken;
  return true;
}

uint16_t E1000ReceiveQueue::flags_of(uint64_t word) const {
  if (!settings_.bad) return 0;
  const uint32_t length = receive::length(word);
  const bool wrong_length = length < kShortestGood || length > settings_.longest_good;
  return static_cast<uint16_t>((word & receive::kErrors ? layout::kBadCrc : 0) |
                               (wrong_length ? layout::kBadLength : 0));
}

QueueCounters E1000ReceiveQueue::counters() {
  statistics_.update(registers_);
  return statistics_.counters();
}

// ---- sleeping ----------------------------------------------------------------------------------------

// What happened before is cleared, or it would fire at once although the worker has seen it; what happens
// after is a cause again, and fires as soon as it is unmasked. Between the two, receive() looks once more.
void E1000ReceiveQueue::enable_wake() {
  constexpr uint32_t kAnyFrame = interrupt::RXT0 | interrupt::RXDMT0 | interrupt::RXO;
  const uint32_t causes = wake_.own_vector ? interrupt::RXQ0 : kAnyFrame;
  registers_.write(ICR, causes);
  registers_.write(IMS, wake_.own_vector ? causes : causes | interrupt::LSC);
  registers_.flush();
}

void E1000ReceiveQueue::disable_wake() {
  if (wake_.own_vector) {
    registers_.write(IMC, interrupt::RXQ0);
  } else {
    registers_.write(IMC, interrupt::ALL);
    // Reading clears, and makes the device let go of its line before the line is unmasked.
    const uint32_t causes = registers_.read(ICR);
    if (causes != kAbsent && (causes & interrupt::LSC)) ::eventfd_write(wake_.link_event_fd, 1);
  }
  wake_.function->consume_interrupt(0);
}

}  // namespace ringcap::e1000

#include "driver/vmxnet3/receive.h"

#include <fmt/format.h>
#include <sys/eventfd.h>

#include <algorithm>

namespace ringcap::vmxnet3 {

Result<std::unique_ptr<Vmxnet3ReceiveQueue>> Vmxnet3ReceiveQueue::make(const ReceiveSettings& settings) {
  std::unique_ptr<Vmxnet3ReceiveQueue> queue(new Vmxnet3ReceiveQueue(settings));
  // Room for the slots that stay empty, so that full and empty differ.
  const uint32_t slots = settings.descriptors + kRingStep, done = slots + kRingStep;
  for (Rings& rings : queue->rings_) {
    auto memory = settings.function->dma_allocate(GiveRing::bytes(slots) + GiveRing::bytes(kRingStep) +
                                                  CompletionRing::bytes(done));
    if (!memory) return std::unexpected(memory.error());
    const uint64_t second = GiveRing::bytes(slots), completion = second + GiveRing::bytes(kRingStep);
    const auto iova = static_cast<uint64_t>(memory->iova);
    rings.given = GiveRing(memory->data, slots);
    rings.done = CompletionRing(memory->data + completion, done);
    rings.buffers.resize(slots);
    rings.addresses = {iova, iova + second, iova + completion, slots, kRingStep, done};
  }
  return queue;
}

// ---- arm, prepare, offer: in this order ------------------------------------------------------------

Result<void> Vmxnet3ReceiveQueue::arm(const Region& region, FreeBuffers& free) {
  const uint32_t bytes = region.buffer_bytes;
  const bool known = bytes == 2048 || bytes == 4096 || bytes == 8192 || bytes == 16384;
  if (!known || bytes < settings_.buffer_need) {
    return fail(Code::kUsage,
                fmt::format("vmxnet3: buffers of {} bytes; they must have 2048, 4096, 8192 or 16384, "
                            "and at least {} for this MTU",
                            bytes, settings_.buffer_need));
  }
  if (free.size() < settings_.descriptors) {
    return fail(Code::kUsage,
                fmt::format("vmxnet3: {} descriptors need as many buffers, {} are free",
                            settings_.descriptors, free.size()),
                "use a larger arena or fewer descriptors");
  }
  places_ = {
      .base = region.base, .device = arena_ + region.arena_offset, .buffer_bytes = bytes, .colours = 7};
  longest_ = std::min(places_.longest(), kMostBuffer);
  in_frame_ = false;
  current_ = rings_.data();
  current_->clear();
  for (held_ = 0; held_ < settings_.descriptors; ++held_) give(free.pop());
  fresh_.store(true, std::memory_order_release);  // pairs with prepare()
  armed_.store(true, std::memory_order_release);  // pairs with armed()
  return {};
}

void Vmxnet3ReceiveQueue::disarm(FreeBuffers& free) {
  if (held_ == 0) return;
  armed_.store(false, std::memory_order_release);
  fresh_.store(false, std::memory_order_release);
  for (; held_ > 0; --held_) free.push(take_back());
  current_ = nullptr;
}

// The first time, the worker has filled the rings already: the device drops what comes while they are empty.
RingAddresses Vmxnet3ReceiveQueue::prepare() {
  if (fresh_.exchange(false, std::memory_order_acquire)) {  // pairs with arm()
    prepared_ = 0;
    taken_ = true;
    handover_.assume(0);
    return rings_[0].addresses;
  }
  prepared_ = handover_.free_ring();
  taken_ = false;
  rings_[prepared_].clear();
  return rings_[prepared_].addresses;
}

// A worker that sleeps is woken: until it has gone over, the device has no buffers.
void Vmxnet3ReceiveQueue::offer() {
  if (taken_) return;
  handover_.offer(prepared_);
  if (wait_fd() >= 0) ::eventfd_write(wait_fd(), 1);
}

// The device has rings for us: all buffers go there.
void Vmxnet3ReceiveQueue::go_over() {
  const int which = handover_.take();
  if (which < 0) return;
  Rings& old = *current_;
  current_ = &rings_[which];
  in_frame_ = false;
  for (uint32_t i = 0; i < held_; ++i) {
    give(old.buffers[old.given.oldest_slot()]);
    old.given.take_back();
  }
  settings_.pt.write(pt::RXPROD, current_->given.next_slot());
}

void Vmxnet3ReceiveQueue::give(uint32_t buffer) {
  GiveRing& ring = current_->given;
  current_->buffers[ring.next_slot()] = buffer;
  ring.give(places_.address(buffer), longest_, rxd::GEN);
}

uint32_t Vmxnet3ReceiveQueue::take_back() {
  const uint32_t buffer = current_->buffers[current_->given.oldest_slot()];
  current_->given.take_back();
  return buffer;
}

// ---- receive ---------------------------------------------------------------------------------------

// Nearly always there is nothing but whole, good frames: take_run() has those. What it stops at, take() looks
// at closely.
Burst Vmxnet3ReceiveQueue::receive(std::span<Frame> out, FreeBuffers& free) {
  Burst burst;
  if (held_ == 0) return burst;
  Completion next;
  if (current_->done.look(next)) {
    drain(out, free, burst);
  } else if (handover_.offered()) {
    go_over();  // not before the old rings are empty: what came before the device began anew is not lost
  }
  return burst;
}

void Vmxnet3ReceiveQueue::drain(std::span<Frame> out, FreeBuffers& free, Burst& burst) {
  for (size_t left = out.size(); left != 0;) {
    const uint32_t run = take_run(out.subspan(burst.frames, left), free);
    burst.frames += run;
    left -= run;
    Completion done;
    if (left == 0 || !current_->done.take(done)) break;
    take(done, out, free, burst);
    --left;
  }
  // A device that lies in hardware asks to be told; others look at the generation bits.
  const volatile uint8_t& asked = settings_.control->updateRxProd;
  if (asked == 0) return;
  pci::publish_to_device();
  settings_.pt.write(pt::RXPROD, current_->given.next_slot());
}

// Frames that need no second look, one after the other; how many. Everything that the loop needs is in a
// local variable, the rings too: what it stores could otherwise be one of the members.
uint32_t Vmxnet3ReceiveQueue::take_run(std::span<Frame> out, FreeBuffers& free) {
  if (in_frame_) return 0;
  const auto most = std::min(static_cast<uint32_t>(out.size()), free.size());
  const pci::FramePlaces places = places_;
  const uint32_t longest = longest_;
  const uint32_t* fresh = free.top(most) + most;
  uint32_t* const buffers = current_->buffers.data();
  GiveRing given = current_->given;
  CompletionRing completions = current_->done;
  Frame *const begin = out.data(), *const end = begin + most, *frame = begin;
  for (Completion done; frame != end && completions.look(done); ++frame) {
    const uint32_t slot = given.oldest_slot(), buffer = buffers[slot];
    if (!done.plain(slot, longest)) break;
    completions.advance();
    given.take_back();
    pci::fill(*frame, places.frame(buffer), buffer, done.length());
    buffers[given.next_slot()] = *--fresh;
    given.give(places.address(*fresh), longest, rxd::GEN);
  }
  current_->given = given;
  current_->done = completions;
  const auto run = static_cast<uint32_t>(frame - begin);
  free.drop(run);
  return run;
}

// A frame of several descriptors counts once, by its first. What the device passed over goes back to it.
void Vmxnet3ReceiveQueue::take(const Completion& done, std::span<Frame> out, FreeBuffers& free,
                               Burst& burst) {
  const bool rest = in_frame_ && !done.begin();
  in_frame_ = !done.end();
  if (done.error() && done.end())
    errors_seen_.store(errors_seen_.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
  uint32_t slots = done.ring() == 0 ? current_->given.done_with(done.index()) : 0;
  if (slots == 0) {
    burst.broken += rest ? 0 : 1;
    return;
  }
  while (--slots > 0) give(take_back());
  const uint32_t buffer = take_back();
  give(rest ? buffer : deliver(done, buffer, out, free, burst));
}

// Returns the buffer that takes the frame's place: another one, or its own.
uint32_t Vmxnet3ReceiveQueue::deliver(const Completion& done, uint32_t buffer, std::span<Frame> out,
                                      FreeBuffers& free, Burst& burst) {
  if (!good(done)) {
    ++burst.broken;
    return buffer;
  }
  if (free.empty()) {
    ++burst.no_buffer;
    return buffer;
  }
  Frame& frame = out[burst.frames++];
  pci::fill(frame, places_.frame(buffer), buffer, done.length(), flags_of(done));
  return free.pop();
}

// One frame, in one buffer, as it was on the wire.
bool Vmxnet3ReceiveQueue::good(const Completion& done) {
  const bool whole = done.begin() && done.end() && done.length() != 0 && done.length() <= longest_;
  const bool unchanged = done.type() != Completion::kMerged && !done.tag_stripped();
  return whole && unchanged && (settings_.bad || !done.error());
}

// A frame that did not fit fills its buffer; FCS says of others whether it was the CRC.
uint16_t Vmxnet3ReceiveQueue::flags_of(const Completion& done) const {
  if (!done.error()) return 0;
  return done.length() == longest_ || done.crc_correct() ? layout::kBadLength : layout::kBadCrc;
}

// ---- sleeping ----------------------------------------------------------------------------------------

int Vmxnet3ReceiveQueue::wait_fd() const {
  return settings_.vector < 0 ? -1
                              : settings_.function->interrupt_fd(static_cast<uint32_t>(settings_.vector));
}

void Vmxnet3ReceiveQueue::mask(bool on) const {
  settings_.pt.write(pt::IMR + pt::STRIDE * static_cast<uint32_t>(settings_.vector), on ? 1 : 0);
}

// The device remembers what came while it was masked, and fires for it at once: a worker that falls asleep
// after it took frames is woken once for nothing.
void Vmxnet3ReceiveQueue::enable_wake() {
  if (settings_.vector >= 0) mask(false);
}

void Vmxnet3ReceiveQueue::disable_wake() {
  if (settings_.vector < 0) return;
  mask(true);
  // Reading makes the device let go of its line, before the line is unmasked.
  if (settings_.line) static_cast<void>(settings_.vd.read(vd::ICR));
  if (settings_.events != nullptr && std::atomic_ref(settings_.events->ecr).load(std::memory_order_relaxed))
    ::eventfd_write(settings_.event_fd, 1);
  settings_.function->consume_interrupt(static_cast<uint32_t>(settings_.vector));
}

}  // namespace ringcap::vmxnet3

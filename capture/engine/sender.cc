#include "capture/engine/sender.h"

#include <sys/eventfd.h>

#include <algorithm>
#include <cstring>

#include "capture/layout/view.h"

namespace ringcap::engine {
namespace {

constexpr uint64_t kSecond = 1'000'000'000;
constexpr uint32_t kShortest = 14;          // an Ethernet header
constexpr uint64_t kLeastCredit = 32;       // frames that may come at once, however low the rate
constexpr uint64_t kCreditPerSecond = 100;  // the rest: a hundredth of a second's worth

void put(std::atomic<uint64_t>& word, uint64_t value) { word.store(value, std::memory_order_relaxed); }

}  // namespace

Sender::Sender(SenderSetup setup) : setup_(std::move(setup)) {}

Result<void> Sender::make_bell() {
  bell_ = Fd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!bell_) return fail_system("cannot make an eventfd for a sender");
  return {};
}

uint64_t Sender::produced() const {
  return setup_.memory.at<layout::SendLine>(0)->produced.load(std::memory_order_acquire);
}

bool Sender::asks() const { return !misbehaved_ && produced() != consumed_; }

uint32_t Sender::waiting(uint32_t limit, uint64_t now_ns) {
  if (misbehaved_) return 0;
  const uint64_t asked = produced() - consumed_;  // huge where it went backwards
  if (asked > setup_.slots) {
    misbehaved_ = true;
    return 0;
  }
  return static_cast<uint32_t>(allowed(std::min<uint64_t>(asked, limit), now_ns));
}

// A bucket of credit that fills at the sender's rate.
uint64_t Sender::allowed(uint64_t asked, uint64_t now_ns) {
  const bool waited = next_credit_ns_ != 0;
  next_credit_ns_ = 0;
  if (setup_.rate == 0 || asked == 0) return asked;
  const uint64_t most = std::max(kLeastCredit, setup_.rate / kCreditPerSecond) * kSecond;
  const uint64_t passed = credit_at_ns_ == 0 ? kSecond : std::min(now_ns - credit_at_ns_, kSecond);
  credit_ = std::min(most, credit_ + passed * setup_.rate);
  credit_at_ns_ = now_ns;
  const uint64_t frames = std::min(asked, credit_ / kSecond);
  if (frames < asked) {
    if (!waited || frames != 0) ++limited_;  // once for each wait, however often we look
    changed_ = true;
    next_credit_ns_ = now_ns + (kSecond - credit_ % kSecond) / setup_.rate + 1;
  }
  return frames;
}

uint32_t Sender::take(std::span<std::byte> to) {
  const auto* requests = setup_.memory.at<const std::atomic<uint64_t>>(sizeof(layout::SendLine));
  static_assert(sizeof(layout::SendRequest) == sizeof(uint64_t));
  // One load: what is checked is what is used.
  const uint64_t word = requests[consumed_ & (setup_.slots - 1)].load(std::memory_order_relaxed);
  layout::SendRequest request;
  std::memcpy(&request, &word, sizeof request);
  ++consumed_;
  ++asked_;
  changed_ = true;
  if (setup_.rate != 0) credit_ -= kSecond;
  const uint64_t area = uint64_t{setup_.slots} * setup_.slot_bytes;
  const bool sound = request.length >= kShortest && request.length <= setup_.slot_bytes &&
                     request.length <= to.size() && request.offset <= area - request.length;
  if (!sound) {
    ++refused_;
    return 0;
  }
  std::memcpy(to.data(), setup_.memory.data() + layout::send_frames_offset(setup_.slots) + request.offset,
              request.length);
  return request.length;
}

void Sender::sent(uint64_t bytes) {
  ++sent_;
  bytes_ += bytes;
  changed_ = true;
}

void Sender::dropped() {
  ++dropped_;
  changed_ = true;
}

void Sender::drop_pending() {
  dropped_ = asked_ - refused_ - sent_;
  changed_ = true;
}

void Sender::write() {
  if (!changed_) return;
  changed_ = false;
  auto& entry = *setup_.entry;
  {
    const layout::SequenceWrite writing(entry.sequence);
    put(entry.asked, asked_);
    put(entry.refused, refused_);
    put(entry.sent, sent_);
    put(entry.dropped, dropped_);
    put(entry.pending, asked_ - refused_ - sent_ - dropped_);
    put(entry.limited, limited_);
    put(entry.bytes, bytes_);
  }
  entry.consumed.store(consumed_, std::memory_order_release);  // pairs with the client: slots are free again
}

bool Sender::finished(uint64_t now_ns) {
  const bool closing = closing_.load(std::memory_order_acquire) || misbehaved_;
  if (!closing) return false;
  if (closing_since_ns_ == 0) closing_since_ns_ = now_ns;
  const bool late = now_ns - closing_since_ns_ > kPatienceNs;
  if (asks() && !late) return false;
  if (late) drop_rest();
  return late || asked_ == refused_ + sent_ + dropped_;
}

// Requests that were never looked at, as far as their count makes sense.
void Sender::drop_rest() {
  if (misbehaved_) return;
  const uint64_t rest = produced() - consumed_;
  if (rest > setup_.slots) return;
  consumed_ += rest;
  asked_ += rest;
  dropped_ += rest;
  changed_ = true;
}

}  // namespace ringcap::engine

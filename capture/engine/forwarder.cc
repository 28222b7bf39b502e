#include "capture/engine/forwarder.h"

#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <array>

#include "capture/base/fence.h"
#include "capture/base/monotonic.h"
#include "capture/layout/view.h"

namespace ringcap::engine {
namespace {

constexpr uint32_t kFrames = 64;               // of one input in one go
constexpr uint64_t kSpinNs = 100'000;          // adaptive: how long a quiet forwarder polls before it sleeps
constexpr uint64_t kFirstNapNs = 20'000;       // while the port is full, or frames are on their way
constexpr uint64_t kLongestNapNs = 5'000'000;  // as a port without a link may be for ever
constexpr uint64_t kLastNs = 100'000'000;      // at the end: without progress
constexpr uint64_t kLastAtMostNs = 1'000'000'000;

// A cookie says whose frame it is: a ring's slot, or a buffer of the forwarder's own.
constexpr unsigned kCookieShift = 24;
constexpr uint32_t kCookieMask = (1u << kCookieShift) - 1;
constexpr uint32_t kOwnBuffer = Forwarder::kMaxRings;
static_assert(layout::kMaxRingSlots <= kCookieMask + 1);

void put(std::atomic<uint64_t>& word, uint64_t value) { word.store(value, std::memory_order_relaxed); }

bool is_whole(const layout::Descriptor& d) {
  return d.captured == d.length && (d.flags & (layout::kBadCrc | layout::kBadLength)) == 0;
}

void drain_socket(int socket) {
  std::array<std::byte, 64> message;
  while (::recv(socket, message.data(), message.size(), MSG_DONTWAIT) > 0) {
  }
}

void drain_eventfd(int fd) {
  uint64_t count = 0;
  [[maybe_unused]] const auto got = ::read(fd, &count, sizeof count);
}

// A sender has the bell's open file in common with us, and so its flags: it can make it blocking, or empty it
// before we do. This never waits, whatever the flags say.
void drain_bell(int fd) {
  uint64_t count = 0;
  const iovec to{&count, sizeof count};
  [[maybe_unused]] const auto got = ::preadv2(fd, &to, 1, -1, RWF_NOWAIT);
}

}  // namespace

Forwarder::Forwarder(ForwarderSetup setup)
    : setup_(std::move(setup)),
      free_(setup_.region.count),
      owned_(setup_.region.count),
      wake_fd_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  frames_.reserve(kFrames);
  for (uint32_t i = setup_.region.count; i > 0; --i) free_.push(i - 1);
  for (const ForwardRing& ring : setup_.rings) {
    Input input;
    input.ring = ring;
    input.finished.reset(new uint8_t[ring.mask + 1]());
    inputs_.push_back(std::move(input));
  }
}

void Forwarder::request_stop() {
  stop_.store(true, std::memory_order_release);
  wake();
}

void Forwarder::wake() {
  full_fence();  // pairs with sleep(): either it sees us asleep, or we see what it did
  if (!asleep_.load(std::memory_order_relaxed)) return;
  const uint64_t one = 1;
  [[maybe_unused]] const auto written = ::write(wake_fd_.get(), &one, sizeof one);
}

void Forwarder::add(std::shared_ptr<Sender> sender) {
  {
    const std::scoped_lock lock(news_mutex_);
    news_.push_back(std::move(sender));
  }
  has_news_.store(true, std::memory_order_release);
  wake();
}

// ---- the thread ----------------------------------------------------------------------------------

void Forwarder::run() {
  ::pthread_setname_np(::pthread_self(), setup_.thread_name.substr(0, 15).c_str());
  if (setup_.cpu >= 0) {
    cpu_set_t cpus;
    CPU_ZERO(&cpus);
    CPU_SET(setup_.cpu, &cpus);
    ::pthread_setaffinity_np(::pthread_self(), sizeof cpus, &cpus);
  }
  while (!stop_.load(std::memory_order_acquire)) {
    if (round() != 0) {
      idle_since_ns_ = 0;
      nap_ns_ = 0;
    } else if (may_sleep()) {
      sleep();
    }
  }
  finish();
  for (const auto& served : senders_) served->sender->write();
}

// What is there now is sent; what workers still publish meanwhile would never end.
void Forwarder::finish() {
  for (Input& input : inputs_) input.end = input.ring.line->head.load(std::memory_order_acquire);
  const uint64_t began = monotonic_ns();
  uint64_t progress = began;
  while (!nothing_left()) {
    const uint64_t now = monotonic_ns();
    if (round() != 0) progress = now;
    if (now - progress > kLastNs || now - began > kLastAtMostNs) return;
  }
}

uint32_t Forwarder::round() {
  full_ = false;
  if (has_news_.load(std::memory_order_acquire)) refresh_senders();
  uint32_t moved = complete();
  for (uint32_t i = 0; i < inputs_.size(); ++i)
    moved += forward((first_ + i) % static_cast<uint32_t>(inputs_.size()));
  ++first_;
  if (!senders_.empty()) moved += serve_all();
  moved += complete();
  for (Input& input : inputs_)
    if (input.changed) write(input);
  return moved;
}

// Frames of one ring, from its cursor on, as far as the port takes them.
uint32_t Forwarder::forward(uint32_t number) {
  Input& input = inputs_[number];
  const uint64_t head =
      input.ring.line->head.load(std::memory_order_acquire);  // pairs with Worker::publish()
  const uint64_t end = std::min({head, input.end, input.next + kFrames});
  const uint64_t began = input.next;
  while (input.next != end) {
    frames_.clear();
    uint64_t position = input.next;
    for (; position != end; ++position) {
      const layout::Descriptor& d = input.ring.slots[position & input.ring.mask];
      if (!is_whole(d)) break;  // nobody would want it
      const uint64_t offset = layout::frame_offset(d);
      // Another core wrote it: its lines are on their way while we look at the rest of the burst.
      __builtin_prefetch(setup_.arena + offset);
      frames_.push_back(
          {.data = setup_.arena + offset,
           .arena_offset = offset,
           .length = d.length,
           .cookie = number << kCookieShift | static_cast<uint32_t>(position & input.ring.mask)});
    }
    if (frames_.empty()) {
      ++input.refused;
      input.changed = true;
      input.finished[input.next++ & input.ring.mask] = 1;
      continue;
    }
    const uint32_t given = give(frames_, input.to_refuse);
    input.next += given;
    input.changed |= given != 0;
    if (given != frames_.size()) break;
  }
  if (input.next != began) advance(input);
  return static_cast<uint32_t>(input.next - began);
}

// Gives frames of one input to the port; what it refused is known at once, how many of them, not which.
uint32_t Forwarder::give(std::span<const TransmitFrame> frames, uint64_t& refused) {
  const uint64_t before = setup_.queue->refused();
  const uint32_t given = setup_.queue->transmit(frames);
  refused += setup_.queue->refused() - before;
  in_flight_ += given;
  if (given != frames.size()) full_ = true;
  return given;
}

uint32_t Forwarder::complete() {
  std::array<uint32_t, size_t{4} * kFrames> cookies;
  uint32_t total = 0;
  while (in_flight_ != 0) {
    const uint32_t count = setup_.queue->completed(cookies);
    for (uint32_t i = 0; i < count; ++i) {
      const uint32_t owner = cookies[i] >> kCookieShift, place = cookies[i] & kCookieMask;
      if (owner == kOwnBuffer)
        complete_own(place);
      else
        complete_ring(inputs_[owner], place);
    }
    in_flight_ -= count;
    total += count;
    if (count < cookies.size()) break;
  }
  if (total != 0)
    for (Input& input : inputs_) advance(input);
  return total;
}

void Forwarder::complete_ring(Input& input, uint32_t slot) {
  input.finished[slot] = 1;
  input.changed = true;
  if (input.to_refuse != 0) {
    --input.to_refuse;
    ++input.refused;
  } else {
    ++input.sent;
    input.bytes += input.ring.slots[slot].length;
  }
}

void Forwarder::complete_own(uint32_t buffer) {
  Owned& owned = owned_[buffer];
  free_.push(buffer);
  Served& served = *owned.served;
  const bool refused = served.to_refuse != 0;
  if (refused) --served.to_refuse;
  if (!served.over && refused) served.sender->dropped();
  if (!served.over && !refused) served.sender->sent(owned.length);
  owned.served.reset();
}

// The cursor follows what is finished, in order; the worker frees the buffers.
void Forwarder::advance(Input& input) {
  const uint64_t before = input.done;
  while (input.done != input.next && input.finished[input.done & input.ring.mask] != 0)
    input.finished[input.done++ & input.ring.mask] = 0;
  if (input.done != before)
    input.ring.control->cursor.store(input.done, std::memory_order_release);  // pairs with Worker::look()
}

void Forwarder::write(Input& input) {
  input.changed = false;
  auto& entry = *input.ring.entry;
  const uint64_t taken = input.next - layout::kFirstPosition;
  const layout::SequenceWrite writing(entry.sequence);
  put(entry.taken, taken);
  put(entry.sent, input.sent);
  put(entry.refused, input.refused);
  put(entry.pending, taken - input.sent - input.refused);
  put(entry.bytes, input.bytes);
}

// ---- senders -------------------------------------------------------------------------------------

void Forwarder::refresh_senders() {
  const std::scoped_lock lock(news_mutex_);
  for (auto& sender : news_) senders_.push_back(std::make_shared<Served>(Served{std::move(sender), 0}));
  news_.clear();
  has_news_.store(false, std::memory_order_relaxed);
}

uint32_t Forwarder::serve_all() {
  const uint64_t now = monotonic_ns();
  uint32_t moved = 0;
  for (size_t i = 0; i < senders_.size(); ++i) moved += serve(senders_[(first_ + i) % senders_.size()], now);
  std::erase_if(senders_, [&](const std::shared_ptr<Served>& served) {
    if (!served->sender->finished(now)) {
      served->sender->write();
      return false;
    }
    close(*served);
    return true;
  });
  return moved;
}

// What is still on its way, of a sender that has gone and was given its time, counts as dropped.
void Forwarder::close(Served& served) {
  for (const TransmitFrame& frame : served.held) {
    const uint32_t buffer = frame.cookie & kCookieMask;
    owned_[buffer].served.reset();
    free_.push(buffer);
  }
  served.held.clear();
  served.over = true;
  served.sender->drop_pending();
  served.sender->write();
  served.sender->let_go();
}

uint32_t Forwarder::serve(const std::shared_ptr<Served>& served, uint64_t now_ns) {
  Sender& sender = *served->sender;
  uint32_t moved = 0;
  // What the port had no room for last time comes first: a sender's frames keep their order.
  if (!served->held.empty()) moved += give_held(*served);
  if (!served->held.empty()) return moved;
  if (free_.empty()) full_ = true;  // all are with the port
  const uint32_t count = sender.waiting(std::min(kFrames, free_.size()), now_ns);
  for (uint32_t i = 0; i < count; ++i) {
    const uint32_t buffer = free_.pop();
    const uint32_t length =
        sender.take({setup_.region.buffer(buffer), static_cast<size_t>(setup_.region.buffer_bytes)});
    ++moved;
    if (length == 0) {
      free_.push(buffer);
      continue;
    }
    owned_[buffer] = {served, length};
    served->held.push_back(
        {.data = setup_.region.buffer(buffer),
         .arena_offset = setup_.region.arena_offset + uint64_t{buffer} * setup_.region.buffer_bytes,
         .length = length,
         .cookie = kOwnBuffer << kCookieShift | buffer});
  }
  if (!served->held.empty()) moved += give_held(*served);
  return moved;
}

uint32_t Forwarder::give_held(Served& served) {
  const uint32_t given = give(served.held, served.to_refuse);
  served.held.erase(served.held.begin(), served.held.begin() + given);
  return given;
}

// ---- sleeping ------------------------------------------------------------------------------------

bool Forwarder::nothing_left() const {
  if (in_flight_ != 0 || has_news_.load(std::memory_order_acquire)) return false;
  const auto empty = [](const Input& input) { return input.next == input.end; };
  const auto silent = [](const std::shared_ptr<Served>& served) {
    return served->held.empty() && !served->sender->asks();
  };
  return std::ranges::all_of(inputs_, empty) && std::ranges::all_of(senders_, silent);
}

bool Forwarder::may_sleep() {
  if (setup_.poll == Poll::kBusy) return false;
  if (setup_.poll == Poll::kSleep) return true;
  const uint64_t now = monotonic_ns();
  if (idle_since_ns_ == 0) idle_since_ns_ = now;
  return now - idle_since_ns_ > kSpinNs;
}

// How long to sleep if nobody wakes us.
uint64_t Forwarder::patience_ns() {
  uint64_t limit_ns = setup_.longest_sleep_ns;
  if (full_ || in_flight_ != 0) limit_ns = nap_ns_ = std::clamp(2 * nap_ns_, kFirstNapNs, kLongestNapNs);
  const uint64_t now = monotonic_ns();
  for (const auto& served : senders_) {
    if (const uint64_t credit = served->sender->next_credit_ns(); credit != 0)
      limit_ns = std::min(limit_ns, credit > now ? credit - now : 0);
  }
  return limit_ns;
}

// Work that would make a round move on, were it done now.
bool Forwarder::work_waits() const {
  if (stop_.load(std::memory_order_acquire) || has_news_.load(std::memory_order_acquire)) return true;
  if (full_) return false;  // there is work, and no room for it
  const auto waits = [](const Input& input) {
    return input.ring.line->head.load(std::memory_order_acquire) != input.next;
  };
  const auto asks = [](const std::shared_ptr<Served>& served) {
    return served->sender->closes() || (served->sender->next_credit_ns() == 0 && served->sender->asks());
  };
  return std::ranges::any_of(inputs_, waits) || std::ranges::any_of(senders_, asks);
}

// The same protocol as a consumer's (Rings::prepare_sleep() in libcap/client), and towards senders the mirror
// image of it: say that we sleep, fence, look once more.
void Forwarder::sleep() {
  for (Input& input : inputs_) {
    input.ring.control->wake_at.store(input.next + 1, std::memory_order_relaxed);
  }
  for (const auto& served : senders_) served->sender->set_asleep(true);
  asleep_.store(true, std::memory_order_relaxed);
  full_fence();
  if (!work_waits()) {
    std::vector<pollfd> fds{{wake_fd_.get(), POLLIN, 0}, {setup_.wake_socket.get(), POLLIN, 0}};
    for (const auto& served : senders_) fds.push_back({served->sender->bell(), POLLIN, 0});
    const uint64_t limit_ns = patience_ns();
    const timespec timeout{static_cast<time_t>(limit_ns / 1'000'000'000),
                           static_cast<long>(limit_ns % 1'000'000'000)};
    if (limit_ns != 0) ::ppoll(fds.data(), fds.size(), &timeout, nullptr);
    drain_eventfd(wake_fd_.get());
    drain_socket(setup_.wake_socket.get());
    for (const auto& served : senders_) drain_bell(served->sender->bell());
  }
  asleep_.store(false, std::memory_order_relaxed);
  for (const auto& served : senders_) served->sender->set_asleep(false);
}

}  // namespace ringcap::engine

// Reading: frames out of the rings into callbacks, where they lie. A burst is held until all its frames
// were handed out and the next call asks for more, so that what pcap_next_ex() gave stays valid until then.
#include <sys/time.h>

#include <algorithm>
#include <climits>
#include <ctime>
#include <utility>

#include "libcap/pcap/own.h"

namespace ringcap::shim {
namespace {

using client::Taken;

constexpr uint32_t kBurst = 256;  // frames taken at a time
constexpr int kBufferful = 4096;  // frames of one pcap_dispatch() without a count
constexpr int kSettleMs = 10;     // the longest that frames wait for others, within the timeout
constexpr int kAhead = 16;        // frames whose first bytes are asked for before they are handed out
constexpr uint64_t kSecondNs = 1'000'000'000;

int64_t now_ms() {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<int64_t>(now.tv_sec) * 1000 + now.tv_nsec / 1'000'000;
}

// How long a call may wait for the first frame; -1: for ever.
int patience_ms(const Handle& h) {
  if (h.options.nonblock) return 0;
  return h.options.timeout_ms > 0 ? h.options.timeout_ms : -1;
}

// Outcomes of refill() that are no frames.
constexpr int kNothing = 0, kFrames = 1, kEnd = 2;

int give_error(Handle& h) { return h.fail(PCAP_ERROR, h.client->error().message()); }

// Takes the next burst, waiting at most `wait_ms`. kFrames, kNothing, kEnd or PCAP_ERROR.
int take(Handle& h, int wait_ms) {
  if (h.burst.count != 0) h.client->give_back(h.burst);
  h.burst = {};
  h.filter_burst = false;
  h.next = h.end = nullptr;
  const uint32_t max = std::min(kBurst, h.client->ring_slots() / 4);  // the rest of a ring takes what comes
  switch (h.client->take(max, wait_ms, h.burst)) {
    case Taken::kFrames:
      h.next = h.burst.frames;
      h.end = h.next + h.burst.count;
      return kFrames;
    case Taken::kTimeout:
    case Taken::kBreak:  // the caller looks at its own flag
      return kNothing;
    case Taken::kEnd:
      return kEnd;
    case Taken::kError:
      break;
  }
  return give_error(h);
}

// Several frames for one wake-up: where frames flow, who did not ask for immediate mode sleeps until many
// have come, within the timeout, as libpcap's buffer does. What this took of `wait_ms` is taken off.
int take_many(Handle& h, int& wait_ms) {
  const int64_t start = now_ms();
  const int ms = wait_ms < 0 ? kSettleMs : std::min(wait_ms, kSettleMs);
  h.client->settle(std::max<uint32_t>(h.client->ring_slots() / 4, 1), ms);
  const int outcome = take(h, 0);
  if (wait_ms > 0) wait_ms = static_cast<int>(std::max<int64_t>(0, wait_ms - (now_ms() - start)));
  return outcome;
}

// Waits for the first frames of a call.
int take_waiting(Handle& h, int wait_ms) {
  if (wait_ms == 0 || h.options.immediate || h.selectable) return take(h, wait_ms);
  int outcome = take(h, 0);
  if (h.break_loop.load(std::memory_order_relaxed)) return outcome;
  if (outcome == kNothing && std::exchange(h.flowing, false)) outcome = take_many(h, wait_ms);
  if (outcome == kNothing && !h.break_loop.load(std::memory_order_relaxed)) outcome = take(h, wait_ms);
  h.flowing = outcome == kFrames;
  return outcome;
}

void stamp(Handle& h, uint64_t ns, pcap_pkthdr& header) {
  uint64_t within = ns - h.second_ns;
  if (within >= kSecondNs) [[unlikely]] {
    h.second_ns = ns / kSecondNs * kSecondNs;
    within = ns - h.second_ns;
  }
  header.ts.tv_sec = static_cast<time_t>(h.second_ns / kSecondNs);
  header.ts.tv_usec = static_cast<suseconds_t>(h.nano ? within : within / 1000);
}

// The next frame of the burst that passes the filter: its header, and where its bytes are. Null: none is
// left.
const u_char* next_frame(Handle& h, pcap_pkthdr& header) {
  while (h.next != h.end) {
    const layout::Descriptor& d = *h.next++;
    if (h.end - h.next > kAhead) [[likely]]
      __builtin_prefetch(h.client->frame(h.next[kAhead]));
    const std::byte* frame = h.client->frame(d);
    uint32_t wanted = h.caplen_limit;
    if (h.filter_here || h.filter_burst) {
      wanted = std::min(wanted, h.filter.run(d, frame));
      if (wanted == 0) {
        h.not_matched.fetch_add(1, std::memory_order_relaxed);
        continue;
      }
    }
    header.caplen = std::min<uint32_t>(d.captured, wanted);
    header.len = d.length;
    stamp(h, d.timestamp_ns, header);
    if (!h.copy) return reinterpret_cast<const u_char*>(frame);
    std::copy_n(reinterpret_cast<const u_char*>(frame), header.caplen, h.copied.data());
    return h.copied.data();
  }
  return nullptr;
}

bool broken(Handle& h) { return h.break_loop.load(std::memory_order_relaxed); }

// libpcap's PCAP_ERROR_BREAK: the flag is cleared with it.
int take_break(Handle& h) {
  h.break_loop.store(false, std::memory_order_relaxed);
  return PCAP_ERROR_BREAK;
}

void leave(Handle& h) {
  if (!h.selectable) return;
  const bool left = h.next != h.end || broken(h);
  if (left != h.kept_ready) h.client->keep_ready(left);
  h.kept_ready = left;
}

// The frames that are in the burst, at most `count`; stops at a break.
int hand_out(Handle& h, int count, pcap_handler callback, u_char* user) {
  int done = 0;
  while (done < count && !broken(h)) {
    pcap_pkthdr header;
    const u_char* packet = next_frame(h, header);
    if (packet == nullptr) break;
    ++done;
    callback(user, &header, packet);
  }
  return done;
}

struct Outcome {
  int code = 0;  // frames, or an error
  bool end = false;
};

// One bufferful: what pcap_dispatch() does.
Outcome read(Handle& h, int count, pcap_handler callback, u_char* user) {
  const int most = count <= 0 ? kBufferful : count;
  const int patience = patience_ms(h);
  const int64_t start = patience > 0 ? now_ms() : 0;
  int done = 0;
  for (bool first = true;; first = false) {
    done += hand_out(h, most - done, callback, user);
    if (done >= most) return {done};
    if (broken(h)) return {done > 0 ? done : take_break(h)};
    int wait_ms = done > 0 ? 0 : patience;
    if (wait_ms > 0 && !first)
      wait_ms = static_cast<int>(std::max<int64_t>(0, patience - (now_ms() - start)));
    const int outcome = take_waiting(h, wait_ms);
    if (outcome == kFrames || (outcome == kNothing && broken(h))) continue;
    if (done > 0) return {done};  // an error is told by the next call
    if (outcome == kEnd) return {0, true};
    if (outcome < 0) return {outcome};
    if (patience >= 0 && (patience == 0 || now_ms() - start >= patience)) return {0};
  }
}

}  // namespace

namespace own {

// A source that has ended is like the end of a savefile: 0. Said once: an event loop that keeps on asking
// because the descriptor is readable would spin, so from then on the answer is PCAP_ERROR_BREAK.
int pcap_dispatch(Handle& h, int count, pcap_handler callback, u_char* user) {
  if (!h.activated()) return h.not_activated();
  const Outcome outcome = read(h, count, callback, user);
  leave(h);
  if (!outcome.end) return outcome.code;
  return std::exchange(h.said_end, true) ? PCAP_ERROR_BREAK : 0;
}

int pcap_loop(Handle& h, int count, pcap_handler callback, u_char* user) {
  if (!h.activated()) return h.not_activated();
  const bool unlimited = count <= 0;
  for (;;) {
    const Outcome outcome = read(h, unlimited ? 0 : count, callback, user);
    if (outcome.end || outcome.code < 0) {
      leave(h);
      return outcome.end ? 0 : outcome.code;
    }
    if (unlimited) continue;
    count -= outcome.code;
    if (count > 0) continue;
    leave(h);
    return 0;
  }
}

int pcap_next_ex(Handle& h, pcap_pkthdr** header, const u_char** packet) {
  *header = nullptr;
  *packet = nullptr;
  if (!h.activated()) return h.not_activated();
  if (!broken(h)) [[likely]] {
    if (const u_char* found = next_frame(h, h.header); found != nullptr) [[likely]] {
      *header = &h.header;
      *packet = found;
      leave(h);
      return 1;
    }
  }
  struct Found {
    Handle& h;
    const u_char* packet = nullptr;
  } found{h};
  const auto keep = [](u_char* user, const pcap_pkthdr* got, const u_char* bytes) {
    auto& to = *reinterpret_cast<Found*>(user);
    to.h.header = *got;
    to.packet = bytes;
  };
  const Outcome outcome = read(h, 1, keep, reinterpret_cast<u_char*>(&found));
  leave(h);
  if (outcome.end) return PCAP_ERROR_BREAK;
  if (outcome.code == 1) {
    *header = &h.header;
    *packet = found.packet;
  }
  return outcome.code;
}

const u_char* pcap_next(Handle& h, pcap_pkthdr* header) {
  pcap_pkthdr* found = nullptr;
  const u_char* packet = nullptr;
  if (own::pcap_next_ex(h, &found, &packet) != 1) return nullptr;
  *header = *found;
  return packet;
}

void pcap_breakloop(Handle& h) {
  h.break_loop.store(true, std::memory_order_relaxed);
  if (h.activated()) h.client->break_loop();
}

// As in libpcap, PCAP_ERROR_NOT_ACTIVATED leaves the caller's buffer alone.
int pcap_getnonblock(Handle& h, char*) {
  return h.activated() ? static_cast<int>(h.options.nonblock) : h.not_activated();
}

int pcap_setnonblock(Handle& h, int nonblock, char*) {
  h.options.nonblock = nonblock != 0;
  return 0;
}

int pcap_get_selectable_fd(Handle& h) {
  if (!h.activated()) return -1;
  h.selectable = true;
  const int fd = h.client->selectable_fd();
  leave(h);
  return fd;
}

int pcap_fileno(Handle& h) { return own::pcap_get_selectable_fd(h); }

const timeval* pcap_get_required_select_timeout(Handle&) { return nullptr; }

}  // namespace own
}  // namespace ringcap::shim

// The C ABI of sending: ringcap.h, over Sender. Nothing is thrown across it.
#include <algorithm>
#include <array>
#include <memory>
#include <span>

#include "capture/base/monotonic.h"
#include "libcap/client/c_error.h"
#include "libcap/client/c_handle.h"
#include "libcap/client/ringcap.h"
#include "libcap/client/sender.h"

using ringcap::Result;
using ringcap::client::put;
using ringcap::client::Sender;

struct ringcap_sender {
  std::unique_ptr<Sender> sender;
  ringcap_error error{};
};

namespace {

int hand_over(Result<std::unique_ptr<Sender>> opened, ringcap_sender_t** sender, ringcap_error* error) {
  *sender = nullptr;
  if (!opened) {
    put(error, opened.error());
    return -static_cast<int>(opened.error().code);
  }
  *sender = new ringcap_sender{std::move(*opened), {}};
  return RINGCAP_OK;
}

int failed(ringcap_sender_t* sender, const ringcap::Error& error) {
  put(&sender->error, error);
  return -static_cast<int>(error.code);
}

// Of timeout_ms (-1: for ever), since start_ns.
int left(uint64_t start_ns, int timeout_ms) {
  if (timeout_ms <= 0) return timeout_ms;
  const uint64_t passed = (ringcap::monotonic_ns() - start_ns) / 1'000'000;
  return passed >= static_cast<uint64_t>(timeout_ms) ? 0 : timeout_ms - static_cast<int>(passed);
}

}  // namespace

extern "C" {

RINGCAP_EXPORT int ringcap_sender_open(const char* name, const char* port, ringcap_sender_t** sender,
                                       ringcap_error* error) {
  return hand_over(Sender::open(name, {.port = port != nullptr ? port : "", .program = {}}), sender, error);
}

RINGCAP_EXPORT int ringcap_sender_of(ringcap_t* handle, const char* port, ringcap_sender_t** sender,
                                     ringcap_error* error) {
  return hand_over(Sender::open(*handle->client, {.port = port != nullptr ? port : "", .program = {}}),
                   sender, error);
}

RINGCAP_EXPORT int ringcap_send(ringcap_sender_t* sender, const ringcap_frame* frames, uint32_t count,
                                int timeout_ms) {
  constexpr uint32_t kAtOnce = 64;
  std::array<std::span<const std::byte>, kAtOnce> spans;
  const uint64_t start = ringcap::monotonic_ns();
  uint32_t queued = 0;
  while (queued < count) {
    const uint32_t some = std::min(count - queued, kAtOnce);
    for (uint32_t i = 0; i < some; ++i)
      spans[i] = {static_cast<const std::byte*>(frames[queued + i].data), frames[queued + i].length};
    const auto sent = sender->sender->send(std::span(spans).first(some), left(start, timeout_ms));
    if (!sent) return failed(sender, sent.error());
    queued += *sent;
    if (*sent != some) break;
  }
  return static_cast<int>(queued);
}

RINGCAP_EXPORT int ringcap_send_flush(ringcap_sender_t* sender, int timeout_ms) {
  const auto flushed = sender->sender->flush(timeout_ms);
  if (!flushed) return failed(sender, flushed.error());
  return *flushed ? RINGCAP_OK : 1;
}

RINGCAP_EXPORT int ringcap_send_stats(ringcap_sender_t* sender, ringcap_send_counters* counters) {
  const auto s = sender->sender->stats();
  *counters = {s.asked, s.sent, s.refused, s.dropped, s.pending, s.limited};
  return RINGCAP_OK;
}

RINGCAP_EXPORT const ringcap_error* ringcap_sender_error(ringcap_sender_t* sender) { return &sender->error; }

RINGCAP_EXPORT void ringcap_sender_close(ringcap_sender_t* sender) { delete sender; }

}  // extern "C"

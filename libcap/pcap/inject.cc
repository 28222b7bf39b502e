// Sending through an engine: pcap_inject() and pcap_sendpacket(), over the connection that pcap_activate()
// made, so that a program that gave up its privileges since can still send. What must hold is in
// pcap_inject(3PCAP).
//
// A frame is on its way when the call returns. What becomes of it (an interface that is down) is in the
// engine's ledger: `ringcap stat`.
#include <fmt/format.h>

#include "libcap/client/sender.h"
#include "libcap/pcap/handle.h"
#include "libcap/pcap/own.h"

namespace ringcap::shim {
namespace {

constexpr int kRoomMs = 1'000;  // how long a call waits for room, unless the handle is non-blocking

// Opened when the first frame is sent: most programs never send.
bool can_send(Handle& h) {
  if (h.sender) return true;
  auto sender = client::Sender::open(*h.client, {.port = {}, .program = {}});
  if (!sender) {
    h.fail(PCAP_ERROR, sender.error().message());
    return false;
  }
  h.sender = std::move(*sender);
  return true;
}

int send_one(Handle& h, std::span<const std::byte> frame) {
  if (!h.activated()) return h.not_activated();
  if (!can_send(h)) return PCAP_ERROR;
  const auto queued = h.sender->send({&frame, 1}, h.options.nonblock ? 0 : kRoomMs);
  if (!queued) return h.fail(PCAP_ERROR, queued.error().message());
  if (*queued == 0)
    return h.fail(PCAP_ERROR,
                  fmt::format("send: no room: {} has taken nothing for a while (no link?)", h.device));
  return static_cast<int>(frame.size());
}

}  // namespace

namespace own {

int pcap_inject(Handle& h, const void* packet, size_t bytes) {
  return send_one(h, {static_cast<const std::byte*>(packet), bytes});
}

int pcap_sendpacket(Handle& h, const u_char* packet, int bytes) {
  if (bytes < 0) return h.fail(PCAP_ERROR, "a packet of less than no bytes cannot be sent");
  return pcap_inject(h, packet, static_cast<size_t>(bytes)) < 0 ? PCAP_ERROR : 0;
}

}  // namespace own
}  // namespace ringcap::shim

// pcap_create() to pcap_activate() and pcap_close(), and the options in between.
#include <fmt/format.h>
#include <net/if.h>

#include <algorithm>
#include <bit>
#include <cstdlib>
#include <exception>

#include "capture/base/names.h"
#include "capture/layout/view.h"
#include "libcap/filter/dlt.h"
#include "libcap/pcap/names.h"
#include "libcap/pcap/own.h"
#include "libcap/pcap/real.h"

namespace ringcap::shim {
namespace {

using client::Client;

int counters(pcap_t* p, ringcap_counters* out) {
  const Handle& h = *ours(p);
  if (!h.activated()) return RINGCAP_E_USAGE;
  const auto s = h.client->stats();
  const uint64_t here = h.not_matched.load(std::memory_order_relaxed);
  *out = {.considered = s.considered,
          .not_matched = s.not_matched + here,
          .offered = s.offered - std::min(s.offered, here),
          .published = s.published - std::min(s.published, here),
          .dropped = s.dropped,
          .released = s.released - std::min(s.released, here),
          .in_ring = s.in_ring,
          .late = s.late,
          .missed = s.missed};
  return RINGCAP_OK;
}

int code_of(Code code) {
  if (code == Code::kPermission) return PCAP_ERROR_PERM_DENIED;
  if (code == Code::kNotFound) return PCAP_ERROR_NO_SUCH_DEVICE;
  return PCAP_ERROR;
}

int refuse_change(Handle& h) {
  return h.fail(PCAP_ERROR_ACTIVATED, "can't perform  operation on activated capture");
}

client::ClientOptions client_options(const Handle& h) {
  client::ClientOptions options;
  options.merge = true;
  options.detach = false;
  options.allow_smaller = true;
  if (h.options.buffer_bytes > 0)
    options.ring_slots =
        std::clamp(std::bit_ceil(static_cast<uint32_t>(h.options.buffer_bytes) / kBufferBytesPerSlot),
                   layout::kMinRingSlots, layout::kMaxRingSlots);
  return options;
}

int make_dead(Handle& h) {
  const Real& libpcap = real();
  if (!libpcap.error.empty()) return h.fail(PCAP_ERROR, libpcap.error);
  const auto make = libpcap.pcap_open_dead_with_tstamp_precision;
  h.dead.handle = make == nullptr
                      ? nullptr
                      : make(h.dlt, h.options.snaplen, static_cast<u_int>(h.options.tstamp_precision));
  return h.dead.handle == nullptr
             ? h.fail(PCAP_ERROR, "the real libpcap cannot make a handle to compile filters with")
             : 0;
}

int attach(Handle& h) {
  if (const auto names = parse_consumed(h.consumed); !names)
    return h.fail(PCAP_ERROR_NO_SUCH_DEVICE, names.error().message());
  auto client = Client::attach(h.consumed, client_options(h));
  if (!client) return h.fail(code_of(client.error().code), client.error().message());
  h.dlt = dlt_of((*client)->link_type());
  if (const int failed = make_dead(h); failed != 0) return failed;
  h.client = std::move(*client);
  const auto missed = h.client->stats().missed;
  h.missed_before = missed == layout::kNotCounted ? 0 : missed;
  return 0;
}

int activate(Handle& h) {
  if (h.activated()) return refuse_change(h);
  if (h.options.rfmon) return h.fail(PCAP_ERROR_RFMON_NOTSUP, "an engine has no monitor mode");
  if (h.options.snaplen <= 0 || h.options.snaplen > kMaxSnaplen) h.options.snaplen = kMaxSnaplen;
  h.caplen_limit = static_cast<uint32_t>(h.options.snaplen);
  h.nano = h.options.tstamp_precision == PCAP_TSTAMP_PRECISION_NANO;
  if (const char* copy = ::secure_getenv("RINGCAP_PCAP_COPY"); copy != nullptr)
    h.copy = std::string_view(copy) == "1";
  if (h.copy) h.copied.resize(size_t{UINT16_MAX} + 1);
  return attach(h);
}

// What pcap_open_live() says when pcap_activate() failed.
void tell_open_error(char* errbuf, const char* device, int status, const Handle& h) {
  const bool generic = status == PCAP_ERROR;
  const char* meaning = real().pcap_statustostr == nullptr ? "error" : real().pcap_statustostr(status);
  put_text(errbuf, generic ? fmt::format("{}: {}", device, h.error)
                           : fmt::format("{}: {} ({})", device, meaning, h.error));
}

}  // namespace

Dead::~Dead() {
  if (handle != nullptr) real().pcap_close(handle);
}

Handle::Handle(std::string device_name, std::string consumed_name)
    : head{.tag = RINGCAP_PCAP_TAG, .counters = counters},
      device(std::move(device_name)),
      consumed(std::move(consumed_name)) {}

namespace named {

pcap_t* pcap_create(const char* device, char* errbuf) {
  const auto consumed = consumed_by(device);
  if (!consumed)
    return real().pcap_create != nullptr ? real().pcap_create(device, errbuf)
                                         : lacking(errbuf, "pcap_create", static_cast<pcap_t*>(nullptr));
  if (errbuf != nullptr) errbuf[0] = 0;
  return (new Handle(device, *consumed))->pcap();
}

pcap_t* pcap_open_live(const char* device, int snaplen, int promiscuous, int timeout_ms, char* errbuf) {
  if (!consumed_by(device))
    return real().pcap_open_live != nullptr
               ? real().pcap_open_live(device, snaplen, promiscuous, timeout_ms, errbuf)
               : lacking(errbuf, "pcap_open_live", static_cast<pcap_t*>(nullptr));
  Handle& h = *ours(named::pcap_create(device, errbuf));
  h.options.snaplen = snaplen;
  h.options.timeout_ms = timeout_ms;
  const int status = own::pcap_activate(h);
  if (status >= 0) return h.pcap();
  tell_open_error(errbuf, device, status, h);
  delete &h;
  return nullptr;
}

}  // namespace named

namespace own {

int pcap_activate(Handle& h) {
  try {
    return activate(h);
  } catch (const std::exception& error) {
    return h.fail(PCAP_ERROR, error.what());
  }
}

void pcap_close(Handle& h) {
  h.head.tag = 0;
  delete &h;
}

int pcap_set_snaplen(Handle& h, int snaplen) {
  if (h.activated()) return refuse_change(h);
  h.options.snaplen = snaplen;
  return 0;
}

// Whether a port is promiscuous is the engine's business: it is for all consumers.
int pcap_set_promisc(Handle& h, int) { return h.activated() ? refuse_change(h) : 0; }

int pcap_can_set_rfmon(Handle&) { return 0; }

int pcap_set_rfmon(Handle& h, int rfmon) {
  if (h.activated()) return refuse_change(h);
  h.options.rfmon = rfmon != 0;
  return 0;
}

int pcap_set_timeout(Handle& h, int timeout_ms) {
  if (h.activated()) return refuse_change(h);
  h.options.timeout_ms = timeout_ms;
  return 0;
}

int pcap_set_immediate_mode(Handle& h, int immediate) {
  if (h.activated()) return refuse_change(h);
  h.options.immediate = immediate != 0;
  return 0;
}

// As in libpcap, a size that makes no sense is ignored.
int pcap_set_buffer_size(Handle& h, int bytes) {
  if (h.activated()) return refuse_change(h);
  if (bytes > 0) h.options.buffer_bytes = bytes;
  return 0;
}

int pcap_set_protocol_linux(Handle& h, int) { return h.activated() ? refuse_change(h) : 0; }

int pcap_set_tstamp_precision(Handle& h, int precision) {
  if (h.activated()) return refuse_change(h);
  if (precision != PCAP_TSTAMP_PRECISION_MICRO && precision != PCAP_TSTAMP_PRECISION_NANO)
    return PCAP_ERROR_TSTAMP_PRECISION_NOTSUP;
  h.options.tstamp_precision = precision;
  return 0;
}

int pcap_get_tstamp_precision(Handle& h) { return h.options.tstamp_precision; }

}  // namespace own
}  // namespace ringcap::shim

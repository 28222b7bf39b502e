// Filters: compiled by the real library, evaluated in the engine where it can, else here.
#include <net/if.h>

#include <utility>

#include "capture/layout/view.h"
#include "libcap/filter/live_words.h"
#include "libcap/pcap/own.h"
#include "libcap/pcap/real.h"

namespace ringcap::shim {
namespace {

// The interface that an engine's first port is made of: "packet:eth0,queues=2" is eth0's. 0: none.
uint32_t interface_of(const layout::Header& header) {
  if (header.ports.count == 0) return 0;
  const std::string_view address = layout::entry<layout::PortEntry>(header, header.ports, 0).address;
  const auto colon = address.find(':');
  if (colon == std::string_view::npos) return 0;
  return ::if_nametoindex(std::string(address.substr(colon + 1, address.find(',') - colon - 1)).c_str());
}

// The engine's part of the filter goes there; what the engine does not take is evaluated here.
Result<void> install(Handle& h) {
  h.filter_here = !h.filter.engine_suffices(h.caplen_limit);
  h.filter_burst = h.next != h.end;
  const auto wanted = h.filter.for_engine();
  const bool nothing = wanted.filter.empty() && !wanted.outgoing;
  if (nothing && !h.engine_filters) return {};
  auto set = h.client->set_filter(wanted.filter, wanted.outgoing);
  if (set) {
    h.engine_filters = !nothing;
    return {};
  }
  const bool refused = set.error().code == Code::kUsage || set.error().code == Code::kPermission ||
                       set.error().code == Code::kFilter;
  if (!refused) return set;
  if (h.engine_filters)
    if (auto none = h.client->set_filter({}); !none) return none;
  h.engine_filters = false;
  h.filter_here = true;
  return {};
}

// Goes by another filter, or by the old one where that cannot be.
int replace(Handle& h, FrameFilter filter) {
  FrameFilter old = std::exchange(h.filter, std::move(filter));
  if (const auto installed = install(h); !installed) {
    h.filter = std::move(old);
    h.filter_here = !h.filter.engine_suffices(h.caplen_limit);
    return h.fail(PCAP_ERROR, installed.error().message());
  }
  return 0;
}

}  // namespace

namespace own {

int pcap_compile(Handle& h, bpf_program* program, const char* text, int optimize, bpf_u_int32 mask) {
  if (!h.activated()) {
    if (program != nullptr) *program = {};
    return h.fail(PCAP_ERROR, "not-yet-activated pcap_t passed to pcap_compile");
  }
  int status = real().pcap_compile(h.dead.handle, program, text, optimize, mask);
  if (status != 0 && text != nullptr)
    if (const auto other = without_live_words(text, real().pcap_geterr(h.dead.handle)))
      status = real().pcap_compile(h.dead.handle, program, other->c_str(), 1, mask);
  if (status != 0) h.fail(status, real().pcap_geterr(h.dead.handle));
  return status;
}

int pcap_setfilter(Handle& h, bpf_program* program) {
  if (!h.activated()) return h.not_activated();
  if (program == nullptr) return h.fail(PCAP_ERROR, "setfilter: No filter specified");
  auto filter = FrameFilter::make(*program, interface_of(h.client->header()));
  if (!filter) return h.fail(PCAP_ERROR, filter.error().message());
  filter->set_direction(h.filter.direction());
  return replace(h, std::move(*filter));
}

int pcap_setdirection(Handle& h, pcap_direction_t direction) {
  if (!h.activated()) return h.not_activated();
  if (direction != PCAP_D_INOUT && direction != PCAP_D_IN && direction != PCAP_D_OUT)
    return h.fail(PCAP_ERROR, "Invalid direction");
  FrameFilter filter = h.filter;
  filter.set_direction(direction);
  return replace(h, std::move(filter));
}

}  // namespace own
}  // namespace ringcap::shim

// Time stamp types. An engine's ports have one clock for all consumers, so there is one type to choose:
// what that clock is.
#include <cstdlib>

#include "capture/base/names.h"
#include "libcap/pcap/own.h"

namespace ringcap::shim {
namespace {

// Asks the engine, where it runs; else host.
int type_of(const Handle& h) {
  const layout::Header* header = nullptr;
  Result<Mapping> state;
  if (h.activated()) {
    header = &h.client->header();
  } else if (const auto names = parse_consumed(h.consumed); names) {
    state = client::observe(names->engine);
    if (state) header = state->at<const layout::Header>(0);
  }
  const bool adapter = header != nullptr && header->clock == static_cast<uint32_t>(layout::Clock::kAdapter);
  return adapter ? PCAP_TSTAMP_ADAPTER : PCAP_TSTAMP_HOST;
}

}  // namespace

namespace own {

int pcap_list_tstamp_types(Handle& h, int** list) {
  *list = static_cast<int*>(std::malloc(sizeof(int)));  // pcap_free_tstamp_types() frees it
  if (*list == nullptr) return h.fail(PCAP_ERROR, "malloc: Cannot allocate memory");
  **list = type_of(h);
  return 1;
}

int pcap_set_tstamp_type(Handle& h, int type) {
  if (h.activated()) return h.fail(PCAP_ERROR_ACTIVATED, "can't perform  operation on activated capture");
  return type >= 0 && type == type_of(h) ? 0 : PCAP_WARNING_TSTAMP_TYPE_NOTSUP;
}

}  // namespace own
}  // namespace ringcap::shim

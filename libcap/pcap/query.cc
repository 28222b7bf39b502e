// What a handle tells, and what goes to the real library's files.
#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>

#include "libcap/pcap/own.h"
#include "libcap/pcap/real.h"

namespace ringcap::shim {
namespace {

// A dumper of the real library, made with the dead handle: the format, the FILE and the errors are its own.
template <typename Open>
pcap_dumper_t* dump(Handle& h, const char* name, const char* function, Open open) {
  if (!h.activated()) {
    h.fail(PCAP_ERROR, fmt::format("{}: not-yet-activated pcap_t passed to {}", name, function));
    return nullptr;
  }
  pcap_dumper_t* dumper = open(h.dead.handle);
  if (dumper == nullptr)
    h.fail(PCAP_ERROR, real().pcap_geterr(h.dead.handle));
  else
    note_dumper(dumper);
  return dumper;
}

u_int low_bits(uint64_t count) { return static_cast<u_int>(count); }

int when_active(Handle& h, int value) { return h.activated() ? value : PCAP_ERROR_NOT_ACTIVATED; }

}  // namespace

namespace own {

// Received: after the filter, the dropped among them, as Linux counts.
int pcap_stats(Handle& h, pcap_stat* stats) {
  ringcap_counters c{};
  if (!h.activated()) return h.not_activated();
  h.head.counters(h.pcap(), &c);
  const uint64_t missed =
      c.missed == layout::kNotCounted ? 0 : c.missed - std::min(c.missed, h.missed_before);
  *stats = {.ps_recv = low_bits(c.offered), .ps_drop = low_bits(c.dropped), .ps_ifdrop = low_bits(missed)};
  return 0;
}

char* pcap_geterr(Handle& h) { return h.error; }

void pcap_perror(Handle& h, const char* prefix) {
  std::fprintf(stderr, "%s: %s\n", prefix == nullptr ? "" : prefix, h.error);
}

int pcap_datalink(Handle& h) { return when_active(h, h.dlt); }

int pcap_datalink_ext(Handle& h) { return when_active(h, 0); }

int pcap_list_datalinks(Handle& h, int** list) {
  if (!h.activated()) return h.not_activated();
  *list = static_cast<int*>(std::malloc(sizeof(int)));  // pcap_free_datalinks() frees it
  if (*list == nullptr) return h.fail(PCAP_ERROR, "malloc: Cannot allocate memory");
  **list = h.dlt;
  return 1;
}

int pcap_set_datalink(Handle& h, int type) {
  if (!h.activated()) return h.not_activated();
  if (type == h.dlt) return 0;
  const char* name = real().pcap_datalink_val_to_name(type);
  return h.fail(PCAP_ERROR,
                name != nullptr
                    ? fmt::format("{} is not one of the DLTs supported by this device", name)
                    : fmt::format("DLT {} is not one of the DLTs supported by this device", type));
}

int pcap_snapshot(Handle& h) { return when_active(h, h.options.snaplen); }
int pcap_is_swapped(Handle& h) { return when_active(h, 0); }
int pcap_major_version(Handle& h) { return when_active(h, 0); }
int pcap_minor_version(Handle& h) { return when_active(h, 0); }

// By the measure of pcap_set_buffer_size().
int pcap_bufsize(Handle& h) {
  if (!h.activated()) return PCAP_ERROR_NOT_ACTIVATED;
  const uint64_t bytes = uint64_t{h.client->ring_slots()} * kBufferBytesPerSlot;
  return static_cast<int>(std::min<uint64_t>(bytes, INT32_MAX));
}

FILE* pcap_file(Handle&) { return nullptr; }

pcap_dumper_t* pcap_dump_open(Handle& h, const char* name) {
  return dump(h, name == nullptr ? "(null)" : name, "pcap_dump_open",
              [&](pcap_t* dead) { return real().pcap_dump_open(dead, name); });
}

pcap_dumper_t* pcap_dump_fopen(Handle& h, FILE* file) {
  return dump(h, "stream", "pcap_dump_fopen",
              [&](pcap_t* dead) { return real().pcap_dump_fopen(dead, file); });
}

pcap_dumper_t* pcap_dump_open_append(Handle& h, const char* name) {
  return dump(h, name == nullptr ? "(null)" : name, "pcap_dump_open_append",
              [&](pcap_t* dead) { return real().pcap_dump_open_append(dead, name); });
}

pcap_samp* pcap_setsampling(Handle& h) {
  h.fail(PCAP_ERROR, "sampling is not supported on ringcap engines");
  return nullptr;
}

}  // namespace own
}  // namespace ringcap::shim

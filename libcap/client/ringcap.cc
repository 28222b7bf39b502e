// The C ABI of libringcap: ringcap.h, over Client. Nothing is thrown across it.
#include "libcap/client/ringcap.h"

#include <cstring>
#include <memory>
#include <string>

#include "capture/base/run_dir.h"
#include "capture/layout/view.h"
#include "capture/ledger/ledger.h"
#include "libcap/client/c_error.h"
#include "libcap/client/c_handle.h"
#include "libcap/client/ringcap_columns.h"

using ringcap::Code;
using ringcap::client::Client;
using ringcap::client::ClientOptions;
using ringcap::client::FrameBurst;
using ringcap::client::Taken;

static_assert(sizeof(ringcap_descriptor) == sizeof(ringcap::layout::Descriptor));
static_assert(sizeof(ringcap_instruction) == sizeof(ringcap::filter::Instruction));

namespace {

using ringcap::client::put;

// A structure that may be older and shorter than ours: what it lacks has its default.
ringcap_options known_part(const ringcap_options* given) {
  ringcap_options options = RINGCAP_OPTIONS_INIT;
  if (given != nullptr)
    std::memcpy(&options, given, given->size < sizeof options ? given->size : sizeof options);
  return options;
}

ringcap::Result<ClientOptions> convert(const ringcap_options& o) {
  ClientOptions options;
  if (o.kind != nullptr) {
    auto kind = ringcap::cluster::parse_kind(o.kind);
    if (!kind) return std::unexpected(kind.error());
    options.kind = *kind;
  }
  if (o.level != nullptr) {
    auto level = ringcap::cluster::parse_level(o.level);
    if (!level) return std::unexpected(level.error());
    options.level = *level;
  }
  if (o.program != nullptr) options.program = o.program;
  options.ring_slots = o.ring_frames;
  options.allow_smaller = (o.flags & RINGCAP_ALLOW_SMALLER) != 0;
  options.merge = (o.flags & RINGCAP_MERGE) != 0;
  options.wait_ms = o.wait_ms;
  if (o.merge_wait_ms != 0) options.merge_wait_ms = o.merge_wait_ms;
  options.batch_frames = o.batch_frames;
  if (o.batch_ms != 0) options.batch_ms = o.batch_ms;
  const auto* first = reinterpret_cast<const ringcap::filter::Instruction*>(o.filter);
  if (first != nullptr) options.filter.assign(first, first + o.filter_length);
  return options;
}

}  // namespace

extern "C" {

RINGCAP_EXPORT const char* ringcap_version(void) { return RINGCAP_VERSION; }

RINGCAP_EXPORT int ringcap_list(int (*found)(const char* name, void* context), void* context) {
  int count = 0;
  for (const auto& name : ringcap::list_engines()) {
    ++count;
    if (found != nullptr && found(name.c_str(), context) != 0) break;
  }
  return count;
}

RINGCAP_EXPORT int ringcap_attach(const char* name, const ringcap_options* given, ringcap_t** handle,
                                  ringcap_error* error) {
  if (handle == nullptr || name == nullptr) return RINGCAP_E_USAGE;
  *handle = nullptr;
  const ringcap_options options = known_part(given);
  if (options.filter_length > 4096) {
    put(error, {Code::kFilter, "a filter has at most 4096 instructions", ""});
    return RINGCAP_E_FILTER;
  }
  auto converted = convert(options);
  if (!converted) {
    put(error, converted.error());
    return -static_cast<int>(converted.error().code);
  }
  auto client = Client::attach(name, *converted);
  if (!client) {
    put(error, client.error());
    return -static_cast<int>(client.error().code);
  }
  *handle = new ringcap_handle{std::move(*client), {}};
  return RINGCAP_OK;
}

RINGCAP_EXPORT int ringcap_take(ringcap_t* handle, uint32_t max, int timeout_ms, ringcap_burst* burst) {
  FrameBurst taken;
  const Taken outcome = handle->client->take(max, timeout_ms, taken);
  burst->frames = reinterpret_cast<const ringcap_descriptor*>(taken.frames);
  burst->arena = reinterpret_cast<const uint8_t*>(handle->client->arena());
  burst->count = taken.count;
  burst->ring = taken.ring;
  burst->position = taken.position;
  switch (outcome) {
    case Taken::kFrames:
      return static_cast<int>(taken.count);
    case Taken::kTimeout:
      return 0;
    case Taken::kEnd:
      return RINGCAP_END;
    case Taken::kBreak:
      return RINGCAP_BREAK;
    case Taken::kError:
      break;
  }
  put(&handle->error, handle->client->error());
  return handle->error.code;
}

RINGCAP_EXPORT int ringcap_give_back(ringcap_t* handle, const ringcap_burst* burst) {
  if (burst->count == 0) return RINGCAP_OK;
  const bool known = handle->client->give_back(
      {.frames = nullptr, .count = burst->count, .ring = burst->ring, .position = burst->position});
  if (known) return RINGCAP_OK;
  put(&handle->error, {Code::kUsage, "this burst was never taken from this handle", ""});
  return RINGCAP_E_USAGE;
}

RINGCAP_EXPORT int ringcap_set_filter(ringcap_t* handle, const ringcap_instruction* filter, uint32_t length) {
  std::vector<ringcap::filter::Instruction> program;
  const auto* first = reinterpret_cast<const ringcap::filter::Instruction*>(filter);
  if (first != nullptr && length <= 4096) program.assign(first, first + length);
  const auto set = first != nullptr && length > 4096
                       ? ringcap::fail(Code::kFilter, "a filter has at most 4096 instructions")
                       : handle->client->set_filter(program);
  if (set) return RINGCAP_OK;
  put(&handle->error, set.error());
  return handle->error.code;
}

RINGCAP_EXPORT int ringcap_fd(ringcap_t* handle) { return handle->client->selectable_fd(); }

RINGCAP_EXPORT void ringcap_breakloop(ringcap_t* handle) { handle->client->break_loop(); }

RINGCAP_EXPORT int ringcap_stats(ringcap_t* handle, struct ringcap_counters* stats) {
  const auto s = handle->client->stats();
  *stats = {s.considered, s.not_matched, s.offered, s.published, s.dropped,
            s.released,   s.in_ring,     s.late,    s.missed};
  return RINGCAP_OK;
}

RINGCAP_EXPORT int ringcap_link_type(ringcap_t* handle) {
  return static_cast<int>(handle->client->link_type());
}

RINGCAP_EXPORT const char* ringcap_clock(ringcap_t* handle) {
  return ringcap::ledger::clock_name(static_cast<ringcap::layout::Clock>(handle->client->header().clock));
}

RINGCAP_EXPORT uint32_t ringcap_ring_frames(ringcap_t* handle) { return handle->client->ring_slots(); }
RINGCAP_EXPORT uint32_t ringcap_rings(ringcap_t* handle) { return handle->client->rings(); }
RINGCAP_EXPORT const ringcap_error* ringcap_last_error(ringcap_t* handle) { return &handle->error; }

RINGCAP_EXPORT uint64_t ringcap_arena_bytes(ringcap_t* handle) { return handle->client->arena_bytes(); }

RINGCAP_EXPORT int ringcap_source_of(ringcap_t* handle, uint32_t index, struct ringcap_source* source) {
  namespace layout = ringcap::layout;
  const layout::Header& header = handle->client->header();
  if (index >= header.sources.count) return RINGCAP_E_USAGE;
  const auto& entry = layout::entry<layout::SourceEntry>(header, header.sources, index);
  if (entry.port >= header.ports.count) return RINGCAP_E_USAGE;
  const auto& port = layout::entry<layout::PortEntry>(header, header.ports, entry.port);
  *source = {};
  source->port = entry.port;
  source->queue = entry.queue;
  std::memcpy(source->address, port.address, sizeof source->address - 1);
  const char* clock = ringcap::ledger::clock_name(static_cast<layout::Clock>(entry.clock));
  std::strncpy(source->clock, clock, sizeof source->clock - 1);
  return RINGCAP_OK;
}

RINGCAP_EXPORT void ringcap_detach(ringcap_t* handle) { delete handle; }

}  // extern "C"

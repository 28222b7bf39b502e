// The C ABI of ringcap_columns.h, over parse_columns() and FileBursts. Nothing is thrown across it.
#include "libcap/client/ringcap_columns.h"

#include <algorithm>
#include <cstring>

#include "libcap/client/c_error.h"
#include "libcap/client/columns.h"
#include "libcap/client/file.h"

using ringcap::Code;
using ringcap::client::FileBursts;
using ringcap::client::put;

struct ringcap_file {
  FileBursts bursts;
  ringcap_error error{};
};

namespace {

// One more than are allowed is enough to be refused.
std::vector<ringcap::filter::Instruction> instructions(const ringcap_instruction* given, uint32_t length) {
  const auto* first = reinterpret_cast<const ringcap::filter::Instruction*>(given);
  if (first == nullptr) return {};
  return {first, first + std::min(length, 4097U)};
}

FileBursts::Options convert(const ringcap_file_options* given) {
  ringcap_file_options known{};
  if (given != nullptr) std::memcpy(&known, given, std::min(given->size, sizeof known));
  FileBursts::Options options;
  options.filter = instructions(known.filter, known.filter_length);
  if (known.hash_key != nullptr)
    options.key =
        ringcap::HashKey::from_bytes(std::as_bytes(std::span<const uint8_t, 16>(known.hash_key, 16)));
  return options;
}

}  // namespace

extern "C" {

#define RINGCAP_EXPORT __attribute__((visibility("default")))

RINGCAP_EXPORT int ringcap_columns_parse(const ringcap_descriptor* frames, uint32_t count,
                                         const uint8_t* arena, uint64_t arena_bytes, uint32_t flags,
                                         const ringcap_columns* columns) {
  using namespace ringcap;
  if (columns == nullptr || columns->size == 0 || (count != 0 && (frames == nullptr || arena == nullptr)))
    return RINGCAP_E_USAGE;
  ringcap_columns known{};
  std::memcpy(&known, columns, std::min(columns->size, sizeof known));
  client::parse_columns({reinterpret_cast<const layout::Descriptor*>(frames), count},
                        {reinterpret_cast<const std::byte*>(arena), arena_bytes},
                        (flags & RINGCAP_COLUMNS_INNER) != 0, known);
  return RINGCAP_OK;
}

RINGCAP_EXPORT int ringcap_file_open(const char* path, const ringcap_file_options* given,
                                     ringcap_file_t** file, ringcap_error* error) {
  if (path == nullptr || file == nullptr) return RINGCAP_E_USAGE;
  *file = nullptr;
  auto bursts = FileBursts::open(path, convert(given));
  if (!bursts) {
    put(error, bursts.error());
    return -static_cast<int>(bursts.error().code);
  }
  *file = new ringcap_file{std::move(*bursts), {}};
  return RINGCAP_OK;
}

RINGCAP_EXPORT int ringcap_file_take(ringcap_file_t* file, uint32_t max, int timeout_ms,
                                     ringcap_burst* burst) {
  FileBursts::Burst taken;
  const auto outcome = file->bursts.take(max, timeout_ms, taken);
  *burst = {.frames = reinterpret_cast<const ringcap_descriptor*>(taken.frames),
            .arena = reinterpret_cast<const uint8_t*>(taken.block),
            .count = taken.count,
            .ring = 0,
            .position = taken.number};
  switch (outcome) {
    case FileBursts::Taken::kFrames:
      return static_cast<int>(taken.count);
    case FileBursts::Taken::kTimeout:
      return 0;
    case FileBursts::Taken::kEnd:
      return RINGCAP_END;
    case FileBursts::Taken::kError:
      break;
  }
  put(&file->error, file->bursts.error());
  return file->error.code;
}

RINGCAP_EXPORT int ringcap_file_give_back(ringcap_file_t* file, const ringcap_burst* burst) {
  if (burst->count == 0 || file->bursts.give_back(burst->position)) return RINGCAP_OK;
  put(&file->error, {Code::kUsage, "this burst was never taken from this file", ""});
  return RINGCAP_E_USAGE;
}

RINGCAP_EXPORT int ringcap_file_filter(ringcap_file_t* file, const ringcap_instruction* program,
                                       uint32_t length) {
  auto set = file->bursts.set_filter(instructions(program, length));
  if (set) return RINGCAP_OK;
  put(&file->error, set.error());
  return file->error.code;
}

RINGCAP_EXPORT uint64_t ringcap_file_arena_bytes(ringcap_file_t* file) { return file->bursts.block_bytes(); }

RINGCAP_EXPORT int ringcap_file_link_type(ringcap_file_t* file) {
  return static_cast<int>(file->bursts.link_type());
}

RINGCAP_EXPORT void ringcap_file_counts(ringcap_file_t* file, uint64_t* considered, uint64_t* not_matched) {
  *considered = file->bursts.considered();
  *not_matched = file->bursts.not_matched();
}

RINGCAP_EXPORT const ringcap_error* ringcap_file_last_error(ringcap_file_t* file) { return &file->error; }
RINGCAP_EXPORT void ringcap_file_close(ringcap_file_t* file) { delete file; }

}  // extern "C"

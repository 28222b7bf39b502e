#include "tools/filter_run.h"

#include <fmt/format.h>

#include <chrono>
#include <vector>

namespace ringcap::tools {
namespace {

// Frames are taken in batches, copied out of the file; each batch is run often enough that the clock's
// resolution and the first run's cache misses do not count.
constexpr size_t kBatchBytes = 1 << 20;
constexpr size_t kBatchFrames = 8192;
constexpr size_t kLeastRuns = 32768;  // of one frame each, per batch

struct Batch {
  struct Frame {
    size_t offset;
    uint32_t captured;
    uint32_t length;
  };
  std::vector<std::byte> bytes;
  std::vector<Frame> frames;

  bool full() const { return bytes.size() >= kBatchBytes || frames.size() >= kBatchFrames; }
  void add(const pcapfile::Record& record) {
    frames.push_back({bytes.size(), record.captured, record.length});
    bytes.insert(bytes.end(), record.data, record.data + record.captured);
  }
  void clear() {
    bytes.clear();
    frames.clear();
  }
};

using Function = uint32_t (*)(const filter::Program&, const std::byte*, uint32_t, uint32_t);

uint64_t count_matches(Function function, const filter::Program& program, const Batch& batch) {
  uint64_t matched = 0;
  for (const Batch::Frame& frame : batch.frames)
    matched += function(program, batch.bytes.data() + frame.offset, frame.length, frame.captured) != 0;
  return matched;
}

uint32_t run_compiled(const filter::Program& program, const std::byte* frame, uint32_t length,
                      uint32_t captured) {
  return program.entry()(frame, captured, length);
}

// Adds to `ns` what one run over the batch takes, and returns its matches.
uint64_t measure(Function function, const filter::Program& program, const Batch& batch, double& ns) {
  const uint64_t matched = count_matches(function, program, batch);
  const size_t runs = kLeastRuns / batch.frames.size() + 1;
  uint64_t all = 0;
  const auto start = std::chrono::steady_clock::now();
  for (size_t run = 0; run < runs; ++run) all += count_matches(function, program, batch);
  const std::chrono::duration<double, std::nano> taken = std::chrono::steady_clock::now() - start;
  if (all == matched * runs) ns += taken.count() / static_cast<double>(runs);  // uses the result
  return matched;
}

Result<void> run_batch(const filter::Program& program, const Batch& batch, FilterRun& total) {
  if (batch.frames.empty()) return {};
  const uint64_t matched = measure(filter::interpret, program, batch, total.interpreted_ns);
  if (program.entry() != nullptr && measure(run_compiled, program, batch, total.compiled_ns) != matched)
    return fail(Code::kSystem,
                fmt::format("the compiled filter and the interpreter disagree on frames {} to {}",
                            total.frames + 1, total.frames + batch.frames.size()),
                "this is a mistake in ringcap: please report it with the filter and the file");
  total.frames += batch.frames.size();
  total.matched += matched;
  return {};
}

}  // namespace

Result<FilterRun> try_filter(const filter::Program& program, pcapfile::Reader& reader) {
  FilterRun total;
  Batch batch;
  pcapfile::Record record;
  auto status = pcapfile::Reader::Status::kRecord;
  while (status == pcapfile::Reader::Status::kRecord) {
    for (batch.clear(); !batch.full();) {
      status = reader.next(record);
      if (status != pcapfile::Reader::Status::kRecord) break;
      batch.add(record);
    }
    if (auto ran = run_batch(program, batch, total); !ran) return std::unexpected(ran.error());
  }
  if (status == pcapfile::Reader::Status::kError) return std::unexpected(reader.error());
  if (total.frames == 0) return total;
  total.interpreted_ns /= static_cast<double>(total.frames);
  total.compiled_ns /= static_cast<double>(total.frames);
  return total;
}

}  // namespace ringcap::tools

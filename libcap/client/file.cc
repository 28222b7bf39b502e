#include "libcap/client/file.h"

#include <poll.h>

#include <algorithm>

#include "capture/frame/parse.h"

namespace ringcap::client {
namespace {

// Large enough for bursts of thousands of frames, small enough for a second-level cache.
constexpr size_t kBlockBytes = 512 << 10;
// Frames that one call looks at before it says that nothing matched yet: the caller may want to end.
constexpr uint32_t kLookedAtOnce = 1 << 18;

}  // namespace

Result<FileBursts> FileBursts::open(const std::string& path, const Options& options) {
  auto reader = pcapfile::Reader::open(path, {.wait = false, .block_bytes = kBlockBytes});
  if (!reader) return std::unexpected(reader.error());
  FileBursts bursts(std::move(*reader), options.key);
  if (auto set = bursts.set_filter(options.filter); !set) return std::unexpected(set.error());
  return bursts;
}

Result<void> FileBursts::set_filter(const std::vector<filter::Instruction>& program) {
  filter_.reset();
  if (program.empty()) return {};
  auto valid = filter::validate(program);
  if (!valid) return std::unexpected(valid.error());
  filter_ = std::move(*valid);
  return {};
}

std::unique_ptr<FileBursts::Held> FileBursts::spare() {
  if (spare_.empty()) return std::make_unique<Held>();
  auto held = std::move(spare_.back());
  spare_.pop_back();
  return held;
}

// Appends record_, as the pcap port of an engine would make it; to be called when it lies in the burst's
// block.
void FileBursts::add(Held& burst) {
  Frame frame;
  frame.timestamp_ns = record_.timestamp_ns;
  frame.length = record_.length;
  frame.captured = static_cast<uint16_t>(std::min<uint32_t>(record_.captured, UINT16_MAX));
  frame.flags =
      static_cast<uint16_t>(layout::kCopied | (frame.captured < record_.length ? layout::kTruncated : 0));
  frame.data = const_cast<std::byte*>(record_.data);  // read only
  frame.location = layout::location(static_cast<uint64_t>(record_.data - burst.block.get()), 0);
  if (record_.link_type == 1) parse_frame(frame, key_, fragments_);
  burst.frames.push_back(frame.descriptor());
}

// Until the burst is full, or its block ends, or the file.
FileBursts::Status FileBursts::fill(Held& burst, uint32_t max) {
  for (uint32_t looked = 0; burst.frames.size() < max; ++looked) {
    if (looked >= kLookedAtOnce) return Status::kRecord;
    if (!pending_) {
      if (const Status status = reader_.next(record_); status != Status::kRecord) return status;
      pending_ = true;
    }
    if (burst.block.get() != reader_.input().block()) {
      if (!burst.frames.empty()) return Status::kRecord;
      burst.block = reader_.input().share_block();
    }
    pending_ = false;
    ++considered_;
    if (filter_ && filter::run(*filter_, record_.data, record_.length, record_.captured) == 0)
      ++not_matched_;
    else
      add(burst);
  }
  return Status::kRecord;
}

FileBursts::Taken FileBursts::take(uint32_t max, int timeout_ms, Burst& burst) {
  max = max == 0 ? kDefaultBurst : std::min(max, kMaxBurst);
  auto held = spare();
  Status status = fill(*held, max);
  if (status == Status::kNotYet && held->frames.empty() && timeout_ms != 0) {
    pollfd wait{reader_.fd(), POLLIN, 0};
    if (::poll(&wait, 1, timeout_ms) > 0) status = fill(*held, max);
  }
  burst = {};
  if (held->frames.empty()) {
    held->block.reset();
    spare_.push_back(std::move(held));
    return status == Status::kEnd ? Taken::kEnd : status == Status::kError ? Taken::kError : Taken::kTimeout;
  }
  burst = {.frames = held->frames.data(),
           .block = held->block.get(),
           .count = static_cast<uint32_t>(held->frames.size()),
           .number = next_number_};
  held_.emplace(next_number_++, std::move(held));
  return Taken::kFrames;
}

bool FileBursts::give_back(uint64_t number) {
  const auto at = held_.find(number);
  if (at == held_.end()) return false;
  at->second->frames.clear();
  at->second->block.reset();
  spare_.push_back(std::move(at->second));
  held_.erase(at);
  return true;
}

}  // namespace ringcap::client

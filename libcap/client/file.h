// FileBursts: a pcap or pcapng file as bursts of descriptors over the blocks that it is read in: nothing is
// copied out of them. ringcap_file_* is this in C. One thread.
//
// A burst's frames lie in one block; a block is read into again when no burst of it is out.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "capture/filter/program.h"
#include "capture/frame/fragments.h"
#include "capture/frame/hash.h"
#include "capture/layout/layout.h"
#include "capture/pcapfile/reader.h"

namespace ringcap::client {

class FileBursts {
 public:
  static constexpr uint32_t kDefaultBurst = 4096;
  static constexpr uint32_t kMaxBurst = 65536;

  struct Options {
    std::vector<filter::Instruction> filter;
    HashKey key{};
  };
  struct Burst {
    const layout::Descriptor* frames = nullptr;
    const std::byte* block = nullptr;  // locations count from here
    uint32_t count = 0;
    uint64_t number = 0;
  };
  enum class Taken { kFrames, kTimeout, kEnd, kError };

  static Result<FileBursts> open(const std::string& path, const Options& options);

  // For frames that are taken from now on; empty: all of them.
  Result<void> set_filter(const std::vector<filter::Instruction>& program);
  // See ringcap_file_take(). After kError, error() says what happened.
  Taken take(uint32_t max, int timeout_ms, Burst& burst);
  bool give_back(uint64_t number);

  size_t block_bytes() const { return reader_.input().block_memory_bytes(); }
  uint32_t link_type() const { return reader_.link_type(); }
  uint64_t considered() const { return considered_; }
  uint64_t not_matched() const { return not_matched_; }
  const Error& error() const { return reader_.error(); }

 private:
  using Status = pcapfile::Reader::Status;
  struct Held {
    std::vector<layout::Descriptor> frames;
    std::shared_ptr<const std::byte[]> block;
  };

  FileBursts(pcapfile::Reader reader, HashKey key) : reader_(std::move(reader)), key_(key) {}
  std::unique_ptr<Held> spare();
  Status fill(Held& burst, uint32_t max);
  void add(Held& burst);

  pcapfile::Reader reader_;
  std::optional<filter::Program> filter_;
  HashKey key_;
  FragmentTable fragments_;
  pcapfile::Record record_;
  bool pending_ = false;  // record_ was read and is not in a burst yet
  std::map<uint64_t, std::unique_ptr<Held>> held_;
  std::vector<std::unique_ptr<Held>> spare_;
  uint64_t next_number_ = 1;
  uint64_t considered_ = 0;
  uint64_t not_matched_ = 0;
};

}  // namespace ringcap::client

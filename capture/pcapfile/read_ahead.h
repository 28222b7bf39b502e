// ReadAhead: the blocks of a regular file, in order, read by two threads at once: the one that asks for
// them (a worker) and a helper of ours. Copying out of the page cache is bound by memory, and a core alone
// reaches only a part of what memory gives; so whoever is free reads the next block that nobody has begun.
//
// A block goes through one word and one counter:
//   from      to        who                 why
//   free      claimed   worker or helper    it won the next number (claims_)
//   claimed   read      who claimed it      pread() has returned (Slot::done says the block's number)
//   read      free      worker              it asked for the block after it (released_)
// A number is claimed only while fewer than kBlocks are claimed and not released, so two threads never have
// one slot. A block that is shorter than asked is the last one: no number is claimed after it (kEnded).
//
// next() and restart() are the worker's alone. The helper starts with the third block, so that a small file
// costs no thread; without it (no thread to be had) the worker reads every block itself. It may run on the
// cores that the maker of this object may use, not only on the worker's. It ends with this object, which
// waits for the read that it is at.
#pragma once

#include <sched.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <thread>

namespace ringcap::pcapfile {

class ReadAhead {
 public:
  static constexpr uint32_t kBlocks = 8;

  struct Block {
    std::byte* data = nullptr;  // room_bytes before it and block_bytes from it on are the asker's
    size_t bytes = 0;           // less than block_bytes: the file ends there, or cannot be read on
  };

  // `fd` stays the caller's and open as long as this object lives. Reads from the file's first byte.
  ReadAhead(int fd, size_t block_bytes, size_t room_bytes);
  ReadAhead(const ReadAhead&) = delete;
  ReadAhead& operator=(const ReadAhead&) = delete;
  ~ReadAhead();

  // The next block; it stays until the next call of next() has returned, so that what is left of it can be
  // moved to before the new one: call release() then. After a short block: an empty one.
  Block next();
  // The block before the one that next() gave last, and all before that, may be read over.
  void release();
  // Begins at the file's first byte again. What next() gave is gone.
  void restart();

  size_t room_bytes() const { return room_bytes_; }
  size_t block_bytes() const { return block_bytes_; }

 private:
  struct Slot {
    std::unique_ptr<std::byte[]> memory;
    size_t bytes = 0;               // written by who claimed it, before `done`
    std::atomic<uint32_t> done{0};  // mark() of the block that it holds
  };

  static constexpr uint64_t kEnded = 1;  // in claims_; the next number is above it

  static uint32_t mark(uint64_t number) { return static_cast<uint32_t>(number + 1); }
  Slot& slot(uint64_t number) { return slots_[number % kBlocks]; }
  std::optional<uint64_t> claim();
  void read(uint64_t number);
  bool await(uint64_t number);
  void start_helper();
  void help();
  void ring_bell();

  const int fd_;
  const size_t block_bytes_;
  const size_t room_bytes_;
  cpu_set_t cores_{};
  std::array<Slot, kBlocks> slots_;
  uint64_t wanted_ = 0;  // worker: number that next() gives next
  uint64_t first_ = 0;   // number of the block at the file's first byte; changes while nothing is claimed
  alignas(64) std::atomic<uint64_t> claims_{0};  // next number to claim, times two; kEnded
  alignas(64) std::atomic<uint64_t> released_{0};
  std::atomic<uint32_t> bell_{0};  // rung by the worker when there may be something to claim
  std::atomic<bool> stop_{false};
  bool helper_wanted_ = true;
  std::thread helper_;
};

}  // namespace ringcap::pcapfile

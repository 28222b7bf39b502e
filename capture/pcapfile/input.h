// Input: the bytes of a file or pipe, read in large blocks, looked at where they lie. One thread; the
// Reader's.
//
// need(n) makes the next n bytes lie in one piece at data(). What is left of a block then moves to just
// before the block's place, so that every read() of a regular file is a whole block at a multiple of its
// size.
//
// With `read_ahead` the blocks of a regular file come from a ReadAhead, which reads on two cores at once.
// Where a block is shorter than asked (the file ends there, it shrank, or it cannot be read on), and from
// there on, we read() ourselves: so the end, an error, and what was written to the file meanwhile come in
// their place in the file, as they do without.
//
// Without it, whoever shares the block that data() lies in keeps it as it is: the Input goes on in another
// one.
//
// mmap was tried and left: 9.5 million IMIX frames a second (11 with MAP_POPULATE) where read() gave 16, out
// of the page cache on a busy machine. It does not work on pipes either, and a file that shrinks meanwhile is
// a SIGBUS there and a short read here.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "capture/base/error.h"
#include "capture/base/fd.h"
#include "capture/pcapfile/read_ahead.h"

namespace ringcap::pcapfile {

class Input {
 public:
  static constexpr size_t kMaxNeedBytes = (256 << 10) + 4096;

  enum class Need {
    kThere,
    kNotYet,  // the pipe has no more for now; only after wait(false)
    kShort,   // the file ends before
    kFailed,  // error_number() says why
  };

  Input() = default;
  // `block_bytes`: of one read(), at least 4096. `read_ahead`: of no meaning to pipes, and where the
  // descriptor does not stand at the file's first byte.
  Input(Fd fd, size_t block_bytes, bool read_ahead = false);
  Input(Input&&) = default;
  Input& operator=(Input&&) = delete;  // would close the descriptor before nobody reads it any more

  // At most kMaxNeedBytes.
  Need need(size_t bytes) { return available() >= bytes ? Need::kThere : fill(bytes); }
  const std::byte* data() const { return at_; }
  size_t available() const { return static_cast<size_t>(end_ - at_); }
  // At most available(). Asks for the lines that come kFetchBytes later: a helper read them into another
  // core's cache, and what fetches lines by itself stops at each page.
  void drop(size_t bytes) {
    at_ += bytes;
    for (; fetched_ < at_ + kFetchBytes; fetched_ += kLineBytes) __builtin_prefetch(fetched_);
  }

  // Of data(), in the file.
  uint64_t position() const { return end_position_ - available(); }
  bool seekable() const { return seekable_; }
  int fd() const { return fd_.get(); }
  int error_number() const { return error_number_; }
  // Whether need() waits for a pipe's data; true at first. Regular files never wait for anything but their
  // disk.
  void wait(bool wait) { wait_ = wait; }
  // Back to the first byte; regular files only.
  Result<void> rewind();

  // The memory that data() lies in, block_memory_bytes() of it. Changes only within need(). Only without
  // `read_ahead` can it be shared.
  const std::byte* block() const { return memory_; }
  size_t block_memory_bytes() const { return kMaxNeedBytes + std::max(block_bytes_, kMaxNeedBytes); }
  std::shared_ptr<const std::byte[]> share_block() const { return buffer_; }

 private:
  using Buffer = std::shared_ptr<std::byte[]>;
  static constexpr size_t kFetchBytes = 2048;
  static constexpr size_t kLineBytes = 64;

  Need fill(size_t bytes);
  Need take_blocks(size_t bytes);
  Need read_blocks(size_t bytes);
  void move_before(std::byte* block);
  void use_buffer();
  Buffer other_buffer();
  void unpoison();
  bool readable_now() const;

  Fd fd_;
  bool seekable_ = false;
  bool wait_ = true;
  bool ahead_over_ = false;  // read_ahead_ has given its last block
  size_t block_bytes_ = 0;
  std::unique_ptr<ReadAhead> read_ahead_;  // after fd_: it goes first
  Buffer buffer_;                          // kMaxNeedBytes, then at least as many again
  std::vector<Buffer> shared_;             // that were in use elsewhere when they were read through
  std::byte* memory_ = nullptr;            // where what we look at lies: buffer_, or a block of read_ahead_
  std::byte* limit_ = nullptr;             // its end
  std::byte* at_ = nullptr;
  std::byte* end_ = nullptr;      // of what was read
  std::byte* fetched_ = nullptr;  // lines up to here were asked for
  uint64_t end_position_ = 0;
  int error_number_ = 0;
};

}  // namespace ringcap::pcapfile

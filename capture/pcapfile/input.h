// Input: the bytes of a file or pipe, read in large blocks, looked at where they lie. One thread; the
// Reader's.
//
// need(n) makes the next n bytes lie in one piece at data(). What is left of a block then moves to just
// before the block's place, so that every read() of a regular file is a whole block at a multiple of its
// size.
//
// mmap was tried and left: 9.5 million IMIX frames a second (11 with MAP_POPULATE) where read() gave 16, out
// of the page cache on a busy machine. It does not work on pipes either, and a file that shrinks meanwhile is
// a SIGBUS there and a short read here.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "capture/base/error.h"
#include "capture/base/fd.h"

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
  // `block_bytes`: of one read(), at least 4096.
  Input(Fd fd, size_t block_bytes);

  // At most kMaxNeedBytes.
  Need need(size_t bytes) { return available() >= bytes ? Need::kThere : fill(bytes); }
  const std::byte* data() const { return at_; }
  size_t available() const { return static_cast<size_t>(end_ - at_); }
  // At most available().
  void drop(size_t bytes) { at_ += bytes; }

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

 private:
  Need fill(size_t bytes);
  Need read_blocks(size_t bytes);
  bool readable_now() const;

  Fd fd_;
  bool seekable_ = false;
  bool wait_ = true;
  size_t block_bytes_ = 0;
  std::unique_ptr<std::byte[]> buffer_;  // kMaxNeedBytes, then at least as many again
  std::byte* limit_ = nullptr;           // end of buffer_
  std::byte* at_ = nullptr;
  std::byte* end_ = nullptr;  // of what was read
  uint64_t end_position_ = 0;
  int error_number_ = 0;
};

}  // namespace ringcap::pcapfile

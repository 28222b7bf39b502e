#include "capture/pcapfile/input.h"

#include <poll.h>
#include <sanitizer/asan_interface.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace ringcap::pcapfile {

Input::Input(Fd fd, size_t block_bytes)
    : fd_(std::move(fd)), block_bytes_(std::max<size_t>(block_bytes, 4096)) {
  struct stat status{};
  seekable_ = ::fstat(fd_.get(), &status) == 0 && S_ISREG(status.st_mode);
  const size_t bytes = kMaxNeedBytes + std::max(block_bytes_, kMaxNeedBytes);
  buffer_.reset(new std::byte[bytes]);
  limit_ = buffer_.get() + bytes;
  at_ = end_ = buffer_.get() + kMaxNeedBytes;
}

// Under the address sanitizer, what was not read is not there: a reader that looks beyond it is caught.
Input::Need Input::fill(size_t bytes) {
  ASAN_UNPOISON_MEMORY_REGION(buffer_.get(), static_cast<size_t>(limit_ - buffer_.get()));
  const Need need = read_blocks(bytes);
  ASAN_POISON_MEMORY_REGION(buffer_.get(), static_cast<size_t>(at_ - buffer_.get()));
  ASAN_POISON_MEMORY_REGION(end_, static_cast<size_t>(limit_ - end_));
  return need;
}

Input::Need Input::read_blocks(size_t bytes) {
  const size_t left = available();
  std::byte* const block = buffer_.get() + kMaxNeedBytes;
  if (left > 0) std::memmove(block - left, at_, left);
  at_ = block - left;
  end_ = block;
  while (available() < bytes) {
    if (!wait_ && !seekable_ && !readable_now()) return Need::kNotYet;
    const ssize_t count = ::read(fd_.get(), end_, std::min(block_bytes_, static_cast<size_t>(limit_ - end_)));
    if (count == 0) return Need::kShort;
    if (count < 0) {
      if (errno == EINTR || (errno == EAGAIN && wait_ && readable_now())) continue;
      if (errno == EAGAIN && !wait_) return Need::kNotYet;
      error_number_ = errno;
      return Need::kFailed;
    }
    end_ += count;
    end_position_ += static_cast<uint64_t>(count);
  }
  return Need::kThere;
}

// Waits for data first if need() does; the end of a pipe is readable too.
bool Input::readable_now() const {
  pollfd poll_fd{fd_.get(), POLLIN, 0};
  int count;
  do count = ::poll(&poll_fd, 1, wait_ ? -1 : 0);
  while (count < 0 && errno == EINTR);
  return count > 0;
}

Result<void> Input::rewind() {
  if (::lseek(fd_.get(), 0, SEEK_SET) != 0) return fail_system("cannot go back to its first byte");
  at_ = end_ = buffer_.get() + kMaxNeedBytes;
  end_position_ = 0;
  return {};
}

}  // namespace ringcap::pcapfile

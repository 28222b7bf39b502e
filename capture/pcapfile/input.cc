#include "capture/pcapfile/input.h"

#include <poll.h>
#include <sanitizer/asan_interface.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace ringcap::pcapfile {

Input::Input(Fd fd, size_t block_bytes, bool read_ahead)
    : fd_(std::move(fd)), block_bytes_(std::max<size_t>(block_bytes, 4096)) {
  struct stat status{};
  seekable_ = ::fstat(fd_.get(), &status) == 0 && S_ISREG(status.st_mode);
  if (seekable_ && read_ahead && ::lseek(fd_.get(), 0, SEEK_CUR) == 0)
    read_ahead_ = std::make_unique<ReadAhead>(fd_.get(), block_bytes_, kMaxNeedBytes);
}

// What we look at lies in our own buffer from now on.
void Input::use_buffer() {
  if (buffer_.use_count() > 1) shared_.push_back(std::move(buffer_));  // what is left of it stays there
  if (!buffer_) buffer_ = other_buffer();
  memory_ = buffer_.get();
  limit_ = memory_ + block_memory_bytes();
  unpoison();
}

// Under the address sanitizer, what was not read is not there: a reader that looks beyond it is caught.
Input::Need Input::fill(size_t bytes) {
  unpoison();
  const Need need = read_ahead_ && !ahead_over_ ? take_blocks(bytes) : read_blocks(bytes);
  ASAN_POISON_MEMORY_REGION(memory_, static_cast<size_t>(at_ - memory_));
  ASAN_POISON_MEMORY_REGION(end_, static_cast<size_t>(limit_ - end_));
  fetched_ = at_;
  return need;
}

void Input::unpoison() {
  if (memory_ != nullptr) ASAN_UNPOISON_MEMORY_REGION(memory_, static_cast<size_t>(limit_ - memory_));
}

// What is left moves to just before the place of the block that is read next.
void Input::move_before(std::byte* block) {
  const size_t left = available();
  if (left > 0) std::memmove(block - left, at_, left);
  at_ = block - left;
  end_ = block;
}

Input::Need Input::take_blocks(size_t bytes) {
  while (available() < bytes) {
    const ReadAhead::Block block = read_ahead_->next();
    move_before(block.data);
    read_ahead_->release();
    memory_ = block.data - kMaxNeedBytes;
    limit_ = block.data + block_bytes_;
    end_ += block.bytes;
    end_position_ += block.bytes;
    if (block.bytes == block_bytes_) continue;
    ahead_over_ = true;
    ::lseek(fd_.get(), static_cast<off_t>(end_position_), SEEK_SET);
    return available() >= bytes ? Need::kThere : read_blocks(bytes);
  }
  return Need::kThere;
}

Input::Need Input::read_blocks(size_t bytes) {
  use_buffer();
  move_before(buffer_.get() + kMaxNeedBytes);
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

// One that nobody shares any more, or a new one.
Input::Buffer Input::other_buffer() {
  for (Buffer& buffer : shared_) {
    if (buffer.use_count() != 1) continue;
    Buffer free = std::move(buffer);
    buffer = std::move(shared_.back());
    shared_.pop_back();
    return free;
  }
  return Buffer(new std::byte[block_memory_bytes()]);
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
  if (read_ahead_) {
    unpoison();
    read_ahead_->restart();
    ahead_over_ = false;
  }
  end_ = fetched_ = at_;
  end_position_ = 0;
  return {};
}

}  // namespace ringcap::pcapfile

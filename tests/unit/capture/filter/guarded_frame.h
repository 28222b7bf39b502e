// A frame in memory of its own with nothing readable before and behind it, so that machine code, which no
// sanitizer watches, faults at the first byte that it reads too many. Tests and fuzzers; one thread.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <span>

namespace ringcap::test {

class GuardedFrame {
 public:
  // For frames of up to `room` bytes.
  explicit GuardedFrame(size_t room)
      : page_(static_cast<size_t>(::sysconf(_SC_PAGESIZE))), room_((room + page_ - 1) / page_ * page_) {
    void* data = ::mmap(nullptr, room_ + 2 * page_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (data == MAP_FAILED) std::abort();
    base_ = static_cast<std::byte*>(data);
    if (::mprotect(base_ + page_, room_, PROT_READ | PROT_WRITE) != 0) std::abort();
  }
  ~GuardedFrame() { ::munmap(base_, room_ + 2 * page_); }
  GuardedFrame(const GuardedFrame&) = delete;
  GuardedFrame& operator=(const GuardedFrame&) = delete;

  // A copy that ends where nothing can be read; until the next call.
  const std::byte* before_the_end(std::span<const std::byte> frame) {
    return copy(base_ + page_ + room_ - frame.size(), frame);
  }
  // A copy that begins behind what cannot be read.
  const std::byte* at_the_start(std::span<const std::byte> frame) { return copy(base_ + page_, frame); }

 private:
  static const std::byte* copy(std::byte* to, std::span<const std::byte> frame) {
    if (!frame.empty()) std::memcpy(to, frame.data(), frame.size());
    return to;
  }

  size_t page_;
  size_t room_;
  std::byte* base_;
};

}  // namespace ringcap::test

#include "driver/tap/transmit.h"

#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

namespace ringcap::tap {

uint32_t TapTransmit::transmit(std::span<const TransmitFrame> frames) {
  const auto room = std::min<uint64_t>(frames.size(), kSlots - (taken_ - given_));
  uint32_t done = 0;
  for (; done < room && send(frames[done]); ++done) cookies_[taken_++ % kSlots] = frames[done].cookie;
  return done;
}

// Whether the frame is done with; if not, later. The system call itself: the C library's write() is a point
// at which a thread may be cancelled, and that is two atomic operations a frame.
bool TapTransmit::send(const TransmitFrame& frame) {
  while (::syscall(SYS_write, fd_, frame.data, frame.length) < 0) {
    if (errno == EAGAIN) return false;
    if (errno == EINTR) continue;
    refused_.store(refused_.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
    break;
  }
  return true;
}

uint32_t TapTransmit::completed(std::span<uint32_t> out) {
  const auto count = static_cast<uint32_t>(std::min<uint64_t>(out.size(), taken_ - given_));
  for (uint32_t i = 0; i < count; ++i) out[i] = cookies_[given_++ % kSlots];
  return count;
}

}  // namespace ringcap::tap

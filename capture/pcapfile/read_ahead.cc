#include "capture/pcapfile/read_ahead.h"

#include <pthread.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>

namespace ringcap::pcapfile {
namespace {

constexpr uint64_t kHelpFrom = 2;  // blocks that the worker reads before it has a helper

}  // namespace

ReadAhead::ReadAhead(int fd, size_t block_bytes, size_t room_bytes)
    : fd_(fd), block_bytes_(block_bytes), room_bytes_(room_bytes) {
  if (::sched_getaffinity(0, sizeof cores_, &cores_) != 0) CPU_ZERO(&cores_);
  for (Slot& slot : slots_) slot.memory.reset(new std::byte[room_bytes + block_bytes]);
}

ReadAhead::~ReadAhead() {
  if (!helper_.joinable()) return;
  stop_.store(true, std::memory_order_relaxed);
  ring_bell();
  helper_.join();
}

// ---- the worker ----------------------------------------------------------------------------------

ReadAhead::Block ReadAhead::next() {
  if (helper_wanted_ && wanted_ - first_ >= kHelpFrom) start_helper();
  if (!await(wanted_)) return {};
  Slot& found = slot(wanted_++);
  return {.data = found.memory.get() + room_bytes_, .bytes = found.bytes};
}

// Until block `number` is read; meanwhile reads others. False: the file ends before it.
bool ReadAhead::await(uint64_t number) {
  for (;;) {
    const uint32_t done = slot(number).done.load(std::memory_order_acquire);  // pairs with read()
    if (done == mark(number)) return true;
    if (const auto mine = claim())
      read(*mine);
    else if (number >= claims_.load(std::memory_order_relaxed) >> 1)
      return false;
    else
      slot(number).done.wait(done, std::memory_order_relaxed);
  }
}

void ReadAhead::release() {
  released_.store(wanted_ - 1, std::memory_order_release);  // pairs with claim()
  ring_bell();
}

void ReadAhead::restart() {
  const uint64_t claimed = claims_.fetch_or(kEnded, std::memory_order_relaxed) >> 1;
  for (uint64_t number = wanted_; number < claimed; ++number) await(number);
  wanted_ = first_ = claimed;
  released_.store(claimed, std::memory_order_release);
  claims_.store(claimed << 1, std::memory_order_release);  // pairs with claim()
  ring_bell();
}

void ReadAhead::ring_bell() {
  if (!helper_.joinable()) return;
  bell_.fetch_add(1, std::memory_order_release);  // pairs with help()
  bell_.notify_one();
}

void ReadAhead::start_helper() {
  helper_wanted_ = false;
  try {
    helper_ = std::thread([this] { help(); });
  } catch (const std::system_error&) {
    helper_ = {};  // no thread to be had: everything works without, at one core's speed
  }
}

// ---- both ----------------------------------------------------------------------------------------

std::optional<uint64_t> ReadAhead::claim() {
  uint64_t claims = claims_.load(std::memory_order_acquire);
  for (;;) {
    const uint64_t number = claims >> 1;
    const bool free = number < released_.load(std::memory_order_acquire) + kBlocks;
    if ((claims & kEnded) != 0 || !free) return std::nullopt;
    if (claims_.compare_exchange_weak(claims, claims + 2, std::memory_order_acquire)) return number;
  }
}

void ReadAhead::read(uint64_t number) {
  Slot& mine = slot(number);
  std::byte* const block = mine.memory.get() + room_bytes_;
  const uint64_t position = (number - first_) * block_bytes_;
  size_t bytes = 0;
  while (bytes < block_bytes_) {
    const ssize_t count =
        ::pread(fd_, block + bytes, block_bytes_ - bytes, static_cast<off_t>(position + bytes));
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) break;
    bytes += static_cast<size_t>(count);
  }
  if (bytes < block_bytes_) claims_.fetch_or(kEnded, std::memory_order_relaxed);
  mine.bytes = bytes;
  mine.done.store(mark(number), std::memory_order_release);  // pairs with await()
  mine.done.notify_one();
}

// ---- the helper ----------------------------------------------------------------------------------

void ReadAhead::help() {
  ::pthread_setname_np(::pthread_self(), "read-ahead");
  // It was made by the worker, and so is bound to its core.
  if (CPU_COUNT(&cores_) != 0) ::pthread_setaffinity_np(::pthread_self(), sizeof cores_, &cores_);
  while (!stop_.load(std::memory_order_relaxed)) {
    const uint32_t rung = bell_.load(std::memory_order_acquire);
    if (const auto mine = claim())
      read(*mine);
    else if (!stop_.load(std::memory_order_relaxed))
      bell_.wait(rung, std::memory_order_acquire);
  }
}

}  // namespace ringcap::pcapfile

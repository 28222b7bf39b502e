// Window: a mapped piece of a BAR that survives the loss of its device.
//
// The kernel revokes the mapping when the function is pulled out or its memory decoding is switched off;
// the next access then raises SIGBUS. The handler that the first Window installs puts a page of ones in
// the place of the one that faulted (what a PCIe read of an absent device gives), notes the loss, and the
// access goes on. Faults elsewhere go to whatever handler there was before. At most kMaxWindows at once.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "capture/base/error.h"

namespace ringcap::vfio {

class Window {
 public:
  static constexpr size_t kMaxWindows = 64;

  // Maps `bytes` (a multiple of the page size) of `fd` from `file_offset` on; they are the BAR's from
  // `bar_offset` on. `gone` is set when an access faulted, and outlives the window.
  static Result<std::unique_ptr<Window>> map(int fd, uint64_t file_offset, uint64_t bar_offset,
                                             uint64_t bytes, std::shared_ptr<std::atomic<bool>> gone);
  ~Window();
  Window(const Window&) = delete;
  Window& operator=(const Window&) = delete;

  // The register at BAR offset `offset`, or nullptr if the window does not have it.
  volatile uint32_t* at(uint64_t offset) const {
    if (offset < bar_offset_ || offset - bar_offset_ + sizeof(uint32_t) > bytes_) return nullptr;
    return reinterpret_cast<volatile uint32_t*>(data_ + (offset - bar_offset_));
  }
  uint64_t bar_offset() const { return bar_offset_; }
  uint64_t bytes() const { return bytes_; }

  // Lets go of the device's memory, atomically for threads that are using it: ones from now on.
  void retire();

 private:
  Window(std::byte* data, uint64_t bar_offset, uint64_t bytes, std::shared_ptr<std::atomic<bool>> gone)
      : data_(data), bar_offset_(bar_offset), bytes_(bytes), gone_(std::move(gone)) {}
  bool watch();

  std::byte* data_;
  uint64_t bar_offset_;
  uint64_t bytes_;
  std::shared_ptr<std::atomic<bool>> gone_;
};

}  // namespace ringcap::vfio

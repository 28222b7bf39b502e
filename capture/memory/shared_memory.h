// SharedMemory: a memfd that the engine makes, maps writable once, and seals before anybody else gets
// the descriptor. Called by the control thread. What the seals forbid is forbidden to root too; after
// the engine dies the memory stays as it is until the last mapping goes.
#pragma once

#include <cstdint>
#include <string>

#include "capture/base/error.h"
#include "capture/base/fd.h"
#include "capture/base/mapping.h"

namespace ringcap::memory {

class SharedMemory {
 public:
  // Ordinary pages, zeroed. `name` shows in /proc/PID/maps as "memfd:NAME".
  static Result<SharedMemory> create(const std::string& name, uint64_t bytes);

  int fd() const { return fd_.get(); }
  std::byte* data() const { return mapping_.data(); }
  uint64_t bytes() const { return mapping_.bytes(); }
  template <typename T>
  T* at(uint64_t offset) const {
    return mapping_.at<T>(offset);
  }

  // Gives the descriptor away; the mapping stays.
  Fd release_fd() { return std::move(fd_); }

  // From now on only this mapping can write; nobody can resize, or add or remove seals.
  Result<void> seal_read_only();
  // From now on nobody can resize; holders of the descriptor can write.
  Result<void> seal_size();

  SharedMemory() = default;
  SharedMemory(Fd fd, Mapping mapping) : fd_(std::move(fd)), mapping_(std::move(mapping)) {}

 private:
  Fd fd_;
  Mapping mapping_;
};

}  // namespace ringcap::memory

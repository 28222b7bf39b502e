#include "capture/base/mapping.h"

#include <fmt/format.h>
#include <sys/mman.h>

#include <utility>

namespace ringcap {

Mapping::Mapping(Mapping&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}

Mapping& Mapping::operator=(Mapping&& other) noexcept {
  if (this != &other) {
    reset();
    data_ = std::exchange(other.data_, nullptr);
    bytes_ = std::exchange(other.bytes_, 0);
  }
  return *this;
}

void Mapping::reset() {
  if (data_ != nullptr) ::munmap(data_, bytes_);
  data_ = nullptr;
  bytes_ = 0;
}

Mapping Mapping::adopt(void* data, size_t bytes) {
  Mapping mapping;
  mapping.data_ = static_cast<std::byte*>(data);
  mapping.bytes_ = bytes;
  return mapping;
}

Result<Mapping> Mapping::map(int fd, size_t bytes, Access access, std::string_view what, uint64_t offset) {
  const int protection = access == Access::kRead ? PROT_READ : PROT_READ | PROT_WRITE;
  void* data = ::mmap(nullptr, bytes, protection, MAP_SHARED, fd, static_cast<off_t>(offset));
  if (data == MAP_FAILED) return fail_system(fmt::format("cannot map {} ({} bytes)", what, bytes));
  return adopt(data, bytes);
}

Result<Mapping> Mapping::map_twice(int fd, size_t bytes, uint64_t offset, std::string_view what) {
  // Reserve room for both, then map each half over it: nothing else can slip in between.
  void* room = ::mmap(nullptr, 2 * bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (room == MAP_FAILED) return fail_system(fmt::format("cannot reserve room for {}", what));
  Mapping mapping = adopt(room, 2 * bytes);
  for (size_t half = 0; half < 2; ++half) {
    void* data = ::mmap(mapping.data_ + half * bytes, bytes, PROT_READ, MAP_SHARED | MAP_FIXED, fd,
                        static_cast<off_t>(offset));
    if (data == MAP_FAILED) return fail_system(fmt::format("cannot map {}", what));
  }
  return mapping;
}

}  // namespace ringcap

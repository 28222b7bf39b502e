// Mapping: the owner of one mmap()ed range. Unmapped when it goes out of scope; moved, never copied.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "capture/base/error.h"

namespace ringcap {

class Mapping {
 public:
  enum class Access { kRead, kReadWrite };

  Mapping() = default;
  Mapping(Mapping&& other) noexcept;
  Mapping& operator=(Mapping&& other) noexcept;
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;
  ~Mapping() { reset(); }

  // Maps `bytes` bytes of `fd` from `offset` on, shared. `what` names it in an error.
  static Result<Mapping> map(int fd, size_t bytes, Access access, std::string_view what, uint64_t offset = 0);
  // Maps the `bytes` bytes at `offset` twice in a row, read-only, so that a reader of a ring in them
  // never sees an end: byte i and byte bytes + i are the same. `bytes` is a multiple of the page size.
  static Result<Mapping> map_twice(int fd, size_t bytes, uint64_t offset, std::string_view what);
  // Owns a range that is mapped already.
  static Mapping adopt(void* data, size_t bytes);

  std::byte* data() const { return data_; }
  size_t bytes() const { return bytes_; }
  explicit operator bool() const { return data_ != nullptr; }
  template <typename T>
  T* at(size_t offset) const {
    return reinterpret_cast<T*>(data_ + offset);
  }
  void reset();

 private:
  std::byte* data_ = nullptr;
  size_t bytes_ = 0;
};

}  // namespace ringcap

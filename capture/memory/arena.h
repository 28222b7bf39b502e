// Arena: the hugepage memory that holds the frame buffers. Made once per engine by the thread that
// starts it; DMA target and shared memory at once. Populated at start, on the port's NUMA node, so that
// a shortage is a message and not a SIGBUS. Sealed: after create() only the engine's own mapping can
// write, whoever asks. If the engine dies, consumers' mappings stay valid and the pages stay taken
// until the last of them goes.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "capture/base/error.h"
#include "capture/base/fd.h"
#include "capture/base/mapping.h"
#include "capture/layout/layout.h"

namespace ringcap::memory {

struct ArenaOptions {
  layout::MemoryKind kind = layout::MemoryKind::kMemfd;
  uint64_t bytes = uint64_t{256} << 20;  // rounded up to whole pages
  uint64_t page_bytes = 0;               // 0: 2 MiB; ignored for kPlain
  int node = -1;                         // NUMA node, -1: any
  std::string engine;                    // names the memory: "memfd:ringcap-arena-NAME"
};

class Arena {
 public:
  static Result<Arena> create(const ArenaOptions& options);

  int fd() const { return fd_.get(); }
  std::byte* data() const { return mapping_.data(); }
  uint64_t bytes() const { return mapping_.bytes(); }
  uint64_t page_bytes() const { return page_bytes_; }
  layout::MemoryKind kind() const { return kind_; }
  // False for a hugetlbfs file: a reader that is root or has the engine's uid could reopen it writable.
  bool sealed() const { return kind_ != layout::MemoryKind::kHugetlbfs; }

 private:
  Fd fd_;
  Mapping mapping_;
  uint64_t page_bytes_ = 0;
  layout::MemoryKind kind_ = layout::MemoryKind::kMemfd;
};

// "memfd", "hugetlbfs", "plain"
std::optional<layout::MemoryKind> parse_memory_kind(const std::string& word);

}  // namespace ringcap::memory

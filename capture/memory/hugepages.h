// Hugepage pools: page sizes and mounts as libhugetlbfs finds them, counts as the kernel's files tell.
// Called by the control thread and by tools; reads only.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "capture/base/error.h"

namespace ringcap::memory {

// Page sizes in bytes that the kernel has a pool for, smallest first. Empty: no hugepages in this kernel.
std::vector<uint64_t> hugepage_sizes();

struct Pool {
  uint64_t total = 0;
  uint64_t free = 0;
};

// The pool of one page size, on one NUMA node or (node < 0) on the whole machine.
std::optional<Pool> pool(uint64_t page_bytes, int node);

// The error for a shortage: how many are needed and free where, and the command that mends it; where
// other processes hold arenas of engines that are gone, it names them.
Error shortage(uint64_t page_bytes, uint64_t needed_pages, int node, const std::string& engine);

// "2 MiB", "1 GiB"
std::string page_name(uint64_t page_bytes);

// Processes that map an arena of an engine called `name` ("": of any engine): "pid 17 (tcpdump)".
std::vector<std::string> arena_holders(const std::string& name);

}  // namespace ringcap::memory

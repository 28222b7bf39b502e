#include "capture/memory/arena.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/mempolicy.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>
extern "C" {
#include <hugetlbfs.h>
}

#include <algorithm>
#include <bit>

#include "capture/memory/hugepages.h"

namespace ringcap::memory {
namespace {

constexpr uint64_t kDefaultPageBytes = uint64_t{2} << 20;

Result<Fd> open_memfd(const ArenaOptions& options, uint64_t page_bytes) {
  const std::string name = "ringcap-arena-" + options.engine;
  unsigned flags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
  if (options.kind == layout::MemoryKind::kMemfd)
    flags |= MFD_HUGETLB | static_cast<unsigned>(std::countr_zero(page_bytes)) << MAP_HUGE_SHIFT;
  Fd fd(::memfd_create(name.c_str(), flags));
  if (fd) return fd;
  if (errno == ENODEV || errno == EINVAL || errno == ENOENT)
    return fail(Code::kSystem, fmt::format("this kernel has no {} hugepages", page_name(page_bytes)),
                "choose another size with --page, or --memory plain");
  return fail_system("cannot create the arena's memory");
}

Result<Fd> open_hugetlbfs(uint64_t page_bytes) {
  if (hugetlbfs_find_path_for_size(static_cast<long>(page_bytes)) == nullptr)
    return fail(Code::kNotFound, fmt::format("no hugetlbfs with {} pages is mounted", page_name(page_bytes)),
                fmt::format("as root: mkdir -p /dev/hugepages && mount -t hugetlbfs -o pagesize={}M none "
                            "/dev/hugepages , or use --memory memfd",
                            page_bytes >> 20));
  Fd fd(hugetlbfs_unlinked_fd_for_size(static_cast<long>(page_bytes)));
  if (!fd) return fail_system(fmt::format("cannot create a file in the hugetlbfs mount"));
  ::fcntl(fd.get(), F_SETFD, FD_CLOEXEC);
  return fd;
}

void prefer_node(std::byte* data, uint64_t bytes, int node) {
  if (node < 0 || node >= 64) return;
  const unsigned long mask = 1ul << node;
  // Bind, not prefer: memory on another node would be a silent loss of speed. A failure shows as a shortage.
  ::syscall(SYS_mbind, data, bytes, MPOL_BIND, &mask, 65ul, 0u);
}

Result<void> populate(std::byte* data, uint64_t bytes) {
  if (::madvise(data, bytes, MADV_POPULATE_WRITE) == 0) return {};
  return fail_system("cannot populate the arena");
}

}  // namespace

std::optional<layout::MemoryKind> parse_memory_kind(const std::string& word) {
  if (word == "memfd") return layout::MemoryKind::kMemfd;
  if (word == "hugetlbfs") return layout::MemoryKind::kHugetlbfs;
  if (word == "plain") return layout::MemoryKind::kPlain;
  return std::nullopt;
}

Result<Arena> Arena::create(const ArenaOptions& options) {
  const bool huge = options.kind != layout::MemoryKind::kPlain;
  const uint64_t page_bytes = huge ? (options.page_bytes != 0 ? options.page_bytes : kDefaultPageBytes)
                                   : static_cast<uint64_t>(::sysconf(_SC_PAGESIZE));
  const uint64_t rounding = std::max(page_bytes, kDefaultPageBytes);
  const uint64_t bytes = (options.bytes + rounding - 1) / rounding * rounding;
  const auto short_of_pages = [&]() -> Result<Arena> {
    return std::unexpected(shortage(page_bytes, bytes / page_bytes, options.node, options.engine));
  };

  Arena arena;
  arena.kind_ = options.kind;
  arena.page_bytes_ = page_bytes;
  auto fd = options.kind == layout::MemoryKind::kHugetlbfs ? open_hugetlbfs(page_bytes)
                                                           : open_memfd(options, page_bytes);
  if (!fd) return std::unexpected(fd.error());
  arena.fd_ = std::move(*fd);
  if (::ftruncate(arena.fd(), static_cast<off_t>(bytes)) != 0) return fail_system("cannot size the arena");

  void* data = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, arena.fd(), 0);
  if (data == MAP_FAILED && errno == ENOMEM && huge) return short_of_pages();
  if (data == MAP_FAILED) return fail_system(fmt::format("cannot map the arena ({} bytes)", bytes));
  arena.mapping_ = Mapping::adopt(data, bytes);

  prefer_node(arena.data(), bytes, options.node);
  if (auto populated = populate(arena.data(), bytes); !populated) {
    if (huge) return short_of_pages();
    return std::unexpected(populated.error());
  }
  if (arena.sealed() &&
      ::fcntl(arena.fd(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE | F_SEAL_SEAL) != 0)
    return fail_system("cannot seal the arena");
  return arena;
}

}  // namespace ringcap::memory

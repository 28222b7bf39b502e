#include "capture/memory/hugepages.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <unistd.h>
extern "C" {
#include <hugetlbfs.h>
}

#include <algorithm>
#include <filesystem>
#include <fstream>

namespace ringcap::memory {
namespace fs = std::filesystem;

namespace {

std::optional<uint64_t> read_number(const fs::path& path) {
  std::ifstream file(path);
  uint64_t value = 0;
  if (file >> value) return value;
  return std::nullopt;
}

fs::path pool_path(uint64_t page_bytes, int node) {
  const auto folder = fmt::format("hugepages-{}kB", page_bytes >> 10);
  if (node < 0) return fs::path("/sys/kernel/mm/hugepages") / folder;
  return fs::path(fmt::format("/sys/devices/system/node/node{}/hugepages", node)) / folder;
}

std::string read_line(const fs::path& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

bool maps_arena(const fs::path& maps, const std::string& mark) {
  std::ifstream file(maps);
  for (std::string line; std::getline(file, line);)
    if (line.find(mark) != std::string::npos) return true;
  return false;
}

}  // namespace

std::vector<uint64_t> hugepage_sizes() {
  long sizes[16];
  const int count = gethugepagesizes(sizes, 16);
  std::vector<uint64_t> found(sizes, sizes + std::max(count, 0));
  std::ranges::sort(found);
  return found;
}

std::optional<Pool> pool(uint64_t page_bytes, int node) {
  const auto path = pool_path(page_bytes, node);
  const auto total = read_number(path / "nr_hugepages");
  const auto free = read_number(path / "free_hugepages");
  if (!total || !free) return std::nullopt;
  return Pool{*total, *free};
}

std::string page_name(uint64_t page_bytes) {
  if (page_bytes >= uint64_t{1} << 30) return fmt::format("{} GiB", page_bytes >> 30);
  if (page_bytes >= uint64_t{1} << 20) return fmt::format("{} MiB", page_bytes >> 20);
  return fmt::format("{} KiB", page_bytes >> 10);
}

std::vector<std::string> arena_holders(const std::string& name) {
  const std::string mark = "memfd:ringcap-arena-" + name + (name.empty() ? "" : " ");
  std::vector<std::string> holders;
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator("/proc", ignored)) {
    const std::string pid = entry.path().filename();
    if (!std::ranges::all_of(pid, [](unsigned char c) { return std::isdigit(c) != 0; })) continue;
    if (pid == std::to_string(::getpid()) || !maps_arena(entry.path() / "maps", mark)) continue;
    holders.push_back(fmt::format("pid {} ({})", pid, read_line(entry.path() / "comm")));
  }
  return holders;
}

Error shortage(uint64_t page_bytes, uint64_t needed_pages, int node, const std::string& engine) {
  const auto have = pool(page_bytes, node).value_or(Pool{});
  Error error;
  error.text = fmt::format("{} hugepages: {} needed, {} free of {}{}", page_name(page_bytes), needed_pages,
                           have.free, have.total, node < 0 ? "" : fmt::format(" on node {}", node));
  if (const auto holders = arena_holders(engine); !holders.empty())
    error.text += fmt::format("; an earlier engine's arena is still mapped by {}", fmt::join(holders, ", "));
  const uint64_t wanted = have.total - std::min(have.total, have.free) + needed_pages;
  error.mend =
      fmt::format("as root: echo {} > {}", wanted, (pool_path(page_bytes, node) / "nr_hugepages").string());
  if (have.free < needed_pages && have.free > 0)
    error.mend += fmt::format(" , or a smaller arena: --arena {}M", (have.free * page_bytes) >> 20);
  else
    error.mend += " , or try without hugepages: --memory plain";
  return error;
}

}  // namespace ringcap::memory

#include "driver/pci/iova.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>

namespace ringcap::pci {
namespace {

constexpr uint64_t kLargePage = 2 << 20;
constexpr uint64_t kFourGiB = uint64_t{1} << 32;
// Writes to it are interrupts, whatever the IOMMU's tables say (Intel SDM, "Message Address Register
// Format").
constexpr IovaSpace::Range kInterruptWindow{0xfee0'0000, 0xfeef'ffff};

using Range = IovaSpace::Range;

// What is left of `ranges` without `hole`.
std::vector<Range> without(const std::vector<Range>& ranges, Range hole) {
  std::vector<Range> left;
  for (const Range& range : ranges) {
    if (hole.last < range.first || hole.first > range.last) {
      left.push_back(range);
      continue;
    }
    if (range.first < hole.first) left.push_back({range.first, hole.first - 1});
    if (range.last > hole.last) left.push_back({hole.last + 1, range.last});
  }
  return left;
}

std::vector<Range> split_at_four_gib(const std::vector<Range>& ranges) {
  std::vector<Range> parts;
  for (const Range& range : ranges) {
    if (range.first < kFourGiB && range.last >= kFourGiB) {
      parts.push_back({range.first, kFourGiB - 1});
      parts.push_back({kFourGiB, range.last});
    } else {
      parts.push_back(range);
    }
  }
  return parts;
}

// The first address in `range` with the place `within` in its large page, if `bytes` fit from there on.
bool fits(const Range& range, uint64_t within, uint64_t bytes, uint64_t& at) {
  const uint64_t place = range.first % kLargePage;
  const uint64_t skip = within >= place ? within - place : kLargePage - place + within;
  if (skip > range.last - range.first) return false;
  at = range.first + skip;
  return bytes - 1 <= range.last - at;
}

}  // namespace

IovaSpace::IovaSpace(std::span<const Range> usable) {
  for (const Range& range : usable) {
    if (range.first <= range.last) free_.push_back(range);
  }
  free_ = without(free_, {0, kLargePage - 1});
  free_ = split_at_four_gib(without(free_, kInterruptWindow));
  std::sort(free_.begin(), free_.end(), [](const Range& a, const Range& b) { return a.first < b.first; });
}

Result<Iova> IovaSpace::allocate(uint64_t virtual_address, uint64_t bytes) {
  uint64_t at = 0;
  const uint64_t within = virtual_address % kLargePage;
  const auto range = std::find_if(free_.begin(), free_.end(),
                                  [&](const Range& r) { return bytes > 0 && fits(r, within, bytes, at); });
  if (range == free_.end()) {
    return fail(Code::kSystem,
                fmt::format("no room for {} bytes among the addresses that the IOMMU translates "
                            "({} bytes are left)",
                            bytes, free_bytes()));
  }
  const Range used{at, at + bytes - 1};
  free_ = without(free_, used);
  return Iova{at};
}

void IovaSpace::release(Iova iova, uint64_t bytes) {
  const uint64_t first = static_cast<uint64_t>(iova);
  const Range back{first, first + bytes - 1};
  const auto next = std::find_if(free_.begin(), free_.end(), [&](const Range& r) { return r.first > first; });
  auto at = free_.insert(next, back);
  const auto meets = [](const Range& a, const Range& b) {
    return a.last + 1 == b.first && b.first != kFourGiB;
  };
  if (at + 1 != free_.end() && meets(*at, *(at + 1))) {
    at->last = (at + 1)->last;
    free_.erase(at + 1);
  }
  if (at != free_.begin() && meets(*(at - 1), *at)) {
    (at - 1)->last = at->last;
    free_.erase(at);
  }
}

uint64_t IovaSpace::free_bytes() const {
  uint64_t total = 0;
  for (const Range& range : free_) total += range.last - range.first + 1;
  return total;
}

}  // namespace ringcap::pci

// IovaSpace: which addresses a device may be given. Control thread only.
//
// The kernel reports the ranges that the IOMMU can translate (39 or 48 bits, with a hole for interrupts);
// an address outside them is refused or, worse, wraps. So addresses are handed out from those ranges and
// are never taken to be equal to virtual addresses.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "capture/base/error.h"
#include "driver/pci/function.h"

namespace ringcap::pci {

class IovaSpace {
 public:
  struct Range {
    uint64_t first = 0;
    uint64_t last = 0;  // inclusive
  };

  // `usable` as the kernel reports them, in any order. Left out of them: the first 2 MiB (0 is what a
  // device uses that was never told an address) and the window of message-signalled interrupts.
  explicit IovaSpace(std::span<const Range> usable);

  // Room for `bytes` (at least 1), below 4 GiB if there is any: older devices have 32 address bits. The
  // result has the same place within a 2 MiB page as `virtual_address`, so that the IOMMU can use large
  // pages.
  Result<Iova> allocate(uint64_t virtual_address, uint64_t bytes);
  // Gives back what allocate() gave.
  void release(Iova iova, uint64_t bytes);

  uint64_t free_bytes() const;

 private:
  std::vector<Range> free_;  // sorted, disjoint, none crosses 4 GiB
};

}  // namespace ringcap::pci

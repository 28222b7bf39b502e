// Group: an IOMMU group in a container of its own, with a type 1 (v2) IOMMU: what is mapped here is all
// that the group's devices can reach. Kernel documentation: driver-api/vfio.rst.
//
// A group can be opened once at a time, so that functions of one group (the ports of some cards) share
// it within the process. Control threads only; two engines in one process do not share a group.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "capture/base/error.h"
#include "capture/base/fd.h"
#include "driver/pci/function.h"
#include "driver/pci/iova.h"
#include "driver/vfio/roots.h"

namespace ringcap::vfio {

class Group {
 public:
  // Opens the group, or shares it where this process has it open.
  static Result<std::shared_ptr<Group>> open(const Roots& roots, const std::string& number);
  ~Group();

  Result<Fd> device(const std::string& address) const;

  Result<pci::Iova> map(std::byte* data, uint64_t bytes, pci::DmaAccess access);
  // The same range as map() got; type 1 v2 refuses anything else.
  Result<void> unmap(pci::Iova iova, uint64_t bytes);

 private:
  Group(Fd container, Fd group, std::string number, pci::IovaSpace space)
      : container_(std::move(container)),
        group_(std::move(group)),
        number_(std::move(number)),
        space_(std::move(space)) {}

  Fd container_;
  Fd group_;
  std::string number_;
  pci::IovaSpace space_;
};

}  // namespace ringcap::vfio

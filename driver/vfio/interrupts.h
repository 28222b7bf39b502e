// Interrupts of a VFIO device as eventfds. Kernel documentation: include/uapi/linux/vfio.h, SET_IRQS.
//
// Armed and disarmed by the control thread; consume() of a vector belongs to the thread that waits for it.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "capture/base/error.h"
#include "capture/base/fd.h"
#include "driver/pci/function.h"

namespace ringcap::vfio {

class Interrupts {
 public:
  // Arms `vectors` vectors of MSI-X, else of MSI; else one, MSI-X before MSI before INTx. A kind that the
  // device has and the kernel refuses is passed over.
  Result<pci::Interrupt> enable(int device, uint32_t vectors);
  void disable(int device);

  int fd(uint32_t vector) const { return vector < eventfds_.size() ? eventfds_[vector].get() : -1; }
  bool consume(int device, uint32_t vector);

 private:
  Result<pci::Interrupt> arm(int device, pci::Interrupt kind, uint32_t vectors);

  std::vector<Fd> eventfds_;
  pci::Interrupt kind_ = pci::Interrupt::kNone;
};

// How many interrupts the device has at a VFIO_PCI_*_IRQ_INDEX; 0 where it has none.
uint32_t interrupt_count(int device, uint32_t index);
// Points the first fds.size() interrupts of `index` at these eventfds.
Result<void> set_eventfds(int device, uint32_t index, std::span<const int> fds);
// An eventfd that does not block; invalid if the process has no descriptors left.
Fd make_eventfd();
// Reads it empty; true if it was not.
bool drain_eventfd(int fd);

}  // namespace ringcap::vfio

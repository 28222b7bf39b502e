#include "driver/vfio/interrupts.h"

#include <fmt/format.h>
#include <linux/vfio.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cstring>

namespace ringcap::vfio {
namespace {

uint32_t irq_index(pci::Interrupt kind) {
  switch (kind) {
    case pci::Interrupt::kMsix:
      return VFIO_PCI_MSIX_IRQ_INDEX;
    case pci::Interrupt::kMsi:
      return VFIO_PCI_MSI_IRQ_INDEX;
    default:
      return VFIO_PCI_INTX_IRQ_INDEX;
  }
}

int simple_set_irqs(int device, uint32_t index, uint32_t flags, uint32_t count) {
  vfio_irq_set set{};
  set.argsz = sizeof(set);
  set.flags = flags;
  set.index = index;
  set.count = count;
  return ::ioctl(device, VFIO_DEVICE_SET_IRQS, &set);
}

struct Choice {
  pci::Interrupt kind;
  uint32_t vectors;
};

// What the device offers, the best for `wanted` vectors first. Arming is the proof: a kernel told not to use
// MSI (pci=nomsi) still says that the device has it.
std::vector<Choice> choices(int device, uint32_t wanted) {
  const uint32_t msix = interrupt_count(device, VFIO_PCI_MSIX_IRQ_INDEX);
  const uint32_t msi = interrupt_count(device, VFIO_PCI_MSI_IRQ_INDEX);
  std::vector<Choice> found;
  if (msix >= wanted) found.push_back({pci::Interrupt::kMsix, wanted});
  if (msi >= wanted) found.push_back({pci::Interrupt::kMsi, wanted});
  if (msix > 0 && msix < wanted) found.push_back({pci::Interrupt::kMsix, 1});
  if (msi > 0 && msi < wanted) found.push_back({pci::Interrupt::kMsi, 1});
  if (interrupt_count(device, VFIO_PCI_INTX_IRQ_INDEX) > 0) found.push_back({pci::Interrupt::kIntx, 1});
  return found;
}

}  // namespace

uint32_t interrupt_count(int device, uint32_t index) {
  vfio_irq_info info{};
  info.argsz = sizeof(info);
  info.index = index;
  if (::ioctl(device, VFIO_DEVICE_GET_IRQ_INFO, &info) != 0) return 0;
  return info.flags & VFIO_IRQ_INFO_EVENTFD ? info.count : 0;
}

Result<void> set_eventfds(int device, uint32_t index, std::span<const int> fds) {
  // All vectors at once: for MSI, and for MSI-X on older kernels, none can be added later.
  std::vector<std::byte> buffer(sizeof(vfio_irq_set) + fds.size_bytes());
  vfio_irq_set set{};
  set.argsz = static_cast<uint32_t>(buffer.size());
  set.flags = VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER;
  set.index = index;
  set.count = static_cast<uint32_t>(fds.size());
  std::memcpy(buffer.data(), &set, sizeof(set));
  std::memcpy(buffer.data() + sizeof(set), fds.data(), fds.size_bytes());
  if (::ioctl(device, VFIO_DEVICE_SET_IRQS, buffer.data()) == 0) return {};
  return fail_system(fmt::format("cannot arm {} interrupts (VFIO index {})", fds.size(), index));
}

Fd make_eventfd() { return Fd(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)); }

bool drain_eventfd(int fd) {
  uint64_t count = 0;
  return ::read(fd, &count, sizeof(count)) == sizeof(count);
}

Result<pci::Interrupt> Interrupts::enable(int device, uint32_t vectors) {
  disable(device);
  Result<pci::Interrupt> armed = pci::Interrupt::kNone;
  for (const Choice& choice : choices(device, vectors)) {
    armed = arm(device, choice.kind, choice.vectors);
    if (armed) break;
  }
  return armed;
}

Result<pci::Interrupt> Interrupts::arm(int device, pci::Interrupt kind, uint32_t vectors) {
  std::vector<Fd> eventfds;
  std::vector<int> fds;
  for (uint32_t i = 0; i < vectors; ++i) {
    eventfds.push_back(make_eventfd());
    if (!eventfds.back()) return fail_system("cannot make an eventfd for an interrupt");
    fds.push_back(eventfds.back().get());
  }
  if (Result<void> set = set_eventfds(device, irq_index(kind), fds); !set)
    return std::unexpected(set.error());
  eventfds_ = std::move(eventfds);
  return kind_ = kind;
}

// The eventfds stay: another thread may be waiting on one.
void Interrupts::disable(int device) {
  if (kind_ == pci::Interrupt::kNone) return;
  simple_set_irqs(device, irq_index(kind_), VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_TRIGGER, 0);
  kind_ = pci::Interrupt::kNone;
}

bool Interrupts::consume(int device, uint32_t vector) {
  if (vector >= eventfds_.size()) return false;
  const bool fired = drain_eventfd(eventfds_[vector].get());
  // The kernel masked the line when it fired; the device must have let go of it by now.
  if (fired && kind_ == pci::Interrupt::kIntx) {
    simple_set_irqs(device, VFIO_PCI_INTX_IRQ_INDEX, VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_UNMASK, 1);
  }
  return fired;
}

}  // namespace ringcap::vfio

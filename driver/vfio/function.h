// A PCI function reached through VFIO. See driver/pci/function.h for who calls what.
//
// When the process dies, the kernel stops the device's DMA first, then unmaps, then resets the function
// (vfio_pci_core_disable): a dead engine's NIC writes nowhere.
#pragma once

#include <linux/vfio.h>

#include <array>
#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "capture/base/fd.h"
#include "capture/base/mapping.h"
#include "driver/pci/function.h"
#include "driver/vfio/group.h"
#include "driver/vfio/interrupts.h"
#include "driver/vfio/roots.h"
#include "driver/vfio/window.h"

namespace ringcap::vfio {

class VfioFunction final : public pci::Function {
 public:
  // Opening it resets the function where it can be reset, and leaves it with bus mastering off.
  static Result<std::unique_ptr<pci::Function>> open(const std::string& address, const Roots& roots = {});
  ~VfioFunction() override;

  const std::string& address() const override { return address_; }
  Result<uint32_t> config_read(uint32_t offset, uint32_t bytes) override;
  Result<void> config_write(uint32_t offset, uint32_t bytes, uint32_t value) override;
  Result<std::unique_ptr<pci::Bar>> bar(uint32_t index) override;
  Result<pci::Iova> dma_map(std::byte* data, uint64_t bytes, pci::DmaAccess access) override;
  Result<DmaMemory> dma_allocate(uint64_t bytes) override;
  Result<bool> reset() override;
  Result<void> set_bus_master(bool on) override;
  Result<pci::Interrupt> enable_interrupts(uint32_t vectors) override;
  int interrupt_fd(uint32_t vector) const override { return interrupts_.fd(vector); }
  bool consume_interrupt(uint32_t vector) override { return interrupts_.consume(device_.get(), vector); }
  int event_fd() const override { return events_.get(); }
  Events consume_events() override;
  bool gone() const override { return gone_->load(std::memory_order_acquire); }
  void release() override;

 private:
  struct Mapped {
    pci::Iova iova;
    uint64_t bytes;
  };

  VfioFunction(std::string address, std::shared_ptr<Group> group, Fd device)
      : address_(std::move(address)), group_(std::move(group)), device_(std::move(device)) {}
  Result<void> read_info();
  Result<vfio_region_info> region(uint32_t index) const;
  Result<void> arm_events();
  void arm_event(uint32_t irq_index, Fd& eventfd);
  Result<std::vector<std::shared_ptr<Window>>> map_windows(uint32_t index,
                                                           const std::vector<std::byte>& info);

  std::string address_;
  std::shared_ptr<Group> group_;
  Fd device_;
  bool can_reset_ = false;
  bool released_ = false;
  vfio_region_info config_{};
  Interrupts interrupts_;
  Fd events_;  // epoll over the next two
  Fd request_;
  Fd error_;
  std::shared_ptr<std::atomic<bool>> gone_ = std::make_shared<std::atomic<bool>>(false);
  std::vector<std::shared_ptr<Window>> windows_;
  std::vector<Mapped> mapped_;
  std::vector<Mapping> memory_;
};

}  // namespace ringcap::vfio

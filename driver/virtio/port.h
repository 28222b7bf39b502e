// The virtio port: a modern virtio network device on PCI, from reset to receiving, by "Virtual I/O Device
// (VIRTIO) Version 1.2". A port's states are in driver/pci/nic_port.h. Control thread.
//
// Reads top to bottom like "Device Initialization": reset, negotiate, queues, go, and then what the device is
// told through its control queue.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "driver/pci/nic_port.h"
#include "driver/pci/rss.h"
#include "driver/virtio/control.h"
#include "driver/virtio/device.h"
#include "driver/virtio/receive.h"
#include "driver/virtio/transmit.h"

namespace ringcap::virtio {

class VirtioPort final : public pci::NicPort {
 public:
  // Takes the function over and resets it. Errors: a device of the old kind, or one that goes past the IOMMU
  // (kNotFound), an option that it cannot do (kUsage), one that does not come out of reset.
  static Result<std::unique_ptr<Port>> open(std::unique_ptr<pci::Function> function,
                                            const pci::NicOptions& options);
  ~VirtioPort() override { close(); }

  std::string driver() const override { return "virtio"; }
  uint32_t buffer_need() const override;
  std::vector<TransmitQueue*> transmit_queues() override {
    return transmit_ ? std::vector<TransmitQueue*>{transmit_.get()} : std::vector<TransmitQueue*>{};
  }
  std::span<const Statistic> statistics() const override { return statistics_; }
  std::string remark() const override;

 private:
  VirtioPort(std::unique_ptr<pci::Function> function, const pci::NicOptions& options)
      : NicPort(std::move(function), options) {}

  Result<void> initialise();
  Result<void> check();
  void choose_steering();
  Result<void> make_queues();
  Result<void> make_receive(uint32_t number);
  Result<void> make_transmit();

  Result<void> reset();
  Result<void> negotiate();
  Result<void> enable_queues();
  Result<void> enable(uint32_t queue, uint32_t size, const RingAddresses& ring, uint32_t vector);
  Result<void> go();
  Result<void> tell_device();
  Result<void> moderate();
  Result<void> spread();
  std::vector<uint8_t> rss_command() const;

  bool has(uint64_t feature) const { return features_ & feature; }
  // The queues' numbers: "Network Device: Virtqueues".
  static uint32_t receive_queue(uint32_t pair) { return 2 * pair; }
  static constexpr uint32_t kTransmitQueue = 1;
  uint32_t control_queue() const { return 2 * pairs_; }
  uint32_t ring_size(uint32_t queue, uint32_t wanted);

  bool armed() const override;
  Result<void> bring_up() override;
  void quiesce() override;
  bool absent() const override { return device_.absent(); }
  Link read_link() override;
  void clear_link_interrupt() override {}
  void unmask_link_interrupt() override {}
  void set_receive_arena(pci::Iova arena) override;
  void set_transmit_arena(pci::Iova arena) override { transmit_->set_arena(arena); }
  bool broken() const override;

  mutable Device device_;
  uint64_t features_ = 0;  // negotiated
  uint32_t pairs_ = 1;     // of queues that the device has
  pci::RssKey rss_key_ = pci::random_rss_key();
  std::vector<VirtioReceive*> receive_;  // queues_
  std::unique_ptr<VirtioTransmit> transmit_;
  uint32_t transmit_size_ = 0;
  std::unique_ptr<Control> control_;
  uint32_t control_size_ = 0;
  std::vector<Statistic> statistics_;  // it counts nothing: of its interrupts
  std::vector<Doorbell> bells_;        // of the queues, in the order of enable_queues()
};

}  // namespace ringcap::virtio

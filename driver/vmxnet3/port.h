// The vmxnet3 port: VMware's virtual NIC (15ad:07b0), from reset to receiving. A port's states are in
// driver/pci/nic_port.h. Control thread.
//
// Reads top to bottom like a start: reset, describe, activate, let in. Nothing gets in or out of the counters
// but between letting in and shutting out.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "driver/pci/dump.h"
#include "driver/pci/nic_port.h"
#include "driver/vmxnet3/receive.h"
#include "driver/vmxnet3/statistics.h"
#include "driver/vmxnet3/structures.h"
#include "driver/vmxnet3/transmit.h"

namespace ringcap::vmxnet3 {

class Vmxnet3Port final : public pci::NicPort, private Counting {
 public:
  // Takes the function over and resets it. Errors: an option that it cannot do (kUsage), a device that does
  // not come out of reset, or has no revision 1.
  static Result<std::unique_ptr<Port>> open(std::unique_ptr<pci::Function> function,
                                            const pci::NicOptions& options);
  ~Vmxnet3Port() override { close(); }

  std::string driver() const override { return "vmxnet3"; }
  uint32_t buffer_need() const override;
  std::vector<TransmitQueue*> transmit_queues() override {
    return options_.transmit ? std::vector<TransmitQueue*>{transmit_.get()} : std::vector<TransmitQueue*>{};
  }
  QueueCounters counters() override { return count(); }
  std::span<const Statistic> statistics() const override { return statistics_.all(); }

 private:
  Vmxnet3Port(std::unique_ptr<pci::Function> function, const pci::NicOptions& options)
      : NicPort(std::move(function), options) {}

  Result<void> initialise();
  Result<void> check();
  Result<void> open_bars();
  Result<void> allocate();
  Result<void> make_queues();

  Result<void> reset();
  Result<void> choose_revision();
  void describe();
  void describe_interrupts();
  void describe_queues();
  Result<void> activate();
  void let_in();
  void shut_out();

  uint32_t ask(uint32_t command) const;
  void tell(uint32_t command) const;
  void mask_all() const;
  Shared& shared() const { return *reinterpret_cast<Shared*>(memory_.data); }
  TxQueueDesc& transmit_description() const {
    return *reinterpret_cast<TxQueueDesc*>(memory_.data + kQueuesOffset);
  }
  RxQueueDesc& receive_description() const {
    return *reinterpret_cast<RxQueueDesc*>(memory_.data + kQueuesOffset + sizeof(TxQueueDesc));
  }
  uint32_t events() const { return std::atomic_ref(shared().ecr).load(std::memory_order_acquire); }
  QueueCounters count() override;

  bool armed() const override { return receive_->armed(); }
  Result<void> bring_up() override;
  void quiesce() override;
  bool absent() const override { return gone_ || vd_.read(vd::VRRS) == pci::kAbsent; }
  Link read_link() override;
  void clear_link_interrupt() override {}  // read_link() does it
  void unmask_link_interrupt() override { pt_.write(pt::IMR + pt::STRIDE * link_vector_, 0); }
  void set_receive_arena(pci::Iova arena) override { receive_->set_arena(arena); }
  void set_transmit_arena(pci::Iova arena) override { transmit_->set_arena(arena); }
  bool broken() const override;

  std::unique_ptr<pci::Bar> bar0_, bar1_;
  pci::Registers pt_, vd_;  // of BAR 0 and 1
  pci::Function::DmaMemory memory_;
  Statistics statistics_;
  Vmxnet3ReceiveQueue* receive_ = nullptr;  // queues_
  std::unique_ptr<Vmxnet3TransmitQueue> transmit_;
};

// For `ringcap devices ADDRESS --registers`.
Result<std::vector<pci::RegisterValue>> dump(pci::Function& function);

}  // namespace ringcap::vmxnet3

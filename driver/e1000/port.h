// The e1000e port: an Intel 82574L (8086:10d3), from reset to removal.
//
// The control thread calls everything here; see receive.h and transmit.h for the queues' threads. Reads
// top to bottom like the datasheet's chapter "Initialization": reset, configure, start queues.
//
//   from      to        by                      notes
//   closed    stopped   open()                  reset, bus master off
//   stopped   running   start()                 reset, configured, bus master on, receiving
//   running   stopped   stop()                  reset, bus master off; the rings keep their buffers
//   running   running   PCIe error              stop, reset, start; queues go on where they were
//   any       gone      removal, no answer      the function is released; registers read as ones. Final.
#pragma once

#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "capture/port/port.h"
#include "driver/e1000/receive.h"
#include "driver/e1000/registers.h"
#include "driver/e1000/statistics.h"
#include "driver/e1000/transmit.h"
#include "driver/pci/function.h"
#include "driver/pci/nic_options.h"

namespace ringcap::e1000 {

class E1000Port final : public Port {
 public:
  // Takes the function over and resets it. Errors: an option that the 82574L cannot do (kUsage), a device
  // that does not come out of reset.
  static Result<std::unique_ptr<Port>> open(std::unique_ptr<pci::Function> function,
                                            const pci::NicOptions& options);
  ~E1000Port() override;

  const std::string& address() const override { return address_; }
  std::string driver() const override { return "e1000e"; }
  uint32_t mtu() const override { return options_.mtu; }
  uint32_t buffer_need() const override;
  std::span<const std::unique_ptr<ReceiveQueue>> receive_queues() const override { return queues_; }
  TransmitQueue* transmit_queue() override { return transmit_.get(); }

  Result<void> prepare(const PortNeeds& needs) override;
  Result<void> start() override;
  void stop() override;
  Link link() override;
  int event_fd() const override { return events_.get(); }
  void handle_event() override;

 private:
  E1000Port(std::unique_ptr<pci::Function> function, const pci::NicOptions& options);
  Result<void> initialise();
  Result<void> watch_events();
  Result<void> make_queues();
  bool jumbo() const;

  Result<void> reset();
  Result<void> power_up_phy();
  Result<uint32_t> phy(uint32_t command) const;
  void configure();
  void configure_interrupts();
  void configure_transmit();
  uint32_t receive_control() const;
  void quiesce();
  void recover();
  void leave();
  bool absent() const { return gone_ || registers_.read(STATUS) == kAbsent; }
  Error lost() const;

  std::string address_;
  pci::NicOptions options_;
  std::unique_ptr<pci::Function> function_;  // outlives everything below
  std::unique_ptr<pci::Bar> bar_;
  Registers registers_;
  pci::Interrupt interrupt_ = pci::Interrupt::kNone;
  bool own_vectors_ = false;  // MSI-X: 0 for the queue, 1 for everything else
  Fd link_event_;
  Fd events_;  // epoll: vector 1 or link_event_, and the function's events
  Statistics statistics_;
  std::vector<std::unique_ptr<ReceiveQueue>> queues_;
  E1000ReceiveQueue* receive_ = nullptr;  // queues_[0]
  std::unique_ptr<E1000TransmitQueue> transmit_;
  bool running_ = false;
  bool gone_ = false;
};

}  // namespace ringcap::e1000

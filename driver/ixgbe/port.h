// The ixgbe port: Intel's 82599, X540 and X550, from reset to receiving. What it shares with other Intel
// NICs, and the port's states, are in driver/intel/port.h. Control thread.
//
// Reads top to bottom like the datasheets' chapter "Initialization": reset, configure, start queues.
#pragma once

#include <memory>

#include "driver/intel/port.h"
#include "driver/ixgbe/chips.h"
#include "driver/ixgbe/registers.h"

namespace ringcap::ixgbe {

class IxgbePort final : public intel::IntelPort {
 public:
  // Takes the function over and resets it. Errors: an option that the chip cannot do (kUsage), a device that
  // does not come out of reset.
  static Result<std::unique_ptr<Port>> open(std::unique_ptr<pci::Function> function,
                                            const pci::NicOptions& options);
  ~IxgbePort() override { close(); }

  std::vector<pci::Loopback> loopbacks() const override { return {pci::Loopback::kMac}; }
  bool fire(uint32_t queue) override;

 private:
  IxgbePort(std::unique_ptr<pci::Function> function, const pci::NicOptions& options, const Chip& chip);

  Result<void> reset() override;
  bool reset_once();
  void bring_link_up();
  void configure() override;
  void configure_bus();
  void configure_filters();
  void configure_buffers();
  void configure_queues();
  void configure_interrupts();
  Result<void> program_receive(uint32_t queue) override;
  Result<void> switch_on_receive(uint32_t queue) override;
  Result<void> program_transmit() override;
  Result<void> switch_on(uint32_t control, const char* what, uint32_t queue);
  Result<void> loop_back() override;
  void receive_on() override;
  void traffic_off() override;
  std::unique_ptr<IntelTransmitQueue> make_transmit(pci::Function::DmaMemory ring) override;
  std::unique_ptr<IntelReceive> make_receive(const ReceiveSettings& settings, pci::Function::DmaMemory ring,
                                             const Wake& wake) override;
  void start_clock(uint64_t real_ns) override;
  uint64_t read_clock() const override;

  Wake wake_of(uint32_t queue) const override;
  Throttle throttle_of(uint32_t queue) const override;
  Wake shared_wake() const override;
  void mask_interrupts() override;
  void clear_link_interrupt() override;
  void unmask_link_interrupt() override;
  Link read_link() override;

  uint64_t dropped_by(uint32_t queue) const override;
  QueueCounters count_all() const override;

  const Chip& chip_;
};

}  // namespace ringcap::ixgbe

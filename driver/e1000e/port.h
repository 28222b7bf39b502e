// The e1000e port: an Intel 82574L (8086:10d3), from reset to receiving. What it shares with other gigabit
// NICs, and the port's states, are in driver/intel/gigabit.h. Control thread.
//
// Reads top to bottom like the datasheet's chapter "Initialization": reset, configure, start queues.
#pragma once

#include <functional>
#include <memory>

#include "driver/e1000e/registers.h"
#include "driver/intel/gigabit.h"

namespace ringcap::e1000e {

class E1000ePort final : public intel::GigabitPort {
 public:
  // Takes the function over and resets it. Errors: an option that the 82574L cannot do (kUsage), a device
  // that does not come out of reset.
  static Result<std::unique_ptr<Port>> open(std::unique_ptr<pci::Function> function,
                                            const pci::NicOptions& options);
  ~E1000ePort() override { close(); }

  std::vector<pci::Loopback> loopbacks() const override { return {pci::Loopback::kMac, pci::Loopback::kPhy}; }
  bool fire(uint32_t queue) override;

 private:
  E1000ePort(std::unique_ptr<pci::Function> function, const pci::NicOptions& options);

  Result<void> reset() override;
  // While `use` runs, the PHY is this driver's and not the firmware's.
  Result<void> as_owner(const std::function<Result<void>()>& use);
  Result<void> control_phy(uint32_t value) override;
  void configure() override;
  void configure_interrupts();
  void configure_queues();
  Result<void> program_receive(uint32_t queue) override;
  Result<void> program_transmit() override;
  uint32_t receive_control() const override;
  std::unique_ptr<IntelTransmitQueue> make_transmit(pci::Function::DmaMemory ring) override;

  Wake wake_of(uint32_t queue) const override;
  Throttle throttle_of(uint32_t queue) const override;
  void mask_interrupts() override;
  void clear_link_interrupt() override;
  void unmask_link_interrupt() override;
};

}  // namespace ringcap::e1000e

// The igb port: Intel's 82576, 82580, I350, I354, I210 and I211, from reset to receiving. What it shares with
// other gigabit NICs, and the port's states, are in driver/intel/gigabit.h. Control thread.
//
// Reads top to bottom like the datasheets' chapter "Initialization": reset, configure, start queues.
#pragma once

#include <memory>

#include "driver/igb/chips.h"
#include "driver/igb/registers.h"
#include "driver/intel/gigabit.h"

namespace ringcap::igb {

class IgbPort final : public intel::GigabitPort {
 public:
  // Takes the function over and resets it. Errors: an option that the chip cannot do (kUsage), a device that
  // does not come out of reset.
  static Result<std::unique_ptr<Port>> open(std::unique_ptr<pci::Function> function,
                                            const pci::NicOptions& options);
  ~IgbPort() override { close(); }

  std::vector<pci::Loopback> loopbacks() const override { return {pci::Loopback::kMac, pci::Loopback::kPhy}; }
  bool fire(uint32_t queue) override;

 private:
  IgbPort(std::unique_ptr<pci::Function> function, const pci::NicOptions& options, const Chip& chip);

  Result<void> reset() override;
  Result<void> negotiate();
  Result<void> negotiate_as_owner();
  Result<void> control_phy(uint32_t value) override;
  void configure() override;
  void configure_queues();
  void configure_interrupts();
  void route(uint32_t queue);
  Result<void> program_receive(uint32_t queue) override;
  Result<void> switch_on_receive(uint32_t queue) override;
  Result<void> program_transmit() override;
  Result<void> switch_on(uint32_t control, const char* what, uint32_t queue);
  uint32_t receive_control() const override;
  std::unique_ptr<IntelTransmitQueue> make_transmit(pci::Function::DmaMemory ring) override;
  std::unique_ptr<IntelReceive> make_receive(const ReceiveSettings& settings, pci::Function::DmaMemory ring,
                                             const Wake& wake) override;
  void start_clock(uint64_t real_ns) override;
  uint64_t read_clock() const override;

  Wake wake_of(uint32_t queue) const override;
  Throttle throttle_of(uint32_t queue) const override;
  void mask_interrupts() override;
  void clear_link_interrupt() override;
  void unmask_link_interrupt() override;

  uint64_t dropped_by(uint32_t queue) const override;
  void update_statistics() override;

  const Chip& chip_;
};

}  // namespace ringcap::igb

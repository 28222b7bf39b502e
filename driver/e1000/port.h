// The e1000 port: Intel's 82540EM, 82544GC, 82545EM and 82546EB, from reset to receiving. One queue each way,
// legacy descriptors, one interrupt for everything. What it shares with other gigabit NICs, and the port's
// states, are in driver/intel/gigabit.h. Control thread.
//
// Reads top to bottom like the manual's chapter "General Initialization and Reset Operation": reset, general
// configuration, receive initialization, transmit initialization.
#pragma once

#include <memory>

#include "driver/e1000/registers.h"
#include "driver/intel/gigabit.h"

namespace ringcap::e1000 {

class E1000Port final : public intel::GigabitPort {
 public:
  // Takes the function over and resets it. Errors: an option that the chip cannot do (kUsage), a device that
  // does not come out of reset.
  static Result<std::unique_ptr<Port>> open(std::unique_ptr<pci::Function> function,
                                            const pci::NicOptions& options);
  ~E1000Port() override { close(); }

  // The manual: with the PHY inside, RCTL.LBM stays 0, and the PHY loops back.
  std::vector<pci::Loopback> loopbacks() const override { return {pci::Loopback::kPhy}; }
  bool fire(uint32_t queue) override;

 private:
  E1000Port(std::unique_ptr<pci::Function> function, const pci::NicOptions& options, const ChipFacts& facts,
            bool has_radv);

  Result<void> reset() override;
  void configure() override;
  Result<void> program_receive(uint32_t queue) override;
  Result<void> program_transmit() override;
  uint32_t receive_control() const override;
  std::unique_ptr<IntelTransmitQueue> make_transmit(pci::Function::DmaMemory ring) override;
  std::unique_ptr<IntelReceive> make_receive(const ReceiveSettings& settings, pci::Function::DmaMemory ring,
                                             const Wake& wake) override;

  void mask_interrupts() override { registers_.write(IMC, interrupt::ALL); }
  // There is one interrupt for everything: the worker tells of link changes (driver/intel/receive.h).
  Wake wake_of(uint32_t) const override { return {}; }
  Throttle throttle_of(uint32_t) const override { return {.offset = ITR, .unit_ns = 256, .most = 0xffff}; }
  void clear_link_interrupt() override {}
  void unmask_link_interrupt() override {}

  bool has_radv_;
};

}  // namespace ringcap::e1000

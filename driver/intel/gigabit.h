// GigabitPort: what the ports of Intel's gigabit NICs (driver/e1000, driver/e1000e, driver/igb) share beyond
// what all of Intel's do: one register each for receiving and sending, a PHY behind MDIC, link in STATUS, and
// how the counters belong together. Control thread.
#pragma once

#include "driver/intel/port.h"

namespace ringcap::intel {

class GigabitPort : public IntelPort {
 protected:
  using IntelPort::IntelPort;
  // RCTL, while receiving.
  virtual uint32_t receive_control() const = 0;
  uint32_t strip_crc() const { return options_.crc ? 0 : rctl::SECRC; }

  Result<uint32_t> read_phy(uint32_t reg) const;
  Result<void> write_phy(uint32_t reg, uint32_t value) const;
  // Powers the PHY up, and ends its loopback.
  Result<void> wake_phy() const;
  Result<void> end_phy_loopback() const;
  // The PHY's control register, by whatever rules there are for using the PHY.
  virtual Result<void> control_phy(uint32_t value) { return write_phy(phy::CONTROL, value); }

 private:
  void receive_on() override;
  Result<void> loop_back() override;
  void traffic_off() override;
  Wake shared_wake() const override;
  Link read_link() override;
  QueueCounters count_all() const override;
  Result<uint32_t> phy(uint32_t command) const;
};

}  // namespace ringcap::intel

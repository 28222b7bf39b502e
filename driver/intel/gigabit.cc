#include "driver/intel/gigabit.h"

#include <fmt/format.h>

#include <chrono>

#include "driver/intel/registers.h"

namespace ringcap::intel {
namespace {

constexpr std::chrono::milliseconds kPhyDeadline{20};

}  // namespace

// ---- the PHY -----------------------------------------------------------------------------------------

Result<uint32_t> GigabitPort::phy(uint32_t command) const {
  registers_.write(MDIC, command | mdic::PHY_1);
  const bool ready = wait_for(kPhyDeadline, [&] { return registers_.read(MDIC) & mdic::READY; });
  const uint32_t result = registers_.read(MDIC);
  if (!ready || result == kAbsent || (result & mdic::ERROR)) {
    return fail(Code::kSystem, fmt::format("the NIC's PHY does not answer (MDIC {:#010x})", result));
  }
  return result & 0xffff;
}

Result<uint32_t> GigabitPort::read_phy(uint32_t reg) const {
  return phy(mdic::READ | reg << mdic::REGISTER_SHIFT);
}

Result<void> GigabitPort::write_phy(uint32_t reg, uint32_t value) const {
  Result<uint32_t> done = phy(mdic::WRITE | reg << mdic::REGISTER_SHIFT | value);
  if (!done) return std::unexpected(done.error());
  return {};
}

Result<void> GigabitPort::wake_phy() const {
  if (auto ended = end_phy_loopback(); !ended) return ended;
  const Result<uint32_t> control = read_phy(phy::CONTROL);
  if (!control) return std::unexpected(control.error());
  if (!(*control & phy::POWER_DOWN)) return {};
  return write_phy(phy::CONTROL, *control & ~phy::POWER_DOWN);
}

// The MAC's reset is none of the PHY's. A self-test that was killed leaves it so.
Result<void> GigabitPort::end_phy_loopback() const {
  const Result<uint32_t> control = read_phy(phy::CONTROL);
  if (!control) return std::unexpected(control.error());
  if (!(*control & phy::LOOPBACK)) return {};
  if (auto reset = write_phy(phy::CONTROL, phy::RESET | phy::NEGOTIATE); !reset) return reset;
  wait_for(kPhyDeadline, [&] { return !(read_phy(phy::CONTROL).value_or(0) & phy::RESET); });
  return write_phy(phy::CONTROL, phy::NEGOTIATE | phy::RESTART);
}

// ---- start and stop ----------------------------------------------------------------------------------

void GigabitPort::receive_on() {
  const bool in_mac = options_.loopback == pci::Loopback::kMac;
  registers_.write(RCTL, receive_control() | (in_mac ? rctl::LBM_MAC : 0));
}

// Datasheets, "Loopback": link is forced, at 1000 Mbit/s, as nobody is there to negotiate it with.
Result<void> GigabitPort::loop_back() {
  if (options_.loopback == pci::Loopback::kOff) return {};
  if (options_.loopback == pci::Loopback::kPhy) {
    if (auto set = control_phy(phy::LOOPBACK | phy::FULL_DUPLEX | phy::SPEED_1000); !set) return set;
  }
  const uint32_t forced = ctrl::FRCSPD | ctrl::FRCDPX | ctrl::SPEED_1000 | ctrl::FD | ctrl::SLU;
  registers_.write(CTRL, (registers_.read(CTRL) & ~ctrl::SPEED) | forced);
  return {};
}

void GigabitPort::traffic_off() {
  registers_.write(RCTL, 0);
  registers_.write(TCTL, 0);
}

Wake GigabitPort::shared_wake() const {
  return {.cause = ICR,
          .set = IMS,
          .clear = IMC,
          .bits = interrupt::RXT0 | interrupt::RXDMT0 | interrupt::RXO,
          .link_bits = interrupt::LSC};
}

Link GigabitPort::read_link() {
  constexpr uint32_t kMbps[] = {10, 100, 1000, 1000};
  const uint32_t state = registers_.read(STATUS);
  if (!(state & status::LU)) return {.up = false, .present = true, .mbps = 0};
  return {.up = true, .present = true, .mbps = kMbps[(state >> status::SPEED_SHIFT) & 3]};
}

// ---- counting ------------------------------------------------------------------------------------------

// GPRC does not have what MPC counts, and does have what the queues dropped.
QueueCounters GigabitPort::count_all() const {
  const uint64_t good = statistics_.of(GPRC), full = statistics_.of(MPC);
  uint64_t bad = 0;
  for (const uint32_t counter : {CRCERRS, RUC, RFC, ROC, RJC}) bad += statistics_.of(counter);
  if (options_.bad) return {.received = good + full + bad_delivered(), .missed = full + dropped(), .bad = 0};
  return {.received = good + full + bad, .missed = full + dropped(), .bad = bad};
}

}  // namespace ringcap::intel

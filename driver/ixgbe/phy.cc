#include "driver/ixgbe/phy.h"

#include <chrono>
#include <optional>

#include "driver/ixgbe/registers.h"

namespace ringcap::ixgbe {
namespace {

constexpr std::chrono::milliseconds kCommandDeadline{10};
constexpr uint32_t kAddresses = 32;

// IEEE 802.3, 45.2: a register has a device and a number.
struct PhyRegister {
  uint32_t device, number;
};
constexpr PhyRegister kIdentifier{1, 2};        // 45.2.1.3
constexpr PhyRegister kNegotiation{7, 0};       // 45.2.7.1
constexpr PhyRegister kNegotiationState{7, 1};  // 45.2.7.2
constexpr PhyRegister kAdvertised{7, 16};       // 45.2.7.6
constexpr PhyRegister kVendor{0x1e, 0};         // X540's datasheet: "Global Standard Control 1"
constexpr uint32_t kRestart = 1u << 9, kEnable = 1u << 12;
constexpr uint32_t kComplete = 1u << 5;
constexpr uint32_t kPause = 3u << 10;
constexpr uint32_t kLowPower = 1u << 11;

class Mdio {
 public:
  explicit Mdio(const intel::Registers& registers) : registers_(registers) {}

  // Finds the address that a PHY answers at.
  bool find() {
    for (address_ = 0; address_ < kAddresses; ++address_) {
      const std::optional<uint32_t> identifier = read(kIdentifier);
      if (!identifier) return false;
      if (*identifier != 0 && *identifier != 0xffff) return true;
    }
    return false;
  }
  std::optional<uint32_t> read(PhyRegister from) const {
    if (!run(from, msca::ADDRESS) || !run(from, msca::READ)) return {};
    return registers_.read(MSRWD) >> msrwd::READ_SHIFT;
  }
  bool write(PhyRegister to, uint32_t value) const {
    if (!run(to, msca::ADDRESS)) return false;
    registers_.write(MSRWD, value);
    return run(to, msca::WRITE);
  }

 private:
  bool run(PhyRegister which, uint32_t operation) const {
    registers_.write(MSCA, which.number | which.device << msca::DEVICE_SHIFT | address_ << msca::PHY_SHIFT |
                               operation | msca::COMMAND);
    return intel::wait_for(kCommandDeadline, [&] { return !(registers_.read(MSCA) & msca::COMMAND); });
  }

  const intel::Registers& registers_;
  uint32_t address_ = 0;
};

}  // namespace

void negotiate(const intel::Registers& registers) {
  Mdio mdio(registers);
  if (!mdio.find()) return;
  const std::optional<uint32_t> power = mdio.read(kVendor), state = mdio.read(kNegotiationState),
                                advertised = mdio.read(kAdvertised), control = mdio.read(kNegotiation);
  if (!power || !state || !advertised || !control) return;
  const bool up = !(*power & kLowPower) && (*state & kComplete);
  if (up && !(*advertised & kPause)) return;
  if (*power & kLowPower) mdio.write(kVendor, *power & ~kLowPower);
  mdio.write(kAdvertised, *advertised & ~kPause);
  mdio.write(kNegotiation, *control | kEnable | kRestart);
}

}  // namespace ringcap::ixgbe

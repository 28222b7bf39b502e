#include "driver/e1000/port.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <thread>
#include <vector>

namespace ringcap::e1000 {
namespace {

using std::chrono::milliseconds;

constexpr uint32_t kDeviceId = 0x02;  // PCI Local Bus 3.0, 6.2.1
// The chips take frames of 16,128 bytes, CRC included; without LPE 1,522, which is room for one VLAN tag.
constexpr uint32_t kLongest = 16'128 - 4, kOneTag = 18;
// KiB of the chip's 64 that buffer received frames; the rest is for sending, which needs room for one frame.
constexpr uint32_t kReceiveKib = 48, kJumboReceiveKib = 40;
constexpr uint32_t kThresholds = dctl::GRAN | 1u << dctl::WTHRESH_SHIFT;
constexpr milliseconds kResetDeadline{200}, kReload{20};

struct Chip {
  uint16_t device;
  const char* name;
  bool has_radv = true;
  // Erratum 23 of the 82545 and 82546: what the chip reads or writes in one go must not cross 64 KiB.
  bool within_64k = false;
};

constexpr Chip kChips[] = {{0x100c, "82544GC", false, false},
                           {0x100e, "82540EM", true, false},
                           {0x100f, "82545EM", true, true},
                           {0x1010, "82546EB", true, true}};

ChipFacts facts_of(const Chip& chip) {
  return {.driver = "e1000",
          .chip = chip.name,
          .queues = 1,
          .vectors = 1,
          .greatest_mtu = kLongest - kOneTag,
          .longest_sent = kLongest,
          .receive_block = RECEIVE_BLOCK,
          .receive_stride = RECEIVE_STRIDE,
          .transmit_block = TRANSMIT_BLOCK,
          .longest_overhead = kOneTag,
          .ring_within = chip.within_64k ? 64u << 10 : 0};
}

// Those that QEMU's model of these chips does not clear when they are read.
std::vector<Counter> counters_of_chip() {
  std::vector<Counter> all(common_counters().begin(), common_counters().end());
  for (Counter& counter : all) {
    constexpr uint32_t kKept[] = {CRCERRS, ALGNERRC, MPC, RNBC, RFC, RJC};
    counter.may_keep = std::ranges::find(kKept, counter.offset) != std::end(kKept);
  }
  return all;
}

// RCTL.BSIZE and BSEX.
uint32_t buffer_size_bits(uint32_t bytes) {
  switch (bytes) {
    case 4096:
      return rctl::BSEX | 3u << rctl::BSIZE_SHIFT;
    case 8192:
      return rctl::BSEX | 2u << rctl::BSIZE_SHIFT;
    case 16384:
      return rctl::BSEX | 1u << rctl::BSIZE_SHIFT;
    default:
      return 0;  // 2048
  }
}

}  // namespace

// ---- open --------------------------------------------------------------------------------------------

Result<std::unique_ptr<Port>> E1000Port::open(std::unique_ptr<pci::Function> function,
                                              const pci::NicOptions& options) {
  const std::string address = function->address();
  const Result<uint32_t> device = function->config_read(kDeviceId, 2);
  if (!device) return std::unexpected(device.error());
  const Chip* chip = std::ranges::find(kChips, *device, &Chip::device);
  if (chip == std::end(kChips))
    return fail(Code::kNotFound, fmt::format("{}: {:#06x} is no e1000", address, *device));
  std::unique_ptr<E1000Port> port(
      new E1000Port(std::move(function), options, facts_of(*chip), chip->has_radv));
  if (Result<void> ready = port->initialise(); !ready) return context(address, ready.error());
  return port;
}

E1000Port::E1000Port(std::unique_ptr<pci::Function> function, const pci::NicOptions& options,
                     const ChipFacts& facts, bool has_radv)
    : GigabitPort(std::move(function), options, facts, counters_of_chip()), has_radv_(has_radv) {}

std::unique_ptr<IntelReceive> E1000Port::make_receive(const ReceiveSettings& settings,
                                                      pci::Function::DmaMemory ring, const Wake& wake) {
  return std::make_unique<IntelReceiveQueue<LegacyReceive>>(settings, registers_, ring, counting(), wake);
}

std::unique_ptr<IntelTransmitQueue> E1000Port::make_transmit(pci::Function::DmaMemory ring) {
  return std::make_unique<TransmitRing<LegacyTransmit>>(registers_, ring, TRANSMIT_BLOCK + TDT,
                                                        facts_.longest_sent);
}

// ---- reset (manual, "Software Initialization and Diagnostics": "Software Reset") ---------------------

// Always done before bus mastering is switched on: these functions cannot be reset from outside, and this one
// may still be running for whoever had it before. Receiver and transmitter are stopped by themselves: QEMU's
// model knows no more of a reset than that its bit goes out.
Result<void> E1000Port::reset() {
  if (absent()) return std::unexpected(lost());
  mask_interrupts();
  registers_.write(RCTL, 0);
  registers_.write(TCTL, 0);
  registers_.flush();
  if (Result<void> off = function_->set_bus_master(false); !off) return off;
  registers_.write(PBA, jumbo() ? kJumboReceiveKib : kReceiveKib);  // takes effect by the reset
  registers_.write(CTRL, registers_.read(CTRL) | ctrl::RST);
  std::this_thread::sleep_for(kReload);  // it reads its EEPROM again, and does not say when it is done
  const bool done = wait_for(kResetDeadline, [&] { return !(registers_.read(CTRL) & ctrl::RST); });
  if (absent()) return std::unexpected(lost());
  if (!done) return std::unexpected(stuck("the NIC does not come out of reset", true));
  mask_interrupts();
  static_cast<void>(registers_.read(ICR));
  return wake_phy();  // a kernel driver powers it down when it lets go of an idle interface
}

// ---- configure (manual, "General Configuration") -----------------------------------------------------

void E1000Port::configure() {
  // Set link up, speed by negotiation, no flow control (a capture port holds nobody up), VLAN tags stay.
  const uint32_t off = ctrl::LRST | ctrl::ILOS | ctrl::PHY_RST | ctrl::FRCSPD | ctrl::FRCDPX | ctrl::RFCE |
                       ctrl::TFCE | ctrl::VME;
  registers_.write(CTRL, (registers_.read(CTRL) & ~off) | ctrl::SLU);
  for (const uint32_t flow_control : {FCAL, FCAH, FCT, FCTTV}) registers_.write(flow_control, 0);
  for (uint32_t word = 0; word < 128; ++word) registers_.write(MTA + 4 * word, 0);
  registers_.write(RXCSUM, 0);
  write_moderation(0);
}

// Manual, "Receive Initialization". Interrupts are moderated by ITR alone, as the manual advises for RDTR.
Result<void> E1000Port::program_receive(uint32_t queue) {
  const uint32_t block = receive_block(queue);
  write_ring(queue);
  registers_.write(block + RDTR, 0);
  if (has_radv_) registers_.write(block + RADV, 0);
  // Fetch descriptors when fewer than 32 are left on the chip and 4 are to be had; write each back at once.
  registers_.write(block + RXDCTL, kThresholds | 4u << dctl::HTHRESH_SHIFT | 32u);
  return {};
}

// Manual, "Transmit Initialization"; TIPG's values are its for copper.
Result<void> E1000Port::program_transmit() {
  write_transmit_ring();
  registers_.write(TRANSMIT_BLOCK + TXDCTL, kThresholds);
  registers_.write(TIPG, 8 | 8 << 10 | 6 << 20);
  registers_.write(TCTL, tctl::EN | tctl::PSP | tctl::RTLC | 15u << tctl::CT_SHIFT | 63u << tctl::COLD_SHIFT);
  return {};
}

// Promiscuous, broadcasts too, VLAN filter off (VFE stays 0).
uint32_t E1000Port::receive_control() const {
  return rctl::EN | rctl::UPE | rctl::MPE | rctl::BAM | strip_crc() | buffer_size_bits(buffer_bytes()) |
         (jumbo() ? rctl::LPE : 0) | (options_.bad ? rctl::SBP : 0);
}

bool E1000Port::fire(uint32_t queue) {
  registers_.write(ICS, queue < queue_count() ? interrupt::RXT0 : interrupt::LSC);
  return true;
}

}  // namespace ringcap::e1000

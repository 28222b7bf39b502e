#include "driver/e1000e/port.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <thread>

namespace ringcap::e1000e {
namespace {

using std::chrono::milliseconds;

constexpr ChipFacts kFacts{.driver = "e1000e",
                           .chip = "82574L",
                           .queues = 2,
                           .vectors = 5,
                           // The device takes frames of 9,234 bytes, VLAN tag and CRC included.
                           .greatest_mtu = 9212,
                           .longest_sent = 9230,
                           .receive_block = RECEIVE_BLOCK,
                           .receive_stride = RECEIVE_STRIDE,
                           .transmit_block = TRANSMIT_BLOCK};

// KiB of the chip's 40 that buffer received frames; the rest is for sending, which needs room for one frame.
constexpr uint32_t kReceiveKib = 32, kJumboReceiveKib = 28;

constexpr milliseconds kResetDeadline{200}, kMasterDeadline{100}, kPhyDeadline{20};

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

Result<std::unique_ptr<Port>> E1000ePort::open(std::unique_ptr<pci::Function> function,
                                               const pci::NicOptions& options) {
  const std::string address = function->address();
  std::unique_ptr<E1000ePort> port(new E1000ePort(std::move(function), options));
  if (Result<void> ready = port->initialise(); !ready) return context(address, ready.error());
  return port;
}

E1000ePort::E1000ePort(std::unique_ptr<pci::Function> function, const pci::NicOptions& options)
    : GigabitPort(std::move(function), options, kFacts, common_counters()) {}

std::unique_ptr<IntelTransmitQueue> E1000ePort::make_transmit(pci::Function::DmaMemory ring) {
  return std::make_unique<TransmitRing<LegacyTransmit>>(registers_, ring, TRANSMIT_BLOCK + TDT,
                                                        kFacts.longest_sent);
}

// ---- reset (datasheet, "Software Reset") -------------------------------------------------------------

// Always done before bus mastering is switched on: many functions cannot be reset from outside, and this
// one may still be running for whoever had it before.
Result<void> E1000ePort::reset() {
  if (absent()) return std::unexpected(lost());
  mask_interrupts();
  registers_.write(RCTL, 0);
  registers_.write(TCTL, 0);
  registers_.set(CTRL, ctrl::GIO_MASTER_DISABLE);
  const bool quiet =
      wait_for(kMasterDeadline, [&] { return !(registers_.read(STATUS) & status::GIO_MASTER_ENABLE); });
  if (Result<void> off = function_->set_bus_master(false); !off) return off;
  registers_.write(PBA, jumbo() ? kJumboReceiveKib : kReceiveKib);  // takes effect by the reset
  registers_.write(CTRL, registers_.read(CTRL) | ctrl::RST);
  std::this_thread::sleep_for(milliseconds(1));  // no access for a microsecond, says the datasheet
  const bool done = wait_for(kResetDeadline, [&] {
    return !(registers_.read(CTRL) & ctrl::RST) && (registers_.read(EECD) & eecd::AUTO_RD);
  });
  if (absent()) return std::unexpected(lost());
  if (!done) return std::unexpected(stuck("the NIC does not come out of reset", quiet));
  mask_interrupts();
  static_cast<void>(registers_.read(ICR));
  // A kernel driver powers the PHY down when it lets go of an idle interface.
  return as_owner([&] { return wake_phy(); });
}

Result<void> E1000ePort::control_phy(uint32_t value) {
  return as_owner([&] { return write_phy(phy::CONTROL, value); });
}

Result<void> E1000ePort::as_owner(const std::function<Result<void>()>& use) {
  registers_.set(EXTCNF_CTRL, extcnf_ctrl::MDIO_SW_OWNERSHIP);
  const bool owned = wait_for(kPhyDeadline, [&] {
    registers_.set(EXTCNF_CTRL, extcnf_ctrl::MDIO_SW_OWNERSHIP);
    return registers_.read(EXTCNF_CTRL) & extcnf_ctrl::MDIO_SW_OWNERSHIP;
  });
  const Result<void> used = use();
  if (owned) registers_.clear(EXTCNF_CTRL, extcnf_ctrl::MDIO_SW_OWNERSHIP);
  return used;
}

// ---- configure (datasheet, "General Configuration") --------------------------------------------------

void E1000ePort::configure() {
  // Set link up, speed by negotiation, no flow control (a capture port holds nobody up), VLAN tags stay.
  const uint32_t off =
      ctrl::FRCSPD | ctrl::FRCDPX | ctrl::RFCE | ctrl::TFCE | ctrl::VME | ctrl::GIO_MASTER_DISABLE;
  registers_.write(CTRL, (registers_.read(CTRL) & ~off) | ctrl::SLU);
  // Bits 22 and 23 and GCR's 27 as Linux's e1000e sets them for this chip; the datasheet does not say why.
  const uint32_t extended = (registers_.read(CTRL_EXT) & ~(1u << 23)) | 1u << 22 | ctrl_ext::DRV_LOAD;
  registers_.write(CTRL_EXT, extended | (own_vectors_ ? ctrl_ext::PBA_CLR : 0));
  registers_.set(GCR, 1u << 27);
  for (uint32_t word = 0; word < 128; ++word) registers_.write(MTA + 4 * word, 0);
  registers_.write(RFCTL,
                   rfctl::EXTEN | rfctl::ACK_DIS | rfctl::ISCSI_DIS | rfctl::NFSW_DIS | rfctl::NFSR_DIS);
  configure_queues();
  configure_interrupts();
}

// The 82574 hashes the ports of TCP only; everything else of IP goes by its addresses, the rest to queue 0.
void E1000ePort::configure_queues() {
  if (queue_count() == 1) {
    registers_.write(RXCSUM, 0);
    registers_.write(MRQC, 0);
    return;
  }
  registers_.write(RXCSUM, rxcsum::PCSD);
  program_rss(registers_, rss_key_, queue_count(), reta::QUEUE_SHIFT);
  registers_.write(MRQC, mrqc::RSS | mrqc::TCP_IPV4 | mrqc::IPV4 | mrqc::TCP_IPV6_EX | mrqc::IPV6);
}

void E1000ePort::configure_interrupts() {
  if (!own_vectors_) {
    write_moderation(0);
    return;
  }
  uint32_t vectors = (ivar::VALID | link_vector_) << ivar::OTHER_SHIFT;
  uint32_t causes = interrupt::OTHER;
  for (uint32_t queue = 0; queue < queue_count(); ++queue) {
    vectors |= (ivar::VALID | queue) << ivar::BITS * queue;
    causes |= interrupt::RXQ0 << queue;
    write_moderation(queue);
  }
  registers_.write(IVAR, vectors);
  registers_.write(EIAC, causes);
}

// Datasheet, "Receive Initialization".
Result<void> E1000ePort::program_receive(uint32_t queue) {
  const uint32_t block = receive_block(queue);
  write_ring(queue);
  if (queue == 0) {  // the only one that has them
    registers_.write(block + RDTR, 0);
    registers_.write(block + RADV, 0);
  }
  // Fetch descriptors when fewer than 32 are left on the chip and 4 are to be had; write each back at once.
  registers_.write(block + RXDCTL, dctl::GRAN | 1u << dctl::WTHRESH_SHIFT | 4u << dctl::HTHRESH_SHIFT | 32u);
  return {};
}

Result<void> E1000ePort::program_transmit() {
  registers_.set(TRANSMIT_BLOCK + TARC, 1u << 26);  // as Linux's e1000e, for an erratum
  write_transmit_ring();
  // Write each descriptor back at once. Bit 22 must be set, by Linux's e1000e; the datasheet reserves it.
  registers_.write(TRANSMIT_BLOCK + TXDCTL, dctl::GRAN | dctl::TX_COUNT_DESC | 1u << dctl::WTHRESH_SHIFT);
  registers_.write(TIPG, 8 | 8 << 10 | 6 << 20);  // the datasheet's values for copper
  registers_.write(
      TCTL, tctl::EN | tctl::PSP | tctl::RTLC | tctl::MULR | 15u << tctl::CT_SHIFT | 63u << tctl::COLD_SHIFT);
  return {};
}

// Promiscuous, broadcasts too, VLAN filter off (VFE stays 0).
uint32_t E1000ePort::receive_control() const {
  return rctl::EN | rctl::UPE | rctl::MPE | rctl::BAM | strip_crc() | buffer_size_bits(buffer_bytes()) |
         (jumbo() ? rctl::LPE : 0) | (options_.bad ? rctl::SBP : 0);
}

// ---- interrupts --------------------------------------------------------------------------------------

Wake E1000ePort::wake_of(uint32_t queue) const {
  return {.own_vector = true,
          .vector = static_cast<int>(queue),
          .cause = ICR,
          .set = IMS,
          .clear = IMC,
          .bits = interrupt::RXQ0 << queue};
}

Throttle E1000ePort::throttle_of(uint32_t queue) const {
  return {.offset = own_vectors_ ? EITR + 4 * queue : ITR, .unit_ns = 256, .most = 0xffff};
}

bool E1000ePort::fire(uint32_t queue) {
  const bool link = queue >= queue_count();
  if (own_vectors_) {
    registers_.write(ICS, link ? interrupt::LSC | interrupt::OTHER : interrupt::RXQ0 << queue);
  } else {
    registers_.write(ICS, link ? interrupt::LSC : interrupt::RXT0);
  }
  return true;
}

void E1000ePort::mask_interrupts() { registers_.write(IMC, interrupt::ALL); }

void E1000ePort::clear_link_interrupt() { registers_.write(ICR, interrupt::LSC | interrupt::OTHER); }

void E1000ePort::unmask_link_interrupt() { registers_.write(IMS, interrupt::OTHER | interrupt::LSC); }

}  // namespace ringcap::e1000e

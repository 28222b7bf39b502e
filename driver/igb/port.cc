#include "driver/igb/port.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <thread>
#include <vector>

#include "driver/intel/ownership.h"

namespace ringcap::igb {
namespace {

using std::chrono::milliseconds;

constexpr uint32_t kDeviceId = 0x02;  // PCI Local Bus 3.0, 6.2.1
constexpr uint32_t kTableWords = 128;
constexpr uint32_t kLoopBack = 0x8041;  // to the PHY register of Chip::loopback_register
// Fetch descriptors when fewer than 8 are left on the chip and 8 are to be had; write each back at once, so
// that a polling worker sees a frame when it is there and not when three more are.
constexpr uint32_t kThresholds = 1u << dctl::WTHRESH_SHIFT | 8u << dctl::HTHRESH_SHIFT | 8u;
constexpr uint32_t kSendThresholds = 1u << dctl::WTHRESH_SHIFT | 1u << dctl::HTHRESH_SHIFT | 8u;
constexpr milliseconds kResetDeadline{200}, kMasterDeadline{100}, kAutoReadDeadline{20}, kQueueDeadline{50};

constexpr std::array kDropNames{
    "rx_queue_0_drops",  "rx_queue_1_drops",  "rx_queue_2_drops",  "rx_queue_3_drops",
    "rx_queue_4_drops",  "rx_queue_5_drops",  "rx_queue_6_drops",  "rx_queue_7_drops",
    "rx_queue_8_drops",  "rx_queue_9_drops",  "rx_queue_10_drops", "rx_queue_11_drops",
    "rx_queue_12_drops", "rx_queue_13_drops", "rx_queue_14_drops", "rx_queue_15_drops"};

std::vector<Counter> counters_of(uint32_t queues) {
  std::vector<Counter> counters(common_counters().begin(), common_counters().end());
  for (uint32_t queue = 0; queue < std::min<uint32_t>(queues, kDropNames.size()); ++queue)
    counters.push_back({kDropNames[queue], RECEIVE_BLOCK + queue * RECEIVE_STRIDE + RQDPC});
  return counters;
}

constexpr Semaphores kSemaphores{.swsm = SWSM, .sw_fw_sync = SW_FW_SYNC, .firmware_shift = 16};

// SW_FW_SYNC's bit of this port's PHY.
uint32_t phy_bit(const Registers& registers) {
  constexpr uint32_t kBits[] = {1u << 1, 1u << 2, 1u << 5, 1u << 6};  // by port
  return kBits[registers.read(STATUS) >> status::LAN_ID_SHIFT & 3];
}

}  // namespace

// ---- open --------------------------------------------------------------------------------------------

Result<std::unique_ptr<Port>> IgbPort::open(std::unique_ptr<pci::Function> function,
                                            const pci::NicOptions& options) {
  const std::string address = function->address();
  const Result<uint32_t> device = function->config_read(kDeviceId, 2);
  if (!device) return std::unexpected(device.error());
  const Chip* chip = find_chip(*device);
  if (chip == nullptr) return fail(Code::kNotFound, fmt::format("{}: {:#06x} is no igb", address, *device));
  std::unique_ptr<IgbPort> port(new IgbPort(std::move(function), options, *chip));
  if (Result<void> ready = port->initialise(); !ready) return context(address, ready.error());
  return port;
}

IgbPort::IgbPort(std::unique_ptr<pci::Function> function, const pci::NicOptions& options, const Chip& chip)
    : GigabitPort(std::move(function), options, chip.facts, counters_of(options.queues)), chip_(chip) {}

std::unique_ptr<IntelTransmitQueue> IgbPort::make_transmit(pci::Function::DmaMemory ring) {
  return std::make_unique<TransmitRing<AdvancedTransmit>>(registers_, ring, TRANSMIT_BLOCK + TDT,
                                                          facts_.longest_sent);
}

std::unique_ptr<IntelReceive> IgbPort::make_receive(const ReceiveSettings& settings,
                                                    pci::Function::DmaMemory ring, const Wake& wake) {
  if (options_.adapter_time)
    return std::make_unique<IntelReceiveQueue<StampedReceive>>(settings, registers_, ring, counting(), wake);
  return std::make_unique<IntelReceiveQueue<ExtendedReceive>>(settings, registers_, ring, counting(), wake);
}

// ---- reset (datasheet, "Software Reset") -------------------------------------------------------------

// Always done before bus mastering is switched on: this device may still be running for whoever had it
// before.
Result<void> IgbPort::reset() {
  if (absent()) return std::unexpected(lost());
  mask_interrupts();
  registers_.write(RCTL, 0);
  registers_.write(TCTL, 0);
  registers_.set(CTRL, ctrl::GIO_MASTER_DISABLE);
  const bool quiet =
      wait_for(kMasterDeadline, [&] { return !(registers_.read(STATUS) & status::GIO_MASTER_ENABLE); });
  if (Result<void> off = function_->set_bus_master(false); !off) return off;
  registers_.write(CTRL, registers_.read(CTRL) | ctrl::RST);
  std::this_thread::sleep_for(milliseconds(1));  // no access for microseconds, say the datasheets
  const bool done = wait_for(kResetDeadline, [&] { return !(registers_.read(CTRL) & ctrl::RST); });
  if (absent()) return std::unexpected(lost());
  if (!done) return std::unexpected(stuck("the NIC does not come out of reset", quiet));
  // What it loads from its EEPROM; one without an EEPROM never says that it has.
  wait_for(kAutoReadDeadline, [&] { return registers_.read(EECD) & eecd::AUTO_RD; });
  mask_interrupts();
  static_cast<void>(registers_.read(ICR));
  return negotiate();
}

Result<void> IgbPort::negotiate() {
  const Ownership owned(registers_, kSemaphores, phy_bit(registers_));
  return negotiate_as_owner();
}

// Link comes by negotiation: started if the PHY is powered down (a kernel driver does that to an idle
// interface), has not negotiated, or offers pause frames. Otherwise the link stays as it is.
Result<void> IgbPort::negotiate_as_owner() {
  if (auto ended = end_phy_loopback(); !ended) return ended;
  const Result<uint32_t> control = read_phy(phy::CONTROL);
  if (!control) return std::unexpected(control.error());
  const Result<uint32_t> state = read_phy(phy::STATUS);
  if (!state) return std::unexpected(state.error());
  const Result<uint32_t> advertised = read_phy(phy::ADVERTISED);
  if (!advertised) return std::unexpected(advertised.error());
  const bool up = !(*control & phy::POWER_DOWN) && (*state & phy::NEGOTIATED);
  if (up && !(*advertised & phy::PAUSE)) return {};
  if (auto written = write_phy(phy::ADVERTISED, *advertised & ~phy::PAUSE); !written) return written;
  return write_phy(phy::CONTROL, (*control & ~phy::POWER_DOWN) | phy::NEGOTIATE | phy::RESTART);
}

// The 82580's and its successors' PHY loops back when it is told at a place of its own, too: by Linux's igb.
Result<void> IgbPort::control_phy(uint32_t value) {
  const Ownership owned(registers_, kSemaphores, phy_bit(registers_));
  if (chip_.loopback_register != 0) {
    if (auto set = write_phy(chip_.loopback_register, kLoopBack); !set) return set;
  }
  return write_phy(phy::CONTROL, value);
}

// ---- configure (datasheet, "General Configuration") --------------------------------------------------

void IgbPort::configure() {
  // Set link up, speed by negotiation, no flow control (a capture port holds nobody up), VLAN tags stay.
  const uint32_t off =
      ctrl::FRCSPD | ctrl::FRCDPX | ctrl::RFCE | ctrl::TFCE | ctrl::VME | ctrl::GIO_MASTER_DISABLE;
  registers_.write(CTRL, (registers_.read(CTRL) & ~off) | ctrl::SLU);
  registers_.set(CTRL_EXT, ctrl_ext::DRV_LOAD);
  for (uint32_t word = 0; word < kTableWords; ++word) {
    registers_.write(MTA + 4 * word, 0);
    registers_.write(UTA + 4 * word, 0);
  }
  registers_.write(RFCTL, rfctl::ISCSI_DIS | rfctl::NFSW_DIS | rfctl::NFSR_DIS);
  registers_.write(RLPML, longest_frame() + kCrcBytes);
  configure_queues();
  configure_interrupts();
}

// TCP and UDP by addresses and ports, the rest of IP by addresses, what is not IP to queue 0.
void IgbPort::configure_queues() {
  if (queue_count() == 1) {
    registers_.write(RXCSUM, 0);
    registers_.write(MRQC, 0);
    return;
  }
  registers_.write(RXCSUM, rxcsum::PCSD);
  program_rss(registers_, rss_key_, queue_count(), 0);
  registers_.write(MRQC, mrqc::RSS | mrqc::TCP_IPV4 | mrqc::IPV4 | mrqc::UDP_IPV4 | mrqc::TCP_IPV6 |
                             mrqc::TCP_IPV6_EX | mrqc::IPV6 | mrqc::UDP_IPV6);
}

// GPIE first: what is written to the others before it does not stick.
void IgbPort::configure_interrupts() {
  registers_.write(GPIE, own_vectors_ ? gpie::MSIX_MODE | gpie::NSICR | gpie::EIAME | gpie::PBA : 0);
  if (!own_vectors_) return write_moderation(0);
  for (uint32_t word = 0; word < 8; ++word) registers_.write(IVAR + 4 * word, 0);
  for (uint32_t queue = 0; queue < queue_count() && has_vector(queue); ++queue) {
    route(queue);
    write_moderation(queue);
  }
  registers_.write(IVAR_MISC, (ivar::VALID | link_vector_) << ivar::OTHER_SHIFT);
  registers_.write(EIAC, (2u << link_vector_) - 1);
}

void IgbPort::route(uint32_t queue) {
  const uint32_t word = chip_.vectors_by_pairs ? queue / 2 : queue % 8;
  const uint32_t place = chip_.vectors_by_pairs ? queue % 2 : queue / 8;
  registers_.set(IVAR + 4 * word, (ivar::VALID | queue) << 16 * place);
}

// Datasheet, "Receive Initialization". After a reset queue 0 is on, and must be off to be set up. A frame for
// a full ring is dropped for that queue alone, where there are several: it would hold the others up.
Result<void> IgbPort::program_receive(uint32_t queue) {
  const uint32_t block = receive_block(queue);
  registers_.write(block + RXDCTL, 0);
  registers_.write(block + SRRCTL, buffer_bytes() / srrctl::BUFFER_UNIT | srrctl::ADVANCED_ONE_BUFFER |
                                       (options_.adapter_time ? srrctl::TIMESTAMP : 0) |
                                       (queue_count() > 1 ? srrctl::DROP_EN : 0));
  if (chip_.crc_by_queue && options_.crc) registers_.clear(block + DVMOLR, dvmolr::STRCRC);
  if (chip_.crc_by_queue && !options_.crc) registers_.set(block + DVMOLR, dvmolr::STRCRC);
  write_ring(queue);
  return {};
}

Result<void> IgbPort::switch_on_receive(uint32_t queue) {
  const uint32_t control = receive_block(queue) + RXDCTL;
  registers_.write(control, kThresholds | dctl::ENABLE);
  return switch_on(control, "receive", queue);
}

// A tail that is written before the queue is on is ignored.
Result<void> IgbPort::switch_on(uint32_t control, const char* what, uint32_t queue) {
  if (wait_for(kQueueDeadline, [&] { return registers_.read(control) & dctl::ENABLE; })) return {};
  if (absent()) return std::unexpected(lost());
  return std::unexpected(stuck(fmt::format("{} queue {} does not start", what, queue), true));
}

Result<void> IgbPort::program_transmit() {
  registers_.write(TRANSMIT_BLOCK + TXDCTL, 0);
  write_transmit_ring();
  registers_.write(TRANSMIT_BLOCK + TXDCTL, kSendThresholds | dctl::ENABLE);
  registers_.write(TCTL, tctl::EN | tctl::PSP | tctl::RTLC | 15u << tctl::CT_SHIFT | 63u << tctl::COLD_SHIFT);
  return switch_on(TRANSMIT_BLOCK + TXDCTL, "transmit", 0);
}

// Promiscuous, broadcasts too, as long as RLPML says, VLAN filter off (VFE stays 0).
uint32_t IgbPort::receive_control() const {
  return rctl::EN | rctl::UPE | rctl::MPE | rctl::BAM | strip_crc() | rctl::LPE |
         (options_.bad ? rctl::SBP : 0);
}

// ---- timestamps (datasheet, "Time SYNC") ---------------------------------------------------------------

void IgbPort::start_clock(uint64_t real_ns) {
  const ClockShape& shape = *facts_.clock;
  registers_.clear(TSAUXC, tsauxc::DISABLE_SYSTIME);
  registers_.write(TIMINCA, 0);  // nanoseconds, as they come
  registers_.write(SYSTIML, static_cast<uint32_t>(real_ns % shape.high_ns));
  registers_.write(SYSTIMH, static_cast<uint32_t>(real_ns / shape.high_ns) & shape.high_mask);
  if (chip_.stamps_need_room) registers_.set(RXPBS, rxpbs::CFG_TS_EN);
  registers_.write(TSYNCRXCTL, tsyncrxctl::EN | tsyncrxctl::TYPE_ALL);
}

uint64_t IgbPort::read_clock() const {
  static_cast<void>(registers_.read(SYSTIMR));
  const uint32_t low = registers_.read(SYSTIML);
  return facts_.clock->ns(low, registers_.read(SYSTIMH));
}

// ---- interrupts --------------------------------------------------------------------------------------

Wake IgbPort::wake_of(uint32_t queue) const {
  return {.own_vector = true,
          .vector = static_cast<int>(queue),
          .cause = EICR,
          .set = EIMS,
          .clear = EIMC,
          .bits = 1u << queue};
}

Throttle IgbPort::throttle_of(uint32_t queue) const {
  return {.offset = EITR + 4 * (own_vectors_ ? queue : 0),
          .shift = eitr::INTERVAL_SHIFT,
          .most = eitr::MOST,
          .keep_count = eitr::CNT_IGNR};
}

bool IgbPort::fire(uint32_t queue) {
  const bool link = queue >= queue_count();
  if (own_vectors_) {
    registers_.write(EICS, 1u << (link ? link_vector_ : queue));
  } else {
    registers_.write(ICS, link ? interrupt::LSC : interrupt::RXT0);
  }
  return true;
}

void IgbPort::mask_interrupts() {
  registers_.write(EIMC, ~0u);
  registers_.write(IMC, interrupt::ALL);
}

void IgbPort::clear_link_interrupt() {
  registers_.write(ICR, interrupt::LSC);
  registers_.write(EICR, 1u << link_vector_);
}

void IgbPort::unmask_link_interrupt() {
  registers_.write(EIMS, 1u << link_vector_);
  registers_.write(IMS, interrupt::LSC);
}

// ---- counting ------------------------------------------------------------------------------------------

uint64_t IgbPort::dropped_by(uint32_t queue) const { return statistics_.of(receive_block(queue) + RQDPC); }

// Where reading does not clear it, RQDPC is written; what is dropped between the two is not counted.
void IgbPort::update_statistics() {
  GigabitPort::update_statistics();
  if (!chip_.drops_keep) return;
  for (uint32_t queue = 0; queue < queue_count(); ++queue) registers_.write(receive_block(queue) + RQDPC, 0);
}

}  // namespace ringcap::igb

#include "driver/ixgbe/port.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <thread>
#include <vector>

#include "driver/ixgbe/phy.h"

namespace ringcap::ixgbe {
namespace {

using std::chrono::milliseconds;

constexpr uint32_t kDeviceId = 0x02;  // PCI Local Bus 3.0, 6.2.1
constexpr uint32_t kTableWords = 128, kVectorWords = 64, kPacketBuffers = 8, kQueueWords = 4;
constexpr uint32_t kErssWords = 96;
constexpr uint32_t kCounterStride = 0x40;  // of QPRC and QPRDC
constexpr uint32_t kSendKib = 160;         // of packet buffer to send from
constexpr uint32_t kLongestKib = 16;       // of a frame to send, for which there must be room
// Fetch descriptors when fewer than 32 are left on the chip and 1 is to be had; write those back that ask for
// it at once (WTHRESH 0: it must be, where not all ask).
constexpr uint32_t kSendThresholds = 1u << dctl::HTHRESH_SHIFT | 32u;
constexpr milliseconds kMasterDeadline{100}, kResetDeadline{100}, kAfterReset{10}, kLoadDeadline{100},
    kQueueDeadline{50}, kSecurityDeadline{10};

// By the names of `ethtool -S` with Linux's ixgbe; those that it does not have by igb's.
constexpr Counter kCounters[] = {{"rx_pkts_nic", GPRC},
                                 {"tx_pkts_nic", GPTC},
                                 {"rx_bytes_nic", GORCL, true},
                                 {"tx_bytes_nic", GOTCL, true},
                                 {"multicast", MPRC},
                                 {"broadcast", BPRC},
                                 {"tx_multicast", MPTC},
                                 {"tx_broadcast", BPTC},
                                 {"rx_missed_errors", RXMPC},
                                 {"rx_crc_errors", CRCERRS},
                                 {"rx_length_errors", RLEC},
                                 {"rx_short_length_errors", RUC},
                                 {"rx_long_length_errors", ROC},
                                 {"rx_fragments", RFC},
                                 {"rx_jabbers", RJC},
                                 {"tx_flow_control_xon", LXONTXC},
                                 {"tx_flow_control_xoff", LXOFFTXC},
                                 {"rx_flow_control_xon", LXONRXCNT},
                                 {"rx_flow_control_xoff", LXOFFRXCNT}};

struct QueueNames {
  const char *packets, *drops;
};
constexpr std::array<QueueNames, 16> kQueueNames{{{"rx_queue_0_packets", "rx_queue_0_drops"},
                                                  {"rx_queue_1_packets", "rx_queue_1_drops"},
                                                  {"rx_queue_2_packets", "rx_queue_2_drops"},
                                                  {"rx_queue_3_packets", "rx_queue_3_drops"},
                                                  {"rx_queue_4_packets", "rx_queue_4_drops"},
                                                  {"rx_queue_5_packets", "rx_queue_5_drops"},
                                                  {"rx_queue_6_packets", "rx_queue_6_drops"},
                                                  {"rx_queue_7_packets", "rx_queue_7_drops"},
                                                  {"rx_queue_8_packets", "rx_queue_8_drops"},
                                                  {"rx_queue_9_packets", "rx_queue_9_drops"},
                                                  {"rx_queue_10_packets", "rx_queue_10_drops"},
                                                  {"rx_queue_11_packets", "rx_queue_11_drops"},
                                                  {"rx_queue_12_packets", "rx_queue_12_drops"},
                                                  {"rx_queue_13_packets", "rx_queue_13_drops"},
                                                  {"rx_queue_14_packets", "rx_queue_14_drops"},
                                                  {"rx_queue_15_packets", "rx_queue_15_drops"}}};

std::vector<Counter> counters_of(uint32_t queues) {
  std::vector<Counter> counters(std::begin(kCounters), std::end(kCounters));
  for (uint32_t queue = 0; queue < std::min<uint32_t>(queues, kQueueNames.size()); ++queue) {
    counters.push_back({kQueueNames[queue].packets, QPRC + queue * kCounterStride});
    counters.push_back({kQueueNames[queue].drops, QPRDC + queue * kCounterStride});
  }
  return counters;
}

// SW_FW_SYNC's bit of this port's PHY.
uint32_t phy_bit(const Registers& registers) {
  const bool second = registers.read(STATUS) >> status::LAN_ID_SHIFT & 1;
  return second ? sw_fw_sync::PHY1 : sw_fw_sync::PHY0;
}

}  // namespace

// ---- open --------------------------------------------------------------------------------------------

Result<std::unique_ptr<Port>> IxgbePort::open(std::unique_ptr<pci::Function> function,
                                              const pci::NicOptions& options) {
  const std::string address = function->address();
  const Result<uint32_t> device = function->config_read(kDeviceId, 2);
  if (!device) return std::unexpected(device.error());
  const Chip* chip = find_chip(*device);
  if (chip == nullptr) return fail(Code::kNotFound, fmt::format("{}: {:#06x} is no ixgbe", address, *device));
  if (options.crc && options.adapter_time)
    return pci::refuse("crc=1 with timestamps=adapter: this family writes the time where the CRC would be",
                       "leave one of them out");
  std::unique_ptr<IxgbePort> port(new IxgbePort(std::move(function), options, *chip));
  if (Result<void> ready = port->initialise(); !ready) return context(address, ready.error());
  return port;
}

IxgbePort::IxgbePort(std::unique_ptr<pci::Function> function, const pci::NicOptions& options,
                     const Chip& chip)
    : IntelPort(std::move(function), options, chip.facts, counters_of(options.queues)), chip_(chip) {}

std::unique_ptr<IntelTransmitQueue> IxgbePort::make_transmit(pci::Function::DmaMemory ring) {
  return std::make_unique<TransmitRing<AdvancedTransmit>>(registers_, ring, TRANSMIT_BLOCK + TDT,
                                                          facts_.longest_sent);
}

std::unique_ptr<IntelReceive> IxgbePort::make_receive(const ReceiveSettings& settings,
                                                      pci::Function::DmaMemory ring, const Wake& wake) {
  if (options_.adapter_time) {
    return std::make_unique<IntelReceiveQueue<StampedTenGigabitReceive>>(settings, registers_, ring,
                                                                         counting(), wake);
  }
  return std::make_unique<IntelReceiveQueue<TenGigabitReceive>>(settings, registers_, ring, counting(), wake);
}

// ---- reset (datasheet, "Software Reset", "Master Disable") -------------------------------------------

// Always done before bus mastering is switched on: this device may still be running for whoever had it
// before. Of the two resets the one that leaves the link's configuration alone: what the EEPROM or a kernel
// driver set up for the module in the cage stays.
Result<void> IxgbePort::reset() {
  if (absent()) return std::unexpected(lost());
  mask_interrupts();
  traffic_off();
  registers_.set(CTRL, ctrl::GIO_MASTER_DISABLE);
  const bool quiet =
      wait_for(kMasterDeadline, [&] { return !(registers_.read(STATUS) & status::GIO_MASTER_ENABLE); });
  if (Result<void> off = function_->set_bus_master(false); !off) return off;
  if (!quiet) registers_.set(GCR_EXT, gcr_ext::BUFFERS_CLEAR);
  bool done = reset_once();
  // Requests that the device never finished need a second one, says "Master Disable".
  if (done && !quiet) done = reset_once();
  if (absent()) return std::unexpected(lost());
  if (!done) return std::unexpected(stuck("the NIC does not come out of reset", quiet));
  if (!quiet) registers_.clear(GCR_EXT, gcr_ext::BUFFERS_CLEAR);
  wait_for(kLoadDeadline, [&] { return registers_.read(EEC) & eec::AUTO_RD; });
  if (!wait_for(kLoadDeadline, [&] { return registers_.read(RDRXCTL) & rdrxctl::DMAIDONE; }))
    return std::unexpected(absent() ? lost() : stuck("the NIC's DMA does not come out of reset", quiet));
  mask_interrupts();
  static_cast<void>(registers_.read(EICR));
  bring_link_up();
  return {};
}

// A copper chip's reset touches its PHY, which may be the firmware's at the moment.
bool IxgbePort::reset_once() {
  const auto write = [&] {
    registers_.set(CTRL, ctrl::RST);
    std::this_thread::sleep_for(milliseconds(1));  // no access for microseconds, say the datasheets
    return wait_for(kResetDeadline, [&] { return !(registers_.read(CTRL) & ctrl::RST); });
  };
  bool done = false;
  if (chip_.copper) {
    const Ownership owned(registers_, chip_.semaphores, phy_bit(registers_));
    done = write();
  } else {
    done = write();
  }
  std::this_thread::sleep_for(kAfterReset);
  return done;
}

// Datasheet, "Link Initialization". Speed and kind of link are what the EEPROM says: nothing is forced.
void IxgbePort::bring_link_up() {
  if (chip_.copper) {
    const Ownership owned(registers_, chip_.semaphores, phy_bit(registers_));
    return negotiate(registers_);
  }
  registers_.clear(ESDP, esdp::SDP3);  // the other end has no link before it sees our laser
  const bool forced = registers_.read(AUTOC) & autoc::FLU;  // by a loopback that somebody left
  if (!forced && read_link().up) return;
  const Ownership owned(registers_, chip_.semaphores, sw_fw_sync::MAC_CSR);
  registers_.write(AUTOC, (registers_.read(AUTOC) & ~autoc::FLU) | autoc::AN_RESTART);
}

// ---- configure (datasheet, "Receive Initialization", "Transmit Initialization") ----------------------

void IxgbePort::configure() {
  configure_bus();
  configure_filters();
  configure_buffers();
  configure_queues();
  configure_interrupts();
}

// No relaxed ordering and no snooping left out: a descriptor must not be seen before its frame.
void IxgbePort::configure_bus() {
  registers_.clear(CTRL, ctrl::GIO_MASTER_DISABLE);
  registers_.set(CTRL_EXT, ctrl_ext::DRV_LOAD | ctrl_ext::NS_DIS | ctrl_ext::RO_DIS);
  // A capture port holds nobody up, and is held up by nobody.
  registers_.clear(FCCFG, fccfg::TFCE);
  registers_.clear(MFLCN, mflcn::RFCE | mflcn::RPFCE);
}

// Promiscuous, broadcasts too, VLAN filter off, as long as MAXFRS says. Whether the CRC is stripped
// is said to the MAC and to the DMA: they must agree.
void IxgbePort::configure_filters() {
  for (uint32_t word = 0; word < kTableWords; ++word) {
    registers_.write(MTA + 4 * word, 0);
    registers_.write(PFUTA + 4 * word, 0);
  }
  registers_.write(FCTRL, fctrl::UPE | fctrl::MPE | fctrl::BAM | (options_.bad ? fctrl::SBP : 0));
  registers_.clear(VLNCTRL, vlnctrl::VFE);
  registers_.write(PSRTYPE, 0);
  const uint32_t mac = registers_.read(HLREG0) & ~(hlreg0::LPBK | hlreg0::RXLNGTHERREN | hlreg0::RXCRCSTRP);
  const uint32_t dma = registers_.read(RDRXCTL) & ~(rdrxctl::RSCFRSTSIZE | rdrxctl::CRCSTRIP);
  registers_.write(HLREG0, mac | hlreg0::TXCRCEN | hlreg0::TXPADEN | hlreg0::JUMBOEN |
                               (options_.crc ? 0 : hlreg0::RXCRCSTRP));
  registers_.write(MAXFRS, (longest_frame() + kCrcBytes) << 16);
  registers_.write(RDRXCTL, dma | rdrxctl::WANTED | (options_.crc ? 0 : rdrxctl::CRCSTRIP));
}

// All of each packet buffer for the one traffic class that there is.
void IxgbePort::configure_buffers() {
  for (uint32_t number = 0; number < kPacketBuffers; ++number) {
    const bool first = number == 0;
    registers_.write(RXPBSIZE + 4 * number, first ? chip_.receive_kib << pbsize::SHIFT : 0);
    registers_.write(TXPBSIZE + 4 * number, first ? kSendKib << pbsize::SHIFT : 0);
    registers_.write(TXPBTHRESH + 4 * number, first ? kSendKib - kLongestKib : 0);
  }
  registers_.set(RTTDCS, rttdcs::ARBDIS);  // while MTQC is written
  registers_.write(MTQC, 0);
  registers_.clear(RTTDCS, rttdcs::ARBDIS);
  registers_.write(DTXMXSZRQ, 0xfff);
}

// TCP and UDP by addresses and ports, the rest of IP by addresses, what is not IP to queue 0. Each queue is
// counted by itself.
void IxgbePort::configure_queues() {
  for (uint32_t word = 0; word < kQueueWords; ++word)
    registers_.write(RQSMR + 4 * word, 0x03020100 + word * 0x04040404);
  if (queue_count() == 1) {
    registers_.write(RXCSUM, 0);
    registers_.write(MRQC, 0);
    return;
  }
  registers_.write(RXCSUM, rxcsum::PCSD);
  program_rss(registers_, rss_key_, queue_count(), 0);
  for (uint32_t word = 0; chip_.wide_table && word < kErssWords; ++word)  // the same again
    registers_.write(ERETA + 4 * word, registers_.read(RETA + 4 * (word % (pci::kRssTableEntries / 4))));
  registers_.write(MRQC, mrqc::RSS | mrqc::TCP_IPV4 | mrqc::IPV4 | mrqc::UDP_IPV4 | mrqc::TCP_IPV6 |
                             mrqc::TCP_IPV6_EX | mrqc::IPV6 | mrqc::UDP_IPV6);
}

// Datasheet, "Interrupts". Without MSI-X, IVAR says which bit of EICR a queue sets, and everything fires one
// interrupt.
void IxgbePort::configure_interrupts() {
  registers_.write(GPIE, own_vectors_ ? gpie::MSIX_MODE | gpie::OCD | gpie::PBA : 0);
  for (uint32_t word = 0; word < kVectorWords; ++word) registers_.write(IVAR + 4 * word, 0);
  for (uint32_t queue = 0; queue < queue_count(); ++queue) {
    registers_.set(IVAR + 4 * (queue / 2), (ivar::VALID | queue) << 16 * (queue % 2));
    write_moderation(queue);
  }
  registers_.write(EIAC, own_vectors_ ? (1u << queue_count()) - 1 : 0);
  if (own_vectors_) registers_.write(IVAR_MISC, (ivar::VALID | link_vector_) << ivar::OTHER_SHIFT);
}

// A frame for a full ring is dropped for that queue alone, where there are several: it would hold the others
// up.
Result<void> IxgbePort::program_receive(uint32_t queue) {
  const uint32_t block = receive_block(queue);
  registers_.write(block + RXDCTL, 0);  // VLAN tags stay in the frame, too
  registers_.write(block + SRRCTL, buffer_bytes() / srrctl::BUFFER_UNIT | srrctl::ADVANCED_ONE_BUFFER |
                                       (queue_count() > 1 ? srrctl::DROP_EN : 0));
  registers_.clear(block + DCA_RXCTRL, dca::RX_RELAXED | dca::RX_CLEARED);
  write_ring(queue);
  return {};
}

Result<void> IxgbePort::switch_on_receive(uint32_t queue) {
  const uint32_t control = receive_block(queue) + RXDCTL;
  registers_.write(control, dctl::ENABLE);
  return switch_on(control, "receive", queue);
}

Result<void> IxgbePort::switch_on(uint32_t control, const char* what, uint32_t queue) {
  if (wait_for(kQueueDeadline, [&] { return registers_.read(control) & dctl::ENABLE; })) return {};
  if (absent()) return std::unexpected(lost());
  return std::unexpected(stuck(fmt::format("{} queue {} does not start", what, queue), true));
}

Result<void> IxgbePort::program_transmit() {
  registers_.write(TRANSMIT_BLOCK + TXDCTL, 0);
  registers_.clear(TRANSMIT_BLOCK + DCA_TXCTRL, dca::TX_RELAXED);
  write_transmit_ring();
  registers_.set(DMATXCTL, dmatxctl::TE);  // before the queue
  registers_.write(TRANSMIT_BLOCK + TXDCTL, kSendThresholds | dctl::ENABLE);
  return switch_on(TRANSMIT_BLOCK + TXDCTL, "transmit", 0);
}

// Frames that are under way in the security engine when receiving is switched on can hang the 82599's DMA (as
// Linux's ixgbe has it): so it is emptied first.
void IxgbePort::receive_on() {
  registers_.set(SECRXCTRL, secrx::RX_DIS);
  wait_for(kSecurityDeadline, [&] { return registers_.read(SECRXSTAT) & secrx::READY; });
  registers_.set(RXCTRL, rxctrl::RXEN);
  registers_.clear(SECRXCTRL, secrx::RX_DIS);
}

// Link is forced, as nobody is there to negotiate it with.
Result<void> IxgbePort::loop_back() {
  if (options_.loopback == pci::Loopback::kOff) return {};
  registers_.set(HLREG0, hlreg0::LPBK);
  if (chip_.copper) {
    registers_.set(MACC, macc::FLU);
  } else {
    const Ownership owned(registers_, chip_.semaphores, sw_fw_sync::MAC_CSR);
    registers_.set(AUTOC, autoc::FLU);
  }
  return {};
}

void IxgbePort::traffic_off() {
  registers_.clear(RXCTRL, rxctrl::RXEN);
  registers_.clear(DMATXCTL, dmatxctl::TE);
}

// ---- timestamps (X550's datasheet, "Time SYNC") --------------------------------------------------------

void IxgbePort::start_clock(uint64_t real_ns) {
  const ClockShape& shape = *facts_.clock;
  registers_.clear(TSAUXC, tsauxc::DISABLE_SYSTIME);
  registers_.write(SYSTIMR, 0);
  registers_.write(SYSTIML, static_cast<uint32_t>(real_ns % shape.high_ns));
  registers_.write(SYSTIMH, static_cast<uint32_t>(real_ns / shape.high_ns) & shape.high_mask);
  registers_.write(TSYNCRXCTL, tsyncrxctl::EN | tsyncrxctl::TYPE_ALL | tsyncrxctl::IN_PACKET);
}

uint64_t IxgbePort::read_clock() const {
  static_cast<void>(registers_.read(SYSTIMR));
  const uint32_t low = registers_.read(SYSTIML);
  return facts_.clock->ns(low, registers_.read(SYSTIMH));
}

// ---- interrupts --------------------------------------------------------------------------------------

// EICR's bits 0 to 15 are the vectors of that number, and there are no more queues.
Wake IxgbePort::wake_of(uint32_t queue) const {
  return {.own_vector = true,
          .vector = static_cast<int>(queue),
          .cause = EICR,
          .set = EIMS,
          .clear = EIMC,
          .bits = 1u << queue};
}

Wake IxgbePort::shared_wake() const {
  return {.cause = EICR, .set = EIMS, .clear = EIMC, .bits = 1, .link_bits = eicr::LSC};
}

Throttle IxgbePort::throttle_of(uint32_t queue) const {
  return {.offset = EITR + 4 * queue,
          .unit_ns = 2'000,
          .shift = eitr::INTERVAL_SHIFT,
          .most = eitr::MOST,
          .keep_count = eitr::CNT_WDIS,
          .frame_ns = 67};
}

bool IxgbePort::fire(uint32_t queue) {
  if (queue >= queue_count()) {
    registers_.write(EICS, eicr::LSC);
  } else {
    registers_.write(EICS, 1u << queue);
  }
  return true;
}

void IxgbePort::mask_interrupts() {
  registers_.write(EIMC, eicr::ALL);
  registers_.write(EIMC_EX, ~0u);
  registers_.write(EIMC_EX + 4, ~0u);
}

void IxgbePort::clear_link_interrupt() { registers_.write(EICR, eicr::LSC); }

void IxgbePort::unmask_link_interrupt() {
  registers_.write(EIMS_EX, 1u << link_vector_);
  registers_.write(EIMS, eicr::LSC);
}

// The first look may see what was.
Link IxgbePort::read_link() {
  constexpr uint32_t kMbps[] = {10, 100, 1000, 10'000};
  constexpr uint32_t kOddMbps[] = {0, 5000, 0, 2500};  // X550
  static_cast<void>(registers_.read(LINKS));
  const uint32_t state = registers_.read(LINKS);
  if (!(state & links::UP)) return {.up = false, .present = true, .mbps = 0};
  const uint32_t speed = state >> links::SPEED_SHIFT & 3;
  const bool odd = (state & links::NON_STANDARD) && kOddMbps[speed] != 0;
  return {.up = true, .present = true, .mbps = odd ? kOddMbps[speed] : kMbps[speed]};
}

// ---- counting ------------------------------------------------------------------------------------------

uint64_t IxgbePort::dropped_by(uint32_t queue) const {
  return statistics_.of(QPRDC + queue * kCounterStride);
}

// On this family GPRC has what found no room in the packet buffer (RXMPC), and what the queues dropped.
QueueCounters IxgbePort::count_all() const {
  const uint64_t good = statistics_.of(GPRC), missed = statistics_.of(RXMPC) + dropped();
  if (options_.bad) return {.received = good + bad_delivered(), .missed = missed, .bad = 0};
  uint64_t bad = 0;
  for (const uint32_t counter : {CRCERRS, RUC, RFC, ROC, RJC}) bad += statistics_.of(counter);
  return {.received = good + bad, .missed = missed, .bad = bad};
}

}  // namespace ringcap::ixgbe

#include "tests/nic/ixgbe_model.h"

#include <fmt/format.h>

#include "driver/ixgbe/registers.h"

namespace ringcap::nic {

namespace reg = ixgbe;

namespace {

constexpr uint32_t kEnable = 1u << 25;
constexpr uint32_t kRegsmp = 1u << 31;
constexpr IxgbeKind kKinds[] = {{"82599", 0x10fb, 512, false, false, false, false},
                                {"X540", 0x1528, 384, true, false, true, false},
                                {"X550", 0x1563, 384, true, true, true, true}};
// "Advanced Receive Descriptors", extended errors: those of the MAC.
constexpr uint32_t kMacErrors = 1u << 24 | 1u << 25 | 1u << 27 | 1u << 28 | 1u << 29;

ChipMap make_map(const IxgbeKind& kind) {
  ChipMap map{
      .device = kind.device,
      .receive_block = reg::RECEIVE_BLOCK,
      .receive_stride = reg::RECEIVE_STRIDE,
      .receive_queues = 16,
      .transmit_block = reg::TRANSMIT_BLOCK,
      .plain = {reg::CTRL,       reg::STATUS,  reg::CTRL_EXT, reg::ESDP,   reg::EEC,
                reg::SWSM,       reg::GCR_EXT, reg::EICR,     reg::EICS,   reg::EIAC,
                reg::SW_FW_SYNC, reg::EIMS,    reg::EIMC,     reg::GPIE,   reg::IVAR_MISC,
                reg::FCCFG,      reg::MFLCN,   reg::RDRXCTL,  reg::RXCTRL, reg::FCTRL,
                reg::VLNCTRL,    reg::PSRTYPE, reg::RXCSUM,   reg::MRQC,   reg::SECRXCTRL,
                reg::SECRXSTAT,  reg::RTTDCS,  reg::DMATXCTL, reg::MTQC,   reg::DTXMXSZRQ,
                reg::HLREG0,     reg::MAXFRS,  reg::AUTOC,    reg::LINKS},
      .of_queues = {reg::RDBAL, reg::RDBAH, reg::RDLEN, reg::DCA_RXCTRL, reg::RDH, reg::SRRCTL, reg::RDT,
                    reg::RXDCTL},
      .statistics = {reg::CRCERRS,   reg::RXMPC,     reg::RLEC,      reg::RUC,  reg::RFC,  reg::ROC,
                     reg::RJC,       reg::GPRC,      reg::BPRC,      reg::MPRC, reg::GPTC, reg::GORCL,
                     reg::GORCL + 4, reg::GOTCL,     reg::GOTCL + 4, reg::MPTC, reg::BPTC, reg::LXONTXC,
                     reg::LXOFFTXC,  reg::LXONRXCNT, reg::LXOFFRXCNT},
      .tables = {{reg::MTA, 512},
                 {reg::PFUTA, 512},
                 {reg::RETA, 128},
                 {reg::RSSRK, 40},
                 {reg::EITR, 4 * 24},
                 {reg::IVAR, 256},
                 {reg::EIMS_EX, 8},
                 {reg::EIMC_EX, 8},
                 {reg::RQSMR, 128},
                 {reg::RXPBSIZE, 32},
                 {reg::TXPBSIZE, 32},
                 {reg::TXPBTHRESH, 32}}};
  for (uint32_t queue = 0; queue < 16; ++queue) {
    map.statistics.insert(reg::QPRC + 0x40 * queue);
    map.statistics.insert(reg::QPRDC + 0x40 * queue);
  }
  map.plain.insert({0xA200, 0xA204});  // RAL, RAH
  if (kind.copper) map.plain.insert({reg::MSCA, reg::MSRWD, reg::MACC});
  if (kind.stamps) map.plain.insert({reg::SYSTIML, reg::SYSTIMH, reg::SYSTIMR, reg::TSYNCRXCTL, reg::TSAUXC});
  if (kind.wide_table) map.tables.push_back({reg::ERETA, 384});
  return map;
}

const ChipMap& map_of(const IxgbeKind& kind) {
  static const std::vector<ChipMap> maps = [] {
    std::vector<ChipMap> made;
    for (const IxgbeKind& each : kKinds) made.push_back(make_map(each));
    return made;
  }();
  return maps[static_cast<size_t>(&kind - kKinds)];
}

}  // namespace

std::span<const IxgbeKind> ixgbe_kinds() { return kKinds; }

IxgbeChip::IxgbeChip(const IxgbeKind& which)
    : Chip(map_of(which)),
      kind(which),
      clock(reg::SYSTIML, reg::SYSTIMH, reg::SYSTIMR, 1'000'000'000, uint64_t{1'000'000'000} << 32) {
  after_reset();
  set_links(3u << 28 | 1u << 30);  // 10 Gbit/s
}

// The initial values that matter: what a driver must change, or must not rely on.
void IxgbeChip::after_reset() {
  registers[reg::HLREG0] = 1u << 27 | 1u << 10 | 1u << 1 | 1;  // length errors are dropped, no jumbo frames
  registers[reg::MAXFRS] = 1518u << 16;
  registers[reg::MFLCN] = 1u << 3;
  registers[reg::FCCFG] = 1u << 3;
  for (uint32_t queue = 0; queue < 16; ++queue) {
    receive_register(queue, reg::DCA_RXCTRL) = 1u << 12 | 1u << 13 | 1u << 15;
    receive_register(queue, reg::SRRCTL) = 4u << 8 | 2;
  }
  registers[map.transmit_block + reg::DCA_TXCTRL] = 1u << 11;
  registers[reg::TSAUXC] = reg::tsauxc::DISABLE_SYSTIME;
  clock.set(0);
  registers[reg::ESDP] = reg::esdp::SDP3;  // as the kernel's driver leaves it: no laser
}

// "Software Reset". The semaphores are not the device's to reset, the link is not touched.
void IxgbeChip::reset() {
  if (kind.copper && !owns(reg::sw_fw_sync::PHY0)) complaints.push_back("reset without owning the PHY");
  std::map<uint32_t, uint32_t> kept;
  for (const uint32_t offset : {reg::SWSM, reg::SW_FW_SYNC, reg::ESDP, reg::GCR_EXT, reg::AUTOC})
    kept[offset] = registers[offset];
  if (unfinished != 0 && (registers[reg::GCR_EXT] & reg::gcr_ext::BUFFERS_CLEAR)) --unfinished;
  Chip::reset();
  after_reset();
  for (const auto& [offset, value] : kept) registers[offset] = value;
  registers[reg::LINKS] = links_;
}

void IxgbeChip::set_links(uint32_t value) { links_ = value; }

bool IxgbeChip::owns(uint32_t bits) { return (registers[reg::SW_FW_SYNC] & bits) == bits; }

// ---- registers -----------------------------------------------------------------------------------------

uint32_t IxgbeChip::read(uint32_t offset) {
  uint32_t value = Chip::read(offset);
  if (removed || (kind.stamps && clock.read(offset, &value))) return value;
  switch (offset) {
    case reg::STATUS:
      if (unfinished != 0) value |= reg::status::GIO_MASTER_ENABLE;  // "Master Disable"
      break;
    case reg::SWSM:
      registers[offset] |= 1;  // who reads SMBI as 0 has it
      break;
    case reg::SW_FW_SYNC:
      if (kind.regsmp) registers[offset] |= kRegsmp;
      break;
    case reg::EEC:
      value |= reg::eec::AUTO_RD;
      break;
    case reg::RDRXCTL:
      value |= dma_hangs ? 0 : reg::rdrxctl::DMAIDONE;
      break;
    case reg::SECRXSTAT:
      value |= registers[reg::SECRXCTRL] & reg::secrx::RX_DIS ? reg::secrx::READY : 0;
      break;
    case reg::LINKS:
      registers[offset] = links_;
      break;
    case reg::EICR:
      if (!(registers[reg::GPIE] & reg::gpie::OCD)) registers[offset] = 0;
      break;
    default:
      break;
  }
  return value;
}

void IxgbeChip::write(uint32_t offset, uint32_t value) {
  if (removed) return;
  check_order(offset, value);
  if (offset == reg::ESDP) {
    registers[offset] = value;
    return;
  }
  if (offset == reg::AUTOC && (value & reg::autoc::AN_RESTART)) {
    if (!owns(reg::sw_fw_sync::MAC_CSR)) complaints.push_back("link restarted without owning it");
    ++link_restarts;
    value &= ~reg::autoc::AN_RESTART;
  }
  if (offset == reg::EICR) value = registers[offset] & ~value;
  if (offset == reg::EICS) registers[reg::EICR] |= value;
  if (offset == reg::EIMS) value |= registers[offset];
  if (map.in_receive_block(offset))
    value =
        write_queue((offset - map.receive_block) / map.receive_stride, offset % map.receive_stride, value);
  Chip::write(offset, value);
  write_masks(offset, value);
  if (kind.stamps) clock.write(offset, value);
  if (offset == reg::MSCA) run_mdio(value);
}

// "Extended Interrupt Mask": EIMS and the lower half of EIMS_EX's first word are the same.
void IxgbeChip::write_masks(uint32_t offset, uint32_t value) {
  uint32_t& mask = registers[reg::EIMS];
  if (offset == reg::EIMC) mask &= ~value;
  if (offset == reg::EIMS_EX) mask |= value & 0xffff;
  if (offset == reg::EIMC_EX) mask &= ~(value & 0xffff);
}

// "Receive Queue Disable", "Receive Initialization".
uint32_t IxgbeChip::write_queue(uint32_t queue, uint32_t offset, uint32_t value) {
  const bool prepares = offset == reg::RDBAL || offset == reg::SRRCTL || offset == reg::RDLEN;
  if (prepares && is_on(queue)) complaints.push_back("queue set up while it is on");
  // Beside the driver's preparation, which writes head and tail alike.
  if (offset == reg::RDT && !is_on(queue) && value != receive_register(queue, reg::RDH))
    complaints.push_back("tail of a queue that is off");
  if (offset == reg::RXDCTL && queue == stuck_queue) value &= ~kEnable;
  return value;
}

// What must come before what.
void IxgbeChip::check_order(uint32_t offset, uint32_t value) {
  const uint32_t sender = map.transmit_block + reg::TXDCTL;
  if (offset == reg::RXCTRL && (value & reg::rxctrl::RXEN) &&
      !(registers[reg::SECRXCTRL] & reg::secrx::RX_DIS))
    complaints.push_back("receiver switched on while frames are under way to it");
  if (offset == reg::MTQC && !(registers[reg::RTTDCS] & reg::rttdcs::ARBDIS))
    complaints.push_back("MTQC written while the arbiter runs");
  if (offset == sender && (value & kEnable) && !(registers[reg::DMATXCTL] & reg::dmatxctl::TE))
    complaints.push_back("transmit queue switched on before DMATXCTL.TE");
  if (offset == sender && (value >> 16 & 0x7f) != 0)
    complaints.push_back("WTHRESH, where not every descriptor asks for a report");
}

// "MDIO": clause 45, an address and then the operation.
void IxgbeChip::run_mdio(uint32_t command) {
  registers[reg::MSCA] &= ~reg::msca::COMMAND;
  if (!owns(reg::sw_fw_sync::PHY0)) complaints.push_back("PHY used without owning it");
  const uint32_t device = command >> 16 & 0x1f, address = command >> 21 & 0x1f;
  const uint32_t operation = command >> 26 & 3;
  if (operation == 0) mdio_register_ = command & 0xffff;
  const uint32_t key = device << 16 | mdio_register_;
  const bool answers = !no_phy && address == 0;
  if (operation == 3) registers[reg::MSRWD] = uint32_t{answers ? phy[key] : uint16_t{0xffff}} << 16;
  if (operation != 1 || !answers) return;
  auto value = static_cast<uint16_t>(registers[reg::MSRWD]);
  if (key == (7 << 16 | 0) && (value & 1 << 9)) {
    ++negotiations;
    value &= static_cast<uint16_t>(~(1 << 9));
  }
  phy[key] = value;
}

// "Interrupt Vector Allocation": two queues a word, the receive half of each.
int IxgbeChip::vector_of(uint32_t queue) {
  const uint32_t entry = registers[reg::IVAR + 4 * (queue / 2)] >> 16 * (queue % 2) & 0xff;
  return entry & 0x80 ? static_cast<int>(entry & 0x3f) : -1;
}

int IxgbeChip::other_vector() {
  const uint32_t entry = registers[reg::IVAR_MISC] >> 8 & 0xff;
  return entry & 0x80 ? static_cast<int>(entry & 0x3f) : -1;
}

// ---- receiving -----------------------------------------------------------------------------------------

bool IxgbeChip::receives() { return registers[reg::RXCTRL] & reg::rxctrl::RXEN; }

bool IxgbeChip::transmits() {
  return (registers[reg::DMATXCTL] & reg::dmatxctl::TE) &&
         (registers[map.transmit_block + reg::TXDCTL] & kEnable);
}

bool IxgbeChip::keeps_crc() { return !(registers[reg::HLREG0] & reg::hlreg0::RXCRCSTRP); }

bool IxgbeChip::is_on(uint32_t queue) { return receive_register(queue, reg::RXDCTL) & kEnable; }

// "Queue Statistics Mapping".
uint32_t& IxgbeChip::counter(uint32_t first, uint32_t queue) {
  const uint32_t entry = registers[reg::RQSMR + 4 * (queue / 4)] >> 8 * (queue % 4) & 0xf;
  return registers[first + 0x40 * entry];
}

// What makes what is received something else than what was on the wire.
void IxgbeChip::check_set_up(uint32_t queue) {
  const bool mac = registers[reg::HLREG0] & reg::hlreg0::RXCRCSTRP;
  const bool dma = registers[reg::RDRXCTL] & reg::rdrxctl::CRCSTRIP;
  if (mac != dma) complaints.push_back("MAC and DMA do not agree about the CRC");
  if ((receive_register(queue, reg::SRRCTL) >> 25 & 7) != 1)
    complaints.push_back("descriptors of another type");
  if (receive_register(queue, reg::RXDCTL) & 1u << 30) complaints.push_back("VLAN tags are taken out");
  if (registers[reg::VLNCTRL] & reg::vlnctrl::VFE) complaints.push_back("VLANs are filtered");
  if (registers[reg::RXPBSIZE] != kind.receive_kib << 10)
    complaints.push_back("packet buffer of another size");
}

// "Receive Statistics": counts what is bad. A length field that is wrong is only bad where HLREG0 says so.
bool IxgbeChip::is_bad(const std::vector<uint8_t>& frame, const WriteBack& how) {
  const uint32_t longest =
      registers[reg::HLREG0] & reg::hlreg0::JUMBOEN ? registers[reg::MAXFRS] >> 16 : 1518;
  const bool error = how.errors & kMacErrors;
  const size_t bytes = frame.size() + 4;
  if (!error && bytes >= 64 && bytes <= longest) return false;
  if (!how.end_of_packet) return false;  // a test's, of a frame whose beginning this is
  ++registers[bytes < 64        ? (error ? reg::RFC : reg::RUC)
              : bytes > longest ? (error ? reg::RJC : reg::ROC)
                                : reg::CRCERRS];
  return true;
}

// "Receive Statistics": GPRC counts at the MAC, whatever becomes of the frame behind it: no room in the
// packet buffer (RXMPC), no descriptor in a queue that may drop (QPRDC).
bool IxgbeChip::deliver(const std::vector<uint8_t>& frame, const WriteBack& how, uint32_t queue) {
  if (removed || !receives()) return false;
  if (!(registers[reg::FCTRL] & reg::fctrl::UPE)) return false;  // for another station
  check_set_up(queue);
  const bool bad = is_bad(frame, how);
  if (bad && !(registers[reg::FCTRL] & reg::fctrl::SBP)) return false;
  if (!bad) ++registers[reg::GPRC];
  const uint32_t srrctl = receive_register(queue, reg::SRRCTL);
  if (!is_on(queue) || armed(queue) == 0) {
    const bool drops = !is_on(queue) || (srrctl & reg::srrctl::DROP_EN);
    ++(drops ? counter(reg::QPRDC, queue) : registers[reg::RXMPC]);
    return false;
  }
  if (how.end_of_packet && frame.size() > (srrctl & size_t{0x1f}) * 1024) {
    complaints.push_back("a test wants one descriptor for what needs several");
    return false;
  }
  ++counter(reg::QPRC, queue);
  if (!stamps()) return Chip::deliver(frame, how, queue);
  const auto words = clock.words(clock.now());
  std::vector<uint8_t> with = frame;
  with.resize(frame.size() + 8);
  std::memcpy(with.data() + frame.size(), words.data(), 8);
  WriteBack stamped = how;
  stamped.status |= 1 << 15;  // TSIP
  return Chip::deliver(with, stamped, queue);
}

// "Time Stamp in Packet": of all frames, where the clock runs.
bool IxgbeChip::stamps() {
  const bool runs = !(registers[reg::TSAUXC] & 1u << 31);
  return kind.stamps && runs && registers[reg::TSYNCRXCTL] == (0x10 | 4 << 1 | 1 << 23);
}

// "Receive-Side Scaling".
uint32_t IxgbeChip::deliver_flow(const Flow& flow, const std::vector<uint8_t>& frame) {
  const uint32_t mrqc = registers[reg::MRQC];
  uint32_t queue = 0;
  if ((mrqc & 0xf) == 1) {
    std::array<uint8_t, 40> key;
    for (uint32_t word = 0; word < 10; ++word)
      std::memcpy(key.data() + 4 * word, &registers[reg::RSSRK + 4 * word], 4);
    const uint32_t tcp = flow.ipv6 ? 1u << 21 : 1u << 16, udp = flow.ipv6 ? 1u << 23 : 1u << 22;
    const bool ports = (flow.protocol == Protocol::kTcp && (mrqc & tcp)) ||
                       (flow.protocol == Protocol::kUdp && (mrqc & udp));
    const uint32_t hash = software_toeplitz(key, flow.tuple(ports)) % (kind.wide_table ? 512 : 128);
    const uint32_t table = hash < 128 ? reg::RETA : reg::ERETA - 128;
    queue = registers[(table + hash) & ~3u] >> 8 * (hash & 3) & (kind.wide_table ? 0x3f : 0xf);
  }
  if (queue >= 16) complaints.push_back(fmt::format("RSS table names queue {}", queue));
  deliver(frame, {}, queue);
  return queue;
}

// "Advanced Transmit Data Descriptor".
void IxgbeChip::check_sent(uint64_t word) {
  const uint64_t length = word & 0xffff;
  if ((word >> 20 & 0xf) != 3 || !(word >> 29 & 1)) complaints.push_back("no advanced data descriptor");
  if (word >> 46 != length) complaints.push_back("payload length differs");
}

}  // namespace ringcap::nic

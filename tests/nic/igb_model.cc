#include "tests/nic/igb_model.h"

#include <fmt/format.h>

#include "driver/igb/registers.h"

namespace ringcap::nic {

namespace reg = igb;

namespace {

constexpr uint32_t kEnable = 1u << 25;
constexpr IgbKind kKinds[] = {
    {"82576", 0x10c9, 16, 10, false, false, false, false, false},
    {"82580", 0x150e, 8, 10, true, false, false, true, false},
    {"I350", 0x1521, 8, 10, true, true, false, true, false},
    {"I354", 0x1f41, 8, 10, true, true, false, true, false},
    {"I210", 0x1533, 4, 5, true, true, true, true, true},
    {"I211", 0x1539, 2, 5, true, true, true, true, true},
};

ChipClock clock_of(const IgbKind& kind) {
  const uint64_t high_ns = kind.seconds ? 1'000'000'000 : uint64_t{1} << 32;
  return {reg::SYSTIML, reg::SYSTIMH, reg::SYSTIMR, high_ns, high_ns << (kind.seconds ? 32 : 8)};
}

ChipMap make_map(const IgbKind& kind) {
  ChipMap map = map_of_82574();
  map.device = kind.device;
  map.receive_block = reg::RECEIVE_BLOCK;
  map.receive_stride = reg::RECEIVE_STRIDE;
  map.receive_queues = kind.queues;
  map.transmit_block = reg::TRANSMIT_BLOCK;
  map.plain = {reg::CTRL,       reg::STATUS, reg::EECD, reg::CTRL_EXT, reg::MDIC, reg::SWSM,
               reg::SW_FW_SYNC, reg::IMS,    reg::IMC,  reg::ICR,      reg::GPIE, reg::EIMS,
               reg::EIMC,       reg::EIAC,   reg::EICR, reg::RXCSUM,   reg::RCTL, reg::RFCTL,
               reg::RLPML,      reg::MRQC,   reg::TCTL, reg::IVAR_MISC};
  map.of_queues.insert({reg::SRRCTL, reg::RQDPC});
  if (kind.stamps) {
    map.plain.insert({reg::SYSTIML, reg::SYSTIMH, reg::SYSTIMR, reg::TIMINCA, reg::TSYNCRXCTL, reg::TSAUXC});
    if (kind.seconds) map.plain.insert(reg::RXPBS);
  }
  if (kind.crc_by_queue) map.of_queues.insert(reg::DVMOLR);
  map.tables = {{reg::MTA, 512},  {reg::UTA, 512},     {reg::RETA, 128},
                {reg::RSSRK, 40}, {reg::EITR, 4 * 25}, {reg::IVAR, 32}};
  return map;
}

const ChipMap& map_of(const IgbKind& kind) {
  static const std::vector<ChipMap> maps = [] {
    std::vector<ChipMap> made;
    for (const IgbKind& each : kKinds) made.push_back(make_map(each));
    return made;
  }();
  return maps[static_cast<size_t>(&kind - kKinds)];
}

}  // namespace

std::span<const IgbKind> igb_kinds() { return kKinds; }

IgbChip::IgbChip(const IgbKind& which) : Chip(map_of(which)), kind(which), clock(clock_of(which)) {
  receive_register(0, reg::RXDCTL) = kEnable;  // as after a reset
  registers[reg::TSAUXC] = reg::tsauxc::DISABLE_SYSTIME;
}

// The semaphores are not the device's to reset.
void IgbChip::reset() {
  const uint32_t semaphore = registers[reg::SWSM], owners = registers[reg::SW_FW_SYNC];
  Chip::reset();
  registers[reg::SWSM] = semaphore;
  registers[reg::SW_FW_SYNC] = owners;
  receive_register(0, reg::RXDCTL) = kEnable;
  registers[reg::TSAUXC] = reg::tsauxc::DISABLE_SYSTIME;
  clock.set(0);
}

uint32_t IgbChip::read(uint32_t offset) {
  uint32_t value = Chip::read(offset);
  if (removed || (kind.stamps && clock.read(offset, &value))) return value;
  if (offset == reg::SWSM) registers[offset] |= reg::swsm::SMBI;  // who reads 0 has it
  const bool drops = map.in_receive_block(offset) && offset % map.receive_stride == reg::RQDPC;
  if (drops && !kind.drops_keep) registers[offset] = 0;
  return value;
}

void IgbChip::write(uint32_t offset, uint32_t value) {
  if (removed) return;
  if (offset == reg::EICR) value = registers[offset] & ~value;
  if (offset == reg::EIMC) registers[reg::EIMS] &= ~value;
  if (offset == reg::EIMS) value |= registers[offset];
  if (map.in_receive_block(offset)) {
    const uint32_t queue = (offset - map.receive_block) / map.receive_stride;
    const bool on = receive_register(queue, reg::RXDCTL) & kEnable;
    switch (offset % map.receive_stride) {
      case reg::RDT:
        // Beside the driver's preparation, which writes head and tail alike.
        if (!on && value != receive_register(queue, reg::RDH))
          complaints.push_back("tail of a queue that is off");
        break;
      case reg::RDBAL:
      case reg::SRRCTL:
        if (on) complaints.push_back("queue set up while it is on");
        break;
      case reg::RXDCTL:
        if (queue == stuck_queue) value &= ~kEnable;
        break;
      default:
        break;
    }
  }
  Chip::write(offset, value);
  if (kind.stamps) clock.write(offset, value);
  if (offset == reg::MDIC) run_mdic(value);
}

void IgbChip::run_mdic(uint32_t command) {
  const uint32_t number = command >> reg::mdic::REGISTER_SHIFT & 0x1f;
  if (!(registers[reg::SW_FW_SYNC] & 2)) complaints.push_back("PHY used without owning it");
  if (command & reg::mdic::WRITE) {
    if (number == 0 && (command & reg::phy::RESTART)) ++negotiations;
    phy[number] = static_cast<uint16_t>(command & ~reg::phy::RESTART);
  } else {
    registers[reg::MDIC] = (command & 0xffff'0000) | reg::mdic::READY | phy[number];
  }
}

int IgbChip::vector_of(uint32_t queue) {
  const uint32_t word = kind.vectors_by_pairs ? queue / 2 : queue % 8;
  const uint32_t place = kind.vectors_by_pairs ? queue % 2 : queue / 8;
  const uint32_t entry = registers[reg::IVAR + 4 * word] >> 16 * place & 0xff;
  return entry & 0x80 ? static_cast<int>(entry & 0x1f) : -1;
}

// No descriptor: with DROP_EN the queue drops and counts it (the MAC has received it, GPRC says so); without,
// it waits until the packet buffer is full, and the port misses frames (GPRC does not have those).
void IgbChip::lose(uint32_t queue) {
  if (receive_register(queue, reg::SRRCTL) & 1u << 31) {
    ++receive_register(queue, reg::RQDPC);
    ++registers[reg::GPRC];
  } else {
    ++registers[reg::MPC];
  }
}

bool IgbChip::deliver(const std::vector<uint8_t>& frame, const WriteBack& how, uint32_t queue) {
  const uint32_t control = registers[reg::RCTL];
  if (removed || !(control & reg::rctl::EN) || !(receive_register(queue, reg::RXDCTL) & kEnable))
    return false;
  const uint32_t srrctl = receive_register(queue, reg::SRRCTL);
  if ((srrctl >> 25 & 7) != 1) complaints.push_back("descriptors of another type");
  const uint32_t longest = control & reg::rctl::LPE ? registers[reg::RLPML] : 1522;
  const bool bad = how.errors != 0 || frame.size() + 4 > longest;
  if (bad) ++registers[how.errors != 0 ? reg::CRCERRS : reg::ROC];
  if (bad && !(control & reg::rctl::SBP)) return false;
  if (armed(queue) == 0) {
    lose(queue);
    return false;
  }
  if (how.end_of_packet && frame.size() > (srrctl & 0x7f) * 1024) {
    complaints.push_back("a test wants one descriptor for what needs several");
    return false;
  }
  if (!bad) ++registers[reg::GPRC];
  if (!stamps(queue)) return Chip::deliver(frame, how, queue);
  const auto words = clock.words(clock.now());
  std::vector<uint8_t> with(16);
  std::memcpy(with.data() + 8, words.data(), 8);
  with.insert(with.end(), frame.begin(), frame.end());
  WriteBack stamped = how;
  stamped.status |= 1 << 15;  // TSIP
  return Chip::deliver(with, stamped, queue);
}

// "Packet Timestamp": for all frames, where the clock runs, the queue wants it and there is room for it.
bool IgbChip::stamps(uint32_t queue) {
  if (!kind.stamps || forgets_stamps) return false;
  const bool runs = !(registers[reg::TSAUXC] & 1u << 31);
  const bool all = (registers[reg::TSYNCRXCTL] & 0x1e) == (0x10 | 4 << 1);
  const bool room = !kind.seconds || (registers[reg::RXPBS] & 1u << 31);
  return runs && all && room && (receive_register(queue, reg::SRRCTL) & 1u << 30);
}

uint32_t IgbChip::deliver_flow(const Flow& flow, const std::vector<uint8_t>& frame) {
  const uint32_t mrqc = registers[reg::MRQC];
  uint32_t queue = 0;
  if ((mrqc & 7) == 2) {
    std::array<uint8_t, 40> key;
    for (uint32_t word = 0; word < 10; ++word)
      std::memcpy(key.data() + 4 * word, &registers[reg::RSSRK + 4 * word], 4);
    const uint32_t tcp = flow.ipv6 ? 1u << 21 : 1u << 16, udp = flow.ipv6 ? 1u << 23 : 1u << 22;
    const bool ports = (flow.protocol == Protocol::kTcp && (mrqc & tcp)) ||
                       (flow.protocol == Protocol::kUdp && (mrqc & udp));
    const uint32_t hash = software_toeplitz(key, flow.tuple(ports));
    queue = registers[reg::RETA + (hash & 0x7c)] >> 8 * (hash & 3) & 0xf;
  }
  if (queue >= kind.queues) complaints.push_back(fmt::format("RETA names queue {}", queue));
  deliver(frame, {}, queue);
  return queue;
}

void IgbChip::check_sent(uint64_t word) {
  const uint64_t length = word & 0xffff;
  if ((word >> 20 & 0xf) != 3 || !(word >> 29 & 1)) complaints.push_back("no advanced data descriptor");
  if (word >> 46 != length) complaints.push_back("payload length differs");
}

}  // namespace ringcap::nic

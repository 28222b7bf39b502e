#include "tests/nic/model.h"

#include <fmt/format.h>
#include <sys/eventfd.h>
#include <sys/mman.h>

#include <boost/crc.hpp>
#include <cstring>
#include <ctime>

#include "driver/e1000/registers.h"
#include "driver/e1000e/registers.h"
#include "driver/intel/descriptors.h"

namespace ringcap::nic {

namespace reg = e1000e;

namespace {

bool within(uint32_t offset, uint32_t table, uint32_t bytes) {
  return offset >= table && offset < table + bytes && offset % 4 == 0;
}

}  // namespace

bool ChipMap::in_receive_block(uint32_t offset) const {
  return within(offset, receive_block, receive_queues * receive_stride);
}

bool ChipMap::knows(uint32_t offset) const {
  for (const Table& table : tables) {
    if (within(offset, table.offset, table.bytes)) return true;
  }
  const bool queue = in_receive_block(offset) || within(offset, transmit_block, receive_stride);
  return (queue && of_queues.contains(offset % receive_stride)) || statistics.contains(offset) ||
         plain.contains(offset);
}

const ChipMap& map_of_82574() {
  static const ChipMap map{
      .device = 0x10d3,
      .receive_block = reg::RECEIVE_BLOCK,
      .receive_stride = reg::RECEIVE_STRIDE,
      .receive_queues = 2,
      .transmit_block = reg::TRANSMIT_BLOCK,
      .plain = {reg::CTRL,
                reg::STATUS,
                reg::EECD,
                reg::CTRL_EXT,
                reg::MDIC,
                reg::EXTCNF_CTRL,
                reg::PBA,
                reg::GCR,
                reg::ITR,
                reg::IMS,
                reg::IMC,
                reg::EIAC,
                reg::IVAR,
                reg::ICR,
                reg::ICS,
                reg::RXCSUM,
                reg::RFCTL,
                reg::RCTL,
                reg::MRQC,
                reg::TCTL,
                reg::TIPG,
                reg::RECEIVE_BLOCK + reg::RDTR,
                reg::RECEIVE_BLOCK + reg::RADV,
                reg::TRANSMIT_BLOCK + reg::TARC},
      .of_queues = {reg::RDBAL, reg::RDBAH, reg::RDLEN, reg::RDH, reg::RDT, reg::RXDCTL},
      .statistics = {reg::CRCERRS,   reg::ALGNERRC, reg::MPC,       reg::XONRXC, reg::XONTXC, reg::XOFFRXC,
                     reg::XOFFTXC,   reg::GPRC,     reg::BPRC,      reg::MPRC,   reg::GPTC,   reg::GORCL,
                     reg::GORCL + 4, reg::GOTCL,    reg::GOTCL + 4, reg::RNBC,   reg::RUC,    reg::RFC,
                     reg::ROC,       reg::RJC,      reg::MPTC,      reg::BPTC},
      .tables = {{reg::MTA, 512}, {reg::RETA, 128}, {reg::RSSRK, 40}, {reg::EITR, 20}}};
  return map;
}

// The same chip without what came with PCIe: extended descriptors, RSS, MSI-X, TARC, GCR, EXTCNF_CTRL.
const ChipMap& map_of_82546() {
  static const ChipMap map = [] {
    ChipMap made = map_of_82574();
    made.device = 0x1010;
    made.receive_queues = 1;
    made.legacy_receive = true;
    for (const uint32_t newer : {reg::EXTCNF_CTRL, reg::GCR, reg::EIAC, reg::IVAR, reg::RFCTL, reg::MRQC,
                                 reg::TRANSMIT_BLOCK + reg::TARC})
      made.plain.erase(newer);
    made.plain.insert({e1000::FCAL, e1000::FCAH, e1000::FCT, e1000::FCTTV});
    made.tables = {{reg::MTA, 512}};
    return made;
  }();
  return map;
}

// ---- registers -------------------------------------------------------------------------------------

uint32_t Chip::read(uint32_t offset) {
  if (removed) return ~0u;
  if (!map.knows(offset)) complaints.push_back(fmt::format("read of {:#x}", offset));
  if (sticky.contains(offset)) return registers[offset];
  if (map.statistics.contains(offset) || offset == reg::ICR) return std::exchange(registers[offset], 0);
  switch (offset) {
    case reg::STATUS:
      return registers[offset] | 2u << reg::status::SPEED_SHIFT |
             (registers[reg::CTRL] & reg::ctrl::GIO_MASTER_DISABLE ? 0 : reg::status::GIO_MASTER_ENABLE);
    case reg::EECD:
      return reg::eecd::AUTO_RD;
    default:
      return registers[offset];
  }
}

void Chip::write(uint32_t offset, uint32_t value) {
  if (removed) return;
  if (!map.knows(offset)) complaints.push_back(fmt::format("write of {:#x}", offset));
  if (offset == reg::CTRL && (value & reg::ctrl::RST)) return reset();
  if (offset == reg::MDIC) value |= reg::mdic::READY;
  if (offset == reg::ICR) value = registers[offset] & ~value;
  const bool queue = map.in_receive_block(offset);
  if (queue && offset % map.receive_stride == reg::RDH && receives())
    complaints.push_back("RDH written while receiving");
  if (queue && offset % map.receive_stride == reg::RDT) ++tail_writes;
  registers[offset] = value;
  if (offset == map.transmit_block + reg::TDT) transmit();
}

bool Chip::receives() { return registers[reg::RCTL] & reg::rctl::EN; }

bool Chip::transmits() { return registers[reg::TCTL] & reg::tctl::EN; }

void Chip::reset() {
  if (bus_master) complaints.push_back("reset with bus mastering on");
  ++resets;
  std::map<uint32_t, uint32_t> kept{{reg::PBA, registers[reg::PBA]}, {reg::STATUS, reg::status::LU}};
  for (const uint32_t offset : map.statistics) kept[offset] = registers[offset];
  registers = std::move(kept);
  if (reset_hangs) registers[reg::CTRL] = reg::ctrl::RST;
}

// ---- clock -------------------------------------------------------------------------------------------

namespace {

uint64_t realtime_ns() {
  timespec now{};
  ::clock_gettime(CLOCK_REALTIME, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
}

}  // namespace

uint64_t ChipClock::now() const { return (realtime_ns() % wrap_ns_ + ahead_ns_) % wrap_ns_; }

void ChipClock::set(uint64_t device_ns) {
  ahead_ns_ = (device_ns % wrap_ns_ + wrap_ns_ - realtime_ns() % wrap_ns_) % wrap_ns_;
}

std::array<uint32_t, 2> ChipClock::words(uint64_t device_ns) const {
  return {static_cast<uint32_t>(device_ns % high_ns_), static_cast<uint32_t>(device_ns / high_ns_)};
}

bool ChipClock::read(uint32_t offset, uint32_t* value) {
  if (offset != low_ && offset != high_ && offset != fraction_) return false;
  if (offset == fraction_) latched_ = words(now());
  *value = offset == low_ ? latched_[0] : offset == high_ ? latched_[1] : 0;
  return true;
}

bool ChipClock::write(uint32_t offset, uint32_t value) {
  if (offset == low_) written_low_ = value;
  if (offset == high_) set(value * high_ns_ + written_low_);
  return offset == low_ || offset == high_ || offset == fraction_;
}

// ---- DMA ---------------------------------------------------------------------------------------------

std::byte* Chip::reach(uint64_t iova, uint64_t bytes, bool device_writes) {
  const pci::DmaAccess wrong = device_writes ? pci::DmaAccess::kDeviceReads : pci::DmaAccess::kDeviceWrites;
  for (const Window& window : windows) {
    const bool inside = iova >= window.iova && iova + bytes <= window.iova + window.bytes;
    if (inside && bus_master && window.access != wrong) return window.data + (iova - window.iova);
  }
  complaints.push_back(
      fmt::format("DMA fault: {} of {} bytes at {:#x}", device_writes ? "write" : "read", bytes, iova));
  return nullptr;
}

uint32_t& Chip::receive_register(uint32_t queue, uint32_t offset) {
  return registers[map.receive_block + queue * map.receive_stride + offset];
}

uint32_t Chip::armed(uint32_t queue) const {
  const auto at = [&](uint32_t offset) {
    const auto found = registers.find(map.receive_block + queue * map.receive_stride + offset);
    return found == registers.end() ? 0 : found->second;
  };
  const uint32_t ring = at(reg::RDLEN) / 16;
  return ring == 0 ? 0 : (at(reg::RDT) + ring - at(reg::RDH)) % ring;
}

std::vector<uint8_t> with_crc(std::vector<uint8_t> frame) {
  boost::crc_32_type crc;
  crc.process_bytes(frame.data(), frame.size());
  for (const uint32_t shift : {0, 8, 16, 24}) frame.push_back(static_cast<uint8_t>(crc.checksum() >> shift));
  return frame;
}

bool Chip::keeps_crc() { return !(registers[reg::RCTL] & reg::rctl::SECRC); }

bool Chip::deliver(const std::vector<uint8_t>& received, const WriteBack& how, uint32_t queue) {
  const std::vector<uint8_t> frame = keeps_crc() && how.end_of_packet ? with_crc(received) : received;
  if (removed || !receives() || armed(queue) == 0) return false;
  const uint64_t ring = receive_register(queue, reg::RDBAL) | uint64_t{receive_register(queue, reg::RDBAH)}
                                                                  << 32;
  uint32_t& head = receive_register(queue, reg::RDH);
  auto* descriptor = reinterpret_cast<intel::Descriptor*>(reach(ring + 16 * head, 16, true));
  if (descriptor == nullptr) return false;
  if (how.write_data) {
    std::byte* data = reach(descriptor->address, frame.size(), true);
    if (data == nullptr) return false;
    std::memcpy(data, frame.data(), frame.size());
  }
  const uint64_t length = how.length >= 0 ? static_cast<uint32_t>(how.length) : frame.size();
  descriptor->address = 0x5a5a'5a5a'5a5a'5a5a;  // the device writes over it
  const uint64_t status = (how.end_of_packet ? 2 : 0) | 1 | how.status;
  const uint64_t word = map.legacy_receive ? length | status << 32 | uint64_t{how.errors >> 24} << 40
                                           : length << 32 | how.errors | status;
  std::atomic_ref(descriptor->word).store(word, std::memory_order_release);
  head = (head + 1) % (receive_register(queue, reg::RDLEN) / 16);
  return true;
}

void Chip::transmit() {
  if (!transmits()) return;
  const auto at = [&](uint32_t offset) -> uint32_t& { return registers[map.transmit_block + offset]; };
  const uint64_t ring = at(reg::TDBAL) | uint64_t{at(reg::TDBAH)} << 32;
  const uint32_t slots = at(reg::TDLEN) / 16;
  for (uint32_t& head = at(reg::TDH); head != at(reg::TDT); head = (head + 1) % slots) {
    auto* descriptor = reinterpret_cast<intel::Descriptor*>(reach(ring + 16 * head, 16, true));
    if (descriptor == nullptr) return;
    check_sent(descriptor->word);
    const uint64_t length = descriptor->word & 0xffff;
    const auto* data = reinterpret_cast<uint8_t*>(reach(descriptor->address, length, false));
    if (data == nullptr) return;
    sent.emplace_back(data, data + length);
    if (descriptor->word & intel::Transmit::kReportStatus) descriptor->word |= intel::Transmit::kDone;
  }
}

// ---- the function --------------------------------------------------------------------------------------

namespace {

class ModelBar final : public pci::Bar {
 public:
  explicit ModelBar(std::shared_ptr<Chip> chip) : chip_(std::move(chip)) {}
  uint32_t read32(uint32_t offset) override {
    ++chip_->reads;
    return chip_->read(offset);
  }
  void write32(uint32_t offset, uint32_t value) override { chip_->write(offset, value); }
  uint64_t bytes() const override { return 128 << 10; }

 private:
  std::shared_ptr<Chip> chip_;
};

}  // namespace

ModelFunction::ModelFunction(std::shared_ptr<Chip> chip, uint16_t device)
    : chip_(std::move(chip)), device_(device != 0 ? device : chip_->map.device) {
  chip_->registers[reg::STATUS] = reg::status::LU;
  chip_->events = Fd(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
  doorbell_ = Fd(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
}

Result<uint32_t> ModelFunction::config_read(uint32_t offset, uint32_t) {
  return offset == 0 ? 0x8086u : device_;
}

Result<std::unique_ptr<pci::Bar>> ModelFunction::bar(uint32_t) { return std::make_unique<ModelBar>(chip_); }

Result<pci::Iova> ModelFunction::dma_map(std::byte* data, uint64_t bytes, pci::DmaAccess access) {
  const uint64_t iova = chip_->next_iova;
  chip_->next_iova += (bytes + 0xfffff) & ~uint64_t{0xfffff};
  chip_->windows.push_back({iova, data, bytes, access});
  return pci::Iova{iova};
}

Result<pci::Function::DmaMemory> ModelFunction::dma_allocate(uint64_t bytes) {
  void* data = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  memory_.push_back(Mapping::adopt(data, bytes));
  return DmaMemory{memory_.back().data(),
                   *dma_map(memory_.back().data(), bytes, pci::DmaAccess::kDeviceReadsWrites), bytes};
}

Result<void> ModelFunction::set_bus_master(bool on) {
  chip_->bus_master = on;
  return {};
}

pci::Function::Events ModelFunction::consume_events() {
  eventfd_t count = 0;
  ::eventfd_read(chip_->events.get(), &count);
  return std::exchange(chip_->pending, {});
}

}  // namespace ringcap::nic

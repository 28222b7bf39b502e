// An 82574L in the process (Chip; igb_model.h and ixgbe_model.h have those families), for what QEMU's never
// does: bad descriptors, bad frames, missed frames, a reset that hangs, removal, PCIe errors. Registers only
// as far as the driver uses them, and as the datasheet says, not as the driver expects: an access to any
// other register is remembered as a complaint.
//
// A test keeps the Chip; the driver gets a ModelFunction of it. One thread.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "capture/base/fd.h"
#include "capture/base/mapping.h"
#include "driver/pci/function.h"

namespace ringcap::nic {

// How a frame's descriptor is written back; the defaults are a good frame's.
struct WriteBack {
  bool end_of_packet = true;
  uint32_t errors = 0;  // bits of the extended status and error word, whatever the format
  uint32_t status = 0;  // more of them
  int32_t length = -1;  // -1: what the frame has
  bool write_data = true;
};

// Where a chip has what.
struct ChipMap {
  uint16_t device;  // PCI id
  uint32_t receive_block, receive_stride, receive_queues, transmit_block;
  std::set<uint32_t> plain;       // registers of the chip
  std::set<uint32_t> of_queues;   // registers of a queue
  std::set<uint32_t> statistics;  // clear when read
  struct Table {
    uint32_t offset, bytes;
  };
  std::vector<Table> tables;
  bool legacy_receive = false;  // descriptors: legacy, not extended

  bool knows(uint32_t offset) const;
  bool in_receive_block(uint32_t offset) const;
};
const ChipMap& map_of_82574();
const ChipMap& map_of_82546();

// A NIC's clock: it goes with the system's, from where it was set and unless it is switched off. Reading the
// fraction latches the rest ("Time SYNC").
class ChipClock {
 public:
  ChipClock(uint32_t low, uint32_t high, uint32_t fraction, uint64_t high_ns, uint64_t wrap_ns)
      : low_(low), high_(high), fraction_(fraction), high_ns_(high_ns), wrap_ns_(wrap_ns) {}

  uint64_t now() const;  // device ns
  void set(uint64_t device_ns);
  std::array<uint32_t, 2> words(uint64_t device_ns) const;
  // What its registers do; false: it is none of them.
  bool read(uint32_t offset, uint32_t* value);
  bool write(uint32_t offset, uint32_t value);

 private:
  uint32_t low_, high_, fraction_;  // registers
  uint64_t high_ns_, wrap_ns_;
  uint64_t ahead_ns_ = 0;  // of the system's, modulo the wrap
  uint32_t written_low_ = 0;
  std::array<uint32_t, 2> latched_{};
};

// As it was on the wire (IEEE 802.3, 3.2.9).
std::vector<uint8_t> with_crc(std::vector<uint8_t> frame);

class Chip {
 public:
  explicit Chip(const ChipMap& own = map_of_82574()) : map(own) {}
  virtual ~Chip() = default;
  const ChipMap& map;

  // ---- the wire
  // Delivers a frame to a queue as one descriptor; false if it has none, or the device does not receive.
  virtual bool deliver(const std::vector<uint8_t>& frame, const WriteBack& how = {}, uint32_t queue = 0);
  std::vector<std::vector<uint8_t>> sent;

  // ---- faults
  bool reset_hangs = false;
  std::set<uint32_t> sticky;  // statistics that reading does not clear
  bool removed = false;       // registers read as ones
  bool bus_master = false;
  uint32_t armed(uint32_t queue = 0) const;  // descriptors that the device may use
  uint32_t& receive_register(uint32_t queue, uint32_t offset);
  std::map<uint32_t, uint32_t> registers;  // those with no behaviour of their own, by offset
  void count(uint32_t statistic, uint32_t times) { registers[statistic] += times; }
  std::vector<std::string> complaints;
  uint32_t resets = 0;
  uint32_t tail_writes = 0;
  uint64_t reads = 0;  // of registers

  // ---- the driver's side
  virtual uint32_t read(uint32_t offset);
  virtual void write(uint32_t offset, uint32_t value);
  // What the device may reach.
  struct Window {
    uint64_t iova;
    std::byte* data;
    uint64_t bytes;
    pci::DmaAccess access;
  };
  std::vector<Window> windows;
  uint64_t next_iova = 16 << 20;
  bool released = false;
  Fd events;  // an eventfd: the function's
  pci::Function::Events pending;

 protected:
  std::byte* reach(uint64_t iova, uint64_t bytes, bool device_writes);
  virtual void reset();
  virtual bool receives();
  virtual bool transmits();
  virtual bool keeps_crc();
  // Complains if it is not as the chip wants it.
  virtual void check_sent(uint64_t) {}

 private:
  void transmit();
};

class ModelFunction final : public pci::Function {
 public:
  // `device`: another PCI id than the chip has.
  explicit ModelFunction(std::shared_ptr<Chip> chip, uint16_t device = 0);
  const std::string& address() const override { return address_; }
  Result<uint32_t> config_read(uint32_t offset, uint32_t bytes) override;
  Result<void> config_write(uint32_t, uint32_t, uint32_t) override { return {}; }
  Result<std::unique_ptr<pci::Bar>> bar(uint32_t index) override;
  Result<pci::Iova> dma_map(std::byte* data, uint64_t bytes, pci::DmaAccess access) override;
  Result<DmaMemory> dma_allocate(uint64_t bytes) override;
  Result<bool> reset() override { return false; }
  Result<void> set_bus_master(bool on) override;
  Result<pci::Interrupt> enable_interrupts(uint32_t vectors) override {
    vectors_ = vectors;
    return interrupt;
  }
  int interrupt_fd(uint32_t vector) const override {
    return interrupt == pci::Interrupt::kMsix && vector < vectors_ ? doorbell_.get() : -1;
  }
  bool consume_interrupt(uint32_t) override { return false; }
  int event_fd() const override { return chip_->events.get(); }
  Events consume_events() override;
  bool gone() const override { return chip_->released; }
  void release() override { chip_->released = chip_->removed = true; }

  pci::Interrupt interrupt = pci::Interrupt::kNone;  // what there is; nothing ever fires

 private:
  std::shared_ptr<Chip> chip_;
  std::string address_ = "0000:03:00.0";
  uint16_t device_;
  uint32_t vectors_ = 0;
  Fd doorbell_;  // of all vectors
  std::vector<Mapping> memory_;
};

}  // namespace ringcap::nic

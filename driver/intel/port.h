// IntelPort: what the ports of Intel's NICs have in common, from opening to removal. A family (driver/e1000,
// driver/igb, driver/ixgbe) says how its chips are reset, configured, and what masks their interrupts; what
// only the gigabit families share is in gigabit.h. The port's states are in driver/pci/nic_port.h; see
// receive.h and transmit.h for the queues' threads.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "capture/port/port.h"
#include "driver/intel/receive.h"
#include "driver/intel/registers.h"
#include "driver/intel/rss.h"
#include "driver/intel/statistics.h"
#include "driver/intel/transmit.h"
#include "driver/pci/nic_port.h"

namespace ringcap::intel {

// IEEE 802.3, 3.2.7 and 3.2.9: bytes of the shortest frame without its CRC, and of the CRC.
inline constexpr uint32_t kShortestFrame = 60, kCrcBytes = 4;

// What a family's chips can do, and where they have it. `driver` is Port::driver(), `chip` for people.
struct ChipFacts {
  const char* driver = "";
  const char* chip = "";
  uint32_t queues = 1;   // receive queues
  uint32_t vectors = 2;  // of MSI-X
  uint32_t greatest_mtu = 1500;
  uint32_t longest_sent = 1514;  // without CRC
  uint32_t receive_block = 0, receive_stride = 0;
  uint32_t transmit_block = 0;
  uint32_t longest_overhead = 18;     // bytes of the longest good frame above the MTU, without CRC
  const ClockShape* clock = nullptr;  // where every frame can have a timestamp
  uint64_t ring_within = 0;           // a power of two: no ring may cross a multiple of it; 0: may
};

class IntelPort : public pci::NicPort, private QueueCounting {
 public:
  std::string driver() const override { return facts_.driver; }
  uint32_t buffer_need() const override;
  bool keeps_crc() const override { return options_.crc; }
  std::vector<TransmitQueue*> transmit_queues() override {
    return transmit_ ? std::vector<TransmitQueue*>{transmit_.get()} : std::vector<TransmitQueue*>{};
  }

  QueueCounters counters() override;
  std::span<const Statistic> statistics() const override { return statistics_.all(); }
  std::string remark() const override;
  Result<uint32_t> try_registers() override;

 protected:
  IntelPort(std::unique_ptr<pci::Function> function, const pci::NicOptions& options, const ChipFacts& facts,
            std::span<const Counter> counters);
  // Errors: an option that the chip cannot do (kUsage), a device that does not come out of reset.
  Result<void> initialise();
  // ---- what families differ in
  // Ends whatever the device does, switches bus mastering off, resets: interrupts masked, PHY powered.
  virtual Result<void> reset() = 0;
  // Everything between reset and receiving: link, filters, interrupts, RSS.
  virtual void configure() = 0;
  // Tells the device of a ring, before receive_on().
  virtual Result<void> program_receive(uint32_t queue) = 0;
  // Where queues have a switch of their own.
  virtual Result<void> switch_on_receive(uint32_t) { return {}; }
  virtual Result<void> program_transmit() = 0;
  // Lets frames in; they find no descriptor before the rings are opened, after it.
  virtual void receive_on() = 0;
  // Lets no more frames in, and sends none.
  virtual void traffic_off() = 0;
  virtual void mask_interrupts() = 0;
  // With MSI-X: the bits of queue `queue`'s vector.
  virtual Wake wake_of(uint32_t queue) const = 0;
  // What keeps the interrupts of a queue's vector, or of the one for everything, apart.
  virtual Throttle throttle_of(uint32_t queue) const = 0;
  // With one interrupt for everything: the causes of queue 0 and of link.
  virtual Wake shared_wake() const = 0;
  // Frames that queue `queue` had no descriptor for; kNotCounted where the chip cannot say.
  virtual uint64_t dropped_by(uint32_t) const { return layout::kNotCounted; }
  // Of all queues.
  uint64_t dropped() const;
  // The port's, from the statistics as they are.
  virtual QueueCounters count_all() const = 0;
  // Frames with errors that were delivered.
  uint64_t bad_delivered() const;
  virtual void update_statistics() { statistics_.update(registers_); }
  // With adapter_time: starts the NIC's clock, at `real_ns` of CLOCK_REALTIME, and has frames stamped.
  virtual void start_clock(uint64_t) {}
  // The NIC's clock now, by the rules of SYSTIML and SYSTIMH.
  virtual uint64_t read_clock() const { return 0; }
  // Where the options ask for it: what is sent comes back. Until the next reset.
  virtual Result<void> loop_back() { return {}; }

  // ---- for families
  QueueCounting& counting() { return *this; }
  bool jumbo() const;
  uint32_t longest_frame() const;  // without CRC
  // Of a frame in its buffer.
  uint32_t crc_bytes() const { return options_.crc ? kCrcBytes : 0; }
  uint32_t buffer_bytes() const { return rings_[0]->buffer_bytes(); }
  uint32_t receive_block(uint32_t queue) const {
    return facts_.receive_block + queue * facts_.receive_stride;
  }
  void write_ring(uint32_t queue);
  void write_transmit_ring();
  void write_moderation(uint32_t queue);
  Error stuck(const std::string& what, bool quiet) const;
  bool absent() const override;

  const ChipFacts facts_;
  std::unique_ptr<pci::Bar> bar_;
  Registers registers_;
  Statistics statistics_;
  pci::RssKey rss_key_ = pci::random_rss_key();
  std::unique_ptr<AdapterClock> clock_;  // with adapter_time
  std::vector<IntelReceive*> rings_;     // queues_
  std::unique_ptr<IntelTransmitQueue> transmit_;
  size_t moderation_at_ = 0;  // of the first queue's, in the statistics
  uint32_t moderated_ = 0;    // queues that have an interrupt: the first ones

 private:
  virtual std::unique_ptr<IntelTransmitQueue> make_transmit(pci::Function::DmaMemory ring) = 0;
  virtual std::unique_ptr<IntelReceive> make_receive(const ReceiveSettings& settings,
                                                     pci::Function::DmaMemory ring, const Wake& wake);
  Result<pci::Function::DmaMemory> allocate_ring(uint64_t bytes);
  QueueCounters count_queue(uint32_t queue) override;
  bool armed() const override;
  Result<void> bring_up() override;
  void quiesce() override;
  void set_receive_arena(pci::Iova arena) override;
  void set_transmit_arena(pci::Iova arena) override { transmit_->set_arena(arena); }
  Result<void> start_queues();
  void set_clock();
  void note_clock();
  Result<void> make_queues();
};

}  // namespace ringcap::intel

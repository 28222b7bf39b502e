// GigabitPort: what the ports of Intel's gigabit NICs have in common, from opening to removal. A family
// (driver/e1000, driver/igb) says how its chips are reset, configured, and what masks their interrupts.
//
// The control thread calls everything here; see receive.h and transmit.h for the queues' threads.
//
//   from      to        by                      notes
//   closed    stopped   open()                  reset, bus master off
//   stopped   running   start()                 reset, configured, bus master on, receiving
//   running   stopped   stop()                  reset, bus master off; the rings keep their buffers
//   running   running   PCIe error              stop, reset, start; queues go on where they were
//   any       gone      removal, no answer      the function is released; registers read as ones. Final.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "capture/port/port.h"
#include "driver/intel/receive.h"
#include "driver/intel/rss.h"
#include "driver/intel/statistics.h"
#include "driver/intel/transmit.h"
#include "driver/pci/function.h"
#include "driver/pci/nic_options.h"

namespace ringcap::intel {

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
  uint32_t longest_overhead = 18;  // bytes of the longest good frame above the MTU, without CRC
};

class GigabitPort : public Port, private QueueCounting {
 public:
  using ReceiveRing = IntelReceiveQueue<ExtendedReceive>;

  const std::string& address() const override { return address_; }
  std::string driver() const override { return facts_.driver; }
  uint32_t mtu() const override { return options_.mtu; }
  uint32_t buffer_need() const override;
  std::span<const std::unique_ptr<ReceiveQueue>> receive_queues() const override { return queues_; }
  std::vector<TransmitQueue*> transmit_queues() override {
    return transmit_ ? std::vector<TransmitQueue*>{transmit_.get()} : std::vector<TransmitQueue*>{};
  }

  Result<void> prepare(const PortNeeds& needs) override;
  Result<void> start() override;
  void stop() override;
  Link link() override;
  QueueCounters counters() override;
  std::span<const Statistic> statistics() const override { return statistics_.all(); }
  std::string remark() const override;
  int event_fd() const override { return events_.get(); }
  void handle_event() override;

 protected:
  GigabitPort(std::unique_ptr<pci::Function> function, const pci::NicOptions& options, const ChipFacts& facts,
              std::span<const Counter> counters);
  // Errors: an option that the chip cannot do (kUsage), a device that does not come out of reset.
  Result<void> initialise();
  // The destructor of each family calls it: what it needs of the family must still be there.
  void close();

  // ---- what families differ in
  // Ends whatever the device does, switches bus mastering off, resets: interrupts masked, PHY powered.
  virtual Result<void> reset() = 0;
  // Everything between reset and receiving: link, filters, interrupts, RSS.
  virtual void configure() = 0;
  // Tells the device of a ring, before RCTL.EN.
  virtual Result<void> program_receive(uint32_t queue) = 0;
  // Where queues have a switch of their own.
  virtual Result<void> switch_on_receive(uint32_t) { return {}; }
  virtual Result<void> program_transmit() = 0;
  virtual uint32_t receive_control() const = 0;
  virtual void mask_interrupts() = 0;
  // With MSI-X: the bits of queue `queue`'s vector, and the vector for link changes.
  virtual Wake wake_of(uint32_t queue) const = 0;
  virtual void clear_link_interrupt() = 0;
  virtual void unmask_link_interrupt() = 0;
  // Frames that queue `queue` had no descriptor for; kNotCounted where the chip cannot say.
  virtual uint64_t dropped_by(uint32_t) const { return layout::kNotCounted; }
  // Of all queues; MPC does not have them, and GPRC does.
  virtual uint64_t dropped() const { return 0; }
  virtual void update_statistics() { statistics_.update(registers_); }

  // ---- for families
  bool jumbo() const;
  uint32_t longest_frame() const;  // without CRC
  int64_t moderation_us() const;
  uint32_t buffer_bytes() const { return rings_[0]->buffer_bytes(); }
  uint32_t receive_block(uint32_t queue) const {
    return facts_.receive_block + queue * facts_.receive_stride;
  }
  uint32_t queue_count() const { return options_.queues; }
  bool has_vector(uint32_t queue) const { return own_vectors_ && queue < link_vector_; }
  void write_ring(uint32_t queue);
  void write_transmit_ring();
  Result<uint32_t> read_phy(uint32_t reg) const;
  Result<void> write_phy(uint32_t reg, uint32_t value) const;
  Error lost() const;
  Error stuck(const std::string& what, bool quiet) const;
  bool absent() const;

  const ChipFacts facts_;
  std::string address_;
  pci::NicOptions options_;
  std::unique_ptr<pci::Function> function_;  // outlives everything below
  std::unique_ptr<pci::Bar> bar_;
  Registers registers_;
  bool own_vectors_ = false;  // MSI-X: one for each queue, the last for everything else
  uint32_t link_vector_ = 0;
  Fd link_event_;
  Fd events_;  // epoll: the link's vector or link_event_, and the function's events
  Statistics statistics_;
  RssKey rss_key_ = random_rss_key();
  std::vector<std::unique_ptr<ReceiveQueue>> queues_;
  std::vector<ReceiveRing*> rings_;  // the same
  std::unique_ptr<IntelTransmitQueue> transmit_;
  bool running_ = false;
  bool gone_ = false;

 private:
  virtual std::unique_ptr<IntelTransmitQueue> make_transmit(pci::Function::DmaMemory ring) = 0;
  QueueCounters count_queue(uint32_t queue) override;
  QueueCounters count_all() const;
  Result<void> check() const;
  Result<void> arm_interrupts();
  Result<void> start_queues();
  Result<void> watch_events();
  Result<void> make_queues();
  Result<uint32_t> phy(uint32_t command) const;
  void quiesce();
  void recover();
  void leave();
};

}  // namespace ringcap::intel

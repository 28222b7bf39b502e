// NicPort: what the ports of all NICs have in common, from opening to removal: interrupts, events, the
// arena's mappings, and the port's states. A family says how its device is brought up and made quiet.
//
// The control thread calls everything here.
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
#include "driver/pci/function.h"
#include "driver/pci/nic_options.h"

namespace ringcap::pci {

// What a kind of NIC can do: what its options are checked against.
struct NicLimits {
  const char* driver = "";  // Port::driver()
  const char* chip = "";    // for people
  uint32_t queues = 1;      // receive queues
  uint32_t greatest_mtu = 1500;
  uint32_t least_descriptors = 64, most_descriptors = 4096, descriptors_step = 8;
  bool stamps = false;  // has a timestamp for every frame
};

// What `ringcap selftest` (driver/nic/selftest.h) asks a NIC for beside what all ports have.
class SelfTestable {
 public:
  virtual const NicLimits& limits() const = 0;
  // Ways for what it sends to come back, the best first; empty: there is none.
  virtual std::vector<Loopback> loopbacks() const { return {}; }
  // Of a port that is not started: writes patterns to registers that mean nothing then, and reads them. How
  // many registers; 0: this NIC has none for that. An error names the one that did not keep its value.
  virtual Result<uint32_t> try_registers() { return 0u; }
  // Of a running port: the device fires the interrupt of this receive queue, or, for the number after the
  // last one, that of everything else, as if there were cause. False: it has no way to.
  virtual bool fire(uint32_t) { return false; }
  virtual Interrupt interrupt() const = 0;
  // Of the device, as far as the driver uses them.
  virtual uint32_t vectors() const = 0;
  // Whether the queue has an interrupt, of its own or with everything else.
  virtual bool wakes(uint32_t queue) const = 0;

 protected:
  ~SelfTestable() = default;
};

std::unexpected<Error> refuse(std::string what, std::string mend = {});

class NicPort : public Port, public SelfTestable {
 public:
  const std::string& address() const override { return address_; }
  uint32_t mtu() const override { return options_.mtu; }
  std::span<const std::unique_ptr<ReceiveQueue>> receive_queues() const override { return queues_; }
  Result<void> prepare(const PortNeeds& needs) override;
  Result<void> start() override;
  void stop() override;
  Link link() override;
  int event_fd() const override { return events_.get(); }
  void handle_event() override;

  const NicLimits& limits() const override { return limits_; }
  Interrupt interrupt() const override { return interrupt_; }
  uint32_t vectors() const override { return vectors_; }
  bool wakes(uint32_t queue) const override {
    return interrupt_ != Interrupt::kNone && (!own_vectors_ || has_vector(queue));
  }

 protected:
  NicPort(std::unique_ptr<Function> function, const NicOptions& options);
  // The destructor of each family calls it: what it needs of the family must still be there.
  void close();
  Result<void> check_options(const NicLimits& limits);
  // With MSI-X each queue has a vector, and everything else has the last. Queues beyond the device's vectors
  // can only be polled.
  Result<void> arm_interrupts(uint32_t vectors);
  Result<void> watch_events();
  Error lost() const;
  bool has_vector(uint32_t queue) const { return own_vectors_ && queue < link_vector_; }
  uint32_t queue_count() const { return options_.queues; }

  // ---- what families differ in
  virtual bool armed() const = 0;
  // Everything from reset to receiving; on failure the device has no access to memory.
  virtual Result<void> bring_up() = 0;
  // No frames, no DMA, no interrupts from here on.
  virtual void quiesce() = 0;
  // The device does not answer.
  virtual bool absent() const = 0;
  virtual Link read_link() = 0;
  // Before link() looks, so that no change falls between; and after, if running.
  virtual void clear_link_interrupt() = 0;
  virtual void unmask_link_interrupt() = 0;
  // Where the device reaches the arena to write received frames, and to read frames to send.
  virtual void set_receive_arena(Iova arena) = 0;
  virtual void set_transmit_arena(Iova arena) = 0;
  // Something that is no link change, and not to be gone on with: the port ends.
  virtual bool broken() const { return false; }

  std::string address_;
  NicOptions options_;
  NicLimits limits_;
  std::unique_ptr<Function> function_;  // outlives everything below
  Interrupt interrupt_ = Interrupt::kNone;
  bool own_vectors_ = false;  // MSI-X: one for each queue, the last for everything else
  uint32_t link_vector_ = 0;
  uint32_t vectors_ = 1;  // of the device, as far as they are used
  Fd link_event_;         // with one vector for all: by whom the worker tells of link changes
  Fd events_;             // epoll: the link's vector, link_event_, and the function's events
  std::vector<std::unique_ptr<ReceiveQueue>> queues_;
  bool running_ = false;
  bool gone_ = false;

 private:
  void recover();
  void leave();
};

}  // namespace ringcap::pci

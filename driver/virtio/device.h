// A virtio device on PCI: where its structures are, its status, its features, its queues; the steps of
// "Device Initialization" as functions. Control thread, but Doorbell: the thread of its queue.
#pragma once

#include <array>
#include <map>
#include <memory>

#include "driver/pci/dump.h"
#include "driver/pci/function.h"
#include "driver/virtio/registers.h"
#include "driver/virtio/split_ring.h"

namespace ringcap::virtio {

// Tells the device that a queue has new buffers ("Available Buffer Notifications").
class Doorbell {
 public:
  Doorbell() = default;
  Doorbell(pci::Bar* bar, uint32_t offset, uint16_t queue) : bar_(bar), offset_(offset), queue_(queue) {
    if (volatile uint32_t* registers = bar->mapped())
      mapped_ = reinterpret_cast<volatile uint16_t*>(registers) + offset / 2;
  }
  void ring() const {
    if (mapped_ != nullptr) {
      *mapped_ = queue_;
    } else {
      bar_->write_narrow(offset_, 2, queue_);
    }
  }

 private:
  pci::Bar* bar_ = nullptr;
  uint32_t offset_ = 0;
  uint16_t queue_ = 0;
  volatile uint16_t* mapped_ = nullptr;
};

class Device {
 public:
  // Finds the structures. Error: it has none (a device of before 2016), or none that can be.
  Result<void> find(pci::Function& function);

  // ---- "Device Initialization", in this order
  // Ends whatever the device does; after it, it does not touch memory.
  Result<void> reset();
  Result<uint64_t> offered();
  Result<void> negotiate(uint64_t features);
  // The greatest size of queue `queue`; 0: it has no such queue.
  uint32_t queue_size(uint32_t queue);
  // `vector`: kNoVector for none.
  Result<Doorbell> enable_queue(uint32_t queue, uint32_t size, const RingAddresses& ring, uint32_t vector);
  Result<void> set_configuration_vector(uint32_t vector);
  void go();  // DRIVER_OK

  // Nobody answers.
  bool absent();
  // It gave up on us.
  bool needs_reset();
  // The network device's own registers; 1, 2 or 4 bytes, as wide as they are.
  uint32_t read_net(uint32_t offset, uint32_t bytes);
  // What can be read without changing anything, but the choice of feature words.
  std::vector<pci::RegisterValue> registers();
  // Any thread; reading clears (registers.h).
  uint32_t read_isr();

 private:
  struct Structure {
    pci::Bar* bar = nullptr;
    uint32_t offset = 0, bytes = 0;
  };
  Result<void> add(pci::Function& function, uint32_t at);
  Result<pci::Bar*> bar(pci::Function& function, uint32_t index);
  uint32_t read(uint32_t offset, uint32_t bytes);
  void write(uint32_t offset, uint32_t bytes, uint32_t value);
  void write_address(uint32_t offset, uint64_t address);
  void add_status(uint32_t bits) { write(common::device_status, 1, read(common::device_status, 1) | bits); }

  std::map<uint32_t, std::unique_ptr<pci::Bar>> bars_;
  std::array<Structure, 5> structures_;  // by capability::Type
  uint32_t notify_multiplier_ = 0;
};

// For `ringcap devices ADDRESS --registers`.
Result<std::vector<pci::RegisterValue>> dump(pci::Function& function);

}  // namespace ringcap::virtio

// The control virtqueue of a virtio network device ("Control Virtqueue"): one command at a time, waited for.
// Control thread.
#pragma once

#include <memory>
#include <span>

#include "driver/pci/function.h"
#include "driver/virtio/device.h"

namespace ringcap::virtio {

class Control {
 public:
  static constexpr uint32_t kMostBytes = 512;  // of a command

  virtual ~Control() = default;
  // As a device that was reset expects it.
  virtual RingAddresses prepare() = 0;
  virtual void offer(const Doorbell& bell) = 0;
  // False: the device refuses, or does not answer.
  virtual bool command(uint8_t what, uint8_t which, std::span<const uint8_t> data) = 0;
};

Result<std::unique_ptr<Control>> make_control(pci::Function& function, uint32_t descriptors, bool packed);

}  // namespace ringcap::virtio

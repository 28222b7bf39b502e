// A PCI function as a driver sees it, however it is reached: through VFIO (driver/vfio), through QEMU's
// qtest socket or an in-process model (tests). Control plane only; a driver reads descriptors and
// buffers in the memory itself.
//
// One thread at a time (the control thread), but Bar::read32/write32, which a worker calls on the
// registers of its own queue.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "capture/base/error.h"
#include "capture/base/fd.h"

namespace ringcap::pci {

// An address as the device sees it. Never equal to a virtual address by assumption.
enum class Iova : uint64_t {};

enum class DmaAccess {
  kDeviceWrites,      // receive memory: the device may write, not read
  kDeviceReads,       // transmit memory
  kDeviceReadsWrites  // descriptor rings
};

// A BAR's registers. Where the BAR is mapped, an access is one load or store; where it is not, a call.
// Outlives nothing: drop it before its Function.
class Bar {
 public:
  virtual ~Bar() = default;
  virtual uint32_t read32(uint32_t offset) = 0;
  virtual void write32(uint32_t offset, uint32_t value) = 0;
  // Registers that are narrower, where a device has such; `bytes` is 1 or 2.
  virtual uint32_t read_narrow(uint32_t offset, uint32_t bytes) {
    return read32(offset & ~3u) >> 8 * (offset & 3) & ((1u << 8 * bytes) - 1);
  }
  virtual void write_narrow(uint32_t, uint32_t, uint32_t) {}
  virtual uint64_t bytes() const = 0;
  // The BAR's mapping, or nullptr where it must go through read32 and write32.
  // Stays valid, and reads as all ones, when the device is gone or the function was released.
  virtual volatile uint32_t* mapped() { return nullptr; }
};

enum class Interrupt { kNone, kIntx, kMsi, kMsix };

class Function {
 public:
  virtual ~Function() = default;

  // "0000:03:00.0"
  virtual const std::string& address() const = 0;

  virtual Result<uint32_t> config_read(uint32_t offset, uint32_t bytes) = 0;  // bytes: 1, 2 or 4
  virtual Result<void> config_write(uint32_t offset, uint32_t bytes, uint32_t value) = 0;
  virtual Result<std::unique_ptr<Bar>> bar(uint32_t index) = 0;

  // Maps [data, data + bytes) for the device; both page-aligned. The mapping lasts until release().
  virtual Result<Iova> dma_map(std::byte* data, uint64_t bytes, DmaAccess access) = 0;
  // Memory for descriptor rings: zeroed, page-aligned, mapped kDeviceReadsWrites, owned by the function
  // (the process may touch it as long as the function object lives, after release() too).
  struct DmaMemory {
    std::byte* data = nullptr;
    Iova iova{};
    uint64_t bytes = 0;
  };
  virtual Result<DmaMemory> dma_allocate(uint64_t bytes) = 0;

  // Resets the function if the way of reaching it can; "unsupported" is not an error (returns false).
  virtual Result<bool> reset() = 0;
  virtual Result<void> set_bus_master(bool on) = 0;

  // Arms `vectors` interrupts of the best kind that the function has (MSI-X, MSI, INTx) and says which.
  // Where it has fewer, one: interrupt_fd() of the others is then -1.
  virtual Result<Interrupt> enable_interrupts(uint32_t vectors) = 0;
  // Readable when the vector fired (an eventfd; consume it with read_interrupt); -1 where there is none.
  virtual int interrupt_fd(uint32_t vector) const = 0;
  // Consumes the event; for INTx also unmasks. Returns whether it had fired.
  virtual bool consume_interrupt(uint32_t vector) = 0;

  // Readable when the function is to be given back (REQ) or reported an error (ERR); -1: never happens.
  virtual int event_fd() const { return -1; }
  struct Events {
    bool removal = false;  // somebody unbinds or unplugs it: stop, and close it soon
    bool error = false;    // PCIe error: quiesce and initialise again
  };
  virtual Events consume_events() { return {}; }

  // True once the device does not answer any more: pulled out, or an access to it faulted.
  virtual bool gone() const { return false; }
  // Gives the device back at once, so that whoever unbinds it does not wait: no more DMA, no interrupts,
  // everything closed. Other threads may still be using Bars and DMA memory: registers then read as all
  // ones and writes go nowhere. Idempotent; the destructor does it as well.
  virtual void release() {}
};

}  // namespace ringcap::pci

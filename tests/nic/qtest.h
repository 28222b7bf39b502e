// QEMU without a guest: its NIC models, reached through the qtest socket. Registers by readl and writel,
// memory shared through a file, frames as datagrams. The processor of the machine halts at its first
// instruction. A device address is an offset in the memory file: what a driver sees is what VFIO gives it,
// without an IOMMU and without a kernel.
#pragma once

#include <sys/types.h>

#include <array>
#include <atomic>
#include <chrono>
#include <filesystem>
#include <memory>
#include <mutex>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "capture/base/fd.h"
#include "capture/base/mapping.h"
#include "driver/pci/function.h"

namespace ringcap::nic {

using Frame = std::vector<uint8_t>;

// One QEMU process with one NIC. Ends with the object, and with the test process if that dies.
class Machine {
 public:
  static constexpr uint64_t kMemoryBytes = 64 << 20;

  // `device`: QEMU's name of the NIC. Throws std::runtime_error, with QEMU's words, if it does not start.
  // `tap_queues`: frames go through a tap with so many queues, in a network namespace of the machine's own:
  // what a NIC with several queues needs, where it does not choose among them itself. 0: they are datagrams.
  explicit Machine(const std::string& device, uint32_t tap_queues = 0);
  ~Machine();

  // Any thread.
  uint32_t readl(uint64_t address);
  void writel(uint64_t address, uint32_t value);
  // 1 or 2 bytes.
  uint32_t read_narrow(uint64_t address, uint32_t bytes);
  void write_narrow(uint64_t address, uint32_t bytes, uint32_t value);
  uint32_t config_readl(uint32_t offset);
  void config_writel(uint32_t offset, uint32_t value);

  std::byte* memory() const { return memory_.data(); }

  nlohmann::json qmp(const std::string& command, const nlohmann::json& arguments = nlohmann::json::object());
  void set_link(bool up) { qmp("set_link", {{"name", "nic0"}, {"up", up}}); }

  // Into the NIC; false if QEMU takes no more for now.
  bool send(const Frame& frame);
  // Out of the NIC; none if nothing came before the deadline.
  std::optional<Frame> receive(std::chrono::milliseconds deadline);

  // What QEMU complained about: accesses to registers that it does not have, and errors of the driver.
  // Registers that it has but does nothing with are not in it.
  std::vector<std::string> complaints() const;
  // Ends QEMU, and gives the lines in which its models say on its output what they think of the driver:
  // QEMU writes them when it ends. Nothing else can be done with the machine afterwards.
  std::string last_words();

 private:
  void start(const std::string& device);
  std::string open_wire(uint32_t tap_queues);
  void connect_all();
  void end();
  void check_alive();
  std::string command(const std::string& line);

  std::filesystem::path folder_;
  pid_t pid_ = -1;
  Mapping memory_;
  std::mutex mutex_;
  std::mutex config_mutex_;
  Fd qtest_, qmp_, wire_;
  std::vector<Fd> taps_;
  std::string netdev_;  // QEMU's option
  std::string qtest_input_, qmp_input_;
};

// The NIC of a Machine as a driver sees it.
class QtestFunction : public pci::Function {
 public:
  static constexpr uint64_t kRegisters = 0xe000'0000;  // BAR 0, for Machine::readl
  explicit QtestFunction(std::shared_ptr<Machine> machine, pci::Interrupt best = pci::Interrupt::kMsix);
  ~QtestFunction() override;

  // Room in the machine's memory that is not used for anything else: for an arena.
  std::byte* allocate(uint64_t bytes, uint64_t alignment);

  const std::string& address() const override { return address_; }
  Result<uint32_t> config_read(uint32_t offset, uint32_t bytes) override;
  Result<void> config_write(uint32_t offset, uint32_t bytes, uint32_t value) override;
  Result<std::unique_ptr<pci::Bar>> bar(uint32_t index) override;
  Result<pci::Iova> dma_map(std::byte* data, uint64_t bytes, pci::DmaAccess access) override;
  Result<DmaMemory> dma_allocate(uint64_t bytes) override;
  Result<bool> reset() override { return false; }
  Result<void> set_bus_master(bool on) override;
  Result<pci::Interrupt> enable_interrupts(uint32_t vectors) override;
  int interrupt_fd(uint32_t vector) const override {
    return vector < vectors_ ? eventfds_[vector].get() : -1;
  }
  bool consume_interrupt(uint32_t vector) override;

 private:
  static constexpr uint32_t kVectors = 10;
  uint32_t find_capability(uint32_t id);
  void place_bars();
  void enable_msix();
  void enable_msi();
  bool line_raised();
  void watch(const std::stop_token& stop);

  std::shared_ptr<Machine> machine_;
  std::string address_ = "0000:00:04.0";
  pci::Interrupt best_;
  uint64_t used_ = 1 << 20;        // of the memory; below it PCs have other things
  uint32_t* doorbells_ = nullptr;  // where the device's message-signalled interrupts are written to
  uint32_t vectors_ = 0;
  std::array<uint64_t, 6> bar_bytes_{};
  std::atomic<bool> line_masked_{false};  // as the kernel does when a line is raised
  std::array<Fd, kVectors> eventfds_;
  std::jthread watcher_;
};

}  // namespace ringcap::nic

#include "driver/vfio/function.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "driver/pci/address.h"
#include "driver/vfio/preconditions.h"

namespace ringcap::vfio {
namespace {

constexpr uint32_t kCommand = 0x04;  // PCI Local Bus 3.0, 6.2.2
constexpr uint32_t kCommandBusMaster = 1 << 2;

// One BAR: through its windows where there are any, else by a system call an access. The descriptor stays
// open until the function is destroyed; after release() it is /dev/null.
class VfioBar final : public pci::Bar {
 public:
  VfioBar(int device, uint64_t region_offset, uint64_t bytes, std::vector<std::shared_ptr<Window>> windows)
      : device_(device), region_offset_(region_offset), bytes_(bytes), windows_(std::move(windows)) {}

  uint32_t read32(uint32_t offset) override {
    if (volatile uint32_t* mapped = find(offset)) return *mapped;
    return read_file(offset, 4);
  }
  void write32(uint32_t offset, uint32_t value) override {
    if (volatile uint32_t* mapped = find(offset)) {
      *mapped = value;
    } else {
      write_file(offset, 4, value);
    }
  }
  uint32_t read_narrow(uint32_t offset, uint32_t bytes) override {
    volatile uint8_t* mapped = find_byte(offset);
    if (mapped == nullptr) return read_file(offset, bytes);
    return bytes == 1 ? *mapped : *reinterpret_cast<volatile uint16_t*>(mapped);
  }
  void write_narrow(uint32_t offset, uint32_t bytes, uint32_t value) override {
    volatile uint8_t* mapped = find_byte(offset);
    if (mapped == nullptr) {
      write_file(offset, bytes, value);
    } else if (bytes == 1) {
      *mapped = static_cast<uint8_t>(value);
    } else {
      *reinterpret_cast<volatile uint16_t*>(mapped) = static_cast<uint16_t>(value);
    }
  }
  uint64_t bytes() const override { return bytes_; }
  volatile uint32_t* mapped() override {
    return windows_.size() == 1 && windows_[0]->bytes() >= bytes_ ? windows_[0]->at(0) : nullptr;
  }

 private:
  volatile uint32_t* find(uint32_t offset) const {
    for (const auto& window : windows_) {
      if (volatile uint32_t* mapped = window->at(offset)) return mapped;
    }
    return nullptr;
  }
  volatile uint8_t* find_byte(uint32_t offset) const {
    volatile uint32_t* word = find(offset & ~3u);
    return word == nullptr ? nullptr : reinterpret_cast<volatile uint8_t*>(word) + (offset & 3);
  }
  uint32_t read_file(uint32_t offset, uint32_t bytes) const {
    uint32_t value = 0;
    const ssize_t got = ::pread(device_, &value, bytes, static_cast<off_t>(region_offset_ + offset));
    return got == ssize_t{bytes} ? value : ~0u >> 8 * (4 - bytes);
  }
  // A failure means that the device is gone, and then there is nothing to write to.
  void write_file(uint32_t offset, uint32_t bytes, uint32_t value) const {
    [[maybe_unused]] const ssize_t put =
        ::pwrite(device_, &value, bytes, static_cast<off_t>(region_offset_ + offset));
  }

  int device_;
  uint64_t region_offset_;
  uint64_t bytes_;
  std::vector<std::shared_ptr<Window>> windows_;
};

struct RegionDetail {
  bool sparse = false;
  bool msix_mappable = false;
  std::vector<vfio_region_sparse_mmap_area> areas;
};

std::vector<vfio_region_sparse_mmap_area> sparse_areas(const std::vector<std::byte>& info, uint32_t at) {
  vfio_region_info_cap_sparse_mmap head;
  std::vector<vfio_region_sparse_mmap_area> areas;
  if (at + sizeof(head) > info.size()) return areas;
  std::memcpy(&head, info.data() + at, sizeof(head));
  for (uint32_t i = 0; i < head.nr_areas; ++i) {
    const size_t place = at + sizeof(head) + i * sizeof(vfio_region_sparse_mmap_area);
    if (place + sizeof(vfio_region_sparse_mmap_area) > info.size()) break;
    vfio_region_sparse_mmap_area area;
    std::memcpy(&area, info.data() + place, sizeof(area));
    areas.push_back(area);
  }
  return areas;
}

RegionDetail region_detail(const std::vector<std::byte>& info) {
  RegionDetail detail;
  vfio_region_info head;
  std::memcpy(&head, info.data(), sizeof(head));
  uint32_t at = head.flags & VFIO_REGION_INFO_FLAG_CAPS ? head.cap_offset : 0;
  for (int hops = 0; at != 0 && at + sizeof(vfio_info_cap_header) <= info.size() && hops < 64; ++hops) {
    vfio_info_cap_header cap;
    std::memcpy(&cap, info.data() + at, sizeof(cap));
    if (cap.id == VFIO_REGION_INFO_CAP_MSIX_MAPPABLE) detail.msix_mappable = true;
    if (cap.id == VFIO_REGION_INFO_CAP_SPARSE_MMAP) {
      detail.sparse = true;
      detail.areas = sparse_areas(info, at);
    }
    at = cap.next;
  }
  return detail;
}

// The whole answer, capabilities included: asked twice, first for its size.
Result<std::vector<std::byte>> region_info(int device, uint32_t index) {
  vfio_region_info head{};
  head.argsz = sizeof(head);
  head.index = index;
  std::vector<std::byte> info;
  for (int pass = 0; pass < 2; ++pass) {
    info.resize(std::max<size_t>(head.argsz, sizeof(head)));
    head.argsz = static_cast<uint32_t>(info.size());
    std::memcpy(info.data(), &head, sizeof(head));
    if (::ioctl(device, VFIO_DEVICE_GET_REGION_INFO, info.data()) != 0) {
      return fail_system(fmt::format("cannot ask for region {} of the device", index));
    }
    std::memcpy(&head, info.data(), sizeof(head));
  }
  return info;
}

}  // namespace

Result<std::unique_ptr<pci::Function>> VfioFunction::open(const std::string& text, const Roots& roots) {
  const auto address = pci::normal_address(text);
  if (!address) return fail(Code::kUsage, fmt::format("\"{}\" is not a PCI address like 0000:03:00.0", text));
  Result<std::string> number = find_group(roots, *address);
  if (!number) return std::unexpected(number.error());
  Result<std::shared_ptr<Group>> group = Group::open(roots, *number);
  if (!group) return context(*address, group.error());
  Result<Fd> device = (*group)->device(*address);
  if (!device) return std::unexpected(device.error());
  std::unique_ptr<VfioFunction> function(new VfioFunction(*address, std::move(*group), std::move(*device)));
  Result<void> ready = function->read_info();
  if (ready) ready = function->arm_events();
  if (!ready) return context(*address, ready.error());
  return function;
}

VfioFunction::~VfioFunction() { release(); }

Result<void> VfioFunction::read_info() {
  vfio_device_info info{};
  info.argsz = sizeof(info);
  if (::ioctl(device_.get(), VFIO_DEVICE_GET_INFO, &info) != 0)
    return fail_system("cannot ask VFIO for the device");
  if (!(info.flags & VFIO_DEVICE_FLAGS_PCI)) return fail(Code::kSystem, "it is not a PCI device");
  can_reset_ = info.flags & VFIO_DEVICE_FLAGS_RESET;
  Result<vfio_region_info> config = region(VFIO_PCI_CONFIG_REGION_INDEX);
  if (!config) return std::unexpected(config.error());
  config_ = *config;
  return {};
}

Result<vfio_region_info> VfioFunction::region(uint32_t index) const {
  Result<std::vector<std::byte>> info = region_info(device_.get(), index);
  if (!info) return std::unexpected(info.error());
  vfio_region_info head;
  std::memcpy(&head, info->data(), sizeof(head));
  return head;
}

// ---- configuration space -----------------------------------------------------------------------

Result<uint32_t> VfioFunction::config_read(uint32_t offset, uint32_t bytes) {
  uint32_t value = 0;
  if (::pread(device_.get(), &value, bytes, static_cast<off_t>(config_.offset + offset)) != ssize_t{bytes}) {
    return fail_system(fmt::format("{}: cannot read configuration space at {:#x}", address_, offset));
  }
  return value;
}

Result<void> VfioFunction::config_write(uint32_t offset, uint32_t bytes, uint32_t value) {
  if (::pwrite(device_.get(), &value, bytes, static_cast<off_t>(config_.offset + offset)) != ssize_t{bytes}) {
    return fail_system(fmt::format("{}: cannot write configuration space at {:#x}", address_, offset));
  }
  return {};
}

Result<void> VfioFunction::set_bus_master(bool on) {
  Result<uint32_t> command = config_read(kCommand, 2);
  if (!command) return std::unexpected(command.error());
  return config_write(kCommand, 2, on ? *command | kCommandBusMaster : *command & ~kCommandBusMaster);
}

Result<bool> VfioFunction::reset() {
  if (!can_reset_) return false;
  // Functions that share a bus with others say that they can and then cannot.
  if (::ioctl(device_.get(), VFIO_DEVICE_RESET) != 0) return false;
  return true;
}

// ---- registers ----------------------------------------------------------------------------------

Result<std::unique_ptr<pci::Bar>> VfioFunction::bar(uint32_t index) {
  Result<std::vector<std::byte>> info = region_info(device_.get(), VFIO_PCI_BAR0_REGION_INDEX + index);
  if (!info) return std::unexpected(info.error());
  vfio_region_info head;
  std::memcpy(&head, info->data(), sizeof(head));
  if (head.size == 0) return fail(Code::kSystem, fmt::format("it has no BAR {}", index));
  Result<std::vector<std::shared_ptr<Window>>> windows = map_windows(index, *info);
  if (!windows) return std::unexpected(windows.error());
  windows_.insert(windows_.end(), windows->begin(), windows->end());
  return std::make_unique<VfioBar>(device_.get(), head.offset, head.size, std::move(*windows));
}

// None where the kernel does not let the BAR be mapped. A BAR with the MSI-X table in it is mapped only
// where the kernel says so: older ones refuse the page of the table.
Result<std::vector<std::shared_ptr<Window>>> VfioFunction::map_windows(uint32_t index,
                                                                       const std::vector<std::byte>& info) {
  vfio_region_info head;
  std::memcpy(&head, info.data(), sizeof(head));
  std::vector<std::shared_ptr<Window>> windows;
  if (!(head.flags & VFIO_REGION_INFO_FLAG_MMAP)) return windows;
  RegionDetail detail = region_detail(info);
  if (!detail.sparse) detail.areas = {{.offset = 0, .size = head.size}};
  for (const vfio_region_sparse_mmap_area& area : detail.areas) {
    if (area.size == 0) continue;
    Result<std::unique_ptr<Window>> window =
        Window::map(device_.get(), head.offset + area.offset, area.offset, area.size, gone_);
    if (!window && !detail.sparse && !detail.msix_mappable) return windows;  // read and write instead
    if (!window) return context(fmt::format("BAR {}", index), window.error());
    windows.push_back(std::move(*window));
  }
  return windows;
}

// ---- memory -------------------------------------------------------------------------------------

Result<pci::Iova> VfioFunction::dma_map(std::byte* data, uint64_t bytes, pci::DmaAccess access) {
  if (released_) return fail(Code::kGone, address_ + " is gone");
  Result<pci::Iova> iova = group_->map(data, bytes, access);
  if (!iova) return iova;
  mapped_.push_back({*iova, bytes});
  return iova;
}

Result<pci::Function::DmaMemory> VfioFunction::dma_allocate(uint64_t bytes) {
  const uint64_t page = static_cast<uint64_t>(::sysconf(_SC_PAGESIZE));
  bytes = (bytes + page - 1) / page * page;
  // Shared: a private page would be copied away from under the device if the process forks.
  void* data =
      ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
  if (data == MAP_FAILED) return fail_system(fmt::format("cannot allocate {} bytes for descriptors", bytes));
  Mapping memory = Mapping::adopt(data, bytes);
  Result<pci::Iova> iova = dma_map(memory.data(), bytes, pci::DmaAccess::kDeviceReadsWrites);
  if (!iova) return std::unexpected(iova.error());
  memory_.push_back(std::move(memory));
  return DmaMemory{memory_.back().data(), *iova, bytes};
}

// ---- interrupts and events ----------------------------------------------------------------------

Result<pci::Interrupt> VfioFunction::enable_interrupts(uint32_t vectors) {
  return interrupts_.enable(device_.get(), vectors);
}

Result<void> VfioFunction::arm_events() {
  events_ = Fd(::epoll_create1(EPOLL_CLOEXEC));
  if (!events_) return fail_system("cannot make an epoll descriptor");
  arm_event(VFIO_PCI_REQ_IRQ_INDEX, request_);
  arm_event(VFIO_PCI_ERR_IRQ_INDEX, error_);
  return {};
}

// Where there is no such event (ERR exists only for PCIe), nothing is armed and nothing is missed.
void VfioFunction::arm_event(uint32_t irq_index, Fd& eventfd) {
  if (interrupt_count(device_.get(), irq_index) == 0) return;
  eventfd = make_eventfd();
  const int fd = eventfd.get();
  if (!eventfd || !set_eventfds(device_.get(), irq_index, {&fd, 1})) return eventfd.reset();
  epoll_event event{.events = EPOLLIN, .data = {.fd = fd}};
  ::epoll_ctl(events_.get(), EPOLL_CTL_ADD, fd, &event);
}

pci::Function::Events VfioFunction::consume_events() {
  return {.removal = request_ && drain_eventfd(request_.get()),
          .error = error_ && drain_eventfd(error_.get())};
}

// ---- the end --------------------------------------------------------------------------------------

void VfioFunction::release() {
  if (released_) return;
  released_ = true;
  if (!gone()) static_cast<void>(set_bus_master(false));
  interrupts_.disable(device_.get());
  gone_->store(true, std::memory_order_release);
  // A mapped BAR keeps the device open, so it goes too; readers find ones there from now on.
  for (const auto& window : windows_) window->retire();
  // Exchanged for /dev/null rather than closed: a thread that is just about to read a register through the
  // descriptor must not find another file under its number.
  const Fd null(::open("/dev/null", O_RDWR | O_CLOEXEC));
  if (!null || ::dup3(null.get(), device_.get(), O_CLOEXEC) < 0) device_.reset();
  for (const Mapped& mapped : mapped_) static_cast<void>(group_->unmap(mapped.iova, mapped.bytes));
  mapped_.clear();
  group_.reset();
}

}  // namespace ringcap::vfio

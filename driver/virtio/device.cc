#include "driver/virtio/device.h"

#include <fmt/format.h>

#include "driver/pci/access.h"

namespace ringcap::virtio {
namespace {

constexpr std::chrono::milliseconds kResetDeadline{500};
constexpr uint32_t kCapabilities = 0x34, kMostCapabilities = 48;  // PCI Local Bus 3.0, 6.7

std::unexpected<Error> broken(std::string what) { return fail(Code::kSystem, std::move(what)); }

uint32_t read_bar(pci::Bar& bar, uint32_t offset, uint32_t bytes) {
  return bytes == 4 ? bar.read32(offset) : bar.read_narrow(offset, bytes);
}

}  // namespace

// ---- "Virtio Structure PCI Capabilities" -----------------------------------------------------------

// The first of each type is to be used: the device's preference.
Result<void> Device::find(pci::Function& function) {
  Result<uint32_t> at = function.config_read(kCapabilities, 1);
  for (uint32_t i = 0; at && *at >= 0x40 && i < kMostCapabilities; ++i) {
    const Result<uint32_t> id = function.config_read(*at, 1);
    if (!id) return std::unexpected(id.error());
    if (*id == capability::VENDOR) {
      if (Result<void> added = add(function, *at); !added) return added;
    }
    at = function.config_read(*at + 1, 1);
  }
  if (!at) return std::unexpected(at.error());
  for (const auto type :
       {capability::COMMON_CFG, capability::NOTIFY_CFG, capability::ISR_CFG, capability::DEVICE_CFG}) {
    if (structures_[type].bar != nullptr) continue;
    return fail(Code::kNotFound, "it is a virtio device of the old kind (legacy), which cannot be driven",
                "give it the modern interface: with QEMU, disable-legacy=on,iommu_platform=on");
  }
  return {};
}

Result<void> Device::add(pci::Function& function, uint32_t at) {
  std::array<uint32_t, 5> words;
  for (uint32_t i = 0; i < words.size(); ++i) {
    const Result<uint32_t> word = function.config_read(at + 4 * i, 4);
    if (!word) return std::unexpected(word.error());
    words[i] = *word;
  }
  const uint32_t type = words[0] >> 8 * capability::CFG_TYPE, index = words[1] & 0xff;
  const uint32_t offset = words[capability::OFFSET / 4], bytes = words[capability::LENGTH / 4];
  constexpr uint32_t kLeast[] = {0, common::bytes, 2, 1, net::speed};
  if (type < capability::COMMON_CFG || type > capability::DEVICE_CFG || index > 5 || bytes < kLeast[type] ||
      structures_[type].bar != nullptr)
    return {};
  const Result<pci::Bar*> found = bar(function, index);
  if (!found) return std::unexpected(found.error());
  if (uint64_t{offset} + bytes > (*found)->bytes() || offset % 4 != 0)
    return broken(fmt::format("its structure {} is said to lie outside of BAR {}", type, index));
  structures_[type] = {*found, offset, bytes};
  if (type == capability::NOTIFY_CFG) notify_multiplier_ = words[capability::NOTIFY_OFF_MULTIPLIER / 4];
  return {};
}

Result<pci::Bar*> Device::bar(pci::Function& function, uint32_t index) {
  std::unique_ptr<pci::Bar>& known = bars_[index];
  if (!known) {
    Result<std::unique_ptr<pci::Bar>> opened = function.bar(index);
    if (!opened) return std::unexpected(opened.error());
    known = std::move(*opened);
  }
  return known.get();
}

// ---- access ------------------------------------------------------------------------------------------

uint32_t Device::read(uint32_t offset, uint32_t bytes) {
  const Structure& here = structures_[capability::COMMON_CFG];
  return read_bar(*here.bar, here.offset + offset, bytes);
}

void Device::write(uint32_t offset, uint32_t bytes, uint32_t value) {
  const Structure& here = structures_[capability::COMMON_CFG];
  if (bytes == 4) {
    here.bar->write32(here.offset + offset, value);
  } else {
    here.bar->write_narrow(here.offset + offset, bytes, value);
  }
}

// 64-bit fields as two of 32 bits.
void Device::write_address(uint32_t offset, uint64_t address) {
  write(offset, 4, static_cast<uint32_t>(address));
  write(offset + 4, 4, static_cast<uint32_t>(address >> 32));
}

uint32_t Device::read_net(uint32_t offset, uint32_t bytes) {
  const Structure& here = structures_[capability::DEVICE_CFG];
  if (offset + bytes > here.bytes) return 0;
  return read_bar(*here.bar, here.offset + offset, bytes);
}

uint32_t Device::read_isr() {
  const Structure& here = structures_[capability::ISR_CFG];
  return here.bar->read_narrow(here.offset, 1);
}

bool Device::absent() {
  return read(common::device_feature_select, 4) == pci::kAbsent && read(common::device_status, 1) == 0xff;
}

bool Device::needs_reset() { return read(common::device_status, 1) & status::NEEDS_RESET; }

// ---- "Device Initialization" ------------------------------------------------------------------------

Result<void> Device::reset() {
  write(common::device_status, 1, 0);
  if (pci::wait_for(kResetDeadline, [&] { return read(common::device_status, 1) == 0; })) return {};
  return broken(
      fmt::format("it does not come out of reset (status {:#04x})", read(common::device_status, 1)));
}

Result<uint64_t> Device::offered() {
  add_status(status::ACKNOWLEDGE);
  add_status(status::DRIVER);
  uint64_t features = 0;
  for (uint32_t word = 0; word < 2; ++word) {
    write(common::device_feature_select, 4, word);
    features |= uint64_t{read(common::device_feature, 4)} << 32 * word;
  }
  if (!(features & feature::VERSION_1)) {
    return fail(Code::kNotFound, "it offers the old kind of virtio (legacy) only, which cannot be driven",
                "give it the modern interface: with QEMU, disable-legacy=on,iommu_platform=on");
  }
  if (!(features & feature::ACCESS_PLATFORM)) {
    return fail(Code::kNotFound,
                "it goes past the IOMMU to memory (it does not offer VIRTIO_F_ACCESS_PLATFORM), so that "
                "nothing would keep it within what ringcap gives it",
                "put it behind the IOMMU: with QEMU, disable-legacy=on,iommu_platform=on");
  }
  return features;
}

Result<void> Device::negotiate(uint64_t features) {
  for (uint32_t word = 0; word < 2; ++word) {
    write(common::driver_feature_select, 4, word);
    write(common::driver_feature, 4, static_cast<uint32_t>(features >> 32 * word));
  }
  add_status(status::FEATURES_OK);
  if (read(common::device_status, 1) & status::FEATURES_OK) return {};
  return broken(fmt::format("it refuses the features {:#x}, all of which it offered", features));
}

uint32_t Device::queue_size(uint32_t queue) {
  if (queue >= read(common::num_queues, 2)) return 0;
  write(common::queue_select, 2, queue);
  return read(common::queue_size, 2);
}

Result<Doorbell> Device::enable_queue(uint32_t queue, uint32_t size, const RingAddresses& ring,
                                      uint32_t vector) {
  write(common::queue_select, 2, queue);
  write(common::queue_size, 2, size);
  write(common::queue_msix_vector, 2, vector);
  if (vector != kNoVector && read(common::queue_msix_vector, 2) != vector)
    return broken(fmt::format("it has no interrupt vector for queue {}", queue));
  write_address(common::queue_desc, ring.descriptors);
  write_address(common::queue_driver, ring.driver);
  write_address(common::queue_device, ring.device);
  const Structure& here = structures_[capability::NOTIFY_CFG];
  const uint64_t offset = uint64_t{read(common::queue_notify_off, 2)} * notify_multiplier_;
  if (offset + 2 > here.bytes || offset % 2 != 0)
    return broken(fmt::format("the doorbell of queue {} is said to lie outside of its structure", queue));
  write(common::queue_enable, 2, 1);
  return Doorbell(here.bar, here.offset + static_cast<uint32_t>(offset), static_cast<uint16_t>(queue));
}

Result<void> Device::set_configuration_vector(uint32_t vector) {
  write(common::config_msix_vector, 2, vector);
  if (vector != kNoVector && read(common::config_msix_vector, 2) != vector)
    return broken("it has no interrupt vector for link changes");
  return {};
}

std::vector<pci::RegisterValue> Device::registers() {
  std::vector<pci::RegisterValue> values;
  const uint32_t here = structures_[capability::COMMON_CFG].offset;
  const uint32_t own = structures_[capability::DEVICE_CFG].offset;
  for (uint32_t word = 0; word < 2; ++word) {
    write(common::device_feature_select, 4, word);
    values.push_back({fmt::format("device_feature[{}]", word), here + common::device_feature,
                      read(common::device_feature, 4)});
  }
  values.push_back({"num_queues", here + common::num_queues, read(common::num_queues, 2)});
  values.push_back({"device_status", here + common::device_status, read(common::device_status, 1)});
  values.push_back({"mac[0..3]", own, read_net(0, 4)});
  values.push_back({"mac[4..5]", own + 4, read_net(4, 2)});
  values.push_back({"status", own + net::status, read_net(net::status, 2)});
  values.push_back(
      {"max_virtqueue_pairs", own + net::max_virtqueue_pairs, read_net(net::max_virtqueue_pairs, 2)});
  return values;
}

Result<std::vector<pci::RegisterValue>> dump(pci::Function& function) {
  Device device;
  if (Result<void> found = device.find(function); !found) return std::unexpected(found.error());
  return device.registers();
}

void Device::go() { add_status(status::DRIVER_OK); }

}  // namespace ringcap::virtio

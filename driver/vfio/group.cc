#include "driver/vfio/group.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/vfio.h>
#include <sys/ioctl.h>

#include <cstring>
#include <map>
#include <mutex>
#include <vector>

#include "driver/vfio/preconditions.h"

namespace ringcap::vfio {
namespace {

std::mutex open_groups_mutex;
std::map<std::string, std::weak_ptr<Group>>& open_groups() {
  static std::map<std::string, std::weak_ptr<Group>> groups;  // by path
  return groups;
}

Result<Fd> open_container(const Roots& roots) {
  const std::string path = roots.dev + "/vfio/vfio";
  Fd container(::open(path.c_str(), O_RDWR | O_CLOEXEC));
  if (!container && (errno == ENOENT || errno == ENODEV || errno == ENXIO)) {
    return fail_system("cannot open " + path, errno, "modprobe vfio-pci");
  }
  if (!container) return fail_system("cannot open " + path, errno, "as root: chmod 666 " + path);
  if (::ioctl(container.get(), VFIO_GET_API_VERSION) != VFIO_API_VERSION) {
    return fail(Code::kSystem, path + " is not a VFIO container of version 0", "modprobe vfio-pci");
  }
  if (::ioctl(container.get(), VFIO_CHECK_EXTENSION, VFIO_TYPE1v2_IOMMU) != 1) {
    return fail(Code::kSystem, "the kernel has no type 1 (v2) IOMMU for VFIO", "modprobe vfio_iommu_type1");
  }
  return container;
}

Result<Fd> open_group(const Roots& roots, const std::string& number) {
  Fd group(::open(group_path(roots, number).c_str(), O_RDWR | O_CLOEXEC));
  if (!group) return std::unexpected(cannot_open_group(roots, number, errno));
  vfio_group_status status{.argsz = sizeof(status), .flags = 0};
  if (::ioctl(group.get(), VFIO_GROUP_GET_STATUS, &status) != 0) {
    return fail_system(fmt::format("cannot read the state of IOMMU group {}", number));
  }
  if (!(status.flags & VFIO_GROUP_FLAGS_VIABLE)) return std::unexpected(not_viable(roots, number));
  return group;
}

// The chain of capabilities behind an info structure: `found(header)` for each; offsets are checked.
template <typename Found>
void for_each_capability(const std::vector<std::byte>& info, uint32_t first, Found found) {
  uint32_t hops = 0;
  for (uint32_t at = first; at != 0 && hops < 64; ++hops) {
    vfio_info_cap_header header;
    if (at + sizeof(header) > info.size()) return;
    std::memcpy(&header, info.data() + at, sizeof(header));
    found(header, at);
    at = header.next;
  }
}

std::vector<pci::IovaSpace::Range> ranges_at(const std::vector<std::byte>& info, uint32_t at) {
  vfio_iommu_type1_info_cap_iova_range head;
  std::memcpy(&head, info.data() + at, std::min(sizeof(head), info.size() - at));
  std::vector<pci::IovaSpace::Range> ranges;
  for (uint32_t i = 0; i < head.nr_iovas; ++i) {
    const size_t place = at + sizeof(head) + i * sizeof(vfio_iova_range);
    if (place + sizeof(vfio_iova_range) > info.size()) break;
    vfio_iova_range range;
    std::memcpy(&range, info.data() + place, sizeof(range));
    ranges.push_back({range.start, range.end});
  }
  return ranges;
}

// Asked twice: first for the size, then for everything.
Result<pci::IovaSpace> read_iova_ranges(int container) {
  vfio_iommu_type1_info head{};
  head.argsz = sizeof(head);
  if (::ioctl(container, VFIO_IOMMU_GET_INFO, &head) != 0)
    return fail_system("cannot ask the IOMMU for its addresses");
  std::vector<std::byte> info(std::max<size_t>(head.argsz, sizeof(head)));
  head.argsz = static_cast<uint32_t>(info.size());
  std::memcpy(info.data(), &head, sizeof(head));
  if (::ioctl(container, VFIO_IOMMU_GET_INFO, info.data()) != 0)
    return fail_system("cannot ask the IOMMU for its addresses");
  std::memcpy(&head, info.data(), sizeof(head));
  std::vector<pci::IovaSpace::Range> ranges;
  if (head.flags & VFIO_IOMMU_INFO_CAPS) {
    for_each_capability(info, head.cap_offset, [&](const vfio_info_cap_header& header, uint32_t at) {
      if (header.id == VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE) ranges = ranges_at(info, at);
    });
  }
  // Kernels before 5.4 do not say. Then only what every IOMMU translates: 4 GiB.
  if (ranges.empty()) ranges = {{0, 0xffff'ffff}};
  return pci::IovaSpace(ranges);
}

uint32_t map_flags(pci::DmaAccess access) {
  switch (access) {
    case pci::DmaAccess::kDeviceWrites:
      return VFIO_DMA_MAP_FLAG_WRITE;
    case pci::DmaAccess::kDeviceReads:
      return VFIO_DMA_MAP_FLAG_READ;
    case pci::DmaAccess::kDeviceReadsWrites:
      break;
  }
  return VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE;
}

}  // namespace

Result<std::shared_ptr<Group>> Group::open(const Roots& roots, const std::string& number) {
  const std::scoped_lock lock(open_groups_mutex);
  std::weak_ptr<Group>& known = open_groups()[group_path(roots, number)];
  if (std::shared_ptr<Group> open = known.lock()) return open;

  Result<Fd> container = open_container(roots);
  if (!container) return std::unexpected(container.error());
  Result<Fd> group = open_group(roots, number);
  if (!group) return std::unexpected(group.error());
  int container_fd = container->get();
  if (::ioctl(group->get(), VFIO_GROUP_SET_CONTAINER, &container_fd) != 0) {
    return fail_system(fmt::format("cannot put IOMMU group {} into a container", number));
  }
  // Only a container with a group in it can be told which IOMMU it has; before that nothing can be mapped.
  if (::ioctl(container_fd, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU) != 0) {
    return fail_system(fmt::format("cannot use the IOMMU of group {}", number), errno,
                       "if the machine cannot remap interrupts, its firmware may have a setting for it");
  }
  Result<pci::IovaSpace> space = read_iova_ranges(container_fd);
  if (!space) return std::unexpected(space.error());
  std::shared_ptr<Group> made(new Group(std::move(*container), std::move(*group), number, std::move(*space)));
  known = made;
  return made;
}

Group::~Group() {
  // Closing would do it too. Done here, the container is free of the group even while a child that was
  // forked without exec still has a copy of the descriptors.
  if (group_) ::ioctl(group_.get(), VFIO_GROUP_UNSET_CONTAINER);
}

Result<Fd> Group::device(const std::string& address) const {
  Fd device(::ioctl(group_.get(), VFIO_GROUP_GET_DEVICE_FD, address.c_str()));
  if (device) return device;
  const char* mend =
      errno == EBUSY || errno == EINVAL ? "another process may have it open, or it was just unplugged" : "";
  return fail_system(fmt::format("cannot open {} of IOMMU group {}", address, number_), errno, mend);
}

Result<pci::Iova> Group::map(std::byte* data, uint64_t bytes, pci::DmaAccess access) {
  Result<pci::Iova> iova = space_.allocate(reinterpret_cast<uint64_t>(data), bytes);
  if (!iova) return iova;
  vfio_iommu_type1_dma_map map{};
  map.argsz = sizeof(map);
  map.flags = map_flags(access);
  map.vaddr = reinterpret_cast<uint64_t>(data);
  map.iova = static_cast<uint64_t>(*iova);
  map.size = bytes;
  if (::ioctl(container_.get(), VFIO_IOMMU_MAP_DMA, &map) != 0) {
    const int number = errno;
    space_.release(*iova, bytes);
    return std::unexpected(cannot_map(bytes, number));
  }
  return iova;
}

Result<void> Group::unmap(pci::Iova iova, uint64_t bytes) {
  vfio_iommu_type1_dma_unmap unmap{};
  unmap.argsz = sizeof(unmap);
  unmap.iova = static_cast<uint64_t>(iova);
  unmap.size = bytes;
  if (::ioctl(container_.get(), VFIO_IOMMU_UNMAP_DMA, &unmap) != 0)
    return fail_system("cannot unmap DMA memory");
  // The kernel says how much it unmapped; less than asked means that the device can still reach the rest.
  if (unmap.size != bytes) {
    return fail(Code::kSystem,
                fmt::format("only {} of {} bytes of DMA memory were unmapped", unmap.size, bytes));
  }
  space_.release(iova, bytes);
  return {};
}

}  // namespace ringcap::vfio

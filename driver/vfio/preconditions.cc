#include "driver/vfio/preconditions.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>

namespace ringcap::vfio {
namespace {

namespace fs = std::filesystem;

std::string device_path(const Roots& roots, const std::string& address) {
  return roots.sysfs + "/bus/pci/devices/" + address;
}

// The last part of where a symbolic link points to; empty if there is none.
std::string link_name(const std::string& path) {
  std::error_code error;
  const fs::path target = fs::read_symlink(path, error);
  return error ? std::string() : target.filename().string();
}

std::string first_line(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

bool exists(const std::string& path) {
  std::error_code error;
  return fs::exists(fs::symlink_status(path, error));
}

Error no_iommu(const std::string& address) {
  return {Code::kSystem,
          fmt::format(
              "{} is behind no IOMMU, and ringcap does not work without: nothing else keeps a device from "
              "writing into other programs' memory",
              address),
          "switch on VT-d (Intel) or AMD-Vi / IOMMU (AMD) in the firmware's setup, add intel_iommu=on to the "
          "kernel's "
          "command line on Intel (on AMD take amd_iommu=off away), and start again"};
}

Error no_mode_without(const std::string& address) {
  return {Code::kSystem,
          fmt::format(
              "{} is in VFIO's no-IOMMU mode, which ringcap refuses: every address in memory would be within "
              "the device's reach",
              address),
          "echo N > /sys/module/vfio/parameters/enable_unsafe_noiommu_mode, switch the IOMMU on (firmware: "
          "VT-d or "
          "AMD-Vi; kernel: intel_iommu=on), and start again"};
}

Error not_bound(const std::string& address, const std::string& driver) {
  const std::string state = driver.empty() ? "to no driver" : "to " + driver;
  return {Code::kSystem, fmt::format("{} is bound {}, not to vfio-pci", address, state),
          "ringcap bind " + address};
}

Error no_vfio(const std::string& path) {
  return {Code::kSystem, fmt::format("{} does not exist: the kernel's VFIO modules are not loaded", path),
          "modprobe vfio-pci"};
}

std::string memory_text(uint64_t bytes) {
  return bytes >= 1 << 20 ? fmt::format("{} MiB", bytes >> 20) : fmt::format("{} KiB", bytes >> 10);
}

}  // namespace

std::string group_path(const Roots& roots, const std::string& group) { return roots.dev + "/vfio/" + group; }

std::string bound_driver(const Roots& roots, const std::string& address) {
  return link_name(device_path(roots, address) + "/driver");
}

Result<std::string> find_group(const Roots& roots, const std::string& address) {
  const std::string device = device_path(roots, address);
  if (!exists(device)) {
    return fail(Code::kNotFound, fmt::format("there is no PCI device {}", address),
                "ringcap devices lists them");
  }
  std::string group = link_name(device + "/iommu_group");
  if (group.empty()) return std::unexpected(no_iommu(address));
  if (first_line(device + "/iommu_group/name") == "vfio-noiommu" ||
      exists(group_path(roots, "noiommu-" + group))) {
    return std::unexpected(no_mode_without(address));
  }
  const std::string driver = bound_driver(roots, address);
  if (driver != "vfio-pci") return std::unexpected(not_bound(address, driver));
  if (!exists(roots.dev + "/vfio/vfio")) return std::unexpected(no_vfio(roots.dev + "/vfio/vfio"));
  if (!exists(group_path(roots, group))) return std::unexpected(no_vfio(group_path(roots, group)));
  return group;
}

Error not_viable(const Roots& roots, const std::string& group) {
  std::vector<std::string> blockers, addresses;
  std::error_code error;
  for (const auto& entry :
       fs::directory_iterator(roots.sysfs + "/kernel/iommu_groups/" + group + "/devices", error)) {
    const std::string address = entry.path().filename().string();
    const std::string driver = bound_driver(roots, address);
    if (driver.empty() || driver == "vfio-pci" || driver == "pci-stub" || driver == "pcieport") continue;
    blockers.push_back(fmt::format("{} ({})", address, driver));
    addresses.push_back(address);
  }
  std::sort(blockers.begin(), blockers.end());
  std::sort(addresses.begin(), addresses.end());
  return {Code::kSystem,
          fmt::format(
              "IOMMU group {} cannot be used: the IOMMU does not tell its devices apart, and other drivers "
              "hold some of them: {}",
              group, fmt::join(blockers, ", ")),
          fmt::format("bind them too (ringcap bind {}), or put the NIC into another slot",
                      fmt::join(addresses, " "))};
}

std::vector<std::string> holders(const Roots& roots, const std::string& path) {
  std::vector<std::string> found;
  std::error_code error;
  for (const auto& process : fs::directory_iterator(roots.proc, error)) {
    const std::string pid = process.path().filename().string();
    if (pid.find_first_not_of("0123456789") != std::string::npos) continue;
    std::error_code denied;
    for (const auto& entry : fs::directory_iterator(process.path() / "fd", denied)) {
      std::error_code gone;
      if (fs::read_symlink(entry.path(), gone) != path) continue;
      found.push_back(fmt::format("{} (pid {})", first_line((process.path() / "comm").string()), pid));
      break;
    }
  }
  std::sort(found.begin(), found.end());
  return found;
}

Error cannot_open_group(const Roots& roots, const std::string& group, int number) {
  const std::string path = group_path(roots, group);
  if (number == EBUSY) {
    const std::vector<std::string> names = holders(roots, path);
    const std::string who = names.empty() ? "another process" : fmt::format("{}", fmt::join(names, ", "));
    return {Code::kSystem, fmt::format("IOMMU group {} is in use by {}", group, who), "end it first"};
  }
  if (number == EACCES || number == EPERM) {
    return {Code::kPermission, fmt::format("not permitted to open {}", path),
            fmt::format("as root: chown {} {}", ::getuid(), path)};
  }
  if (number == ENOENT || number == ENODEV || number == ENXIO) return no_vfio(path);
  return fail_system("cannot open " + path, number).error();
}

Error cannot_map(uint64_t bytes, int number) {
  rlimit limit{};
  ::getrlimit(RLIMIT_MEMLOCK, &limit);
  const std::string tried = fmt::format("cannot map {} for DMA", memory_text(bytes));
  if (number == ENOMEM && limit.rlim_cur != RLIM_INFINITY) {
    return {
        Code::kSystem,
        fmt::format(
            "{}: this process may lock {} (RLIMIT_MEMLOCK), and memory for a device counts, hugepages too",
            tried, memory_text(limit.rlim_cur)),
        "raise it: as root `ulimit -l unlimited`, in a systemd unit LimitMEMLOCK=infinity, for a user a line "
        "`NAME hard memlock unlimited` in /etc/security/limits.conf"};
  }
  if (number == ENOSPC) {
    return {Code::kSystem, tried + ": too many mappings in this container",
            "raise the parameter dma_entry_limit of vfio_iommu_type1"};
  }
  return fail_system(tried, number).error();
}

}  // namespace ringcap::vfio

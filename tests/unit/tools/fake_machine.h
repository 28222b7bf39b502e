// A directory tree that looks like /sys, /proc and /dev of some machine, for what only reads them.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "tools/system_files.h"

namespace ringcap::tools {

class FakeMachine {
 public:
  FakeMachine() : path_(testing::TempDir() + "ringcap_machine_" + std::to_string(::getpid())) {
    std::filesystem::remove_all(path_);
    std::filesystem::create_directories(path_);
  }
  ~FakeMachine() { std::filesystem::remove_all(path_); }
  FakeMachine(const FakeMachine&) = delete;
  FakeMachine& operator=(const FakeMachine&) = delete;

  Roots roots() const {
    return {.sysfs = path_ + "/sys",
            .dev = path_ + "/dev",
            .proc = path_ + "/proc",
            .modules = path_ + "/modules"};
  }
  void file(const std::string& name, const std::string& text) const {
    std::filesystem::create_directories(std::filesystem::path(path_ + "/" + name).parent_path());
    std::ofstream(path_ + "/" + name) << text;
  }
  void directory(const std::string& name) const { std::filesystem::create_directories(path_ + "/" + name); }
  void link(const std::string& name, const std::string& target) const {
    std::filesystem::create_directories(std::filesystem::path(path_ + "/" + name).parent_path());
    std::filesystem::remove(path_ + "/" + name);
    std::filesystem::create_directory_symlink(path_ + "/" + target, path_ + "/" + name);
  }
  // A PCI function and, where it has one, its interface.
  void nic(const std::string& address, const std::string& device, const std::string& driver,
           const std::string& group, const std::string& interface = "", const std::string& below = "") const {
    const std::string path = "sys/bus/pci/devices/" + address;
    file(path + "/vendor", "0x8086\n");
    file(path + "/device", device + "\n");
    file(path + "/class", "0x020000\n");
    file(path + "/numa_node", "0\n");
    file(path + "/driver_override", "(null)\n");
    directory("sys/bus/pci/drivers/" + driver);
    if (!driver.empty()) link(path + "/driver", "sys/bus/pci/drivers/" + driver);
    if (!group.empty()) {
      directory("sys/kernel/iommu_groups/" + group + "/devices");
      link(path + "/iommu_group", "sys/kernel/iommu_groups/" + group);
      link("sys/kernel/iommu_groups/" + group + "/devices/" + address, path);
    }
    if (interface.empty()) return;
    directory(path + below);
    link("sys/class/net/" + interface + "/device", path + below);
    file("sys/class/net/" + interface + "/mtu", "1500\n");
    file("sys/class/net/" + interface + "/flags", "0x1003\n");
    file("sys/class/net/" + interface + "/address", "02:00:00:00:00:01\n");
  }

 private:
  std::string path_;
};

}  // namespace ringcap::tools

#include "driver/vfio/preconditions.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "driver/vfio/function.h"
#include "driver/vfio/group.h"

namespace ringcap::vfio {
namespace {

namespace fs = std::filesystem;

constexpr char kNic[] = "0000:03:00.0";

// A directory that looks like /sys, /dev and /proc of some machine.
class Machine : public testing::Test {
 protected:
  void SetUp() override {
    std::string name = (fs::temp_directory_path() / "ringcap-machine-XXXXXX").string();
    ASSERT_NE(::mkdtemp(name.data()), nullptr);
    top_ = name;
    roots_ = {.sysfs = name + "/sys", .dev = name + "/dev", .proc = name + "/proc"};
    for (const char* folder : {"sys/bus/pci/devices", "dev", "proc"}) fs::create_directories(top_ / folder);
  }
  void TearDown() override { fs::remove_all(top_); }

  void device(const std::string& address, const std::string& driver, const std::string& group) {
    const fs::path at = top_ / "sys/bus/pci/devices" / address;
    fs::create_directories(at);
    if (!driver.empty()) fs::create_directory_symlink("../../../bus/pci/drivers/" + driver, at / "driver");
    if (group.empty()) return;
    const fs::path folder = top_ / "sys/kernel/iommu_groups" / group;
    fs::create_directories(folder / "devices" / address);
    fs::create_directory_symlink(folder, at / "iommu_group");
  }
  void file(const std::string& path, const std::string& text = "") {
    fs::create_directories((top_ / path).parent_path());
    std::ofstream(top_ / path) << text;
  }
  void vfio_is_loaded(const std::string& group) {
    file("dev/vfio/vfio");
    file("dev/vfio/" + group);
  }
  std::string refusal() {
    const Result<std::string> group = find_group(roots_, kNic);
    return group ? "" : group.error().message();
  }

  fs::path top_;
  Roots roots_;
};

#define EXPECT_SAYS(text, words) EXPECT_NE((text).find(words), std::string::npos) << (text)

TEST_F(Machine, that_has_everything_gives_the_group) {
  device(kNic, "vfio-pci", "7");
  vfio_is_loaded("7");
  EXPECT_EQ(find_group(roots_, kNic).value_or("none"), "7");
}

TEST_F(Machine, without_the_device_says_so_and_how_to_list_them) {
  EXPECT_SAYS(refusal(), "no PCI device 0000:03:00.0");
  EXPECT_SAYS(refusal(), "ringcap devices");
  EXPECT_EQ(find_group(roots_, kNic).error().code, Code::kNotFound);
}

TEST_F(Machine, without_an_iommu_names_the_settings_of_firmware_and_kernel) {
  device(kNic, "e1000e", "");
  for (const char* words : {"no IOMMU", "VT-d", "AMD-Vi", "intel_iommu=on", "amd_iommu"})
    EXPECT_SAYS(refusal(), words);
}

TEST_F(Machine, in_no_iommu_mode_is_refused_with_the_reason) {
  device(kNic, "vfio-pci", "7");
  vfio_is_loaded("noiommu-7");
  EXPECT_SAYS(refusal(), "no-IOMMU mode");
  fs::remove(top_ / "dev/vfio/noiommu-7");
  file("sys/kernel/iommu_groups/7/name", "vfio-noiommu\n");
  EXPECT_SAYS(refusal(), "no-IOMMU mode");
}

TEST_F(Machine, whose_nic_has_another_driver_names_it_and_the_command) {
  device(kNic, "e1000e", "7");
  vfio_is_loaded("7");
  EXPECT_SAYS(refusal(), "bound to e1000e");
  EXPECT_SAYS(refusal(), "ringcap bind 0000:03:00.0");
}

TEST_F(Machine, whose_nic_has_no_driver_says_so) {
  device(kNic, "", "7");
  EXPECT_SAYS(refusal(), "bound to no driver");
}

TEST_F(Machine, without_vfio_modules_names_the_file_and_modprobe) {
  device(kNic, "vfio-pci", "7");
  EXPECT_SAYS(refusal(), roots_.dev + "/vfio/vfio does not exist");
  EXPECT_SAYS(refusal(), "modprobe vfio-pci");
  file("dev/vfio/vfio");
  EXPECT_SAYS(refusal(), roots_.dev + "/vfio/7 does not exist");
}

TEST_F(Machine, whose_vfio_files_are_something_else_is_refused_and_nothing_crashes) {
  device(kNic, "vfio-pci", "7");
  vfio_is_loaded("7");
  const auto function = VfioFunction::open("3:0.0", roots_);
  ASSERT_FALSE(function);
  EXPECT_SAYS(function.error().message(), "not a VFIO container");
}

TEST_F(Machine, refuses_an_address_that_is_none) {
  const auto function = VfioFunction::open("eth0", roots_);
  ASSERT_FALSE(function);
  EXPECT_EQ(function.error().code, Code::kUsage);
}

TEST_F(Machine, with_a_group_that_is_not_viable_names_the_devices_in_the_way) {
  device(kNic, "vfio-pci", "7");
  device("0000:03:00.1", "e1000e", "7");
  device("0000:03:00.2", "", "7");
  device("0000:00:1c.0", "pcieport", "7");
  device("0000:03:00.3", "nvme", "7");
  device("0000:04:00.0", "ahci", "8");
  const std::string text = not_viable(roots_, "7").message();
  EXPECT_SAYS(text, "0000:03:00.1 (e1000e), 0000:03:00.3 (nvme)");
  EXPECT_SAYS(text, "ringcap bind 0000:03:00.1 0000:03:00.3");
  for (const char* harmless : {"03:00.2", "1c.0", "04:00.0"})
    EXPECT_EQ(text.find(harmless), std::string::npos) << text;
}

TEST_F(Machine, with_a_busy_group_names_who_has_it) {
  file("proc/812/comm", "testpmd\n");
  fs::create_directories(top_ / "proc/812/fd");
  fs::create_symlink(roots_.dev + "/vfio/7", top_ / "proc/812/fd/9");
  fs::create_directories(top_ / "proc/813/fd");
  EXPECT_SAYS(cannot_open_group(roots_, "7", EBUSY).message(), "in use by testpmd (pid 812)");
  fs::remove_all(top_ / "proc/812");
  EXPECT_SAYS(cannot_open_group(roots_, "7", EBUSY).message(), "in use by another process");
}

TEST_F(Machine, that_does_not_permit_the_group_gives_the_chown) {
  const Error error = cannot_open_group(roots_, "7", EACCES);
  EXPECT_EQ(error.code, Code::kPermission);
  EXPECT_SAYS(error.message(), "chown " + std::to_string(::getuid()) + " " + roots_.dev + "/vfio/7");
}

TEST(DmaMapping, that_exceeds_the_locked_memory_names_the_limit_and_how_to_raise_it) {
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_MEMLOCK, &before), 0);
  rlimit small = before;
  small.rlim_cur = 64 << 10;
  ASSERT_EQ(::setrlimit(RLIMIT_MEMLOCK, &small), 0);
  const std::string text = cannot_map(256 << 20, ENOMEM).message();
  ::setrlimit(RLIMIT_MEMLOCK, &before);
  for (const char* words : {"256 MiB", "64 KiB", "RLIMIT_MEMLOCK", "LimitMEMLOCK", "ulimit -l"})
    EXPECT_SAYS(text, words);
}

}  // namespace
}  // namespace ringcap::vfio

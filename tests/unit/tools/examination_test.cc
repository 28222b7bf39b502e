#include "tools/examination.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "tests/unit/tools/fake_machine.h"

namespace ringcap::tools {
namespace {

// A machine on which everything is as it should be; each test spoils one thing.
class ExaminationTest : public testing::Test {
 protected:
  ExaminationTest() {
    hugepages("node0", 512, 512);
    machine_.nic("0000:03:00.0", "0x10d3", "vfio-pci", "12");
    machine_.file("proc/cpuinfo", "vendor_id : GenuineIntel\nflags : constant_tsc\n");
    machine_.file("proc/sys/kernel/osrelease", "6.1.0\n");
    machine_.file("dev/vfio/12", "");
    machine_.file("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "performance\n");
    clock("tsc", "tsc hpet acpi_pm");
  }
  void hugepages(const std::string& node, int total, int free) {
    const std::string path = "sys/devices/system/node/" + node + "/hugepages/hugepages-2048kB";
    machine_.file(path + "/nr_hugepages", std::to_string(total) + "\n");
    machine_.file(path + "/free_hugepages", std::to_string(free) + "\n");
  }
  void clock(const std::string& current, const std::string& available) {
    machine_.file("sys/devices/system/clocksource/clocksource0/current_clocksource", current + "\n");
    machine_.file("sys/devices/system/clocksource/clocksource0/available_clocksource", available + "\n");
  }
  void remove(const std::string& name) {
    std::filesystem::remove_all(machine_.roots().sysfs + "/../" + name);
  }

  std::vector<Finding> findings() { return examine(machine_.roots(), operator_); }
  Finding finding(const std::string& id) {
    const auto all = findings();
    const auto found = std::ranges::find(all, id, &Finding::id);
    if (found != all.end()) return *found;
    ADD_FAILURE() << "no finding " << id << " in\n" << findings_text(all);
    return {};
  }

  FakeMachine machine_;
  Operator operator_{.is_root = true, .memlock_bytes = 8 << 20, .run_dir = "/run/ringcap"};
};

TEST_F(ExaminationTest, a_machine_that_has_everything_has_no_fault) {
  const auto all = findings();
  EXPECT_TRUE(std::ranges::all_of(all, [](const Finding& f) { return f.severity == Severity::kOk; }))
      << findings_text(all);
  EXPECT_GE(all.size(), 7u);
}

TEST_F(ExaminationTest, too_few_free_hugepages_are_a_fault_with_the_command_for_the_right_number) {
  hugepages("node0", 100, 30);
  const Finding finding = this->finding("hugepages.node0");
  EXPECT_EQ(finding.severity, Severity::kError);
  EXPECT_NE(finding.message.find("30 of 100"), std::string::npos) << finding.message;
  EXPECT_NE(finding.command.find("echo 198 > "), std::string::npos) << finding.command;  // 100 + 128 - 30
  EXPECT_NE(finding.command.find("node0/hugepages/hugepages-2048kB/nr_hugepages"), std::string::npos);
  EXPECT_NE(finding.next_boot.find("hugepages=198"), std::string::npos) << finding.next_boot;
}

TEST_F(ExaminationTest, a_node_without_hugepages_beside_one_that_has_them_is_a_warning) {
  hugepages("node1", 0, 0);
  EXPECT_EQ(finding("hugepages.node0").severity, Severity::kOk);
  EXPECT_EQ(finding("hugepages.node1").severity, Severity::kWarning);
}

TEST_F(ExaminationTest, a_free_page_of_1_GiB_is_enough) {
  hugepages("node0", 0, 0);
  machine_.file("sys/devices/system/node/node0/hugepages/hugepages-1048576kB/free_hugepages", "1\n");
  EXPECT_EQ(finding("hugepages.node0").severity, Severity::kOk);
}

TEST_F(ExaminationTest, a_kernel_without_hugepages_is_a_fault) {
  remove("sys/devices/system/node");
  EXPECT_EQ(finding("hugepages").severity, Severity::kError);
}

TEST_F(ExaminationTest, without_an_iommu_the_firmware_and_the_kernel_setting_are_named) {
  remove("sys/kernel/iommu_groups");
  const Finding off = finding("iommu");
  EXPECT_EQ(off.severity, Severity::kError);
  EXPECT_NE(off.next_boot.find("VT-d"), std::string::npos) << off.next_boot;
  EXPECT_NE(off.next_boot.find("intel_iommu=on"), std::string::npos) << off.next_boot;
  machine_.file("sys/firmware/acpi/tables/DMAR", "");
  EXPECT_EQ(finding("iommu").next_boot, "kernel command line: intel_iommu=on");
}

TEST_F(ExaminationTest, without_a_nic_for_it_a_missing_iommu_is_only_a_warning) {
  remove("sys/kernel/iommu_groups");
  remove("sys/bus/pci/devices");
  EXPECT_EQ(finding("iommu").severity, Severity::kWarning);
}

TEST_F(ExaminationTest, a_driver_that_is_not_loaded_is_told_from_one_that_is_not_there) {
  remove("sys/bus/pci/drivers");
  EXPECT_EQ(finding("vfio-pci").command, "");
  EXPECT_EQ(finding("vfio-pci").severity, Severity::kError);
  machine_.file("modules/6.1.0/modules.dep", "kernel/drivers/vfio/pci/vfio-pci.ko: \n");
  EXPECT_EQ(finding("vfio-pci").command, "modprobe vfio-pci");
}

TEST_F(ExaminationTest, the_mode_without_an_iommu_is_warned_of) {
  machine_.file("sys/module/vfio/parameters/enable_unsafe_noiommu_mode", "Y\n");
  EXPECT_EQ(finding("iommu.unsafe").severity, Severity::kWarning);
}

TEST_F(ExaminationTest, a_nic_whose_neighbours_the_kernel_has_is_a_fault) {
  machine_.nic("0000:03:00.1", "0x1521", "igb", "12");
  const Finding finding = this->finding("vfio.group.12");
  EXPECT_EQ(finding.severity, Severity::kError);
  EXPECT_NE(finding.message.find("0000:03:00.1 (igb)"), std::string::npos) << finding.message;
}

TEST_F(ExaminationTest, a_user_who_may_lock_little_memory_is_told_the_limit) {
  operator_.is_root = false;
  const Finding finding = this->finding("memlock");
  EXPECT_EQ(finding.severity, Severity::kError);
  EXPECT_NE(finding.message.find("8 MiB"), std::string::npos) << finding.message;
  EXPECT_NE(finding.next_boot.find("memlock unlimited"), std::string::npos);
  operator_.memlock_bytes = ~uint64_t{0};
  EXPECT_EQ(this->finding("memlock").severity, Severity::kOk);
}

TEST_F(ExaminationTest, a_user_without_a_run_directory_is_told_how_to_make_one) {
  operator_.run_dir = fail(Code::kPermission, "cannot write to /run/ringcap", "install -d /run/ringcap");
  EXPECT_EQ(finding("run-dir").severity, Severity::kError);
  EXPECT_EQ(finding("run-dir").command, "install -d /run/ringcap");
}

TEST_F(ExaminationTest, cores_that_save_power_are_a_warning) {
  machine_.file("sys/devices/system/cpu/cpu1/cpufreq/scaling_governor", "powersave\n");
  EXPECT_EQ(finding("governor").severity, Severity::kWarning);
  EXPECT_NE(finding("governor").message.find("powersave"), std::string::npos);
}

TEST_F(ExaminationTest, a_slow_clock_source_is_a_warning_and_tsc_the_mend_where_there_is_one) {
  clock("hpet", "hpet acpi_pm");
  EXPECT_EQ(finding("clock").severity, Severity::kWarning);
  EXPECT_EQ(finding("clock").command, "");
  clock("hpet", "tsc hpet");
  EXPECT_NE(finding("clock").command.find("echo tsc"), std::string::npos);
}

TEST_F(ExaminationTest, findings_become_json) {
  hugepages("node0", 0, 0);
  const auto json = findings_json(findings());
  EXPECT_EQ(json["schema"], "ringcap.doctor/1");
  EXPECT_EQ(json["findings"][0]["id"], "hugepages.node0");
  EXPECT_EQ(json["findings"][0]["severity"], "error");
  EXPECT_TRUE(json["findings"][0].contains("command"));
  EXPECT_TRUE(json["findings"][0].contains("message"));
}

}  // namespace
}  // namespace ringcap::tools

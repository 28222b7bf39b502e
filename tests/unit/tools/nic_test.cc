#include "tools/nic.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "tests/unit/tools/fake_machine.h"
#include "tools/device_list.h"
#include "tools/table.h"

namespace ringcap::tools {
namespace {

class NicTest : public testing::Test {
 protected:
  NicTest() {
    machine_.nic("0000:03:00.0", "0x10d3", "e1000e", "12", "eth0");
    machine_.nic("0000:03:00.1", "0x1521", "igb", "12", "eth1");
    machine_.nic("0000:00:03.0", "0x1041", "virtio-pci", "", "eth2", "/virtio2");
    machine_.file("sys/bus/pci/devices/0000:00:01.0/class", "0x060400\n");  // a bridge
    machine_.file("sys/class/net/lo/mtu", "65536\n");
    machine_.file("sys/class/net/lo/flags", "0x9\n");
  }
  FakeMachine machine_;
  Roots roots_ = machine_.roots();
};

TEST_F(NicTest, is_read_from_sysfs) {
  const Nic nic = read_nic(roots_, "0000:03:00.0").value();
  EXPECT_EQ(nic.vendor, 0x8086);
  EXPECT_EQ(nic.device, 0x10d3);
  EXPECT_EQ(nic.driver, "e1000e");
  EXPECT_EQ(nic.driver_override, "");
  EXPECT_EQ(nic.iommu_group, "12");
  EXPECT_EQ(nic.node, 0);
  EXPECT_EQ(nic.interfaces, std::vector<std::string>{"eth0"});
}

TEST_F(NicTest, only_network_devices_are_listed) {
  const auto nics = list_nics(roots_);
  ASSERT_EQ(nics.size(), 3u);
  EXPECT_EQ(nics[0].address, "0000:00:03.0");
  EXPECT_EQ(nics[0].iommu_group, "");
}

TEST_F(NicTest, an_interface_below_a_virtio_device_belongs_to_the_pci_function) {
  EXPECT_EQ(pci_address_of(roots_, "eth2"), "0000:00:03.0");
  EXPECT_EQ(pci_address_of(roots_, "lo"), "");
}

TEST_F(NicTest, is_found_by_address_and_by_interface) {
  EXPECT_EQ(find_nic(roots_, "03:00.0").value().address, "0000:03:00.0");
  EXPECT_EQ(find_nic(roots_, "eth1").value().address, "0000:03:00.1");
}

TEST_F(NicTest, one_that_is_not_there_lists_those_that_are) {
  const Error error = find_nic(roots_, "eth9").error();
  EXPECT_EQ(error.code, Code::kNotFound);
  EXPECT_NE(error.mend.find("0000:03:00.0 (eth0)"), std::string::npos) << error.mend;
  EXPECT_EQ(find_nic(roots_, "0000:09:00.0").error().code, Code::kNotFound);
  EXPECT_EQ(find_nic(roots_, "lo").error().code, Code::kUsage);
}

TEST_F(NicTest, neighbours_in_the_group_stand_in_the_way_until_they_are_given_away) {
  const Nic nic = read_nic(roots_, "0000:03:00.0").value();
  EXPECT_EQ(group_blockers(roots_, nic), std::vector<std::string>{"0000:03:00.1 (igb)"});
  machine_.nic("0000:03:00.1", "0x1521", "vfio-pci", "12");
  EXPECT_EQ(group_blockers(roots_, nic), std::vector<std::string>{});
}

TEST_F(NicTest, devices_are_shown_with_what_ringcap_can_do_with_them) {
  const DeviceList devices{list_nics(roots_), list_interfaces(roots_), {"demo"}};
  const auto json = devices_json(devices);
  EXPECT_EQ(json["schema"], "ringcap.devices/1");
  EXPECT_EQ(json["nics"][1]["port"], "vfio:0000:03:00.0");
  EXPECT_EQ(json["nics"][1]["ringcap_driver"], "e1000e");
  EXPECT_EQ(json["nics"][1]["on_silicon"], false);
  EXPECT_EQ(json["nics"][1]["adapter_timestamps"], false);
  EXPECT_EQ(json["nics"][0]["ringcap_driver"], nullptr);
  EXPECT_EQ(json["nics"][0]["iommu_group"], nullptr);
  EXPECT_EQ(json["interfaces"][0]["port"], "packet:eth0");
  EXPECT_EQ(json["interfaces"][0]["up"], true);
  EXPECT_EQ(json["interfaces"][3]["pci_address"], nullptr);
  EXPECT_EQ(json["engines"][0]["name"], "demo");
  const std::string text = devices_text(devices);
  EXPECT_NE(text.find("e1000e (never run on the real chip)"), std::string::npos) << text;
  EXPECT_NE(text.find("igb (never run on the real chip: only the in-process model has run it)"),
            std::string::npos)
      << text;
  EXPECT_NE(text.find("Engines that run: demo"), std::string::npos) << text;
}

TEST_F(NicTest, devices_that_cannot_keep_their_interrupts_apart_by_time_are_shown_so) {
  machine_.nic("0000:00:05.0", "0x07b0", "vmxnet3", "", "eth3");
  machine_.file("sys/bus/pci/devices/0000:00:05.0/vendor", "0x15ad\n");
  const DeviceList devices{list_nics(roots_), {}, {}};
  const auto json = devices_json(devices);
  EXPECT_EQ(json["nics"][1]["moderation"], "auto|off");
  EXPECT_EQ(json["nics"][2]["moderation"], "auto|off|US");
  const std::string text = devices_text(devices);
  EXPECT_NE(text.find("vmxnet3 (never run on the real chip), moderation=auto|off\n"), std::string::npos)
      << text;
  EXPECT_EQ(text.find("moderation=auto|off|US"), std::string::npos) << text;
}

TEST(Table, columns_are_as_wide_as_their_widest_cell) {
  EXPECT_EQ(format_table({{"A", "LONG", "C"}, {"wide", "", "x"}}), "A     LONG  C\nwide  -     x\n");
}

}  // namespace
}  // namespace ringcap::tools

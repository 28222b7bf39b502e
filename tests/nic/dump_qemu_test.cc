// The registers that `ringcap devices ADDRESS --registers` shows, of each of QEMU's NICs.
#include <map>

#include "tests/nic/nic_in_qemu.h"

namespace ringcap::nic {
namespace {

constexpr uint32_t kMacLow = 0x1200'5452, kMacHigh = 0x5634;  // 52:54:00:12:34:56

std::map<std::string, uint32_t> registers_of(const std::shared_ptr<Machine>& machine) {
  QtestFunction function(machine);
  const auto registers = dump_nic(function);
  EXPECT_TRUE(registers) << registers.error().message();
  std::map<std::string, uint32_t> values;
  if (!registers) return values;
  for (const pci::RegisterValue& each : *registers) EXPECT_TRUE(values.emplace(each.name, each.value).second);
  return values;
}

TEST(Dump, of_intel_nics_has_their_address_and_complains_of_no_register) {
  for (const char* device : {"e1000", "e1000-82544gc", "e1000-82545em", "e1000e", "igb"}) {
    const auto machine = std::make_shared<Machine>(device);
    auto values = registers_of(machine);
    EXPECT_EQ(values["RAL"], kMacLow) << device;
    EXPECT_EQ(values["RAH"] & 0xffff, kMacHigh) << device;
    EXPECT_EQ(values.count("STATUS") + values.count("RDT") + values.count("TDT"), 3u) << device;
    EXPECT_EQ(registers_of(machine), values) << device;  // reading changes nothing
    EXPECT_EQ(machine->complaints(), std::vector<std::string>()) << device;
  }
}

TEST(Dump, of_a_virtio_device_has_its_address_and_features) {
  const auto machine = std::make_shared<Machine>("virtio-net-pci,disable-legacy=on,iommu_platform=on");
  auto values = registers_of(machine);
  EXPECT_EQ(values["mac[0..3]"], kMacLow);
  EXPECT_EQ(values["mac[4..5]"], kMacHigh);
  EXPECT_EQ(values["device_feature[1]"] & 3, 3u);  // VERSION_1 and ACCESS_PLATFORM
  EXPECT_EQ(values["device_status"], 0u);
}

TEST(Dump, of_a_vmxnet3_device_has_its_address_and_revision) {
  const auto machine = std::make_shared<Machine>("vmxnet3");
  auto values = registers_of(machine);
  EXPECT_EQ(values["MACL"], kMacLow);
  EXPECT_EQ(values["MACH"], kMacHigh);
  EXPECT_EQ(values["VRRS"] & values["UVRS"], 1u);
  EXPECT_EQ(values["IMR[0]"], 1u);           // masked
  EXPECT_EQ(registers_of(machine), values);  // reading changes nothing
  EXPECT_EQ(machine->last_words(), "");
}

}  // namespace
}  // namespace ringcap::nic

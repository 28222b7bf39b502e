// `bind` and `unbind` on a machine whose kernel is played by the test (fake_machine.h).
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "tests/system/fake_machine.h"
#include "tools/bind_guard.h"
#include "tools/bind_record.h"

namespace ringcap::test {
namespace {

using BindTest = FakeMachine;

TEST_F(BindTest, a_bound_nic_belongs_to_vfio_and_its_record_says_what_it_was) {
  const auto before = interface("eth7");
  const auto bound = bind();
  ASSERT_TRUE(bound) << bound.error().message();
  EXPECT_EQ(kernel_.driver(), "vfio-pci");
  EXPECT_EQ(kernel_.driver_override(), "vfio-pci\n");
  const auto record =
      nlohmann::json::parse(read_file(dir_.run_dir() / "bind" / (std::string(kNic) + ".json")));
  EXPECT_EQ(record["schema"], "ringcap.bind/1");
  EXPECT_EQ(record["driver"], "e1000e");
  EXPECT_EQ(record["driver_override"], "");
  auto recorded = record["interfaces"][0];
  EXPECT_GT(recorded["index"], 0);
  recorded.erase("index");
  EXPECT_EQ(recorded, before);
  EXPECT_EQ(tools::bound_interface(kNic), "eth7");
}

TEST_F(BindTest, unbind_brings_back_driver_interface_addresses_and_routes) {
  set_up_interface();
  const auto before = interface("eth7");
  ASSERT_EQ(before["addresses"].size(), 2u);
  ASSERT_EQ(before["routes"].size(), 3u);
  ASSERT_EQ(before["neighbours"].size(), 3u);
  ASSERT_EQ(before["memberships"]["link_groups"].size(), 1u);
  ASSERT_TRUE(bind());
  const auto problems = unbind();
  ASSERT_TRUE(problems) << problems.error().message();
  EXPECT_EQ(*problems, std::vector<std::string>{});
  EXPECT_EQ(kernel_.driver(), "e1000e");
  EXPECT_EQ(kernel_.driver_override(), "\n");
  EXPECT_EQ(interface("eth7"), before);
  EXPECT_FALSE(fs::exists(dir_.run_dir() / "bind" / (std::string(kNic) + ".json")));
}

TEST_F(BindTest, an_interface_that_comes_back_under_another_name_gets_its_own_again) {
  set_up_interface();
  const auto before = interface("eth7");
  ASSERT_TRUE(bind());
  kernel_.new_name = "eth0";
  const auto problems = unbind();
  ASSERT_TRUE(problems);
  EXPECT_EQ(*problems, std::vector<std::string>{});
  EXPECT_EQ(interface("eth7"), before);
}

TEST_F(BindTest, a_record_of_a_version_that_knew_no_neighbours_is_read_all_the_same) {
  set_up_interface();
  ASSERT_TRUE(bind());
  const fs::path file = dir_.run_dir() / "bind" / (std::string(kNic) + ".json");
  auto record = nlohmann::json::parse(read_file(file));
  for (const char* key : {"index", "neighbours", "memberships"}) record["interfaces"][0].erase(key);
  write_file(file, record.dump());
  const auto problems = unbind();
  ASSERT_TRUE(problems) << problems.error().message();
  EXPECT_EQ(*problems, std::vector<std::string>{});
  EXPECT_EQ(interface("eth7")["addresses"].size(), 2u);
  EXPECT_EQ(interface("eth7")["neighbours"].size(), 0u);
}

TEST_F(BindTest, an_interface_that_was_down_comes_back_down) {
  network_.ip({"link", "set", "eth7", "down"});
  const auto before = interface("eth7");
  ASSERT_EQ(before["up"], false);
  ASSERT_TRUE(bind());
  ASSERT_TRUE(unbind());
  EXPECT_EQ(interface("eth7"), before);
}

TEST_F(BindTest, a_driver_override_that_was_there_comes_back) {
  write_file(kernel_.device() / "driver_override", "e1000e\n");
  ASSERT_TRUE(bind());
  ASSERT_TRUE(unbind());
  EXPECT_EQ(kernel_.driver_override(), "e1000e\n");
}

TEST_F(BindTest, when_vfio_does_not_take_it_everything_is_as_it_was) {
  set_up_interface();
  const auto before = interface("eth7");
  kernel_.broken_driver = "vfio-pci";
  place_.patience = 5s;  // that long it waits for a driver that never comes
  const auto bound = bind();
  ASSERT_FALSE(bound);
  EXPECT_NE(bound.error().text.find("vfio-pci did not take 0000:03:00.0"), std::string::npos)
      << bound.error().text;
  EXPECT_EQ(kernel_.driver(), "e1000e");
  EXPECT_EQ(interface("eth7"), before);
  EXPECT_FALSE(tools::read_record(place_.run_dir, kNic));
}

TEST_F(BindTest, without_an_iommu_nothing_is_touched) {
  fs::remove(kernel_.device() / "iommu_group");
  const auto bound = bind();
  ASSERT_FALSE(bound);
  EXPECT_NE(bound.error().message().find("intel_iommu=on"), std::string::npos) << bound.error().message();
  EXPECT_EQ(kernel_.driver(), "e1000e");
  EXPECT_EQ(kernel_.driver_override(), "(null)\n");
  EXPECT_FALSE(tools::read_record(place_.run_dir, kNic));
}

TEST_F(BindTest, without_vfio_pci_the_error_names_the_module) {
  fs::remove_all(dir_.file("sys") / "bus/pci/drivers/vfio-pci");
  const auto bound = bind();
  ASSERT_FALSE(bound);
  EXPECT_NE(bound.error().mend.find("modprobe vfio-pci"), std::string::npos);
  EXPECT_EQ(kernel_.driver(), "e1000e");
}

TEST_F(BindTest, the_nic_with_the_default_route_is_to_be_kept) {
  EXPECT_EQ(reason_to_keep(), "");
  network_.ip({"route", "add", "default", "dev", "eth7"});
  EXPECT_NE(reason_to_keep().find("default route"), std::string::npos) << reason_to_keep();
}

TEST_F(BindTest, a_default_route_over_a_bridge_counts_for_the_nic_below) {
  network_.add_veth("br7", "br7-peer");
  fs::create_directories(dir_.file("sys") / "class/net/br7");
  fs::create_directories(dir_.file("sys") / "class/net/eth7/upper_br7");
  network_.ip({"route", "add", "default", "dev", "br7"});
  EXPECT_NE(reason_to_keep().find("br7"), std::string::npos) << reason_to_keep();
}

TEST_F(BindTest, what_the_kernel_would_delete_with_the_nic_is_named_and_a_bridge_is_not) {
  const fs::path interface = dir_.file("sys") / "class/net/eth7";
  fs::create_directories(interface / "upper_br7");
  fs::create_symlink("../br7", interface / "master");
  EXPECT_TRUE(tools::check_nothing_on_top(place_.roots, nic(), ""));
  fs::create_directories(interface / "upper_eth7.5");
  fs::create_directories(interface / "upper_mac7");
  const auto refused = tools::check_nothing_on_top(place_.roots, nic(), "ringcap bind --force eth7");
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Code::kUsage);
  EXPECT_NE(refused.error().text.find("deletes eth7.5, mac7 with eth7"), std::string::npos)
      << refused.error().text;
  EXPECT_NE(refused.error().mend.find("ip link delete eth7.5; or, all the same: ringcap bind --force eth7"),
            std::string::npos)
      << refused.error().mend;
}

TEST_F(BindTest, the_nic_of_the_ssh_session_is_to_be_kept_even_under_sudo) {
  network_.ip({"addr", "add", "10.7.0.1/24", "dev", "eth7"});
  const fs::path self = dir_.file("proc") / std::to_string(::getpid());
  fs::create_directories(self);
  write_file(self / "status", "Name:\tringcap\nPPid:\t4242\n");
  write_file(self / "environ", std::string("PATH=/bin\0HOME=/\0", 17));
  fs::create_directories(dir_.file("proc") / "4242");
  write_file(dir_.file("proc") / "4242/environ",
             std::string("SSH_CONNECTION=10.7.0.9 5000 10.7.0.1 22\0", 42));
  EXPECT_EQ(tools::ssh_local_address(place_.roots), "10.7.0.1");
  EXPECT_NE(reason_to_keep().find("ssh session"), std::string::npos) << reason_to_keep();
}

TEST_F(BindTest, what_was_not_confirmed_in_time_is_given_back) {
  set_up_interface();
  const auto before = interface("eth7");
  ASSERT_TRUE(bind());
  network_.within([&] { ASSERT_TRUE(tools::start_guard(place_, kNic, 300ms)); });
  const auto record = [&] { return tools::read_record(place_.run_dir, kNic).has_value(); };
  EXPECT_TRUE(wait_until([&] { return !record(); }));
  EXPECT_EQ(kernel_.driver(), "e1000e");
  EXPECT_EQ(interface("eth7"), before);
  EXPECT_FALSE(tools::take_confirmation(place_.run_dir, kNic));
}

TEST_F(BindTest, what_was_confirmed_stays) {
  ASSERT_TRUE(bind());
  network_.within([&] { ASSERT_TRUE(tools::start_guard(place_, kNic, 60s)); });
  EXPECT_TRUE(tools::take_confirmation(place_.run_dir, kNic));
  EXPECT_FALSE(tools::take_confirmation(place_.run_dir, kNic));
  EXPECT_EQ(kernel_.driver(), "vfio-pci");
}

TEST_F(BindTest, a_nic_bound_by_somebody_else_goes_to_the_driver_that_the_kernel_finds) {
  fs::remove(kernel_.device() / "driver");
  kernel_.set_driver("vfio-pci");
  const auto problems = unbind();
  ASSERT_TRUE(problems) << problems.error().message();
  EXPECT_EQ(kernel_.driver(), "e1000e");
}

TEST_F(BindTest, a_nic_that_was_never_bound_is_not_unbound) {
  const auto problems = unbind();
  ASSERT_FALSE(problems);
  EXPECT_EQ(problems.error().code, Code::kUsage);
  EXPECT_EQ(kernel_.driver(), "e1000e");
}

TEST_F(BindTest, a_damaged_record_is_named_and_nothing_is_touched) {
  ASSERT_TRUE(bind());
  write_file(dir_.run_dir() / "bind" / (std::string(kNic) + ".json"), "{\"schema\":\"ring");
  const auto problems = unbind();
  ASSERT_FALSE(problems);
  EXPECT_NE(problems.error().text.find("is damaged"), std::string::npos);
  EXPECT_EQ(kernel_.driver(), "vfio-pci");
}

}  // namespace
}  // namespace ringcap::test

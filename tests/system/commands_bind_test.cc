// `bind` and `unbind` on a tree that looks like /sys, with real interfaces in a namespace of its own. Who
// plays the kernel: a thread that reads what is written to bind, unbind and drivers_probe (FIFOs here), moves
// the driver link, and takes the interface away or makes it anew. The real kernel and a real function:
// tests/vm.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/stat.h>

#include <atomic>
#include <nlohmann/json.hpp>
#include <thread>

#include "tests/system/harness.h"
#include "tools/bind_guard.h"
#include "tools/bind_record.h"
#include "tools/binding.h"
#include "tools/interface_state.h"

namespace ringcap::test {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;

constexpr const char* kNic = "0000:03:00.0";

class KernelActor {
 public:
  KernelActor(const fs::path& sysfs, const Namespace& network) : sysfs_(sysfs), network_(network) {
    make_tree();
    thread_ = std::thread([this] { serve(); });
  }
  ~KernelActor() {
    stop_ = true;
    thread_.join();
  }

  // The name that the kernel gives a new interface, before anybody renames it.
  std::string new_name = "eth7";
  // A driver that takes no device.
  std::string broken_driver;

  fs::path device() const { return sysfs_ / "bus/pci/devices" / kNic; }
  std::string driver() const {
    std::error_code none;
    return fs::read_symlink(device() / "driver", none).filename();
  }
  std::string driver_override() const { return read_file(device() / "driver_override"); }
  void add_interface(const std::string& name) {
    network_.add_veth(name, "peer-of-nic");
    fs::create_directories(sysfs_ / "class/net" / name);
    fs::create_symlink(device(), sysfs_ / "class/net" / name / "device");
  }
  void set_driver(const std::string& name) {
    fs::create_symlink(sysfs_ / "bus/pci/drivers" / name, device() / "driver");
  }

 private:
  void make_tree() {
    fs::create_directories(device());
    write_file(device() / "vendor", "0x8086\n");
    write_file(device() / "device", "0x10d3\n");
    write_file(device() / "class", "0x020000\n");
    write_file(device() / "driver_override", "(null)\n");
    fs::create_directories(sysfs_ / "kernel/iommu_groups/9/devices");
    fs::create_symlink(sysfs_ / "kernel/iommu_groups/9", device() / "iommu_group");
    fs::create_symlink(device(), sysfs_ / "kernel/iommu_groups/9/devices" / kNic);
    add_file("drivers_probe");
    for (const char* driver : {"e1000e", "vfio-pci"}) {
      fs::create_directories(sysfs_ / "bus/pci/drivers" / driver);
      for (const char* file : {"bind", "unbind"}) add_file(fs::path("drivers") / driver / file);
    }
  }
  void add_file(const fs::path& path) {
    const fs::path file = sysfs_ / "bus/pci" / path;
    if (::mkfifo(file.c_str(), 0600) != 0) throw std::runtime_error("mkfifo");
    files_.emplace_back(path, Fd(::open(file.c_str(), O_RDWR | O_NONBLOCK | O_CLOEXEC)));
  }

  void serve() {
    while (!stop_) {
      std::vector<pollfd> waiting;
      for (const auto& [path, fd] : files_) waiting.push_back({fd.get(), POLLIN, 0});
      if (::poll(waiting.data(), waiting.size(), 20) <= 0) continue;
      for (size_t i = 0; i < files_.size(); ++i) {
        char text[64] = {};
        if (waiting[i].revents & POLLIN && ::read(files_[i].second.get(), text, sizeof text - 1) > 0)
          act(files_[i].first);
      }
    }
  }
  void act(const fs::path& file) {
    if (file.filename() == "unbind") return release();
    if (file.filename() == "bind") return take(file.parent_path().filename());
    std::string wanted = driver_override();
    while (wanted.ends_with('\n')) wanted.pop_back();
    take(wanted.empty() ? "e1000e" : wanted);
  }
  void release() {
    fs::remove(device() / "driver");
    for (const auto& interface : fs::directory_iterator(sysfs_ / "class/net")) {
      network_.ip({"link", "del", interface.path().filename()});
      fs::remove_all(interface.path());
    }
  }
  void take(const std::string& driver) {
    if (driver == broken_driver) return;
    set_driver(driver);
    if (driver == "e1000e") add_interface(new_name);
  }

  const fs::path sysfs_;
  const Namespace& network_;
  std::vector<std::pair<fs::path, Fd>> files_;
  std::atomic<bool> stop_ = false;
  std::thread thread_;
};

class BindTest : public testing::Test {
 protected:
  BindTest() {
    fs::create_directories(dir_.file("proc"));
    kernel_.add_interface("eth7");
    kernel_.set_driver("e1000e");
    place_.roots = {.sysfs = dir_.file("sys"), .dev = dir_.file("dev"), .proc = dir_.file("proc")};
    place_.run_dir = dir_.run_dir();
    place_.patience = 5s;
  }

  tools::Nic nic() { return tools::read_nic(place_.roots, kNic).value(); }
  Result<void> bind() {
    Result<void> done;
    network_.within([&] { done = tools::bind_nic(place_, nic()); });
    return done;
  }
  Result<std::vector<std::string>> unbind() {
    Result<std::vector<std::string>> done;
    network_.within([&] { done = tools::unbind_nic(place_, kNic); });
    return done;
  }
  std::string reason_to_keep() {
    std::string reason;
    network_.within([&] { reason = tools::reason_to_keep(place_.roots, nic()).value(); });
    return reason;
  }
  nlohmann::json interface(const std::string& name) {
    nlohmann::json state;
    network_.within([&] { state = tools::save_interface(name).value(); });
    return state;
  }
  // Something of everything that must come back.
  void set_up_interface() {
    network_.ip({"link", "set", "eth7", "mtu", "1400", "address", "02:00:00:00:07:07", "txqueuelen", "77"});
    network_.ip({"addr", "add", "10.7.0.1/24", "dev", "eth7"});
    network_.ip({"addr", "add", "10.7.1.1", "peer", "10.7.1.2/32", "dev", "eth7"});
    network_.ip({"route", "add", "10.8.0.0/16", "via", "10.7.0.254", "metric", "50", "mtu", "1300"});
    network_.ip({"route", "add", "10.9.0.0/16", "dev", "eth7", "src", "10.7.0.1", "table", "77"});
    network_.ip({"route", "add", "default", "via", "192.168.7.1", "dev", "eth7", "onlink"});
  }

  TestDir dir_;
  Namespace network_;
  KernelActor kernel_{dir_.file("sys"), network_};
  tools::BindPlace place_;
};

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
  EXPECT_EQ(record["interfaces"], nlohmann::json::array({before}));
  EXPECT_EQ(tools::bound_interface(kNic), "eth7");
}

TEST_F(BindTest, unbind_brings_back_driver_interface_addresses_and_routes) {
  set_up_interface();
  const auto before = interface("eth7");
  ASSERT_EQ(before["addresses"].size(), 2u);
  ASSERT_EQ(before["routes"].size(), 3u);
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
  place_.patience = 1s;
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

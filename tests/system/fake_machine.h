// A machine with one NIC, for tests of what binds it and gives it back: a tree that looks like /sys, and real
// interfaces in a namespace of its own. Who plays the kernel: a thread that reads what is written to bind,
// unbind and drivers_probe (FIFOs here), moves the driver link, and takes the interface away or makes it
// anew. The real kernel and a real function: tests/vm.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/stat.h>

#include <atomic>
#include <nlohmann/json.hpp>
#include <thread>

#include "tests/system/harness.h"
#include "tools/binding.h"
#include "tools/interface_state.h"

namespace ringcap::test {

namespace fs = std::filesystem;
using namespace std::chrono_literals;

inline constexpr const char* kNic = "0000:03:00.0";

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
    // A probe that was asked for by somebody who was killed may be looked at after the next one's request.
    if (driver == broken_driver || !this->driver().empty()) return;
    set_driver(driver);
    if (driver == "e1000e") add_interface(new_name);
  }

  const fs::path sysfs_;
  const Namespace& network_;
  std::vector<std::pair<fs::path, Fd>> files_;
  std::atomic<bool> stop_ = false;
  std::thread thread_;
};

class FakeMachine : public testing::Test {
 protected:
  FakeMachine() {
    fs::create_directories(dir_.file("proc"));
    kernel_.add_interface("eth7");
    kernel_.set_driver("e1000e");
    place_.roots = {.sysfs = dir_.file("sys"), .dev = dir_.file("dev"), .proc = dir_.file("proc")};
    place_.run_dir = dir_.run_dir();
    place_.patience = 30s;
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
  // Its number is left out: an interface that comes back has another.
  nlohmann::json interface(const std::string& name) {
    nlohmann::json state;
    network_.within([&] { state = tools::save_interface(name).value(); });
    state.erase("index");
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
    for (const auto& [address, state] :
         {std::pair{"10.7.0.254", "permanent"}, {"10.7.0.5", "stale"}, {"10.7.0.6", "reachable"}})
      network_.ip({"neigh", "add", address, "lladdr", "02:00:00:00:00:05", "dev", "eth7", "nud", state});
    network_.ip({"maddress", "add", "01:80:c2:00:00:0e", "dev", "eth7"});
  }

  TestDir dir_;
  Namespace network_;
  KernelActor kernel_{dir_.file("sys"), network_};
  tools::BindPlace place_;
};

}  // namespace ringcap::test

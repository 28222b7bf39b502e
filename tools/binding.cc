#include "tools/binding.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <unistd.h>

#include <algorithm>
#include <set>
#include <sstream>

#include "tools/bind_record.h"
#include "tools/interface_state.h"

namespace ringcap::tools {
namespace {

constexpr const char* kVfio = "vfio-pci";

std::string device_file(const Roots& roots, const std::string& address, const std::string& name) {
  return fmt::format("{}/bus/pci/devices/{}/{}", roots.sysfs, address, name);
}
std::string driver_file(const Roots& roots, const std::string& driver, const std::string& name) {
  return fmt::format("{}/bus/pci/drivers/{}/{}", roots.sysfs, driver, name);
}
std::string driver_of(const Roots& roots, const std::string& address) {
  return link_name(device_file(roots, address, "driver"));
}

// ---- the steps; each waits until the kernel shows that it is done ----------------------------------

Result<void> set_override(const Roots& roots, const std::string& address, const std::string& driver) {
  return write_text(device_file(roots, address, "driver_override"), driver + "\n");  // a bare newline: none
}

Result<void> release_driver(const BindPlace& place, const std::string& address) {
  const std::string driver = driver_of(place.roots, address);
  if (driver.empty()) return {};
  const auto written = write_text_until(driver_file(place.roots, driver, "unbind"), address, place.patience);
  if (!written) return written;
  if (wait_until([&] { return driver_of(place.roots, address).empty(); }, place.patience)) return {};
  return fail(Code::kSystem, fmt::format("driver {} does not let go of {}", driver, address));
}

// Lets the kernel look for a driver (`driver` empty), or asks a certain one to take the device.
Result<void> find_driver(const BindPlace& place, const std::string& address, const std::string& driver) {
  if (driver_of(place.roots, address) == driver && !driver.empty()) return {};
  const std::string probe = place.roots.sysfs + "/bus/pci/drivers_probe";
  const bool by_name = !driver.empty() && driver != kVfio && exists(driver_file(place.roots, driver, "bind"));
  auto written = write_text(by_name ? driver_file(place.roots, driver, "bind") : probe, address);
  if (!written && by_name) written = write_text(probe, address);
  if (!written) return written;
  const auto bound = [&] {
    const std::string now = driver_of(place.roots, address);
    return driver.empty() ? !now.empty() : now == driver;
  };
  if (wait_until(bound, place.patience)) return {};
  return fail(Code::kSystem,
              fmt::format("{} did not take {}", driver.empty() ? "no driver" : driver, address),
              "the kernel's log says more: dmesg | tail");
}

// ---- binding ---------------------------------------------------------------------------------------

Result<void> check_can_bind(const Roots& roots, const Nic& nic) {
  if (!nic.is_network()) {
    return fail(Code::kUsage, fmt::format("{} is no NIC (PCI class {:06x})", nic.address, nic.pci_class),
                "`ringcap devices` lists the NICs");
  }
  if (::access(device_file(roots, nic.address, "driver_override").c_str(), W_OK) != 0) {
    return fail_system(fmt::format("cannot bind {}", nic.address), errno,
                       "it needs root: sudo ringcap bind ...");
  }
  if (nic.iommu_group.empty()) {
    return fail(
        Code::kSystem,
        fmt::format("{} is behind no IOMMU, and ringcap does not work without one: nothing else keeps a "
                    "device from writing where it should not",
                    nic.address),
        "switch on VT-d or AMD-Vi in the firmware's setup, add intel_iommu=on to the kernel's command line "
        "(Intel), restart; `ringcap doctor` checks it");
  }
  if (!exists(roots.sysfs + "/bus/pci/drivers/" + kVfio)) {
    return fail(Code::kNotFound, "the kernel's driver vfio-pci is not loaded", "as root: modprobe vfio-pci");
  }
  return {};
}

Result<BindRecord> make_record(const Nic& nic) {
  BindRecord record{nic.address, nic.driver, nic.driver_override, {}};
  for (const std::string& name : nic.interfaces) {
    auto state = save_interface(name);
    if (!state) return std::unexpected(state.error());
    record.interfaces.push_back(std::move(*state));
  }
  return record;
}

Result<void> move_to_vfio(const BindPlace& place, const std::string& address) {
  if (auto done = set_override(place.roots, address, kVfio); !done) return done;
  if (auto done = release_driver(place, address); !done) return done;
  return find_driver(place, address, kVfio);
}

// ---- unbinding -------------------------------------------------------------------------------------

// The interface of the NIC that stands for the saved one: the one of its name, else the n-th that is there.
std::string match_interface(const Roots& roots, const std::string& address, const std::string& name,
                            size_t n) {
  const auto nic = read_nic(roots, address);
  if (!nic || nic->interfaces.empty()) return "";
  if (std::ranges::find(nic->interfaces, name) != nic->interfaces.end()) return name;
  return n < nic->interfaces.size() ? nic->interfaces[n] : "";
}

// How long udev has to give an interface the name that it had, before we do it.
constexpr std::chrono::milliseconds kRenamePatience{2'000};

std::vector<std::string> restore_interfaces(const BindPlace& place, const BindRecord& record) {
  std::vector<std::string> problems;
  for (size_t n = 0; n < record.interfaces.size(); ++n) {
    const InterfaceState& state = record.interfaces[n];
    const auto current = [&] { return match_interface(place.roots, record.address, state.name, n); };
    if (!wait_until([&] { return !current().empty(); }, place.patience)) {
      problems.push_back(fmt::format("interface {} did not come back", state.name));
      continue;
    }
    (void)wait_until([&] { return current() == state.name; }, kRenamePatience);
    for (const std::string& problem : restore_interface(current(), state)) {
      problems.push_back(fmt::format("interface {}: {}", state.name, problem));
    }
  }
  return problems;
}

// Where nobody wrote down what was: no override, and whatever driver the kernel has for the device.
BindRecord record_of_nothing(const std::string& address) { return {address, "", "", {}}; }

Error still_held(const BindPlace& place, const Nic& nic, Error error) {
  const auto holders = holders_of(place.roots, place.roots.dev + "/vfio/" + nic.iommu_group);
  if (holders.empty()) return error;
  error.mend = fmt::format("it is held by {}; end that (ringcap down NAME), then: ringcap unbind {}",
                           fmt::join(holders, ", "), nic.address);
  return error;
}

Result<void> move_from_vfio(const BindPlace& place, const BindRecord& record, bool recorded) {
  if (auto done = set_override(place.roots, record.address, record.driver_override); !done) return done;
  if (driver_of(place.roots, record.address) == kVfio && record.driver != kVfio) {
    if (auto done = release_driver(place, record.address); !done) return done;
  }
  if (recorded && record.driver.empty()) return {};  // it had none
  return find_driver(place, record.address, record.driver);
}

// ---- what must not be taken away -------------------------------------------------------------------

// The interface and everything on top of it: bridges, bonds, VLANs.
void add_with_uppers(const Roots& roots, const std::string& interface, std::set<std::string>& names) {
  if (!names.insert(interface).second) return;
  for (const std::string& file : list_directory(roots.sysfs + "/class/net/" + interface)) {
    if (file.starts_with("upper_")) add_with_uppers(roots, file.substr(6), names);
  }
}

// A variable of a process's environment as it was started; "" where it has none.
std::string variable_of(const Roots& roots, const std::string& pid, const std::string& name) {
  std::istringstream environment(read_text(roots.proc + "/" + pid + "/environ").value_or(""));
  for (std::string entry; std::getline(environment, entry, '\0');) {
    if (entry.starts_with(name + "=")) return entry.substr(name.size() + 1);
  }
  return "";
}

std::string parent_of(const Roots& roots, const std::string& pid) {
  std::istringstream status(read_text(roots.proc + "/" + pid + "/status").value_or(""));
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("PPid:\t")) return line.substr(6);
  }
  return "0";
}

}  // namespace

// Ancestors, since sudo takes the variable out of the environment.
std::string ssh_local_address(const Roots& roots) {
  std::string pid = std::to_string(::getpid());
  for (int depth = 0; depth < 64 && pid != "0"; ++depth, pid = parent_of(roots, pid)) {
    std::istringstream words(
        variable_of(roots, pid, "SSH_CONNECTION"));  // client, its port, our address, port
    std::string client, port, local;
    if (words >> client >> port >> local) return local.substr(0, local.find('%'));
  }
  return "";
}

Result<std::string> reason_to_keep(const Roots& roots, const Nic& nic) {
  std::set<std::string> names;
  for (const std::string& interface : nic.interfaces) add_with_uppers(roots, interface, names);
  const std::string ssh = ssh_local_address(roots);
  for (const std::string& name : names) {
    const auto route = carries_default_route(name);
    if (!route) return std::unexpected(route.error());
    if (*route) return fmt::format("the default route goes through its interface {}", name);
    const auto session = ssh.empty() ? Result<bool>(false) : has_address(name, ssh);
    if (!session) return std::unexpected(session.error());
    if (*session) return fmt::format("this ssh session comes in through its interface {} ({})", name, ssh);
  }
  return "";
}

std::vector<std::string> interfaces_on_top(const Roots& roots, const Nic& nic) {
  std::vector<std::string> found;
  for (const std::string& interface : nic.interfaces) {
    const std::string folder = roots.sysfs + "/class/net/" + interface;
    const std::string master = link_name(folder + "/master");
    for (const std::string& file : list_directory(folder))
      if (file.starts_with("upper_") && file.substr(6) != master) found.push_back(file.substr(6));
  }
  return found;
}

Result<void> check_nothing_on_top(const Roots& roots, const Nic& nic, const std::string& anyway) {
  const auto on_top = interfaces_on_top(roots, nic);
  if (on_top.empty()) return {};
  return fail(Code::kUsage,
              fmt::format("{} is not bound: the kernel deletes {} with {}, and nobody would make it again",
                          nic.address, fmt::join(on_top, ", "), fmt::join(nic.interfaces, ", ")),
              fmt::format("first: ip link delete {}{}", on_top.front(),
                          anyway.empty() ? "" : fmt::format("; or, all the same: {}", anyway)));
}

Result<void> bind_nic(const BindPlace& place, const Nic& nic, const std::function<Result<void>()>& recorded) {
  // What the interface was is in there; what it is now may be half of it.
  if (read_record(place.run_dir, nic.address))
    return fail(Code::kUsage, fmt::format("{} was bound before, and not given back wholly", nic.address),
                fmt::format("first: ringcap unbind {}", nic.address));
  if (auto good = check_can_bind(place.roots, nic); !good) return good;
  const auto record = make_record(nic);
  if (!record) return std::unexpected(record.error());
  if (auto written = write_record(place.run_dir, *record); !written) return written;
  if (auto begun = recorded ? recorded() : Result<void>{}; !begun) {
    (void)take_confirmation(place.run_dir, nic.address);
    remove_record(place.run_dir, nic.address);
    return begun;
  }
  auto moved = move_to_vfio(place, nic.address);
  if (moved) return {};
  Error error = moved.error();
  error.text = fmt::format("cannot bind {} to {}: {}", nic.address, kVfio, error.text);
  const auto back = unbind_nic(place, nic.address);
  if (!back) error.text += fmt::format("; and it could not be given back: {}", back.error().text);
  return std::unexpected(error);
}

Result<std::vector<std::string>> unbind_nic(const BindPlace& place, const std::string& address) {
  const auto nic = read_nic(place.roots, address);
  if (!nic) return std::unexpected(nic.error());
  const auto found = read_record(place.run_dir, address);
  if (!found && found.error().code != Code::kNotFound) return std::unexpected(found.error());
  if (!found && nic->driver != kVfio) {
    return fail(
        Code::kUsage, fmt::format("{} is not bound to {}", address, kVfio),
        nic->driver.empty() ? "it has no driver at all" : fmt::format("its driver is {}", nic->driver));
  }
  const BindRecord record = found ? *found : record_of_nothing(address);
  const auto moved = move_from_vfio(place, record, found.has_value());
  if (!moved)
    return context(fmt::format("cannot give {} back", address), still_held(place, *nic, moved.error()));
  auto problems = restore_interfaces(place, record);
  (void)take_confirmation(place.run_dir, address);
  remove_record(place.run_dir, address);  // last: from here on it can be bound anew
  return problems;
}

}  // namespace ringcap::tools

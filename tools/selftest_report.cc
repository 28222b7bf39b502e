#include "tools/selftest_report.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <sys/utsname.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "driver/nic/drivers.h"

namespace ringcap::tools {
namespace {

using Json = nlohmann::ordered_json;
using selftest::Check;
using selftest::Outcome;

const char* outcome_name(Outcome outcome) {
  switch (outcome) {
    case Outcome::kPassed:
      return "passed";
    case Outcome::kFailed:
      return "failed";
    case Outcome::kNotPossible:
      break;
  }
  return "not possible";
}

std::vector<std::string> ids_of(const selftest::Report& report, Outcome outcome) {
  std::vector<std::string> ids;
  for (const Check& check : report.checks) {
    if (check.outcome == outcome) ids.push_back(check.id);
  }
  return ids;
}

// By the name that the kernel gives the unit that serves the device.
std::string iommu_of(const Roots& roots, const std::string& device) {
  std::string unit = link_name(device + "/iommu");
  if (unit.empty()) {
    const auto units = list_directory(roots.sysfs + "/class/iommu");
    if (!units.empty()) unit = units.front();
  }
  constexpr std::pair<std::string_view, const char*> kKinds[] = {
      {"dmar", "Intel VT-d"}, {"ivhd", "AMD-Vi"}, {"smmu", "Arm SMMU"}, {"arm-smmu", "Arm SMMU"}};
  for (const auto& [prefix, kind] : kKinds) {
    if (unit.starts_with(prefix)) return fmt::format("{} ({})", kind, unit);
  }
  return unit;
}

std::string hex(const Roots&, const std::string& path) {
  const auto number = read_number(path);
  return number ? fmt::format("{:04x}", *number) : "";
}

std::string link_of(const std::string& device) {
  const auto speed = read_text(device + "/current_link_speed");
  const auto width = read_text(device + "/current_link_width");
  if (!speed || !width || speed->starts_with("Unknown") || *width == "0") return "";
  return fmt::format("{} x{}", *speed, *width);
}

Json text_or_null(const std::string& text) { return text.empty() ? Json() : Json(text); }

std::string or_unknown(const std::string& text) { return text.empty() ? "not known" : text; }

std::string mac_to_show(const selftest::Report& report, bool whole) {
  return whole ? report.mac : cut_mac(report.mac);
}

}  // namespace

Bench examine_bench(const Roots& roots, const Nic& nic) {
  const std::string device = roots.sysfs + "/bus/pci/devices/" + nic.address;
  Bench bench;
  bench.address = nic.address;
  if (const NicDriver* driver = find_nic_driver(nic.vendor, nic.device)) {
    bench.chip = driver->name;
    bench.driver = driver->driver;
    bench.proof = driver->on_silicon ? "run on the real chip before"
                  : driver->in_qemu  ? "never run on the real chip before"
                                     : "never run on the real chip before, only on a model";
  }
  bench.id = fmt::format("{:04x}:{:04x}", nic.vendor, nic.device);
  const std::string vendor = hex(roots, device + "/subsystem_vendor");
  if (!vendor.empty()) bench.subsystem = vendor + ":" + hex(roots, device + "/subsystem_device");
  if (const auto revision = read_number(device + "/revision"))
    bench.revision = fmt::format("{:02x}", *revision);
  bench.link = link_of(device);
  utsname kernel{};
  ::uname(&kernel);
  bench.kernel = kernel.release;
  bench.processor = kernel.machine;
  bench.iommu = iommu_of(roots, device);
  bench.group = nic.iommu_group;
  bench.node = nic.node;
  return bench;
}

std::string cut_mac(const std::string& mac) { return mac.size() == 17 ? mac.substr(0, 9) + "xx:xx:xx" : mac; }

std::string bench_text(const Bench& bench) {
  std::string out = fmt::format("Self-test of {}\n", bench.address);
  const auto line = [&](const char* name, const std::string& text) {
    out += fmt::format("  {:<9} {}\n", name, text);
  };
  line("chip", bench.chip.empty() ? "unknown to ringcap"
                                  : fmt::format("{}, driver {} ({})", bench.chip, bench.driver, bench.proof));
  line("PCI", fmt::format("{}, subsystem {}, revision {}{}{}", bench.id, or_unknown(bench.subsystem),
                          or_unknown(bench.revision), bench.link.empty() ? "" : ", ", bench.link));
  line("ringcap", RINGCAP_VERSION);
  line("kernel", fmt::format("{} ({})", bench.kernel, bench.processor));
  line("IOMMU", fmt::format("{}, group {}", or_unknown(bench.iommu), or_unknown(bench.group)));
  line("NUMA node", bench.node < 0 ? "not known" : std::to_string(bench.node));
  line("memory", bench.memory);
  return out + "\n";
}

std::string check_text(const Check& check) {
  return fmt::format("  {:<13} {:<11} {}\n", outcome_name(check.outcome), check.id, check.text);
}

std::string verdict_text(const selftest::Report& report, bool complete, bool whole_mac) {
  std::string out = "\n";
  if (!report.mac.empty()) {
    out += fmt::format("The NIC's own address is {}{}.\n", mac_to_show(report, whole_mac),
                       whole_mac ? "" : " (--mac shows it whole)");
  }
  const auto failed = ids_of(report, Outcome::kFailed), impossible = ids_of(report, Outcome::kNotPossible);
  if (!failed.empty()) return out + fmt::format("FAILED: {}\n", fmt::join(failed, ", "));
  if (!complete) return out + "Stopped before the end; nothing had failed. The NIC is reset.\n";
  return out + fmt::format("Passed{}\n", impossible.empty() ? ": every part"
                                                            : fmt::format("; not possible here: {}",
                                                                          fmt::join(impossible, ", ")));
}

nlohmann::ordered_json selftest_json(const Bench& bench, const selftest::Report& report, bool complete,
                                     bool whole_mac) {
  Json checks = Json::array();
  for (const Check& check : report.checks)
    checks.push_back({{"id", check.id}, {"outcome", outcome_name(check.outcome)}, {"text", check.text}});
  const char* verdict = has_failed(report) ? "failed" : complete ? "passed" : "stopped";
  return {{"schema", "ringcap.selftest/1"},
          {"address", bench.address},
          {"chip", text_or_null(bench.chip)},
          {"driver", text_or_null(bench.driver)},
          {"proof", text_or_null(bench.proof)},
          {"id", bench.id},
          {"subsystem", text_or_null(bench.subsystem)},
          {"revision", text_or_null(bench.revision)},
          {"pcie", text_or_null(bench.link)},
          {"ringcap", RINGCAP_VERSION},
          {"kernel", bench.kernel},
          {"processor", bench.processor},
          {"iommu", text_or_null(bench.iommu)},
          {"iommu_group", text_or_null(bench.group)},
          {"node", bench.node < 0 ? Json() : Json(bench.node)},
          {"memory", bench.memory},
          {"mac", text_or_null(mac_to_show(report, whole_mac))},
          {"verdict", verdict},
          {"checks", checks}};
}

bool has_failed(const selftest::Report& report) { return !ids_of(report, Outcome::kFailed).empty(); }

}  // namespace ringcap::tools

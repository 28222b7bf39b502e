#include "tools/examination.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

#include "capture/base/run_dir.h"
#include "capture/base/units.h"
#include "driver/nic/drivers.h"
#include "tools/nic.h"

namespace ringcap::tools {
namespace {

constexpr uint64_t kPageBytes = 2 << 20;
constexpr uint64_t kPagesNeeded = kDefaultArenaBytes / kPageBytes;

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

// Whether ringcap could drive a NIC of this machine itself. If not, lacking VFIO is no fault.
bool has_supported_nic(const Roots& roots) {
  return std::ranges::any_of(
      list_nics(roots), [](const Nic& nic) { return find_nic_driver(nic.vendor, nic.device) != nullptr; });
}

Severity vfio_severity(const Roots& roots) {
  return has_supported_nic(roots) ? Severity::kError : Severity::kWarning;
}

const char* vfio_matters(const Roots& roots) {
  return has_supported_nic(roots)
             ? ""
             : " (needed for vfio: only, and ringcap has no driver for a NIC of this machine)";
}

// ---- hugepages -------------------------------------------------------------------------------------

struct NodePool {
  std::string folder;  // of the node's pools; hugepages-2048kB/ and others are in it
  std::string name;    // "node 0"
  std::string id;      // "hugepages.node0"
  uint64_t total = 0;  // of 2 MiB
  uint64_t free = 0;
  uint64_t free_huge = 0;  // of 1 GiB
};

NodePool read_pool(const std::string& folder, const std::string& name, const std::string& id) {
  const std::string small = folder + "/hugepages-2048kB";
  return {folder,
          name,
          id,
          read_number(small + "/nr_hugepages").value_or(0),
          read_number(small + "/free_hugepages").value_or(0),
          read_number(folder + "/hugepages-1048576kB/free_hugepages").value_or(0)};
}

std::vector<NodePool> read_pools(const Roots& roots) {
  std::vector<NodePool> pools;
  const std::string nodes = roots.sysfs + "/devices/system/node";
  for (const std::string& node : list_directory(nodes)) {
    const std::string folder = fmt::format("{}/{}/hugepages", nodes, node);
    if (!node.starts_with("node") || !exists(folder + "/hugepages-2048kB")) continue;
    pools.push_back(read_pool(folder, "node " + node.substr(4), "hugepages." + node));
  }
  const std::string whole = roots.sysfs + "/kernel/mm/hugepages";
  if (pools.empty() && exists(whole)) pools.push_back(read_pool(whole, "this machine", "hugepages"));
  return pools;
}

bool is_enough(const NodePool& pool) { return pool.free >= kPagesNeeded || pool.free_huge >= 1; }

Finding judge_pool(const NodePool& pool, bool another_is_enough) {
  Finding finding{pool.id, Severity::kOk, {}, {}, {}};
  finding.message = fmt::format("{}: {} of {} hugepages of 2 MiB are free", pool.name, pool.free, pool.total);
  if (pool.free_huge > 0) finding.message += fmt::format(", and {} of 1 GiB", pool.free_huge);
  if (is_enough(pool)) return finding;
  finding.severity = another_is_enough ? Severity::kWarning : Severity::kError;
  finding.message += fmt::format("; an engine with the default arena of {} needs {}",
                                 format_bytes(kDefaultArenaBytes), kPagesNeeded);
  const uint64_t wanted = pool.total + kPagesNeeded - pool.free;
  finding.command = fmt::format("echo {} > {}/hugepages-2048kB/nr_hugepages", wanted, pool.folder);
  finding.next_boot =
      fmt::format("kernel command line: hugepagesz=2M hugepages={} (all nodes together)", wanted);
  return finding;
}

void check_hugepages(const Roots& roots, std::vector<Finding>& findings) {
  const auto pools = read_pools(roots);
  if (pools.empty()) {
    findings.push_back({"hugepages", Severity::kError, "this kernel has no hugepages (CONFIG_HUGETLBFS)",
                        "ringcap up --memory plain works without, slower", "a kernel with CONFIG_HUGETLBFS"});
  }
  const bool enough = std::ranges::any_of(pools, is_enough);
  for (const NodePool& pool : pools) findings.push_back(judge_pool(pool, enough));
}

// ---- IOMMU and VFIO --------------------------------------------------------------------------------

std::string iommu_setting(const Roots& roots) {
  const bool in_firmware = exists(roots.sysfs + "/firmware/acpi/tables/DMAR") ||
                           exists(roots.sysfs + "/firmware/acpi/tables/IVRS");
  const bool intel = contains(read_text(roots.proc + "/cpuinfo").value_or(""), "GenuineIntel");
  std::string kernel =
      intel ? "kernel command line: intel_iommu=on" : "kernel command line: without amd_iommu=off";
  if (in_firmware) return kernel;
  return fmt::format("firmware's setup: {} on (in a virtual machine: an emulated IOMMU); {}",
                     intel ? "VT-d" : "AMD-Vi (IOMMU)", kernel);
}

void check_iommu(const Roots& roots, std::vector<Finding>& findings) {
  const size_t groups = list_directory(roots.sysfs + "/kernel/iommu_groups").size();
  if (groups > 0) {
    findings.push_back({"iommu", Severity::kOk, fmt::format("the IOMMU is on ({} groups)", groups), {}, {}});
  } else {
    findings.push_back({"iommu",
                        vfio_severity(roots),
                        fmt::format("no IOMMU is on{}", vfio_matters(roots)),
                        {},
                        iommu_setting(roots)});
  }
  const std::string unsafe = roots.sysfs + "/module/vfio/parameters/enable_unsafe_noiommu_mode";
  if (read_text(unsafe).value_or("N") != "Y") return;
  findings.push_back({"iommu.unsafe", Severity::kWarning,
                      "VFIO may be used without an IOMMU by other programs: their devices reach all memory; "
                      "ringcap never does",
                      fmt::format("echo N > {}", unsafe),
                      "/etc/modprobe.d: no line with enable_unsafe_noiommu_mode"});
}

bool module_is_available(const Roots& roots, const std::string& name) {
  const std::string release = read_text(roots.proc + "/sys/kernel/osrelease").value_or("");
  for (const char* list : {"modules.dep", "modules.builtin"}) {
    if (contains(read_text(fmt::format("{}/{}/{}", roots.modules, release, list)).value_or(""),
                 "/" + name + ".ko"))
      return true;
  }
  return false;
}

void check_vfio_driver(const Roots& roots, std::vector<Finding>& findings) {
  if (exists(roots.sysfs + "/bus/pci/drivers/vfio-pci")) {
    findings.push_back({"vfio-pci", Severity::kOk, "the driver vfio-pci is loaded", {}, {}});
  } else if (module_is_available(roots, "vfio-pci")) {
    findings.push_back({"vfio-pci", vfio_severity(roots),
                        fmt::format("the driver vfio-pci is not loaded{}", vfio_matters(roots)),
                        "modprobe vfio-pci", "echo vfio-pci > /etc/modules-load.d/ringcap.conf"});
  } else {
    findings.push_back({"vfio-pci",
                        vfio_severity(roots),
                        fmt::format("this kernel has no driver vfio-pci{}", vfio_matters(roots)),
                        {},
                        "a kernel with CONFIG_VFIO_PCI: Debian's linux-image-amd64 has it"});
  }
}

bool may_use(const std::string& path) { return ::access(path.c_str(), R_OK | W_OK) == 0; }

void check_vfio_files(const Roots& roots, std::vector<Finding>& findings) {
  for (const std::string& name : list_directory(roots.dev + "/vfio")) {
    const std::string path = roots.dev + "/vfio/" + name;
    if (name == "devices" || may_use(path)) continue;
    findings.push_back(
        {"vfio.permission." + name, Severity::kError, fmt::format("this user may not open {}", path),
         fmt::format("as root: chown {} {}", ::getuid(), path),
         fmt::format("/etc/udev/rules.d/70-ringcap.rules: SUBSYSTEM==\"vfio\", OWNER=\"{}\"", ::getuid())});
  }
}

// NICs that were given to ringcap, and cannot be used for their neighbours.
void check_groups(const Roots& roots, std::vector<Finding>& findings) {
  for (const Nic& nic : list_nics(roots)) {
    if (nic.driver != "vfio-pci") continue;
    const auto blockers = group_blockers(roots, nic);
    if (blockers.empty()) continue;
    findings.push_back(
        {"vfio.group." + nic.iommu_group,
         Severity::kError,
         fmt::format("{} cannot be used: other devices of its IOMMU group {} belong to the kernel: {}",
                     nic.address, nic.iommu_group, fmt::join(blockers, ", ")),
         "bind them, too (ringcap bind), or put the NIC into another slot",
         {}});
  }
}

// ---- who runs it -----------------------------------------------------------------------------------

void check_operator(const Roots& roots, const Operator& who, std::vector<Finding>& findings) {
  if (who.run_dir) {
    findings.push_back({"run-dir",
                        Severity::kOk,
                        fmt::format("engines of this user are found in {}", *who.run_dir),
                        {},
                        {}});
  } else {
    findings.push_back({"run-dir", Severity::kError, who.run_dir.error().text, who.run_dir.error().mend,
                        "/etc/tmpfiles.d/ringcap.conf: d /run/ringcap 0755 root root"});
  }
  if (who.is_root || who.memlock_bytes >= 2 * kDefaultArenaBytes) {
    findings.push_back({"memlock", Severity::kOk, "enough memory may be locked", {}, {}});
    return;
  }
  findings.push_back(
      {"memlock", vfio_severity(roots),
       fmt::format("this user may lock {}; an engine on vfio: needs its arena locked, {}{}",
                   format_bytes(who.memlock_bytes), format_bytes(kDefaultArenaBytes), vfio_matters(roots)),
       "as root: prlimit --memlock=unlimited --pid $$",
       "/etc/security/limits.d/ringcap.conf: USER - memlock unlimited (systemd: LimitMEMLOCK=infinity)"});
}

// ---- speed -----------------------------------------------------------------------------------------

void check_governor(const Roots& roots, std::vector<Finding>& findings) {
  const std::string cpus = roots.sysfs + "/devices/system/cpu";
  std::set<std::string> governors;
  for (const std::string& cpu : list_directory(cpus)) {
    if (const auto governor = read_text(fmt::format("{}/{}/cpufreq/scaling_governor", cpus, cpu)))
      governors.insert(*governor);
  }
  governors.erase("performance");
  if (governors.empty()) {
    findings.push_back(
        {"governor", Severity::kOk, "the cores run at full speed, or nobody here sets it", {}, {}});
    return;
  }
  findings.push_back({"governor", Severity::kWarning,
                      fmt::format("cores change their speed (governor {}): waking up takes longer",
                                  fmt::join(governors, ", ")),
                      fmt::format("echo performance | tee {}/cpu*/cpufreq/scaling_governor", cpus),
                      "kernel command line: cpufreq.default_governor=performance"});
}

void check_clock(const Roots& roots, std::vector<Finding>& findings) {
  const std::string folder = roots.sysfs + "/devices/system/clocksource/clocksource0";
  const std::string current = read_text(folder + "/current_clocksource").value_or("unknown");
  const bool stable = contains(read_text(roots.proc + "/cpuinfo").value_or(""), "constant_tsc");
  if (current == "tsc" || (current == "kvm-clock" && stable)) {
    findings.push_back({"clock", Severity::kOk, fmt::format("the clock source is {}", current), {}, {}});
    return;
  }
  Finding finding{
      "clock",
      Severity::kWarning,
      fmt::format("the clock source is {}: timestamps cost more, and may be coarser, than with tsc", current),
      {},
      {}};
  if (contains(read_text(folder + "/available_clocksource").value_or(""), "tsc")) {
    finding.command = fmt::format("echo tsc > {}/current_clocksource", folder);
    finding.next_boot = "kernel command line: clocksource=tsc";
  }
  findings.push_back(std::move(finding));
}

// What writable_run_dir() would answer, without making it.
Result<std::string> run_dir_to_be() {
  for (const std::string& dir : run_dirs()) {
    const std::string parent = dir.substr(0, dir.rfind('/'));
    if (::access((exists(dir) ? dir : parent).c_str(), W_OK | X_OK) == 0) return dir;
  }
  return fail(Code::kPermission,
              fmt::format("this user can write to no run directory: {}", fmt::join(run_dirs(), ", ")),
              "as root: install -d -m 0755 /run/ringcap");
}

}  // namespace

Operator current_operator() {
  rlimit limit{};
  ::getrlimit(RLIMIT_MEMLOCK, &limit);
  return {.is_root = ::geteuid() == 0, .memlock_bytes = limit.rlim_cur, .run_dir = run_dir_to_be()};
}

std::vector<Finding> examine(const Roots& roots, const Operator& who) {
  std::vector<Finding> findings;
  check_hugepages(roots, findings);
  check_iommu(roots, findings);
  check_vfio_driver(roots, findings);
  check_vfio_files(roots, findings);
  check_groups(roots, findings);
  check_operator(roots, who, findings);
  check_governor(roots, findings);
  check_clock(roots, findings);
  return findings;
}

const char* severity_name(Severity severity) {
  switch (severity) {
    case Severity::kOk:
      return "ok";
    case Severity::kWarning:
      return "warning";
    case Severity::kError:
      return "error";
  }
  return "?";
}

nlohmann::ordered_json findings_json(const std::vector<Finding>& findings) {
  nlohmann::ordered_json out = {{"schema", "ringcap.doctor/1"},
                                {"findings", nlohmann::ordered_json::array()}};
  for (const Finding& finding : findings) {
    out["findings"].push_back({{"id", finding.id},
                               {"severity", severity_name(finding.severity)},
                               {"message", finding.message},
                               {"command", finding.command},
                               {"next_boot", finding.next_boot}});
  }
  return out;
}

std::string findings_text(const std::vector<Finding>& findings) {
  std::string out;
  for (const Finding& finding : findings) {
    out += fmt::format("{:<8} {}: {}\n", severity_name(finding.severity), finding.id, finding.message);
    if (!finding.command.empty()) out += fmt::format("           now:       {}\n", finding.command);
    if (!finding.next_boot.empty()) out += fmt::format("           next boot: {}\n", finding.next_boot);
  }
  return out;
}

}  // namespace ringcap::tools

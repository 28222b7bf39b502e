// ringcap bind, ringcap unbind: a NIC from the kernel to vfio-pci, and back to exactly what it was.
#include <fmt/ranges.h>

#include "capture/base/run_dir.h"
#include "driver/ports/address.h"
#include "tools/bind_guard.h"
#include "tools/bind_record.h"
#include "tools/binding.h"
#include "tools/cli.h"
#include "tools/guard.h"
#include "tools/nic.h"

namespace ringcap::tools {
namespace {

namespace po = boost::program_options;

struct BindOptions {
  bool force = false;
  bool keep = false;
  Duration confirm;
};

Result<BindPlace> bind_place() {
  auto dir = writable_run_dir();
  if (!dir) return std::unexpected(dir.error());
  return BindPlace{.roots = {}, .run_dir = *dir};
}

Result<void> check_not_needed(const BindPlace& place, const Nic& nic) {
  const auto reason = reason_to_keep(place.roots, nic);
  if (!reason) return std::unexpected(reason.error());
  if (reason->empty())
    return check_nothing_on_top(place.roots, nic, fmt::format("ringcap bind --force {}", nic.address));
  return fail(Code::kUsage, fmt::format("{} is not bound: {}", nic.address, *reason),
              fmt::format("to do it all the same, with a way back: ringcap bind --force --confirm 60 {}",
                          nic.address));
}

void warn_of_group(const BindPlace& place, const Nic& nic) {
  const auto blockers = group_blockers(place.roots, nic);
  if (blockers.empty()) return;
  say(fmt::format(
      "warning: {} can be used only when the others of its IOMMU group are bound to vfio-pci, or to "
      "nothing: {}",
      nic.address, fmt::join(blockers, ", ")));
}

void say_bound(const Nic& nic, const BindOptions& options) {
  print("{}{} is bound to vfio-pci; back: ringcap unbind {}\n", nic.address,
        nic.interfaces.empty() ? "" : fmt::format(" ({})", fmt::join(nic.interfaces, ", ")), nic.address);
  if (options.confirm.ns == 0) return;
  print("{}\n", unless_kept(nic.address, std::chrono::milliseconds(options.confirm.ns / 1'000'000)));
}

Result<void> bind_one(const BindPlace& place, const std::string& text, const BindOptions& options) {
  const auto nic = find_nic(place.roots, text);
  if (!nic) return std::unexpected(nic.error());
  if (nic->driver == "vfio-pci") {
    print("{} is bound to vfio-pci already\n", nic->address);
    return {};
  }
  if (!options.force) {
    if (auto good = check_not_needed(place, *nic); !good) return good;
  }
  const auto on_top = interfaces_on_top(place.roots, *nic);
  if (auto bound = bind_nic(place, *nic); !bound) return bound;
  if (!on_top.empty())
    say(fmt::format("warning: the kernel has deleted {} with it; `ringcap unbind` does not make that again",
                    fmt::join(on_top, ", ")));
  if (options.confirm.ns != 0) {
    const auto patience = std::chrono::milliseconds(options.confirm.ns / 1'000'000);
    if (auto started = start_guard(place, nic->address, patience); !started) return started;
  }
  say_bound(*nic, options);
  warn_of_group(place, *nic);
  return {};
}

Result<void> keep_one(const BindPlace& place, const std::string& text) {
  const auto address = normal_pci_address(text);
  const std::string known = address ? *address : address_of_bound(place.run_dir, text);
  if (!known.empty() && take_confirmation(place.run_dir, known)) {
    print("{} stays bound to vfio-pci\n", known);
    return {};
  }
  const int number = errno;
  if (!known.empty() && confirmation_pending(place.run_dir, known))
    return fail_system(fmt::format("cannot confirm the binding of {} in {}", known, place.run_dir), number,
                       "it goes back to the kernel when its time is over");
  return fail(Code::kNotFound, fmt::format("no binding of {} waits to be confirmed", text),
              "it was kept already, or the time was over and it was given back: ringcap devices");
}

// The address of a NIC that was bound: itself, or by the name that its interface had.
Result<std::string> find_bound(const BindPlace& place, const std::string& text) {
  if (const auto address = normal_pci_address(text)) return address;
  std::string bound = address_of_bound(place.run_dir, text);
  if (!bound.empty()) return bound;
  const auto nic = find_nic(place.roots, text);
  if (!nic) return std::unexpected(nic.error());
  return nic->address;
}

Result<bool> unbind_one(const BindPlace& place, const std::string& text) {
  const auto address = find_bound(place, text);
  if (!address) return std::unexpected(address.error());
  const auto problems = unbind_nic(place, *address);
  if (!problems) return std::unexpected(problems.error());
  const auto nic = read_nic(place.roots, *address);
  if (nic) {
    print("{} is back: driver {}{}\n", *address, nic->driver.empty() ? "none" : nic->driver,
          nic->interfaces.empty() ? "" : fmt::format(", {}", fmt::join(nic->interfaces, ", ")));
  }
  for (const std::string& problem : *problems) say(fmt::format("warning: {} {}", *address, problem));
  return problems->empty();
}

}  // namespace

int run_bind(const Words& words) {
  BindOptions options;
  Words nics;
  Cli cli({.command = "bind",
           .usage = "[OPTION]... NIC...",
           .summary =
               "Gives NICs to ringcap: binds them to vfio-pci, and writes down what they were for `ringcap "
               "unbind`. A NIC is a PCI address or an interface.",
           .example = "ringcap bind --confirm 60 0000:03:00.0\nringcap bind --keep 0000:03:00.0"});
  cli.options()("confirm", po::value(&options.confirm)->value_name("SECONDS"),
                "give it back after SECONDS, unless `ringcap bind --keep` comes before");
  cli.options()("keep", po::bool_switch(&options.keep), "confirm a binding made with --confirm");
  cli.options()("force", po::bool_switch(&options.force),
                "bind a NIC that carries the default route, this ssh session or VLANs, too");
  cli.take_rest(&nics, "NIC", 1);
  if (auto status = cli.parse(words)) return *status;

  const auto place = bind_place();
  if (!place) return report(place.error());
  for (const std::string& nic : nics) {
    const auto done = options.keep ? keep_one(*place, nic) : bind_one(*place, nic, options);
    if (!done) return finish(report(done.error()));
  }
  return finish(kExitOk);
}

int run_unbind(const Words& words) {
  Words nics;
  Cli cli(
      {.command = "unbind",
       .usage = "[OPTION]... NIC...",
       .summary =
           "Gives NICs back to the kernel, with the driver, interfaces, addresses and routes that they had "
           "before `ringcap bind`.",
       .example = "ringcap unbind 0000:03:00.0",
       .manual = "ringcap-bind"});
  cli.take_rest(&nics, "NIC", 1);
  if (auto status = cli.parse(words)) return *status;

  const auto place = bind_place();
  if (!place) return report(place.error());
  bool wholly = true;
  for (const std::string& nic : nics) {
    const auto done = unbind_one(*place, nic);
    if (!done) return finish(report(done.error()));
    wholly &= *done;
  }
  return finish(wholly ? kExitOk : 1);
}

}  // namespace ringcap::tools

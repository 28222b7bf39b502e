// Giving a NIC to vfio-pci and back. Called by `bind` and `unbind`, and by the guard of `bind --confirm`.
//
//   state     is                                      goes on by
//   kernel's  driver of its own, no record            bind_nic: record, override, unbind, probe
//   ours      vfio-pci, record                        unbind_nic: override, unbind, bind, interfaces, no
//   record between   anything else, record                   unbind_nic, which does what is left to do
//
// The record is written before the first change and removed after the last, so that whatever interrupts
// this (a signal, a crash, an error), `ringcap unbind` can finish it.
#pragma once

#include <chrono>
#include <functional>
#include <string>
#include <vector>

#include "capture/base/error.h"
#include "tools/nic.h"

namespace ringcap::tools {

struct BindPlace {
  Roots roots;
  std::string run_dir;
  // How long the kernel may take for each step: binding a driver, an interface to appear.
  std::chrono::milliseconds patience{10'000};
};

// Why the NIC must not be taken away from the kernel: it carries a default route, or the connection that we
// are called through. Bridges, bonds and VLANs above its interfaces count. "" if there is no reason.
Result<std::string> reason_to_keep(const Roots& roots, const Nic& nic);

// Interfaces that stand on the NIC's, and that the kernel deletes with it: VLANs, macvlans and the like. They
// are in no record. A bridge that the NIC's interface is in is not among them: the record has it.
std::vector<std::string> interfaces_on_top(const Roots& roots, const Nic& nic);
// The error (kUsage) that names them; `anyway` is what would bind the NIC all the same, "" if nothing does.
Result<void> check_nothing_on_top(const Roots& roots, const Nic& nic, const std::string& anyway);

// Binds to vfio-pci. Refused (kUsage) where there is a record already. On an error everything is as it was,
// or the error says what is not. `recorded` is called when the record is written and nothing is changed yet:
// who is to give the NIC back can be started then. Its error ends the binding.
Result<void> bind_nic(const BindPlace& place, const Nic& nic,
                      const std::function<Result<void>()>& recorded = {});

// Gives the NIC back, with driver, override, interfaces, addresses and routes. What could not be brought
// back of the latter is returned, a line each (the record is gone then, too).
Result<std::vector<std::string>> unbind_nic(const BindPlace& place, const std::string& address);

// The local address of the ssh connection that an ancestor of this process belongs to; "" if there is none.
std::string ssh_local_address(const Roots& roots);

}  // namespace ringcap::tools

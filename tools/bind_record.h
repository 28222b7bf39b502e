// bind/BDF.json in the run directory: what a NIC was before `ringcap bind`, so that `unbind` can bring it
// back. Written once, before anything is changed; removed when all is back. Root's; others may read.
#pragma once

#include <string>
#include <vector>

#include "capture/base/error.h"
#include "tools/interface_state.h"

namespace ringcap::tools {

struct BindRecord {
  std::string address;          // "0000:03:00.0"
  std::string driver;           // "": it had none
  std::string driver_override;  // "": it had none
  std::vector<InterfaceState> interfaces;
};

// `dir` is a run directory; the file is DIR/bind/ADDRESS.json.
Result<void> write_record(const std::string& dir, const BindRecord& record);
// kNotFound: there is none.
Result<BindRecord> read_record(const std::string& dir, const std::string& address);
// The file's path.
std::string record_path(const std::string& dir, const std::string& address);
void remove_record(const std::string& dir, const std::string& address);

// The name that the NIC's first interface had before it was bound, for default_engine_name(); "" if nobody
// knows. Looks in all run directories.
std::string bound_interface(const std::string& address);
// The PCI address of the NIC whose interface had this name before it was bound; "" if there is none.
std::string address_of_bound(const std::string& dir, const std::string& interface);

// ---- an unbinding that waits to be confirmed (`bind --confirm`) ------------------------------------

// DIR/bind/ADDRESS.confirm: while it is there, a guard is to undo the binding. Whoever unlinks it
// decides, `bind --keep` or the guard; only one of them can.
Result<void> make_confirmation(const std::string& dir, const std::string& address);
// True: it was there, and the one who asks has it now.
bool take_confirmation(const std::string& dir, const std::string& address);
bool confirmation_pending(const std::string& dir, const std::string& address);
// For a guard whose time is over: nobody has confirmed. Also where the file cannot be removed (a folder that
// became read-only): whoever wanted to confirm could not either.
bool take_back(const std::string& dir, const std::string& address);

}  // namespace ringcap::tools

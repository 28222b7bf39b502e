// The run directory: where engines are found. /run/ringcap, or $RINGCAP_RUN_DIR; who cannot write there
// uses $XDG_RUNTIME_DIR/ringcap. Names in it: NAME.sock, NAME.lock (flock held while the engine lives:
// this, not a stale socket, says that it runs), bind/. Both sides use it; no state.
#pragma once

#include <string>
#include <vector>

#include "capture/base/error.h"
#include "capture/base/fd.h"

namespace ringcap {

// Where readers look, in this order.
std::vector<std::string> run_dirs();
// Where an engine writes: the first of run_dirs() that exists, or can be made, and can be written to.
Result<std::string> writable_run_dir();

inline std::string socket_path(const std::string& dir, const std::string& name) {
  return dir + "/" + name + ".sock";
}
inline std::string lock_path(const std::string& dir, const std::string& name) {
  return dir + "/" + name + ".lock";
}

// Takes NAME's lock for as long as the Fd lives. kUsage: an engine of that name runs.
Result<Fd> lock_engine(const std::string& dir, const std::string& name);
// Whether an engine called `name` holds its lock in `dir`.
bool engine_runs(const std::string& dir, const std::string& name);
// The directory in which an engine called `name` runs; kNotFound names those that do run, kPermission: it may
// not be looked for.
Result<std::string> find_engine(const std::string& name);
// Names of all running engines, sorted.
std::vector<std::string> list_engines();
// Connects to a running engine's control socket (SOCK_SEQPACKET).
Result<Fd> connect_engine(const std::string& name);

}  // namespace ringcap

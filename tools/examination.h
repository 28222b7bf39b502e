// What `ringcap doctor` looks at: everything of the machine that ringcap needs or profits from, and for each
// lack the command that mends it now and the setting for the next boot. Reads only.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "capture/base/error.h"
#include "tools/system_files.h"

namespace ringcap::tools {

// kError: something that this machine could do does not work. kWarning: it works, but worse than it could.
enum class Severity { kOk, kWarning, kError };

struct Finding {
  std::string id;  // "hugepages.node0", "iommu", ...: never changes its meaning
  Severity severity = Severity::kOk;
  std::string message;
  std::string command;    // for now; "" where there is none
  std::string next_boot;  // the setting that lasts; "" where there is none
};

// Who is to run engines.
struct Operator {
  bool is_root = false;
  uint64_t memlock_bytes = 0;  // RLIMIT_MEMLOCK; all ones: no limit
  Result<std::string> run_dir;
};
// Whoever runs this process.
Operator current_operator();

// The arena of `ringcap up` unless --arena says otherwise.
inline constexpr uint64_t kDefaultArenaBytes = uint64_t{256} << 20;

std::vector<Finding> examine(const Roots& roots, const Operator& who);

const char* severity_name(Severity severity);
// The schema ringcap.doctor/1.
nlohmann::ordered_json findings_json(const std::vector<Finding>& findings);
std::string findings_text(const std::vector<Finding>& findings);

}  // namespace ringcap::tools

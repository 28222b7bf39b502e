// ringcap doctor: what this machine lacks, and what mends it.
#include <algorithm>
#include <nlohmann/json.hpp>

#include "tools/cli.h"
#include "tools/examination.h"

namespace ringcap::tools {

int run_doctor(const Words& words) {
  bool json = false;
  Cli cli(
      {.command = "doctor",
       .usage = "[OPTION]...",
       .summary =
           "Looks for what this machine lacks to capture with ringcap, and says for each lack the command "
           "for "
           "now and the setting for the next boot. Changes nothing. Exit status 7: something does not work.",
       .example = "ringcap doctor"});
  cli.json(&json);
  if (auto status = cli.parse(words)) return *status;

  const auto findings = examine({}, current_operator());
  print_text(json ? findings_json(findings).dump() + "\n" : findings_text(findings));
  const bool fault =
      std::ranges::any_of(findings, [](const Finding& f) { return f.severity == Severity::kError; });
  return finish(fault ? kExitFault : kExitOk);
}

}  // namespace ringcap::tools

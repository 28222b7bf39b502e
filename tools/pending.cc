// Stand-ins for commands that are being written; each goes when its own file comes.
#include "tools/cli.h"

namespace ringcap::tools {
namespace {

int pending(const char* name) {
  return report({Code::kUsage, fmt::format("ringcap {}: not supported yet", name), ""});
}

}  // namespace

int run_devices(const Words&) { return pending("devices"); }
int run_bind(const Words&) { return pending("bind"); }
int run_unbind(const Words&) { return pending("unbind"); }
int run_doctor(const Words&) { return pending("doctor"); }

}  // namespace ringcap::tools

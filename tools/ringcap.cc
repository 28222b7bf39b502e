// ringcap: the command line. Finds the command in the table and runs it.
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <exception>

#include "tools/cli.h"
#include "tools/command.h"

namespace ringcap::tools {
namespace {

constexpr Command kCommands[] = {
    {"up", "start an engine", run_up},
    {"down", "end a running engine", run_down},
    {"capture", "take frames from an engine or an interface", run_capture},
    {"stat", "show where every frame went", run_stat},
    {"balance", "show how a cluster would share a file's frames", run_balance},
    {"bridge", "send what one port receives out of another", run_bridge},
    {"devices", "list what can be captured", run_devices},
    {"bind", "give a NIC to ringcap", run_bind},
    {"unbind", "give a NIC back to the kernel", run_unbind},
    {"doctor", "look for what this machine lacks", run_doctor},
    {"selftest", "try everything that a NIC's driver relies on", run_selftest},
    {"filter", "compile a filter, show it, try it on a file", run_filter},
    {"run", "run a pcap program on engines", run_run},
    {"send", "play a file's frames out of a port or an engine", run_send},
    {"version", "print versions", run_version},
};

std::string overview() {
  std::string out = "Usage: ringcap COMMAND [OPTION]... [WORD]...\n\nCommands:\n";
  for (const Command& command : kCommands) out += fmt::format("  {:<10}{}\n", command.name, command.summary);
  return out +
         "\n`ringcap COMMAND --help` shows a command's options and an example.\n\nExample:\n"
         "  ringcap capture gen:size=64,count=1000 -c 10\n\nManual: man ringcap\n";
}

std::string all_names() {
  std::string out;
  for (const Command& command : kCommands) out += fmt::format(" {}", command.name);
  return out;
}

int run(const Words& words) {
  if (words.empty()) {
    fmt::print(stderr, "{}", overview());
    return kExitUsage;
  }
  const std::string& name = words.front();
  if (name == "--help" || name == "-h" || name == "help") {
    print_text(overview());
    return finish(kExitOk);
  }
  if (name == "--version") return run_version({});
  for (const Command& command : kCommands) {
    if (name == command.name) return command.run(Words(words.begin() + 1, words.end()));
  }
  return report(
      {Code::kUsage, fmt::format("no such command: '{}'", name), "the commands are:" + all_names()});
}

// A standard descriptor that is closed would be taken by the next open(), and messages would go into a
// capture file. Standing in for it: something that cannot be written (0 cannot be read).
void fill_standard_descriptors() {
  for (int fd = 0; fd <= 2; ++fd) {
    if (::fcntl(fd, F_GETFD) < 0) ::open("/dev/null", fd == STDOUT_FILENO ? O_RDONLY : O_RDWR);
  }
}

}  // namespace
}  // namespace ringcap::tools

int main(int argc, char** argv) {
  using namespace ringcap::tools;
  fill_standard_descriptors();
  ::signal(SIGPIPE, SIG_IGN);  // a reader that goes away is an error of write(), reported by finish()
  try {
    return run(Words(argv + 1, argv + argc));
  } catch (const std::exception& error) {
    say(fmt::format("internal error: {}", error.what()));
    return 1;
  }
}

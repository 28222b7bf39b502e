// ringcap run: starts a program with the pcap shim in libpcap's place.
#include <elf.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <filesystem>

#include "tools/cli.h"
#include "tools/run_checks.h"

#ifndef RINGCAP_LIBDIR
#define RINGCAP_LIBDIR "lib"
#endif

namespace ringcap::tools {
namespace {

namespace fs = std::filesystem;

constexpr const char* kShim = "libpcap.so.0.8";

// Where the shim is: beside an installation's, or a build's, program.
Result<std::string> shim_directory() {
  std::error_code ignored;
  const fs::path program = fs::read_symlink("/proc/self/exe", ignored).parent_path();
  const fs::path places[] = {program / ".." / RINGCAP_LIBDIR / "ringcap/pcap", program / "../libcap/pcap"};
  for (const auto& place : places)
    if (fs::exists(place / kShim, ignored)) return fs::weakly_canonical(place).string();
  return fail(Code::kNotFound,
              fmt::format("the pcap shim is not there: {}", (places[0] / kShim).lexically_normal().string()),
              "install it: cmake --install BUILD --component pcap");
}

// A program as a shell finds it.
Result<std::string> find_program(const std::string& name) {
  if (name.find('/') != std::string::npos) {
    if (::access(name.c_str(), X_OK) != 0) return fail_system("cannot run " + name);
    return name;
  }
  const char* path = std::getenv("PATH");
  std::string_view rest = path == nullptr ? "/usr/bin:/bin" : path;
  while (!rest.empty()) {
    const auto directory = rest.substr(0, rest.find(':'));
    rest.remove_prefix(std::min(rest.size(), directory.size() + 1));
    auto file = fmt::format("{}/{}", directory.empty() ? "." : directory, name);
    if (::access(file.c_str(), X_OK) == 0 && !fs::is_directory(file)) return file;
  }
  return fail(Code::kNotFound, fmt::format("no such program: {}", name),
              "name it with its path, or set PATH");
}

// Puts `value` before what the variable has, after a colon.
void put_first(const char* variable, const std::string& value) {
  const char* old = std::getenv(variable);
  const bool empty = old == nullptr || *old == 0;
  ::setenv(variable, (empty ? value : value + ":" + old).c_str(), 1);
}

// Our words end where the program's begin: at the first that is no option of ours, or after "--".
size_t program_begins(const Words& words) {
  for (size_t i = 0; i < words.size(); ++i) {
    if (words[i] == "--") return i + 1;
    if (!words[i].starts_with("-")) return i;
    if (words[i] == "--config" || words[i] == "--log-level" || words[i] == "--map") ++i;
  }
  return words.size();
}

}  // namespace

int run_run(const Words& words) {
  bool preload = false, copy = false;
  std::string map;
  Cli cli({.command = "run",
           .usage = "[OPTION]... [--] PROGRAM [ARGUMENT]...",
           .summary =
               "Runs a program that uses libpcap, so that engines are capture devices for it: ringcap:NAME.",
           .example = "ringcap run -- tcpdump -D"});
  cli.options()("preload", boost::program_options::bool_switch(&preload),
                "use LD_PRELOAD, for a program that has a run path of its own");
  cli.options()("copy", boost::program_options::bool_switch(&copy),
                "copy each frame, for a program that writes into frames");
  cli.options()("map", boost::program_options::value(&map)->value_name("FROM=TO"),
                "open device TO (ringcap:NAME) where the program names FROM; several after commas");
  const size_t begin = program_begins(words);
  Words own(words.begin(), words.begin() + static_cast<ptrdiff_t>(begin));
  if (!own.empty() && own.back() == "--") own.pop_back();
  if (auto status = cli.parse(own)) return *status;
  const Words program(words.begin() + static_cast<ptrdiff_t>(begin), words.end());
  if (program.empty())
    return report({Code::kUsage, "ringcap run needs a PROGRAM", "example: ringcap run -- tcpdump -D"});

  const auto file = find_program(program.front());
  if (!file) return report(file.error());
  for (const auto& what : programs_of(*file))
    if (const auto works = check_program(what); !works) return report(works.error());
  const auto shim = shim_directory();
  if (!shim) return report(shim.error());
  for (const auto& what : programs_of(*file)) {
    const auto warning = confinement(what, *shim + "/" + kShim);
    if (!warning) return report(warning.error());
    if (!warning->empty()) say(*warning);
  }
  if (preload) {
    put_first("LD_PRELOAD", *shim + "/" + kShim);
  } else {
    put_first("LD_LIBRARY_PATH", *shim);
  }
  if (copy) ::setenv("RINGCAP_PCAP_COPY", "1", 1);
  if (!map.empty()) ::setenv("RINGCAP_PCAP_MAP", map.c_str(), 1);
  ::signal(SIGPIPE, SIG_DFL);  // main ignores it; the program has not asked for that

  std::vector<char*> arguments;
  arguments.reserve(program.size() + 1);
  for (const auto& word : program) arguments.push_back(const_cast<char*>(word.c_str()));
  arguments.push_back(nullptr);
  ::execv(file->c_str(), arguments.data());
  return report(fail_system("cannot run " + *file).error());
}

}  // namespace ringcap::tools

// The commands of `ringcap`: one function each, found by name in the table of tools/ringcap.cc.
//
// Each is called once by main, with the words after the command's name, and returns the exit status
// (tools/cli.h). What each does is in its manual page.
#pragma once

#include <string>
#include <vector>

namespace ringcap::tools {

using Words = std::vector<std::string>;

struct Command {
  const char* name;
  const char* summary;
  int (*run)(const Words& words);
};

int run_up(const Words& words);
int run_down(const Words& words);
int run_capture(const Words& words);
int run_send(const Words& words);
int run_stat(const Words& words);
int run_balance(const Words& words);
int run_devices(const Words& words);
int run_bridge(const Words& words);
int run_bind(const Words& words);
int run_unbind(const Words& words);
int run_doctor(const Words& words);
int run_selftest(const Words& words);
int run_filter(const Words& words);
int run_run(const Words& words);
int run_version(const Words& words);

}  // namespace ringcap::tools

// What every command shares: options, help, configuration file, log, and how a run ends.
//
// Called by a command's run function, in the tool's main thread, before it does anything:
//
//   std::string file;
//   Words filter;
//   Cli cli({.command = "capture", .usage = "[OPTION]... PORT [FILTER]", .summary = "...", .example =
//   "..."}); cli.options()("write,w", value(&file)->value_name("FILE"), "write frames to FILE");
//   cli.take(&port, "PORT");
//   cli.take_rest(&filter, "FILTER");
//   if (auto status = cli.parse(words)) return *status;   // --help was given, or an error was shown
//   ...
//   return finish(kExitOk);
//
// Results go to stdout (`print`), everything else to stderr, as "ringcap: ...".
#pragma once

#include <fmt/format.h>

#include <boost/program_options.hpp>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "capture/base/error.h"
#include "tools/command.h"

namespace ringcap::tools {

// Exit statuses that no error stands for; exit_status() gives the others.
inline constexpr int kExitOk = 0;
inline constexpr int kExitError = 1;
inline constexpr int kExitUsage = 2;
inline constexpr int kExitLost = 3;   // done, but frames were lost
inline constexpr int kExitFault = 7;  // doctor, selftest, stat found a fault

int exit_status(Code code);

// Shows an error on stderr, "ringcap: TEXT" and what mends it on a line below, and returns its exit status.
int report(const Error& error);
// One line on stderr: "ringcap: TEXT".
void say(const std::string& text);

// Text to stdout. A failure to write is kept, and shown by finish().
void print_text(const std::string& text);
template <typename... Args>
void print(fmt::format_string<Args...> format, Args&&... args) {
  print_text(fmt::format(format, std::forward<Args>(args)...));
}
// The last call of a command: flushes stdout. Returns `status`, or, where stdout could not take everything
// (closed, full disk, reader gone), shows that and returns 1.
int finish(int status);

// As an option's type, in place of a number: po::value<Count>(&x) takes "10k", Bytes "256M", Duration "5s".
struct Count {
  uint64_t value = 0;
};
struct Bytes {
  uint64_t value = 0;
};
struct Duration {
  uint64_t ns = 0;
};

struct About {
  std::string command;
  std::string usage;        // what follows the command's name: "[OPTION]... PORT [FILTER]"
  std::string summary;      // one sentence
  std::string example;      // lines that work as they stand; shown indented
  std::string manual = {};  // its manual page, where that is not ringcap-COMMAND
};

class Cli {
 public:
  explicit Cli(About about);

  // Adds options, in Boost's way: ("long,s", value(&variable)->value_name("N"), "what it does"). Variables
  // keep what they hold where the option is not given. Do not use required().
  boost::program_options::options_description_easy_init options() { return own_.add_options(); }
  // Adds --json.
  void json(bool* wanted);

  // The next word of the line that is no option. An optional word may only be followed by optional ones.
  void take(std::string* word, std::string name, bool optional = false);
  // All words that are left: a FILTER, more PORTs. At least `least` of them.
  void take_rest(std::vector<std::string>* words, std::string name, size_t least = 0);

  // A configuration file that is read if it is there and --config was not given. The function is called
  // when the line's options and words are in their variables; it returns the path, or "" for none.
  void default_config(std::function<std::string()> path) { default_config_ = std::move(path); }

  // Fills the variables; the line wins over the file. Returns the exit status if the command is to end here.
  std::optional<int> parse(const Words& words);
  // Whether the option was given, on the line or in the file.
  bool given(const std::string& option) const {
    return values_.count(option) && !values_[option].defaulted();
  }

  // --help's text.
  std::string help() const;

 private:
  struct Word {
    std::string* variable;
    std::string name;
    bool optional;
  };

  Result<void> parse_line(const Words& words);
  Result<void> hand_out(const Words& words);
  Result<void> read_config();
  Error unknown_option(const std::string& name, const std::string& where, const std::string& dashes) const;
  Error bad_usage(std::string text) const;

  About about_;
  boost::program_options::options_description own_;     // the command's
  boost::program_options::options_description common_;  // every command's
  boost::program_options::variables_map values_;
  std::vector<Word> taken_;
  std::vector<std::string>* rest_ = nullptr;
  std::string rest_name_;
  size_t rest_least_ = 0;
  std::function<std::string()> default_config_;
  std::string config_;
  std::string log_level_;
};

// Found by Boost through the types of options.
void validate(boost::any& out, const std::vector<std::string>& words, Count*, int);
void validate(boost::any& out, const std::vector<std::string>& words, Bytes*, int);
void validate(boost::any& out, const std::vector<std::string>& words, Duration*, int);

}  // namespace ringcap::tools

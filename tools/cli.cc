#include "tools/cli.h"

#include <fmt/format.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <numeric>
#include <system_error>

#include "capture/base/units.h"

namespace ringcap::tools {
namespace po = boost::program_options;
namespace {

// Everything that is no option, under a name that nobody types.
constexpr const char* kWords = "<words>";
constexpr int kStyle = po::command_line_style::unix_style & ~po::command_line_style::allow_guessing;

// How many letters must change to make one word the other (Levenshtein).
size_t distance(const std::string& a, const std::string& b) {
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), size_t{0});
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = std::exchange(row[0], i);
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t changed = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = std::exchange(row[j], std::min({row[j] + 1, row[j - 1] + 1, changed}));
    }
  }
  return row.back();
}

// "-w, --write FILE"
std::string display_name(const po::option_description& option) {
  const std::string canonical = option.canonical_display_name(po::command_line_style::allow_dash_for_short);
  std::string name = canonical.starts_with("--") || canonical.size() != 2 ? "    " : canonical + ", ";
  name += "--" + option.long_name();
  if (option.semantic()->max_tokens() == 0) return name;
  const std::string value = option.semantic()->name();
  return name + " " + value.substr(0, value.find(" (="));
}

std::string display_text(const po::option_description& option) {
  const std::string value = option.semantic()->name();
  const size_t start = value.find(" (=");
  if (start == std::string::npos || option.semantic()->max_tokens() == 0) return option.description();
  return fmt::format("{} (default: {})", option.description(),
                     value.substr(start + 3, value.size() - start - 4));
}

// `text` in lines of at most `width` characters, all but the first indented.
std::string wrapped(const std::string& text, size_t indent, size_t width) {
  std::string out;
  size_t column = 0;
  for (size_t at = 0; at < text.size();) {
    const size_t end = std::min(text.find(' ', at), text.size());
    if (column != 0 && column + 1 + end - at > width) {
      out += "\n" + std::string(indent, ' ');
      column = 0;
    } else if (column != 0) {
      out += ' ';
      ++column;
    }
    out += text.substr(at, end - at);
    column += end - at;
    at = end + 1;
  }
  return out;
}

std::string option_table(const po::options_description& options) {
  constexpr size_t kColumn = 30;
  std::string out;
  for (const auto& option : options.options()) {
    std::string name = "  " + display_name(*option);
    name += name.size() + 2 > kColumn ? "\n" + std::string(kColumn, ' ')
                                      : std::string(kColumn - name.size(), ' ');
    out += name + wrapped(display_text(*option), kColumn, 100 - kColumn) + "\n";
  }
  return out;
}

std::string indented(const std::string& text) {
  std::string out = "  ";
  for (const char c : text) {
    out += c;
    if (c == '\n') out += "  ";
  }
  return out + "\n";
}

// The log: on stderr, like every message. The level: --log-level, else RINGCAP_LOG, else info.
Result<void> set_up_log(std::string level) {
  const char* environment = ::secure_getenv("RINGCAP_LOG");
  if (level.empty() && environment != nullptr) level = environment;
  if (level.empty()) level = "info";
  const auto value = spdlog::level::from_str(level);
  if (value == spdlog::level::off && level != "off") {
    return fail(Code::kUsage, fmt::format("no such log level: '{}'", level),
                "levels: trace, debug, info, warning, error, off");
  }
  auto log = std::make_shared<spdlog::logger>("ringcap", std::make_shared<spdlog::sinks::stderr_sink_mt>());
  log->set_pattern("ringcap: %v");
  log->set_level(value);
  spdlog::set_default_logger(std::move(log));
  return {};
}

int write_error = 0;  // of the first write to stdout that failed

[[noreturn]] void refuse(const Error& error) { throw po::error(error.text); }

const std::string& only_word(const std::vector<std::string>& words) {
  return po::validators::get_single_string(words);
}

}  // namespace

int exit_status(Code code) {
  switch (code) {
    case Code::kSystem:
      return 1;
    case Code::kUsage:
      return kExitUsage;
    case Code::kFilter:
      return 2;
    case Code::kGone:
      return 4;
    case Code::kPermission:
      return 5;
    case Code::kNotFound:
      return 6;
    case Code::kVersion:
      return 1;
  }
  return 1;
}

void say(const std::string& text) { fmt::print(stderr, "ringcap: {}\n", text); }

int report(const Error& error) {
  say(error.text);
  if (!error.mend.empty()) fmt::print(stderr, "  {}\n", error.mend);
  return exit_status(error.code);
}

void print_text(const std::string& text) {
  if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size() && write_error == 0)
    write_error = errno;
}

int finish(int status) {
  if (std::fflush(stdout) != 0 && write_error == 0) write_error = errno;
  if (write_error == 0) return status;
  say(fmt::format("cannot write to standard output: {}", std::generic_category().message(write_error)));
  return exit_status(Code::kSystem);
}

Cli::Cli(About about) : about_(std::move(about)) {
  if (about_.manual.empty()) about_.manual = "ringcap-" + about_.command;
  common_.add_options()("help,h", "show this help");
  common_.add_options()("config", po::value(&config_)->value_name("FILE"),
                        "read options from FILE, a line each: NAME = VALUE");
  common_.add_options()("log-level", po::value(&log_level_)->value_name("LEVEL"),
                        "trace, debug, info, warning, error or off (default: info)");
}

void Cli::json(bool* wanted) { options()("json", po::bool_switch(wanted), "print JSON in place of a table"); }

void Cli::take(std::string* word, std::string name, bool optional) {
  taken_.push_back({word, std::move(name), optional});
}

void Cli::take_rest(std::vector<std::string>* words, std::string name, size_t least) {
  rest_ = words;
  rest_name_ = std::move(name);
  rest_least_ = least;
}

std::string Cli::help() const {
  std::string out = fmt::format("Usage: ringcap {} {}\n\n", about_.command, about_.usage);
  out += wrapped(about_.summary, 0, 100) + "\n\nOptions:\n";
  out += option_table(own_) + option_table(common_);
  return out + "\nExample:\n" + indented(about_.example) + fmt::format("\nManual: man {}\n", about_.manual);
}

Error Cli::bad_usage(std::string text) const {
  return {Code::kUsage, std::move(text),
          fmt::format("usage: ringcap {0} {1}; `ringcap {0} --help` lists the options", about_.command,
                      about_.usage)};
}

Error Cli::unknown_option(const std::string& name, const std::string& where,
                          const std::string& dashes) const {
  const std::string bare = name.substr(std::min(name.find_first_not_of('-'), name.size()));
  std::string nearest;
  std::string all;
  size_t best = bare.size() / 3 + 2;
  for (const auto* group : {&own_, &common_}) {
    for (const auto& option : group->options()) {
      all += " " + dashes + option->long_name();
      const size_t far = distance(bare, option->long_name());
      if (far < best) nearest = option->long_name();
      best = std::min(best, far);
    }
  }
  Error error{Code::kUsage, fmt::format("{} has no option '{}'", where, name), {}};
  error.mend =
      nearest.empty() ? "the options are:" + all : fmt::format("did you mean {}{}?", dashes, nearest);
  return error;
}

Result<void> Cli::hand_out(const Words& words) {
  size_t next = 0;
  for (const Word& word : taken_) {
    if (next < words.size()) {
      *word.variable = words[next++];
    } else if (!word.optional) {
      return std::unexpected(bad_usage(fmt::format("ringcap {} needs a {}", about_.command, word.name)));
    }
  }
  if (rest_ == nullptr && next < words.size()) {
    return std::unexpected(bad_usage(fmt::format("one word too many: '{}'", words[next])));
  }
  if (rest_ == nullptr) return {};
  rest_->assign(words.begin() + static_cast<std::ptrdiff_t>(next), words.end());
  if (rest_->size() >= rest_least_) return {};
  return std::unexpected(bad_usage(fmt::format("ringcap {} needs a {}", about_.command, rest_name_)));
}

Result<void> Cli::parse_line(const Words& words) try {
  po::options_description all;
  all.add(own_).add(common_).add_options()(kWords, po::value<std::vector<std::string>>());
  po::positional_options_description positions;
  positions.add(kWords, -1);
  po::store(po::command_line_parser(words).options(all).positional(positions).style(kStyle).run(), values_);
  if (values_.count("help")) return {};
  po::notify(values_);
  return hand_out(values_.count(kWords) ? values_[kWords].as<std::vector<std::string>>() : Words{});
} catch (const po::unknown_option& error) {
  return std::unexpected(unknown_option(error.get_option_name(), "ringcap " + about_.command, "--"));
} catch (const po::error& error) {
  return std::unexpected(bad_usage(error.what()));
}

Result<void> Cli::read_config() {
  std::string path = config_;
  if (path.empty() && default_config_) path = default_config_();
  if (path.empty()) return {};
  std::ifstream file(path);
  if (!file && config_.empty() && errno == ENOENT) return {};
  if (!file) return fail_system(fmt::format("cannot read the configuration {}", path));
  try {
    po::store(po::parse_config_file(file, own_), values_);
    po::notify(values_);
  } catch (const po::unknown_option& error) {
    return std::unexpected(unknown_option(error.get_option_name(), path, ""));
  } catch (const po::error& error) {
    return fail(Code::kUsage, fmt::format("{}: {}", path, error.what()));
  }
  return {};
}

std::optional<int> Cli::parse(const Words& words) {
  if (auto done = parse_line(words); !done) return report(done.error());
  if (values_.count("help")) {
    print_text(help());
    return finish(kExitOk);
  }
  if (auto done = read_config(); !done) return report(done.error());
  if (auto done = set_up_log(log_level_); !done) return report(done.error());
  return std::nullopt;
}

void validate(boost::any& out, const std::vector<std::string>& words, Count*, int) {
  const auto value = parse_count(only_word(words));
  if (!value) refuse(value.error());
  out = Count{*value};
}

void validate(boost::any& out, const std::vector<std::string>& words, Bytes*, int) {
  const auto value = parse_bytes(only_word(words));
  if (!value) refuse(value.error());
  out = Bytes{*value};
}

void validate(boost::any& out, const std::vector<std::string>& words, Duration*, int) {
  const auto value = parse_duration_ns(only_word(words));
  if (!value) refuse(value.error());
  out = Duration{*value};
}

}  // namespace ringcap::tools

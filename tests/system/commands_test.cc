// The command line as a whole: statuses, standard output that fails, manual pages, completion.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <regex>
#include <set>

#include "tests/system/harness.h"

namespace ringcap::test {
namespace {

namespace fs = std::filesystem;

const fs::path kSource = RINGCAP_SOURCE_DIR;

TEST(Commands, one_that_is_not_there_lists_those_that_are) {
  const Outcome outcome = ringcap({"captrue"});
  EXPECT_EQ(outcome.status, 2);
  EXPECT_EQ(outcome.out, "");
  EXPECT_NE(outcome.err.find("no such command: 'captrue'"), std::string::npos) << outcome.err;
  EXPECT_NE(
      outcome.err.find(
          "up down capture stat balance bridge devices bind unbind doctor selftest filter run send version"),
      std::string::npos)
      << outcome.err;
}

TEST(Commands, selftest_refuses_what_is_no_nic_and_an_arena_that_is_too_small) {
  EXPECT_EQ(ringcap({"selftest"}).status, 2);
  EXPECT_EQ(ringcap({"selftest", "ffff:ff:1f.7"}).status, 6);
  EXPECT_EQ(ringcap({"selftest", "lo"}).status, 2);
  const Outcome small = ringcap({"selftest", "--arena", "1M", "ffff:ff:1f.7"});
  EXPECT_EQ(small.status, 2);
  EXPECT_NE(small.err.find("--arena 16M"), std::string::npos) << small.err;
}

TEST(Commands, version_names_ringcap_layout_and_kernel) {
  const auto json = nlohmann::json::parse(ringcap({"version", "--json"}).out);
  EXPECT_EQ(json["schema"], "ringcap.version/1");
  EXPECT_TRUE(json.contains("ringcap") && json.contains("layout") && json.contains("kernel"));
}

TEST(Commands, a_full_disk_behind_standard_output_is_an_error) {
  const Fd full(::open("/dev/full", O_WRONLY | O_CLOEXEC));
  const Outcome outcome = ringcap({"devices"}, {.stdout_fd = full.get()});
  EXPECT_EQ(outcome.status, 1);
  EXPECT_NE(outcome.err.find("No space left on device"), std::string::npos) << outcome.err;
}

TEST(Commands, a_reader_that_went_away_is_an_error) {
  int ends[2];
  ASSERT_EQ(::pipe2(ends, O_CLOEXEC), 0);
  ::close(ends[0]);
  const Fd writing(ends[1]);
  const Outcome outcome = ringcap({"devices"}, {.stdout_fd = writing.get()});
  EXPECT_EQ(outcome.status, 1);
  EXPECT_NE(outcome.err.find("Broken pipe"), std::string::npos) << outcome.err;
}

TEST(Commands, a_closed_standard_output_is_an_error) {
  const Outcome outcome = run({"sh", "-c", "exec \"$0\" devices >&-", RINGCAP_PROGRAM});
  EXPECT_EQ(outcome.status, 1);
  EXPECT_NE(outcome.err.find("Bad file descriptor"), std::string::npos) << outcome.err;
}

TEST(Commands, devices_lists_the_interfaces_of_this_namespace) {
  const auto json = nlohmann::json::parse(ringcap({"devices", "--json"}).out);
  EXPECT_EQ(json["schema"], "ringcap.devices/1");
  const auto& interfaces = json["interfaces"];
  EXPECT_TRUE(std::ranges::any_of(interfaces, [](const auto& i) { return i["name"] == "lo"; })) << json;
}

TEST(Commands, doctor_says_by_its_status_whether_it_found_a_fault) {
  const Outcome outcome = ringcap({"doctor", "--json"});
  const auto json = nlohmann::json::parse(outcome.out);
  const auto& findings = json["findings"];
  const bool fault = std::ranges::any_of(findings, [](const auto& f) { return f["severity"] == "error"; });
  EXPECT_EQ(outcome.status, fault ? 7 : 0) << json;
}

TEST(Commands, doctor_makes_no_run_directory) {
  const TestDir dir;
  fs::remove_all(dir.run_dir());
  const Outcome outcome = ringcap({"doctor"});
  EXPECT_NE(outcome.out.find("run-dir"), std::string::npos);
  EXPECT_FALSE(fs::exists(dir.run_dir()));
}

TEST(Commands, binding_what_is_not_there_is_not_found) {
  const TestDir dir;
  EXPECT_EQ(ringcap({"bind", "ffff:ff:1f.7"}).status, 6);
  EXPECT_EQ(ringcap({"bind", "no-such-nic"}).status, 6);
  EXPECT_EQ(ringcap({"bind", "--keep", "ffff:ff:1f.7"}).status, 6);
  EXPECT_EQ(ringcap({"bind", "lo"}).status, 2);
  EXPECT_EQ(ringcap({"bind"}).status, 2);
}

// ---- manual pages and help say the same --------------------------------------------------------------

struct Page {
  const char* file;
  std::vector<std::string> commands;
};
const Page kPages[] = {
    {"ringcap.1", {"version"}},         {"ringcap-up.1", {"up", "down"}},
    {"ringcap-capture.1", {"capture"}}, {"ringcap-stat.1", {"stat"}},
    {"ringcap-devices.1", {"devices"}}, {"ringcap-bind.1", {"bind", "unbind"}},
    {"ringcap-doctor.1", {"doctor"}},   {"ringcap-selftest.1", {"selftest"}},
    {"ringcap-balance.1", {"balance"}}, {"ringcap-filter.1", {"filter"}},
    {"ringcap-run.1", {"run"}},         {"ringcap-bridge.1", {"bridge"}},
    {"ringcap-send.1", {"send"}},
};
const std::set<std::string> kCommon = {"--help", "--config", "--log-level", "-h"};

std::set<std::string> matches(const std::string& text, const std::regex& pattern) {
  std::set<std::string> found;
  for (std::sregex_iterator at(text.begin(), text.end(), pattern), end; at != end; ++at)
    found.insert((*at)[1]);
  return found;
}

// The options in the table of a command's help, short and long.
std::set<std::string> options_of_help(const std::string& command) {
  const std::string help = ringcap({command, "--help"}).out;
  auto options = matches(help, std::regex("\n {2,6}(?:-[A-Za-z], )?(--[a-z-]+)"));
  options.merge(matches(help, std::regex("\n  (-[A-Za-z]), --")));
  for (const std::string& common : kCommon) EXPECT_TRUE(options.erase(common)) << command << " " << common;
  return options;
}

// The options that a page describes: ".It Fl w , Fl -write Ar file".
std::set<std::string> options_of_page(const std::string& file) {
  std::set<std::string> options;
  const std::string page = read_file(kSource / "docs/man" / file);
  for (const std::string& item : matches(page, std::regex("\n\\.It (Fl [^\n]*)"))) {
    for (const std::string& name : matches(item, std::regex("Fl (-?[A-Za-z-]+)"))) options.insert("-" + name);
  }
  return options;
}

TEST(Manual, has_every_option_of_help_and_no_other) {
  for (const Page& page : kPages) {
    std::set<std::string> help;
    for (const std::string& command : page.commands) help.merge(options_of_help(command));
    std::set<std::string> manual = options_of_page(page.file);
    for (const std::string& common : kCommon) manual.erase(common);
    EXPECT_EQ(manual, help) << page.file;
  }
}

TEST(Manual, describes_the_options_of_all_commands_once) {
  const auto options = options_of_page("ringcap.1");
  EXPECT_TRUE(std::ranges::includes(options, kCommon));
}

TEST(Manual, is_there_for_every_command_that_help_lists) {
  const auto commands = matches(ringcap({"--help"}).out, std::regex("\n  ([a-z]+)  "));
  EXPECT_GE(commands.size(), 9u);
  std::set<std::string> described;
  for (const Page& page : kPages) described.insert(page.commands.begin(), page.commands.end());
  EXPECT_EQ(commands, described);
}

TEST(Manual, pages_are_without_errors) {
  for (const auto& page : fs::directory_iterator(kSource / "docs/man")) {
    const Outcome outcome = run({"mandoc", "-Tlint", "-Wwarning", page.path()});
    EXPECT_EQ(outcome.status, 0) << outcome.out << outcome.err;
  }
}

TEST(Manual, names_every_key_of_a_port_address) {
  const std::string page = read_file(kSource / "docs/man/ringcap-ports.7");
  const auto described = matches(page, std::regex("\n\\.It Cm ([a-z]+)\n"));
  for (const char* port : {"vfio:03:00.0,?=", "packet:lo,?=", "tap:t,?=", "pcap:x,?=", "gen:?="}) {
    const std::string error = ringcap({"capture", port, "--count-only"}).err;
    const auto list = matches(error, std::regex("the keys of [a-z]+: are ([a-z, ]+)"));
    ASSERT_EQ(list.size(), 1u) << error;
    for (const std::string& key : matches(*list.begin(), std::regex("([a-z]+)"))) {
      EXPECT_TRUE(described.contains(key)) << key;
    }
  }
}

// ---- completion ----------------------------------------------------------------------------------------

std::string complete(const std::string& line) {
  const std::string script = R"(
    PATH="$(dirname "$1"):$PATH"; . "$2"; compopt() { :; }
    COMP_LINE="$3"; COMP_POINT=${#COMP_LINE}; read -ra COMP_WORDS <<< "$3"
    [[ $3 == *' ' ]] && COMP_WORDS+=("")
    COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); _ringcap; echo "${COMPREPLY[@]}")";
  const Outcome outcome =
      run({"bash", "-c", script, "bash", RINGCAP_PROGRAM, kSource / "tools/completion/ringcap", line});
  EXPECT_EQ(outcome.err, "") << line;
  return outcome.out;
}

TEST(Completion, knows_commands_options_values_and_interfaces) {
  EXPECT_EQ(complete("ringcap do"), "down doctor\n");
  EXPECT_EQ(complete("ringcap bind --k"), "--keep\n");
  EXPECT_EQ(complete("ringcap devices --log-level w"), "warning\n");
  EXPECT_EQ(complete("ringcap balance --kind flow"), "flow5 flow4 flow2\n");
  EXPECT_EQ(complete("ringcap filter --dump "), "bpf asm\n");
  EXPECT_EQ(complete("ringcap capture lo"), "lo\n");
  EXPECT_EQ(complete("ringcap up packet:l"), "lo\n");  // Bash parts words at colons: only the rest is given
}

}  // namespace
}  // namespace ringcap::test

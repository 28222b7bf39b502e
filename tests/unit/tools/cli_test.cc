#include "tools/cli.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

namespace ringcap::tools {
namespace {

namespace po = boost::program_options;

// A command line with a bit of everything.
struct Example {
  Example()
      : cli({.command = "try",
             .usage = "[OPTION]... PORT [FILTER]",
             .summary = "Tries.",
             .example = "ringcap try x"}) {
    cli.options()("write,w", po::value(&file)->value_name("FILE"), "write to FILE");
    cli.options()("ring", po::value(&ring)->value_name("N"), "frames");
    cli.options()("memory-bytes", po::value(&bytes)->value_name("BYTES"), "memory");
    cli.options()("wait", po::value(&wait)->value_name("TIME"), "wait");
    cli.options()("force", po::bool_switch(&force), "force");
    cli.take(&port, "PORT");
    cli.take_rest(&filter, "FILTER");
  }
  std::optional<int> parse(const Words& words) { return cli.parse(words); }

  std::string file, port;
  Count ring{16'384};
  Bytes bytes;
  Duration wait;
  bool force = false;
  Words filter;
  Cli cli;
};

class CliTest : public testing::Test {
 protected:
  void SetUp() override { testing::internal::CaptureStderr(); }
  void TearDown() override {
    if (!errors_read_) errors();
    std::filesystem::remove(config_);
  }
  std::string errors() {
    errors_read_ = true;
    return testing::internal::GetCapturedStderr();
  }
  std::string config(const std::string& text) {
    std::ofstream(config_) << text;
    return config_;
  }

 private:
  bool errors_read_ = false;
  std::string config_ = testing::TempDir() + "ringcap_cli_test_" + std::to_string(::getpid());
};

TEST_F(CliTest, options_and_words_go_into_their_variables) {
  Example example;
  EXPECT_EQ(example.parse({"-w", "x.pcap", "eth0", "--ring", "32k", "--memory-bytes=1M", "--wait=20ms",
                           "--force", "tcp", "port", "80"}),
            std::nullopt);
  EXPECT_EQ(example.file, "x.pcap");
  EXPECT_EQ(example.port, "eth0");
  EXPECT_EQ(example.ring.value, 32'000u);
  EXPECT_EQ(example.bytes.value, 1u << 20);
  EXPECT_EQ(example.wait.ns, 20'000'000u);
  EXPECT_TRUE(example.force);
  EXPECT_EQ(example.filter, (Words{"tcp", "port", "80"}));
}

TEST_F(CliTest, what_is_not_given_keeps_its_value) {
  Example example;
  EXPECT_EQ(example.parse({"eth0"}), std::nullopt);
  EXPECT_EQ(example.ring.value, 16'384u);
  EXPECT_FALSE(example.force);
  EXPECT_FALSE(example.cli.given("ring"));
}

TEST_F(CliTest, a_dash_is_a_word_and_two_dashes_end_the_options) {
  Example example;
  EXPECT_EQ(example.parse({"-w", "-", "eth0", "ip[6]", "-", "1", "=", "0"}), std::nullopt);
  EXPECT_EQ(example.file, "-");
  EXPECT_EQ(example.filter, (Words{"ip[6]", "-", "1", "=", "0"}));
  Example ended;
  EXPECT_EQ(ended.parse({"eth0", "--", "-1", "=", "--force"}), std::nullopt);
  EXPECT_EQ(ended.filter, (Words{"-1", "=", "--force"}));
}

TEST_F(CliTest, an_unknown_option_names_the_nearest) {
  Example example;
  EXPECT_EQ(example.parse({"eth0", "--wriet", "x"}), kExitUsage);
  EXPECT_NE(errors().find("did you mean --write?"), std::string::npos);
}

TEST_F(CliTest, an_unknown_option_like_none_lists_all) {
  Example example;
  EXPECT_EQ(example.parse({"eth0", "--quantum-entanglement"}), kExitUsage);
  EXPECT_NE(errors().find("--write --ring --memory-bytes --wait --force --help --config --log-level"),
            std::string::npos);
}

TEST_F(CliTest, an_option_cut_short_is_not_guessed) {
  Example example;
  EXPECT_EQ(example.parse({"eth0", "--wri", "x"}), kExitUsage);
}

TEST_F(CliTest, a_missing_word_is_named) {
  Example example;
  EXPECT_EQ(example.parse({}), kExitUsage);
  EXPECT_NE(errors().find("ringcap try needs a PORT"), std::string::npos);
}

TEST_F(CliTest, a_word_too_many_is_named) {
  Cli cli({.command = "try", .usage = "", .summary = "", .example = ""});
  EXPECT_EQ(cli.parse({"huh"}), kExitUsage);
  EXPECT_NE(errors().find("'huh'"), std::string::npos);
}

TEST_F(CliTest, a_number_that_is_none_says_why) {
  Example example;
  EXPECT_EQ(example.parse({"eth0", "--ring", "12q"}), kExitUsage);
  EXPECT_NE(errors().find("'12q' is not a whole number"), std::string::npos);
}

TEST_F(CliTest, the_line_wins_over_the_file) {
  Example example;
  const std::string path = config("# comment\nring = 1k\nwrite = from-file\nforce = true\n");
  EXPECT_EQ(example.parse({"eth0", "--config", path, "--ring", "7"}), std::nullopt);
  EXPECT_EQ(example.ring.value, 7u);
  EXPECT_EQ(example.file, "from-file");
  EXPECT_TRUE(example.force);
}

TEST_F(CliTest, the_default_file_is_read_when_the_words_are_known) {
  Example example;
  const std::string path = config("ring = 1k\n");
  example.cli.default_config([&] { return example.port == "eth0" ? path : std::string(); });
  EXPECT_EQ(example.parse({"eth0"}), std::nullopt);
  EXPECT_EQ(example.ring.value, 1'000u);
}

TEST_F(CliTest, a_default_file_that_is_not_there_is_no_error) {
  Example example;
  example.cli.default_config([] { return std::string("/nonexistent/ringcap.conf"); });
  EXPECT_EQ(example.parse({"eth0"}), std::nullopt);
}

TEST_F(CliTest, a_file_that_was_asked_for_must_be_there) {
  Example example;
  EXPECT_EQ(example.parse({"eth0", "--config", "/nonexistent/ringcap.conf"}), 1);
}

TEST_F(CliTest, a_wrong_key_in_a_file_names_file_and_key) {
  Example example;
  const std::string path = config("rings = 1k\n");
  EXPECT_EQ(example.parse({"eth0", "--config", path}), kExitUsage);
  const std::string text = errors();
  EXPECT_NE(text.find(path + " has no option 'rings'"), std::string::npos) << text;
  EXPECT_NE(text.find("did you mean ring?"), std::string::npos) << text;
}

TEST_F(CliTest, help_shows_every_option_and_the_example) {
  const std::string help = Example().cli.help();
  for (const char* part : {"Usage: ringcap try [OPTION]... PORT [FILTER]", "-w, --write FILE", "--ring N",
                           "--config FILE", "-h, --help", "  ringcap try x\n", "man ringcap-try"}) {
    EXPECT_NE(help.find(part), std::string::npos) << part << "\n" << help;
  }
}

TEST_F(CliTest, an_error_is_shown_with_its_mend_and_becomes_a_status) {
  EXPECT_EQ(report({Code::kNotFound, "no such thing", "make one"}), 6);
  EXPECT_EQ(errors(), "ringcap: no such thing\n  make one\n");
}

TEST(ExitStatus, is_as_documented) {
  EXPECT_EQ(exit_status(Code::kSystem), 1);
  EXPECT_EQ(exit_status(Code::kUsage), 2);
  EXPECT_EQ(exit_status(Code::kFilter), 2);
  EXPECT_EQ(exit_status(Code::kGone), 4);
  EXPECT_EQ(exit_status(Code::kPermission), 5);
  EXPECT_EQ(exit_status(Code::kNotFound), 6);
  EXPECT_EQ(exit_status(Code::kVersion), 1);
}

}  // namespace
}  // namespace ringcap::tools

// An engine that was started by root gives that up, and works all the same.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <regex>

#include "tests/system/harness.h"

namespace ringcap::test {
namespace {

std::string status_line(pid_t pid, const std::string& field) {
  const std::string status = read_file("/proc/" + std::to_string(pid) + "/status");
  std::smatch match;
  return std::regex_search(status, match, std::regex(field + ":\\s*([^\\n]*)")) ? match[1].str() : "";
}

TEST(EngineUser, an_engine_of_root_runs_as_another_user_without_capabilities) {
  TestDir dir;
  Engine engine({"gen:rate=1000,full=wait", "--user", "nobody"});
  // Its socket is there a moment before it becomes somebody else.
  EXPECT_TRUE(
      wait_until([&] { return status_line(engine.process().pid(), "Uid") == "65534\t65534\t65534\t65534"; }));
  EXPECT_EQ(status_line(engine.process().pid(), "CapEff"), "0000000000000000");
  EXPECT_EQ(status_line(engine.process().pid(), "CapPrm"), "0000000000000000");
  EXPECT_EQ(status_line(engine.process().pid(), "NoNewPrivs"), "1");
  const auto captured = ringcap({"capture", engine.name(), "--count-only", "-c", "200", "-q"});
  EXPECT_EQ(captured.out, "200\n") << captured.err;
  EXPECT_EQ(engine.imbalance(), "");
  EXPECT_EQ(engine.down(), 0);
}

TEST(EngineUser, a_user_that_does_not_exist_is_refused_and_nothing_runs) {
  TestDir dir;
  const auto refused =
      ringcap({"up", "gen:", "--memory", "plain", "--arena", "32M", "--user", "no-such-user"});
  EXPECT_EQ(refused.status, 6);
  EXPECT_NE(refused.err.find("no user no-such-user"), std::string::npos) << refused.err;
  EXPECT_NE(refused.err.find("useradd"), std::string::npos) << refused.err;
}

}  // namespace
}  // namespace ringcap::test

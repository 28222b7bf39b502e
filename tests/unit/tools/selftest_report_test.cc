#include "tools/selftest_report.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace ringcap::tools {
namespace {

using selftest::Outcome;

const selftest::Report kReport{
    .checks = {{"reset", Outcome::kPassed, "opened"}, {"link", Outcome::kNotPossible, "no cable"}},
    .mac = "00:1b:21:aa:bb:cc"};

TEST(SelfTestReport, cuts_the_address_of_the_nic_unless_it_is_asked_for) {
  const Bench bench{.address = "0000:03:00.0"};
  EXPECT_EQ(verdict_text(kReport, true, false).find("aa:bb:cc"), std::string::npos);
  EXPECT_NE(verdict_text(kReport, true, true).find("00:1b:21:aa:bb:cc"), std::string::npos);
  EXPECT_EQ(selftest_json(bench, kReport, true, false)["mac"], "00:1b:21:xx:xx:xx");
  EXPECT_EQ(selftest_json(bench, kReport, true, true)["mac"], "00:1b:21:aa:bb:cc");
}

TEST(SelfTestReport, has_a_verdict_for_each_end) {
  const Bench bench{.address = "0000:03:00.0"};
  EXPECT_EQ(selftest_json(bench, kReport, true, false)["verdict"], "passed");
  EXPECT_NE(verdict_text(kReport, true, false).find("not possible here: link"), std::string::npos);
  EXPECT_EQ(selftest_json(bench, kReport, false, false)["verdict"], "stopped");
  selftest::Report failed = kReport;
  failed.checks.push_back({"arena", Outcome::kFailed, "never wrote to 3 buffers"});
  EXPECT_TRUE(has_failed(failed));
  EXPECT_EQ(selftest_json(bench, failed, true, false)["verdict"], "failed");
  EXPECT_NE(verdict_text(failed, false, false).find("FAILED: arena"), std::string::npos);
}

}  // namespace
}  // namespace ringcap::tools

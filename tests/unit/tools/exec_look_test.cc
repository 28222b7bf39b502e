// How the kernel would start a program: looked at without running it, and what AppArmor's answers mean.
#include "tools/exec_look.h"

#include <gtest/gtest.h>

namespace ringcap::tools {
namespace {

TEST(ExecLook, a_program_is_looked_at_and_does_not_run) {
  const auto start = look_at_start("/bin/false");
  if (!start) GTEST_SKIP() << "no tracing here";
  EXPECT_FALSE(start->secure);
  EXPECT_FALSE(look_at_start("/nowhere/x")) << "what cannot be started cannot be told of";
}

TEST(ExecLook, a_profile_is_named_where_it_is_enforced) {
  EXPECT_EQ(enforced_profile("tcpdump (enforce)"), "tcpdump");
  EXPECT_EQ(enforced_profile("/usr/sbin/a program (kill)"), "/usr/sbin/a program");
  EXPECT_EQ(enforced_profile("tcpdump (complain)"), "");
  EXPECT_EQ(enforced_profile("unconfined"), "");
  EXPECT_EQ(enforced_profile(""), "");
}

TEST(ExecLook, an_answer_of_the_kernels_is_what_is_allowed_and_not_denied) {
  EXPECT_EQ(allowed_mask("allow 0x00010244\ndeny 0x00000000\naudit 0x00000000\nquiet 0x00000000\n"),
            0x10244u);
  EXPECT_EQ(allowed_mask("allow 0x00000006\ndeny 0x00000002\n"), 4u);
  EXPECT_EQ(allowed_mask("allow\n"), std::nullopt);
  EXPECT_EQ(allowed_mask(""), std::nullopt);
}

}  // namespace
}  // namespace ringcap::tools

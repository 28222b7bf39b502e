#include "capture/cluster/kind.h"

#include <gtest/gtest.h>

namespace ringcap::cluster {
namespace {

TEST(Kind, has_a_name_that_is_read_back) {
  for (uint32_t i = 0; i < kKinds; ++i) {
    const auto kind = static_cast<Kind>(i);
    const auto read = parse_kind(kind_name(kind));
    ASSERT_TRUE(read) << kind_name(kind);
    EXPECT_EQ(*read, kind);
  }
  for (const Level level : {Level::kInner, Level::kOuter}) EXPECT_EQ(parse_level(level_name(level)), level);
}

TEST(Kind, that_is_not_there_is_refused_with_those_that_are) {
  const auto kind = parse_kind("flow6");
  ASSERT_FALSE(kind);
  EXPECT_EQ(kind.error().code, Code::kUsage);
  EXPECT_EQ(
      kind.error().message(),
      "no such kind of balance: 'flow6'; there are: flow5 flow4 flow2 tcp5 ip5 vlan queue port robin ends");
  EXPECT_FALSE(parse_kind(""));
  EXPECT_FALSE(parse_kind("flow"));
  EXPECT_EQ(parse_level("middle").error().message(), "no such level: 'middle'; there are: inner outer");
}

}  // namespace
}  // namespace ringcap::cluster

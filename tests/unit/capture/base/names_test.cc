#include "capture/base/names.h"

#include <gtest/gtest.h>

#include "capture/layout/layout.h"

namespace ringcap {
namespace {

static_assert(kMaxNameLength + 1 == layout::kNameBytes);

TEST(Names, letters_digits_dot_underscore_and_dash_make_a_name) {
  for (const char* name : {"a", "eth0", "0000-03-00.0", "A.b_c-9", "1234567890123456789012345678901"}) {
    EXPECT_TRUE(valid_name(name)) << name;
  }
}

TEST(Names, anything_else_does_not) {
  for (const char* name : {"", ".", "..", ".a", "-a", "_a", "a b", "a/b", "a@b", "a:b", "\xc3\xa4",
                           "12345678901234567890123456789012"}) {
    EXPECT_FALSE(valid_name(name)) << name;
    EXPECT_EQ(check_name("engine name", name).error().code, Code::kUsage);
  }
}

TEST(Names, make_name_always_makes_a_valid_one) {
  EXPECT_EQ(make_name("eth0:1"), "eth0-1");
  EXPECT_EQ(make_name("0000:03:00.0"), "0000-03-00.0");
  for (const char* text :
       {"", "-", "@x", "ein viel zu langer Name mit Leerzeichen", "-2345678901234567890123456789012"}) {
    EXPECT_TRUE(valid_name(make_name(text))) << make_name(text);
  }
}

TEST(Names, consumed_is_an_engine_a_cluster_and_a_member) {
  const Consumed plain = parse_consumed("eth0").value();
  EXPECT_EQ(plain.engine, "eth0");
  EXPECT_EQ(plain.cluster, "");
  const Consumed cluster = parse_consumed("eth0@web").value();
  EXPECT_EQ(cluster.cluster, "web");
  EXPECT_EQ(cluster.member, "");
  const Consumed member = parse_consumed("eth0@web/suricata-1").value();
  EXPECT_EQ(member.engine, "eth0");
  EXPECT_EQ(member.cluster, "web");
  EXPECT_EQ(member.member, "suricata-1");
}

TEST(Names, consumed_is_printed_as_it_is_read) {
  for (const char* text : {"eth0", "eth0@web", "eth0@web/suricata-1"}) {
    EXPECT_EQ(format_consumed(parse_consumed(text).value()), text);
  }
}

TEST(Names, consumed_with_an_empty_or_wrong_part_is_refused) {
  for (const char* text :
       {"", "@web", "eth0@", "eth0@/m", "eth0@web/", "eth0@web/a/b", "eth0@a@b", "eth0/m"}) {
    EXPECT_FALSE(parse_consumed(text)) << text;
  }
}

}  // namespace
}  // namespace ringcap

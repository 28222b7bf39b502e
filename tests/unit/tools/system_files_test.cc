#include "tools/system_files.h"

#include <gtest/gtest.h>

namespace ringcap::tools {
namespace {

TEST(ReadText, is_a_files_text_without_the_newline_at_its_end) {
  EXPECT_EQ(read_text("/proc/self/comm"), "ringcap_unit_te");
}

// A directory can be opened and not read, like a file of sysfs that has no answer now.
TEST(ReadText, of_what_cannot_be_opened_or_read_is_nothing) {
  EXPECT_EQ(read_text("/nowhere"), std::nullopt);
  EXPECT_EQ(read_text("/proc"), std::nullopt);
  EXPECT_EQ(read_text("/sys/class/net/lo/speed").value_or("-1"), "-1");
}

}  // namespace
}  // namespace ringcap::tools

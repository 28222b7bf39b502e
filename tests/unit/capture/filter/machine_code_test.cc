#include "capture/filter/machine_code.h"

#include <gtest/gtest.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <sstream>

#include "tests/unit/capture/filter/filter_test_data.h"

namespace ringcap::filter {
namespace {

struct Range {
  uintptr_t begin = 0;
  uintptr_t end = 0;
  std::string access;  // "r-xp"
};

// This process's mappings.
std::vector<Range> mappings() {
  std::ifstream file("/proc/self/maps");
  std::vector<Range> all;
  for (std::string line; std::getline(file, line);) {
    std::istringstream words(line);
    Range range;
    char dash;
    words >> std::hex >> range.begin >> dash >> range.end >> range.access;
    all.push_back(range);
  }
  return all;
}

Program program() { return *validate(test::compile("tcp port 80")); }

TEST(FilterMachineCode, lies_in_pages_that_are_executable_and_not_writable) {
  Program compiled = program();
  ASSERT_TRUE(compiled.compile());
  const auto at = reinterpret_cast<uintptr_t>(compiled.entry());
  size_t found = 0;
  for (const Range& range : mappings()) {
    EXPECT_FALSE(range.access.starts_with("rwx")) << std::hex << range.begin;
    if (at < range.begin || at >= range.end) continue;
    EXPECT_EQ(range.access, "r-xp");
    ++found;
  }
  EXPECT_EQ(found, 1U);
}

TEST(FilterMachineCode, goes_with_the_last_program_that_has_it) {
  uintptr_t at = 0;
  {
    Program compiled = program();
    ASSERT_TRUE(compiled.compile());
    at = reinterpret_cast<uintptr_t>(compiled.entry());
  }
  for (const Range& range : mappings())
    EXPECT_FALSE(range.begin <= at && at < range.end && range.access == "r-xp");
}

// In a child that may not make memory executable: 0 if compiling fails and run() gives what it did before,
// 77 where the kernel cannot refuse it (PR_SET_MDWE, Linux 6.3).
int compile_where_it_is_refused() {
  if (::prctl(65 /* PR_SET_MDWE */, 1 /* REFUSE_EXEC_GAIN */, 0, 0, 0) != 0) return 77;
  static int said = 0;
  Program refused = program();
  const std::vector<std::byte> frame = test::FrameBuilder().ethernet().ipv4().tcp(80, 1).bytes();
  const auto verdict = [&] { return run(refused, frame.data(), 60, static_cast<uint32_t>(frame.size())); };
  const uint32_t before = verdict();
  const auto compiled = refused.compile();
  for (int i = 0; i < 3; ++i) compile_or_say(refused, [](const std::string&) { ++said; });
  const bool as_before = refused.entry() == nullptr && before != 0 && verdict() == before;
  return !compiled && !compiled.error().text.empty() && as_before && said == 1 ? 0 : 1;
}

TEST(FilterMachineCode, where_executable_memory_is_refused_filters_are_interpreted_and_it_is_said_once) {
  const pid_t child = ::fork();
  if (child == 0) ::_exit(compile_where_it_is_refused());
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFEXITED(status));
  if (WEXITSTATUS(status) == 77) GTEST_SKIP() << "the kernel has no PR_SET_MDWE";
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

}  // namespace
}  // namespace ringcap::filter

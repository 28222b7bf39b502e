// libringcap as others use it: the example program, what the library exports and needs, and a program built
// against an installation with nothing but pkg-config.
#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "tests/system/harness.h"

namespace ringcap::test {
namespace {

namespace fs = std::filesystem;

TEST(Library, the_example_program_reads_every_frame_to_the_sources_end) {
  TestDir dir;
  Engine engine({"gen:count=5000,full=wait", "--wait-consumers", "1"});
  const auto outcome = run({RINGCAP_EXAMPLE, engine.name()});
  EXPECT_EQ(outcome.status, 0) << outcome.err;
  EXPECT_EQ(outcome.out, "5000 frames, 320000 bytes, 0 lost\n");
  EXPECT_EQ(engine.imbalance(), "");
}

TEST(Library, the_example_program_says_which_engines_run_when_it_finds_none_of_that_name) {
  TestDir dir;
  Engine engine({"gen:rate=10"});
  const auto outcome = run({RINGCAP_EXAMPLE, "nobody"});
  EXPECT_EQ(outcome.status, 1);
  EXPECT_NE(outcome.err.find("no engine called nobody runs"), std::string::npos) << outcome.err;
  EXPECT_NE(outcome.err.find(engine.name()), std::string::npos) << outcome.err;
}

TEST(Library, it_exports_ringcap_functions_only_and_needs_neither_libpcap_nor_libhugetlbfs) {
  const auto symbols = run({"nm", "-D", "--defined-only", "--format=just-symbols", RINGCAP_LIBRARY_FILE});
  ASSERT_EQ(symbols.status, 0) << symbols.err;
  std::istringstream lines(symbols.out);
  int count = 0;
  for (std::string line; std::getline(lines, line); ++count)
    EXPECT_TRUE(line.starts_with("ringcap_") || line.starts_with("RINGCAP_")) << line;
  EXPECT_GT(count, 10);
  const auto needed = run({"readelf", "-d", RINGCAP_LIBRARY_FILE});
  EXPECT_EQ(needed.out.find("libpcap"), std::string::npos);
  EXPECT_EQ(needed.out.find("libhugetlbfs"), std::string::npos);
  EXPECT_NE(needed.out.find("[libringcap.so.0]"), std::string::npos) << needed.out;
}

#if !defined(__SANITIZE_ADDRESS__)  // whose libraries only load into programs that were built with it
TEST(Library, a_program_builds_and_runs_against_an_installation_with_pkg_config) {
  TestDir dir;
  const std::string prefix = dir.file("usr");
  const auto installed = run({"cmake", "--install", RINGCAP_BINARY_DIR, "--prefix", prefix});
  ASSERT_EQ(installed.status, 0) << installed.err;
  for (const char* file :
       {"bin/ringcap", "include/ringcap.h", "include/ringcap_filter.h", "share/man/man3/ringcap.3"})
    EXPECT_TRUE(fs::exists(prefix + "/" + file)) << file;
  const std::string build = "P=$(dirname $(find " + prefix + " -name ringcap.pc)) && L=$(dirname $(find " +
                            prefix +
                            " -name libringcap.so)) && cc " RINGCAP_SOURCE_DIR
                            "/docs/example.c $(PKG_CONFIG_PATH=$P pkg-config "
                            "--define-variable=prefix=" +
                            prefix + " --cflags --libs ringcap) -Wl,-rpath,$L -o " + prefix + "/example";
  const auto built = run({"sh", "-c", build});
  ASSERT_EQ(built.status, 0) << built.err;
  Engine engine({"gen:count=100,full=wait", "--wait-consumers", "1"});
  const auto outcome = run({prefix + "/example", engine.name()});
  EXPECT_EQ(outcome.out, "100 frames, 6400 bytes, 0 lost\n") << outcome.err;
}
#endif

}  // namespace
}  // namespace ringcap::test

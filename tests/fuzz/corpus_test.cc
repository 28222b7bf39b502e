// Runs the kept inputs of every fuzzer (corpus/NAME/) through it: what was once found stays found, without
// clang and in every build. CMakeLists.txt makes the table.
#include <fuzzers.h>  // made by CMakeLists.txt
#include <gtest/gtest.h>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <vector>

namespace ringcap::fuzz {
namespace {

std::vector<uint8_t> content(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  EXPECT_TRUE(file) << path;
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

TEST(FuzzCorpus, every_kept_input_passes) {
  for (const auto& [name, run] : kFuzzers) {
    const std::filesystem::path folder =
        std::filesystem::path(RINGCAP_SOURCE_DIR) / "tests/fuzz/corpus" / name;
    if (!std::filesystem::exists(folder)) continue;
    for (const auto& file : std::filesystem::directory_iterator(folder)) {
      SCOPED_TRACE(file.path());
      const std::vector<uint8_t> input = content(file.path());
      EXPECT_EQ(run(input.data(), input.size()), 0);
    }
  }
}

}  // namespace
}  // namespace ringcap::fuzz

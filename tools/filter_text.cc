#include "tools/filter_text.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "libcap/filter/ringcap_filter.h"
#include "tools/system_files.h"

namespace ringcap::tools {

static_assert(sizeof(ringcap_filter_instruction) == sizeof(filter::Instruction));

Result<std::vector<filter::Instruction>> compile_filter(const std::vector<std::string>& words,
                                                        const std::string& file, uint32_t link_type) {
  std::string text = fmt::format("{}", fmt::join(words, " "));
  if (!file.empty()) {
    if (!text.empty()) return fail(Code::kUsage, "a filter was given on the line and with -F: choose one");
    const auto read = read_text(file);
    if (!read) return fail_system("cannot read the filter from " + file);
    text = *read;
  }
  if (std::ranges::all_of(text, [](unsigned char c) { return std::isspace(c) != 0; })) return {};
  std::vector<filter::Instruction> program(filter::kMaxInstructions);
  size_t count = program.size();
  char error[512] = "";
  const int status = ringcap_filter_compile(text.c_str(), static_cast<int>(link_type), 262144, 1,
                                            reinterpret_cast<ringcap_filter_instruction*>(program.data()),
                                            &count, error, sizeof error);
  if (status != RINGCAP_FILTER_OK)
    return fail(Code::kFilter, fmt::format("filter '{}': {}", text, error),
                "man 7 pcap-filter has the language");
  program.resize(count);
  return program;
}

}  // namespace ringcap::tools

#include "tools/cluster_options.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <charconv>

#include "capture/base/names.h"
#include "capture/filter/machine_code.h"
#include "tools/filter_text.h"

namespace ringcap::tools {
namespace {

constexpr uint32_t kEthernet = 1;  // LINKTYPE_ETHERNET
constexpr uint32_t kShortestStallMs = 10, kLongestStallMs = 3'600'000;

Result<void> set_stall_ms(const std::string& value, engine::ClusterOptions& options) {
  const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), options.stall_ms);
  if (error == std::errc() && end == value.data() + value.size() && options.stall_ms >= kShortestStallMs &&
      options.stall_ms <= kLongestStallMs)
    return {};
  return fail(Code::kUsage, fmt::format("stall_ms={}: expected {} to {} milliseconds", value,
                                        kShortestStallMs, kLongestStallMs));
}

Result<void> set_filter(const std::string& value, engine::ClusterOptions& options) {
  auto program = compile_filter({value}, "", kEthernet);
  if (!program) return std::unexpected(program.error());
  if (program->empty()) return {};
  auto valid = filter::validate(*program);
  if (!valid) return std::unexpected(valid.error());
  filter::compile_or_say(*valid, [](const std::string& text) { spdlog::warn("{}", text); });
  options.filter = std::make_shared<filter::Program>(std::move(*valid));
  return {};
}

Result<void> set(const std::string& key, const std::string& value, engine::ClusterOptions& options) {
  if (key == "kind") {
    auto kind = cluster::parse_kind(value);
    if (!kind) return std::unexpected(kind.error());
    options.kind = *kind;
    return {};
  }
  if (key == "level") {
    auto level = cluster::parse_level(value);
    if (!level) return std::unexpected(level.error());
    options.level = *level;
    return {};
  }
  if (key == "stall" && (value == "keep" || value == "move")) {
    options.stall = value == "move" ? layout::Stall::kMove : layout::Stall::kKeep;
    return {};
  }
  if (key == "stall") return fail(Code::kUsage, fmt::format("stall={}: there is keep and move", value));
  if (key == "stall_ms") return set_stall_ms(value, options);
  if (key == "filter") return set_filter(value, options);
  return fail(Code::kUsage, fmt::format("--cluster: unknown key {}", key),
              "there is kind, level, stall, stall_ms and filter");
}

}  // namespace

Result<engine::ClusterOptions> parse_cluster(const std::string& text) {
  engine::ClusterOptions options;
  size_t at = std::min(text.find(','), text.size());
  options.name = text.substr(0, at);
  if (auto valid = check_name("cluster", options.name); !valid) return std::unexpected(valid.error());
  while (at < text.size()) {
    ++at;
    const size_t equals = std::min(text.find('=', at), text.size());
    const std::string key = text.substr(at, equals - at);
    const size_t end = key == "filter" ? text.size() : std::min(text.find(',', at), text.size());
    const std::string value = equals < end ? text.substr(equals + 1, end - equals - 1) : "";
    if (auto done = set(key, value, options); !done)
      return context(fmt::format("--cluster {}", text), done.error());
    at = end;
  }
  return options;
}

}  // namespace ringcap::tools

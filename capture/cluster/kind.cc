#include "capture/cluster/kind.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <iterator>
#include <span>

namespace ringcap::cluster {
namespace {

constexpr const char* kKindNames[] = {"flow5", "flow4", "flow2", "tcp5",  "ip5",
                                      "vlan",  "queue", "port",  "robin", "ends"};
static_assert(std::size(kKindNames) == kKinds);
constexpr const char* kLevelNames[] = {"inner", "outer"};

// The value whose place in the list the name has.
template <typename Value>
Result<Value> parse_name(std::span<const char* const> names, std::string_view text, const char* what) {
  const auto found = std::ranges::find(names, text, [](const char* name) { return std::string_view(name); });
  if (found != names.end()) return static_cast<Value>(found - names.begin());
  return fail(Code::kUsage, fmt::format("no such {}: '{}'", what, text),
              fmt::format("there are: {}", fmt::join(names, " ")));
}

}  // namespace

Result<Kind> parse_kind(std::string_view text) {
  return parse_name<Kind>(kKindNames, text, "kind of balance");
}

const char* kind_name(Kind kind) { return kKindNames[static_cast<size_t>(kind)]; }

Result<Level> parse_level(std::string_view text) { return parse_name<Level>(kLevelNames, text, "level"); }

const char* level_name(Level level) { return kLevelNames[static_cast<size_t>(level)]; }

}  // namespace ringcap::cluster

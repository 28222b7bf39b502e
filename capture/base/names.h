// Names: of engines, clusters, members; and the one parser of what a consumer attaches to. Any thread.
//
//   NAME, CLUSTER, MEMBER := [A-Za-z0-9][A-Za-z0-9._-]*     at most 31 characters
//   CONSUMED              := NAME [ "@" CLUSTER [ "/" MEMBER ] ]
//
// 31, since the shared memory's layout holds 32 bytes with the closing zero (layout::kNameBytes).
#pragma once

#include <string>
#include <string_view>

#include "capture/base/error.h"

namespace ringcap {

inline constexpr size_t kMaxNameLength = 31;

bool valid_name(std::string_view name);
// The same with an error (kUsage) that says what is wrong. `what`: "engine name", "cluster name".
Result<void> check_name(std::string_view what, std::string_view name);
// `text` with every character that a name may not have made '-', cut to 31: "eth0:1" becomes "eth0-1".
std::string make_name(std::string_view text);

struct Consumed {
  std::string engine;
  std::string cluster;  // "": the whole engine
  std::string member;   // "": given by the engine
};

Result<Consumed> parse_consumed(std::string_view text);
std::string format_consumed(const Consumed& consumed);

}  // namespace ringcap

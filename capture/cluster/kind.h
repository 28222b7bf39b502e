// The kinds of balance, and the level of a tunnelled frame that they look at: their names, as they stand
// in options, messages and documents. Both sides use it. docs/clusters.md says what each kind does with
// each frame.
#pragma once

#include <cstdint>
#include <string_view>

#include "capture/base/error.h"

namespace ringcap::cluster {

enum class Kind : uint8_t {
  kFlow5,  // addresses, ports, protocol
  kFlow4,  // addresses, ports
  kFlow2,  // addresses
  kTcp5,   // TCP by flow5, everything else by flow2
  kIp5,    // IP by flow5, everything else by MAC addresses
  kVlan,   // VLAN identifier
  kQueue,  // receive queue
  kPort,   // port
  kRobin,  // one after the other, whatever it is
  kEnds,   // to the member of the source and to the member of the destination
};
inline constexpr uint32_t kKinds = 10;

// Which packet of a tunnelled frame: the innermost, or the one on the outside.
enum class Level : uint8_t { kInner, kOuter };

// "flow5" and so on. Errors (kUsage) list the names there are.
Result<Kind> parse_kind(std::string_view text);
const char* kind_name(Kind kind);
Result<Level> parse_level(std::string_view text);
const char* level_name(Level level);

// Whether balance_hash() decides, rather than the worker (queue, port, robin) or both ends (ends).
constexpr bool is_hashed(Kind kind) { return kind <= Kind::kVlan; }

}  // namespace ringcap::cluster

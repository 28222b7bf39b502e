// The flow hash's key as people write it: 32 hexadecimal digits, its 16 bytes in order (docs/hash.md).
#pragma once

#include <string>

#include "capture/base/error.h"
#include "capture/frame/hash.h"

namespace ringcap::tools {

// Errors: kUsage.
Result<HashKey> parse_hash_key(const std::string& hex);

}  // namespace ringcap::tools

#include "tools/hash_key.h"

#include <fmt/format.h>

#include <array>

namespace ringcap::tools {
namespace {

int digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

}  // namespace

Result<HashKey> parse_hash_key(const std::string& hex) {
  std::array<std::byte, 16> bytes;
  const auto wrong = [&] {
    return fail(Code::kUsage, fmt::format("no key: '{}'", hex), "a key is 32 hexadecimal digits");
  };
  if (hex.size() != 2 * bytes.size()) return wrong();
  for (size_t i = 0; i < bytes.size(); ++i) {
    const int high = digit(hex[2 * i]);
    const int low = digit(hex[2 * i + 1]);
    if (high < 0 || low < 0) return wrong();
    bytes[i] = static_cast<std::byte>(high << 4 | low);
  }
  return HashKey::from_bytes(bytes);
}

}  // namespace ringcap::tools

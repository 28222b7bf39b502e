#include "capture/base/names.h"

#include <fmt/format.h>

#include <algorithm>

namespace ringcap {
namespace {

// Not isalnum(): names do not depend on the locale.
bool letter_or_digit(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

bool name_character(char c) { return letter_or_digit(c) || c == '.' || c == '_' || c == '-'; }

}  // namespace

bool valid_name(std::string_view name) {
  return !name.empty() && name.size() <= kMaxNameLength && letter_or_digit(name.front()) &&
         std::ranges::all_of(name, name_character);
}

Result<void> check_name(std::string_view what, std::string_view name) {
  if (valid_name(name)) return {};
  return fail(
      Code::kUsage, fmt::format("'{}' is not a valid {}", name, what),
      fmt::format("a name has 1 to {} characters, letters, digits, '.', '_' and '-', and begins with a "
                  "letter or a digit",
                  kMaxNameLength));
}

std::string make_name(std::string_view text) {
  std::string name(text.substr(0, kMaxNameLength));
  std::ranges::replace_if(name, [](char c) { return !name_character(c); }, '-');
  if (name.empty() || !letter_or_digit(name.front())) name = "x" + name.substr(0, kMaxNameLength - 1);
  return name;
}

Result<Consumed> parse_consumed(std::string_view text) {
  const size_t at = std::min(text.find('@'), text.size());
  const size_t slash = at == text.size() ? at : std::min(text.find('/', at), text.size());
  Consumed consumed{std::string(text.substr(0, at)), {}, {}};
  if (auto good = check_name("engine name", consumed.engine); !good) return std::unexpected(good.error());
  if (at == text.size()) return consumed;
  consumed.cluster = text.substr(at + 1, slash - at - 1);
  if (auto good = check_name("cluster name", consumed.cluster); !good) return std::unexpected(good.error());
  if (slash == text.size()) return consumed;
  consumed.member = text.substr(slash + 1);
  if (auto good = check_name("member name", consumed.member); !good) return std::unexpected(good.error());
  return consumed;
}

std::string format_consumed(const Consumed& consumed) {
  std::string text = consumed.engine;
  if (!consumed.cluster.empty()) text += "@" + consumed.cluster;
  if (!consumed.member.empty()) text += "/" + consumed.member;
  return text;
}

}  // namespace ringcap

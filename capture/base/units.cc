#include "capture/base/units.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <span>

namespace ringcap {
namespace {

struct Unit {
  std::string_view name;
  uint64_t factor;
};

constexpr Unit kCounts[] = {{"", 1}, {"k", 1'000}, {"M", 1'000'000}, {"G", 1'000'000'000}};
constexpr Unit kBytes[] = {{"", 1}, {"K", 1 << 10}, {"k", 1 << 10}, {"M", 1 << 20}, {"G", 1 << 30}};
constexpr Unit kTimes[] = {{"us", 1'000}, {"ms", 1'000'000}, {"s", 1'000'000'000}};

const Unit* find_unit(std::span<const Unit> units, std::string_view name) {
  for (const Unit& unit : units) {
    if (unit.name == name) return &unit;
  }
  return nullptr;
}

// whole * factor + 0.fraction * factor, exactly; false if it does not fit or is not whole.
bool scale(std::string_view whole, std::string_view fraction, uint64_t factor, uint64_t* value) {
  uint64_t number = 0;
  const auto [end, error] = std::from_chars(whole.data(), whole.data() + whole.size(), number);
  if (error != std::errc() || end != whole.data() + whole.size()) return false;
  if (__builtin_mul_overflow(number, factor, value)) return false;
  uint64_t part = 0;
  uint64_t below = 1;  // the fraction is part / below
  for (const char digit : fraction) {
    if (digit < '0' || digit > '9' || below >= 1'000'000'000) return false;
    below *= 10;
    part = part * 10 + static_cast<uint64_t>(digit - '0');
  }
  return factor * part % below == 0 && !__builtin_add_overflow(*value, factor * part / below, value);
}

Result<uint64_t> parse(std::string_view text, std::span<const Unit> units, uint64_t bare,
                       std::string_view what) {
  const size_t digits = std::min(text.find_first_not_of("0123456789."), text.size());
  const size_t point = std::min(text.find('.'), digits);
  const std::string_view whole = text.substr(0, point);
  const bool has_fraction = point < digits;
  const std::string_view fraction = has_fraction ? text.substr(point + 1, digits - point - 1) : "";
  const Unit bare_unit{"", text == "0" ? 1 : bare};
  const std::string_view name = text.substr(digits);
  const Unit* unit = name.empty() && bare_unit.factor != 0 ? &bare_unit : find_unit(units, name);
  uint64_t value = 0;
  if (unit == nullptr || (has_fraction && fraction.empty()) ||
      !scale(whole, fraction, unit->factor, &value)) {
    return fail(Code::kUsage, fmt::format("'{}' is not {}", text, what));
  }
  return value;
}

}  // namespace

Result<uint64_t> parse_count(std::string_view text) {
  return parse(text, kCounts, 1, "a whole number (k, M, G: thousand, million, thousand million)");
}

Result<uint64_t> parse_bytes(std::string_view text) {
  return parse(text, kBytes, 1, "a number of bytes (K, M, G: 1024 bytes, its square, its cube)");
}

Result<uint64_t> parse_duration_ns(std::string_view text, uint64_t bare_ns) {
  return parse(text, kTimes, bare_ns, "a time (units: s, ms, us)");
}

std::string format_bytes(uint64_t bytes) {
  constexpr const char* kNames[] = {"bytes", "KiB", "MiB", "GiB", "TiB"};
  size_t name = 0;
  double value = static_cast<double>(bytes);
  while (value >= 1024 && name + 1 < std::size(kNames)) {
    value /= 1024;
    ++name;
  }
  return fmt::format("{:.4g} {}", value, kNames[name]);
}

}  // namespace ringcap

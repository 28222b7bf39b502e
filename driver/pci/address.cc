#include "driver/pci/address.h"

#include <fmt/format.h>

#include <charconv>
#include <cstdint>
#include <vector>

namespace ringcap::pci {
namespace {

std::optional<uint32_t> hex(std::string_view digits, uint32_t limit) {
  uint32_t value = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value, 16);
  if (error != std::errc{} || end != digits.data() + digits.size() || value > limit) return std::nullopt;
  return value;
}

std::vector<std::string_view> split(std::string_view text, char separator) {
  std::vector<std::string_view> parts;
  for (size_t at = 0; at <= text.size();) {
    const size_t end = std::min(text.find(separator, at), text.size());
    parts.push_back(text.substr(at, end - at));
    at = end + 1;
  }
  return parts;
}

}  // namespace

std::optional<std::string> normal_address(std::string_view text) {
  const std::vector<std::string_view> whole = split(text, '.');
  if (whole.size() != 2) return std::nullopt;
  std::vector<std::string_view> parts = split(whole[0], ':');
  if (parts.size() == 2) parts.insert(parts.begin(), "0");
  if (parts.size() != 3) return std::nullopt;
  const auto domain = hex(parts[0], 0xffff'ffff), bus = hex(parts[1], 0xff), device = hex(parts[2], 0x1f);
  const auto function = hex(whole[1], 7);
  if (!domain || !bus || !device || !function) return std::nullopt;
  return fmt::format("{:04x}:{:02x}:{:02x}.{:x}", *domain, *bus, *device, *function);
}

}  // namespace ringcap::pci

#include "libcap/pcap/names.h"

#include <cstdlib>
#include <string_view>

namespace ringcap::shim {
namespace {

constexpr std::string_view kPrefix = kDevicePrefix;

// What the map says of `device`; "": nothing.
std::string_view mapped(std::string_view device) {
  const char* map = ::secure_getenv("RINGCAP_PCAP_MAP");
  std::string_view rest = map == nullptr ? "" : map;
  while (!rest.empty()) {
    const auto pair = rest.substr(0, rest.find(','));
    rest.remove_prefix(pair.size() == rest.size() ? pair.size() : pair.size() + 1);
    const auto equals = pair.find('=');
    if (equals != std::string_view::npos && pair.substr(0, equals) == device) return pair.substr(equals + 1);
  }
  return {};
}

}  // namespace

bool is_own_name(const char* device) {
  return device != nullptr && std::string_view(device).starts_with(kPrefix);
}

std::optional<std::string> consumed_by(const char* device) {
  if (device == nullptr) return std::nullopt;
  std::string_view name = device;
  if (const auto to = mapped(name); !to.empty()) name = to;
  if (!name.starts_with(kPrefix)) return std::nullopt;
  return std::string(name.substr(kPrefix.size()));
}

}  // namespace ringcap::shim

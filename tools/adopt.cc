#include "tools/adopt.h"

#include <fmt/format.h>

#include "tools/bind_record.h"

namespace ringcap::tools {

Result<InterfaceState> adopted_interface(const BindPlace& place, const std::string& address) {
  auto record = read_record(place.run_dir, address);
  if (!record && record.error().code != Code::kNotFound) return std::unexpected(record.error());
  if (!record || record->interfaces.empty())
    return fail(
        Code::kNotFound, fmt::format("nobody knows what interface {} had", address),
        fmt::format("give it back and bind it anew: ringcap unbind {0} && ringcap bind {0}", address));
  return std::move(record->interfaces.front());
}

TapOptions adopting_tap(const InterfaceState& state, uint32_t queues) {
  return {.name = state.name,
          .queues = queues,
          .mtu = state.mtu,
          .mac = state.mac,
          .up = false,
          .index = state.index};
}

}  // namespace ringcap::tools

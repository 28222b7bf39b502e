#include "driver/ports/open.h"

#include <fmt/format.h>

#include "driver/gen/port.h"

namespace ringcap {
namespace {

Result<std::unique_ptr<Port>> not_yet(const PortAddress& address) {
  return fail(Code::kUsage, fmt::format("port '{}': {}: is not supported yet", format_port_address(address),
                                        kind_name(address.kind)));
}

}  // namespace

Result<std::unique_ptr<Port>> open_port(const PortAddress& address) {
  switch (address.kind) {
    case PortKind::kVfio:
    case PortKind::kTap:
    case PortKind::kPacket:
    case PortKind::kXdp:
    case PortKind::kPcap:
      break;
    case PortKind::kGen:
      return open_gen_port(address);
  }
  return not_yet(address);
}

}  // namespace ringcap

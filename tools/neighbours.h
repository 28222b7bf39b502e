// The kernel's neighbours of an interface (ARP and IPv6 neighbour discovery): part of interface_state.h.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "capture/base/error.h"

struct nl_sock;

namespace ringcap::tools {

struct NeighbourState {
  std::string address;  // "10.0.0.2", "fe80::2"
  std::string mac;
  int state = 0;       // NUD_PERMANENT, NUD_REACHABLE or NUD_STALE
  uint32_t flags = 0;  // NTF_ROUTER
};

// Those whose link address is known. One that is being checked (delay, probe) is saved as stale: it can be
// used at once, and is checked again.
Result<std::vector<NeighbourState>> save_neighbours(nl_sock* socket, int index);
// 0, or libnl's error. Takes the place of what is known of the neighbour.
int restore_neighbour(nl_sock* socket, int index, const NeighbourState& state);

}  // namespace ringcap::tools

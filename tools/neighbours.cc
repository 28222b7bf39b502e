#include "tools/neighbours.h"

#include <linux/neighbour.h>
#include <sys/socket.h>

#include <algorithm>

#include "tools/netlink.h"

namespace ringcap::tools {
namespace {

constexpr int kBeingChecked = NUD_DELAY | NUD_PROBE;
constexpr int kKnown = NUD_PERMANENT | NUD_REACHABLE | NUD_STALE | kBeingChecked;

NeighbourState save_neighbour(rtnl_neigh* neighbour) {
  const int state = rtnl_neigh_get_state(neighbour);
  return {.address = text_of(rtnl_neigh_get_dst(neighbour)),
          .mac = text_of(rtnl_neigh_get_lladdr(neighbour)),
          .state = (state & kBeingChecked) != 0 ? NUD_STALE : state,
          .flags = rtnl_neigh_get_flags(neighbour) & NTF_ROUTER};
}

}  // namespace

Result<std::vector<NeighbourState>> save_neighbours(nl_sock* socket, int index) {
  nl_cache* raw = nullptr;
  const int number = rtnl_neigh_alloc_cache(socket, &raw);
  if (number < 0) return netlink_error("cannot list neighbours", number);
  const Cache cache(raw);
  std::vector<NeighbourState> states;
  for_each<rtnl_neigh>(cache.get(), [&](rtnl_neigh* neighbour) {
    const int family = rtnl_neigh_get_family(neighbour);
    const bool ip = family == AF_INET || family == AF_INET6;
    const bool known = (rtnl_neigh_get_state(neighbour) & kKnown) != 0;
    if (ip && known && rtnl_neigh_get_ifindex(neighbour) == index && rtnl_neigh_get_lladdr(neighbour))
      states.push_back(save_neighbour(neighbour));
  });
  std::ranges::sort(states, {}, &NeighbourState::address);  // the kernel's order is a hash's
  return states;
}

int restore_neighbour(nl_sock* socket, int index, const NeighbourState& state) {
  const Address address = parse_address(state.address, AF_UNSPEC);
  const Address mac = parse_address(state.mac, AF_LLC);
  if (!address || !mac) return -NLE_INVAL;
  const NeighbourObject neighbour(rtnl_neigh_alloc());
  rtnl_neigh_set_ifindex(neighbour.get(), index);
  rtnl_neigh_set_dst(neighbour.get(), address.get());
  rtnl_neigh_set_lladdr(neighbour.get(), mac.get());
  rtnl_neigh_set_state(neighbour.get(), state.state);
  rtnl_neigh_set_flags(neighbour.get(), state.flags);
  return rtnl_neigh_add(socket, neighbour.get(), NLM_F_CREATE | NLM_F_REPLACE);
}

}  // namespace ringcap::tools

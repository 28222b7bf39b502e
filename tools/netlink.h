// libnl's objects with owners, and what is said again and again to it. For what asks or changes the kernel's
// network configuration; every call is made in the caller's network namespace and thread. See libnl's manual.
#pragma once

#include <netlink/netlink.h>
#include <netlink/route/addr.h>
#include <netlink/route/link.h>
#include <netlink/route/neighbour.h>
#include <netlink/route/route.h>

#include <memory>
#include <string>

#include "capture/base/error.h"

namespace ringcap::tools {

template <auto Free>
struct Freer {
  template <typename T>
  void operator()(T* object) const {
    Free(object);
  }
};
template <typename T, auto Free>
using Owned = std::unique_ptr<T, Freer<Free>>;
using Socket = Owned<nl_sock, nl_socket_free>;
using Cache = Owned<nl_cache, nl_cache_free>;
using LinkObject = Owned<rtnl_link, rtnl_link_put>;
using AddressObject = Owned<rtnl_addr, rtnl_addr_put>;
using NeighbourObject = Owned<rtnl_neigh, rtnl_neigh_put>;
using RouteObject = Owned<rtnl_route, rtnl_route_put>;
using Address = Owned<nl_addr, nl_addr_put>;

// `number` is libnl's, negative; EPERM becomes kPermission.
std::unexpected<Error> netlink_error(const std::string& tried, int number);

// A socket for questions and changes (NETLINK_ROUTE).
Result<Socket> open_netlink();

// "10.0.0.1/24", "02:00:00:00:00:01"; "" of none.
std::string text_of(nl_addr* address);
// nullptr where the text is empty or no address of the family.
Address parse_address(const std::string& text, int family);

template <typename Object, typename Each>
void for_each(nl_cache* cache, Each each) {
  for (nl_object* at = nl_cache_get_first(cache); at != nullptr; at = nl_cache_get_next(at)) {
    each(reinterpret_cast<Object*>(at));
  }
}

}  // namespace ringcap::tools

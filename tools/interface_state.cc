#include "tools/interface_state.h"

#include <fmt/format.h>
#include <linux/if_addr.h>
#include <net/if.h>
#include <netinet/in.h>

#include <algorithm>
#include <chrono>
#include <functional>
#include <iterator>
#include <nlohmann/json.hpp>

#include "tools/netlink.h"
#include "tools/system_files.h"

namespace ringcap::tools {
namespace {

// How long the kernel may need until a route can be added again: an IPv6 address that a route names as
// its source is not usable before duplicate address detection has ended.
constexpr std::chrono::milliseconds kRoutePatience{3'000};

Result<LinkObject> find_link(nl_sock* socket, const std::string& name) {
  rtnl_link* link = nullptr;
  const int number = rtnl_link_get_kernel(socket, 0, name.c_str(), &link);
  if (number == -NLE_OBJ_NOTFOUND || number == -NLE_NODEV) {
    return fail(Code::kNotFound, fmt::format("there is no interface {}", name), "`ip link` lists them");
  }
  if (number < 0) return netlink_error("cannot ask for interface " + name, number);
  return LinkObject(link);
}

std::string index_to_name(int index) {
  char name[IF_NAMESIZE];
  return ::if_indextoname(static_cast<unsigned>(index), name) ? name : "";
}

// ---- saving ----------------------------------------------------------------------------------------

Result<Cache> all_addresses(nl_sock* socket) {
  nl_cache* cache = nullptr;
  const int number = rtnl_addr_alloc_cache(socket, &cache);
  if (number < 0) return netlink_error("cannot list addresses", number);
  return Cache(cache);
}

Result<Cache> all_routes(nl_sock* socket) {
  nl_cache* cache = nullptr;
  const int number = rtnl_route_alloc_cache(socket, AF_UNSPEC, 0, &cache);
  if (number < 0) return netlink_error("cannot list routes", number);
  return Cache(cache);
}

AddressState save_address(rtnl_addr* address) {
  AddressState state;
  state.address = text_of(rtnl_addr_get_local(address));
  state.peer = text_of(rtnl_addr_get_peer(address));
  state.broadcast = text_of(rtnl_addr_get_broadcast(address));
  const char* label = rtnl_addr_get_label(address);
  state.label = label == nullptr ? "" : label;
  state.scope = rtnl_addr_get_scope(address);
  state.flags = rtnl_addr_get_flags(address);
  if (!(state.flags & IFA_F_PERMANENT)) {
    state.valid_s = rtnl_addr_get_valid_lifetime(address);
    state.preferred_s = rtnl_addr_get_preferred_lifetime(address);
  }
  return state;
}

Result<std::vector<AddressState>> save_addresses(nl_sock* socket, int index) {
  const auto cache = all_addresses(socket);
  if (!cache) return std::unexpected(cache.error());
  std::vector<AddressState> states;
  for_each<rtnl_addr>(cache->get(), [&](rtnl_addr* address) {
    if (rtnl_addr_get_ifindex(address) == index) states.push_back(save_address(address));
  });
  return states;
}

bool is_ipv6(const AddressState& state) { return state.address.find(':') != std::string::npos; }
// IPv6's; the same bit says of an IPv4 address that it is not its network's first.
bool is_temporary(const AddressState& state) { return is_ipv6(state) && state.flags & IFA_F_TEMPORARY; }

bool passes(rtnl_route* route, int index) {
  for (int n = 0; n < rtnl_route_get_nnexthops(route); ++n) {
    if (rtnl_route_nh_get_ifindex(rtnl_route_nexthop_n(route, n)) == index) return true;
  }
  return false;
}

// Whose the routes of protocols kernel and ra are.
struct Makers {
  bool kernel = true;      // it makes the routes of the interface's addresses
  bool listens_ra = true;  // and listens to router advertisements
};

Makers makers_of(const std::string& name, const std::vector<AddressState>& addresses) {
  const auto without_route = [](const AddressState& state) { return state.flags & IFA_F_NOPREFIXROUTE; };
  const auto accept_ra = read_text("/proc/sys/net/ipv6/conf/" + name + "/accept_ra");
  return {.kernel = std::ranges::none_of(addresses, without_route),
          .listens_ra = !accept_ra || !accept_ra->starts_with('0')};
}

bool kernel_makes(rtnl_route* route, const Makers& makers) {
  const int protocol = rtnl_route_get_protocol(route);
  return rtnl_route_get_table(route) == RT_TABLE_LOCAL || rtnl_route_get_flags(route) & RTM_F_CLONED ||
         protocol == RTPROT_REDIRECT || (protocol == RTPROT_KERNEL && makers.kernel) ||
         (protocol == RTPROT_RA && makers.listens_ra);
}

// An address's metric is seen by the route that the kernel made for it; libnl 3.7 does not know it.
constexpr uint32_t kIpv6Metric = 256;  // the kernel's choice; IPv4's is 0

void save_metrics(nl_cache* routes, int index, std::vector<AddressState>& addresses) {
  for (AddressState& state : addresses) {
    const Address own = parse_address(state.peer.empty() ? state.address : state.peer, AF_UNSPEC);
    if (!own || state.flags & IFA_F_NOPREFIXROUTE) continue;
    for_each<rtnl_route>(routes, [&](rtnl_route* route) {
      nl_addr* const to = rtnl_route_get_dst(route);
      const bool its = rtnl_route_get_protocol(route) == RTPROT_KERNEL && passes(route, index) &&
                       rtnl_route_get_table(route) == RT_TABLE_MAIN &&
                       nl_addr_get_prefixlen(to) == nl_addr_get_prefixlen(own.get()) &&
                       nl_addr_cmp_prefix(to, own.get()) == 0;
      const uint32_t metric = rtnl_route_get_priority(route);
      if (its && metric != (is_ipv6(state) ? kIpv6Metric : 0)) state.metric = metric;
    });
  }
}

nl_addr* gateway_of(rtnl_nexthop* hop) {
  nl_addr* const other_family = rtnl_route_nh_get_via(hop);
  return other_family != nullptr ? other_family : rtnl_route_nh_get_gateway(hop);
}

RouteState save_route(rtnl_route* route) {
  RouteState state;
  state.family = rtnl_route_get_family(route);
  state.to = text_of(rtnl_route_get_dst(route));
  if (state.to.empty()) state.to = "default";
  state.source = text_of(rtnl_route_get_pref_src(route));
  state.table = rtnl_route_get_table(route);
  state.priority = rtnl_route_get_priority(route);
  state.protocol = rtnl_route_get_protocol(route);
  state.scope = rtnl_route_get_scope(route);
  state.type = rtnl_route_get_type(route);
  state.tos = rtnl_route_get_tos(route);
  for (int metric = 1; metric <= RTAX_MAX; ++metric) {
    uint32_t value = 0;
    if (rtnl_route_get_metric(route, metric, &value) == 0) state.metrics[std::to_string(metric)] = value;
  }
  for (int n = 0; n < rtnl_route_get_nnexthops(route); ++n) {
    rtnl_nexthop* hop = rtnl_route_nexthop_n(route, n);
    state.next_hops.push_back({.interface = index_to_name(rtnl_route_nh_get_ifindex(hop)),
                               .via = text_of(gateway_of(hop)),
                               .weight = rtnl_route_nh_get_weight(hop),
                               .flags = rtnl_route_nh_get_flags(hop) & RTNH_F_ONLINK});
  }
  return state;
}

std::vector<RouteState> save_routes(nl_cache* routes, int index, const Makers& makers) {
  std::vector<RouteState> direct, through_gateway;
  for_each<rtnl_route>(routes, [&](rtnl_route* route) {
    if (!passes(route, index) || kernel_makes(route, makers)) return;
    RouteState state = save_route(route);
    const bool gateway =
        std::ranges::any_of(state.next_hops, [](const NextHopState& hop) { return !hop.via.empty(); });
    (gateway ? through_gateway : direct).push_back(std::move(state));
  });
  // Through a gateway only when the way to the gateway is there again.
  std::ranges::move(through_gateway, std::back_inserter(direct));
  return direct;
}

// ---- restoring -------------------------------------------------------------------------------------

int rename_link(nl_sock* socket, rtnl_link* link, const std::string& name) {
  const LinkObject change(rtnl_link_alloc());
  rtnl_link_unset_flags(change.get(), IFF_UP);  // the kernel renames what is down
  int number = rtnl_link_change(socket, link, change.get(), 0);
  rtnl_link_set_name(change.get(), name.c_str());
  if (number == 0) number = rtnl_link_change(socket, link, change.get(), 0);
  return number;
}

int restore_link(nl_sock* socket, rtnl_link* link, const InterfaceState& state) {
  const LinkObject change(rtnl_link_alloc());
  rtnl_link_set_mtu(change.get(), state.mtu);
  rtnl_link_set_txqlen(change.get(), state.queue_length);
  const Address mac = parse_address(state.mac, AF_LLC);
  const std::string now = text_of(rtnl_link_get_addr(link));
  if (mac && now != state.mac) rtnl_link_set_addr(change.get(), mac.get());
  if (!state.master.empty()) {
    rtnl_link_set_master(change.get(), static_cast<int>(::if_nametoindex(state.master.c_str())));
  }
  if (state.up) {
    rtnl_link_set_flags(change.get(), IFF_UP);
  } else {
    rtnl_link_unset_flags(change.get(), IFF_UP);
  }
  return rtnl_link_change(socket, link, change.get(), 0);
}

// The kernel lists IPv4's addresses as they came, and puts a new one of IPv6 before the others.
std::vector<AddressState> in_order_of_making(const std::vector<AddressState>& listed) {
  std::vector<AddressState> order;
  std::ranges::copy_if(listed, std::back_inserter(order), std::not_fn(is_ipv6));
  std::copy_if(listed.rbegin(), listed.rend(), std::back_inserter(order), is_ipv6);
  return order;
}

// With the metric of its route, which libnl 3.7 has no word for.
int add_address(nl_sock* socket, rtnl_addr* address, uint32_t metric) {
  nl_msg* message = nullptr;
  int number = rtnl_addr_build_add_request(address, 0, &message);
  if (number < 0) return number;
  if (metric != 0) number = nla_put_u32(message, IFA_RT_PRIORITY, metric);
  if (number == 0) return nl_send_sync(socket, message);
  nlmsg_free(message);
  return number;
}

constexpr uint32_t kKeptFlags = IFA_F_NOPREFIXROUTE | IFA_F_NODAD | IFA_F_HOMEADDRESS | IFA_F_MCAUTOJOIN;
// Its route is that of the address that it belongs to; nobody else can have it, and connections wait for it.
constexpr uint32_t kAsTemporary = IFA_F_NOPREFIXROUTE | IFA_F_NODAD;

int restore_address(nl_sock* socket, int index, const AddressState& state) {
  const Address local = parse_address(state.address, AF_UNSPEC);
  if (!local) return -NLE_INVAL;
  const AddressObject address(rtnl_addr_alloc());
  rtnl_addr_set_ifindex(address.get(), index);
  rtnl_addr_set_local(address.get(), local.get());
  const int family = nl_addr_get_family(local.get());
  if (const Address peer = parse_address(state.peer, family)) rtnl_addr_set_peer(address.get(), peer.get());
  if (const Address other = parse_address(state.broadcast, family))
    rtnl_addr_set_broadcast(address.get(), other.get());
  if (family == AF_INET && !state.label.empty()) rtnl_addr_set_label(address.get(), state.label.c_str());
  rtnl_addr_set_scope(address.get(), state.scope);
  rtnl_addr_set_flags(address.get(), (state.flags & kKeptFlags) | (is_temporary(state) ? kAsTemporary : 0));
  if (state.valid_s != ~uint32_t{0}) {
    rtnl_addr_set_valid_lifetime(address.get(), state.valid_s);
    rtnl_addr_set_preferred_lifetime(address.get(), is_temporary(state) ? 0 : state.preferred_s);
  }
  const int number = add_address(socket, address.get(), state.metric);
  return number == -NLE_EXIST ? 0 : number;
}

// The next hop's interface; the saved one's may have been renamed by now, so it goes by index.
rtnl_nexthop* make_hop(const NextHopState& state, const InterfaceState& saved, int index, int family) {
  rtnl_nexthop* hop = rtnl_route_nh_alloc();
  const bool ours = state.interface == saved.name;
  rtnl_route_nh_set_ifindex(hop, ours ? index : static_cast<int>(::if_nametoindex(state.interface.c_str())));
  const Address via = parse_address(state.via, AF_UNSPEC);
  if (via && nl_addr_get_family(via.get()) == family)
    rtnl_route_nh_set_gateway(hop, via.get());
  else if (via)
    rtnl_route_nh_set_via(hop, via.get());
  rtnl_route_nh_set_weight(hop, static_cast<uint8_t>(state.weight));
  rtnl_route_nh_set_flags(hop, state.flags);
  return hop;
}

// A route as it was, with these next hops.
RouteObject make_route(const RouteState& state, const std::vector<NextHopState>& hops,
                       const InterfaceState& saved, int index) {
  const Address to = parse_address(state.to, state.family);
  if (!to) return nullptr;
  RouteObject route(rtnl_route_alloc());
  rtnl_route_set_family(route.get(), static_cast<uint8_t>(state.family));
  rtnl_route_set_dst(route.get(), to.get());
  const Address source = parse_address(state.source, state.family);
  if (source) rtnl_route_set_pref_src(route.get(), source.get());
  rtnl_route_set_table(route.get(), state.table);
  rtnl_route_set_priority(route.get(), state.priority);
  rtnl_route_set_protocol(route.get(), static_cast<uint8_t>(state.protocol));
  rtnl_route_set_scope(route.get(), static_cast<uint8_t>(state.scope));
  rtnl_route_set_type(route.get(), static_cast<uint8_t>(state.type));
  rtnl_route_set_tos(route.get(), static_cast<uint8_t>(state.tos));
  for (const auto& [metric, value] : state.metrics)
    rtnl_route_set_metric(route.get(), std::stoi(metric), value);
  for (const NextHopState& hop : hops)
    rtnl_route_add_nexthop(route.get(), make_hop(hop, saved, index, state.family));
  if (hops.size() == 1) rtnl_route_set_flags(route.get(), hops[0].flags);
  return route;
}

// Beside those to the same destination that go through other interfaces and are still there.
int add_route(nl_sock* socket, const RouteObject& route) {
  if (!route) return -NLE_INVAL;
  const int number = rtnl_route_add(socket, route.get(), NLM_F_APPEND);
  return number == -NLE_EXIST ? 0 : number;
}

// With an interface the kernel removes an IPv4 route of several next hops, but of one of IPv6 only the hops
// through that interface: they are added to the others again.
int add_routes(nl_sock* socket, int index, const RouteState& state, const InterfaceState& saved) {
  if (state.family != AF_INET6) return add_route(socket, make_route(state, state.next_hops, saved, index));
  for (const NextHopState& hop : state.next_hops) {
    if (hop.interface != saved.name) continue;
    const int number = add_route(socket, make_route(state, {hop}, saved, index));
    if (number < 0) return number;
  }
  return 0;
}

int restore_route(nl_sock* socket, int index, const RouteState& state, const InterfaceState& saved) {
  int number = 0;
  (void)wait_until(
      [&] { return (number = add_routes(socket, index, state, saved)) == 0 || number == -NLE_PERM; },
      kRoutePatience);
  return number;
}

}  // namespace

Result<InterfaceState> save_interface(const std::string& name) {
  const auto socket = open_netlink();
  if (!socket) return std::unexpected(socket.error());
  const auto link = find_link(socket->get(), name);
  if (!link) return std::unexpected(link.error());
  InterfaceState state;
  state.name = name;
  state.mac = text_of(rtnl_link_get_addr(link->get()));
  const int master = rtnl_link_get_master(link->get());
  state.master = master > 0 ? index_to_name(master) : "";
  state.mtu = rtnl_link_get_mtu(link->get());
  state.queue_length = rtnl_link_get_txqlen(link->get());
  state.up = rtnl_link_get_flags(link->get()) & IFF_UP;
  const int index = state.index = rtnl_link_get_ifindex(link->get());
  auto addresses = save_addresses(socket->get(), index);
  if (!addresses) return std::unexpected(addresses.error());
  const auto routes = all_routes(socket->get());
  if (!routes) return std::unexpected(routes.error());
  save_metrics(routes->get(), index, *addresses);
  auto neighbours = save_neighbours(socket->get(), index);
  if (!neighbours) return std::unexpected(neighbours.error());
  state.addresses = std::move(*addresses);
  state.routes = save_routes(routes->get(), index, makers_of(name, state.addresses));
  state.neighbours = std::move(*neighbours);
  state.memberships = save_memberships(index);
  return state;
}

std::vector<std::string> restore_interface(const std::string& current, const InterfaceState& state) {
  std::vector<std::string> problems;
  const auto note = [&](const std::string& what, int number) {
    if (number < 0) problems.push_back(fmt::format("{}: {}", what, nl_geterror(number)));
  };
  const auto socket = open_netlink();
  if (!socket) return {socket.error().message()};
  const auto link = find_link(socket->get(), current);
  if (!link) return {link.error().message()};
  const int index = rtnl_link_get_ifindex(link->get());
  if (current != state.name) note("name " + state.name, rename_link(socket->get(), link->get(), state.name));
  note("MAC, MTU, state", restore_link(socket->get(), link->get(), state));
  // First, so that nothing is resolved anew; after the link's address, with which the kernel forgets them.
  for (const NeighbourState& neighbour : state.neighbours) {
    note("neighbour " + neighbour.address, restore_neighbour(socket->get(), index, neighbour));
  }
  for (const AddressState& address : in_order_of_making(state.addresses)) {
    note("address " + address.address, restore_address(socket->get(), index, address));
  }
  for (const RouteState& route : state.routes) {
    note("route to " + route.to, restore_route(socket->get(), index, route, state));
  }
  // By the name that it has: its own may be another's by now.
  for (std::string& problem : restore_memberships(index_to_name(index), state.index, state.memberships))
    problems.push_back(std::move(problem));
  return problems;
}

Result<bool> carries_default_route(const std::string& name) {
  const auto socket = open_netlink();
  if (!socket) return std::unexpected(socket.error());
  const auto cache = all_routes(socket->get());
  if (!cache) return std::unexpected(cache.error());
  const int index = static_cast<int>(::if_nametoindex(name.c_str()));
  bool found = false;
  for_each<rtnl_route>(cache->get(), [&](rtnl_route* route) {
    const bool to_all = nl_addr_get_prefixlen(rtnl_route_get_dst(route)) == 0;
    found |= to_all && rtnl_route_get_type(route) == RTN_UNICAST && passes(route, index);
  });
  return found;
}

Result<bool> has_address(const std::string& name, const std::string& address) {
  const auto state = save_interface(name);
  if (!state) return std::unexpected(state.error());
  return std::ranges::any_of(state->addresses, [&](const AddressState& own) {
    return own.address.substr(0, own.address.find('/')) == address;
  });
}

// With defaults: records of older versions have no metric.
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE_WITH_DEFAULT(AddressState, address, peer, broadcast, label, scope, flags,
                                                valid_s, preferred_s, metric)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(NextHopState, interface, via, weight, flags)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(NeighbourState, address, mac, state, flags)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(Memberships, groups, link_groups)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(RouteState, family, to, source, table, priority, protocol, scope, type,
                                   tos, metrics, next_hops)

void to_json(nlohmann::json& out, const InterfaceState& state) {
  out = {{"name", state.name},
         {"mac", state.mac},
         {"master", state.master},
         {"mtu", state.mtu},
         {"queue_length", state.queue_length},
         {"up", state.up},
         {"addresses", state.addresses},
         {"routes", state.routes},
         {"index", state.index},
         {"neighbours", state.neighbours},
         {"memberships", state.memberships}};
}

void from_json(const nlohmann::json& in, InterfaceState& state) {
  in.at("name").get_to(state.name);
  in.at("mac").get_to(state.mac);
  in.at("master").get_to(state.master);
  in.at("mtu").get_to(state.mtu);
  in.at("queue_length").get_to(state.queue_length);
  in.at("up").get_to(state.up);
  in.at("addresses").get_to(state.addresses);
  in.at("routes").get_to(state.routes);
  // Records of 0.1.0's first days have none of these.
  if (in.contains("index")) in.at("index").get_to(state.index);
  if (in.contains("neighbours")) in.at("neighbours").get_to(state.neighbours);
  if (in.contains("memberships")) in.at("memberships").get_to(state.memberships);
}

}  // namespace ringcap::tools

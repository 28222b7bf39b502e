// What the kernel knows about a network interface and forgets when its driver goes: `bind` saves it, `unbind`
// brings it back, and transparent mode gives it to the TAP that stands for the NIC meanwhile. By netlink
// (libnl), in the caller's network namespace and thread; nothing is kept open. Changing needs CAP_NET_ADMIN.
//
// Not saved: what the kernel makes by itself (the routes of addresses and those of router advertisements, the
// groups that every host is in), and what other programs set (firewall, traffic control, ethtool settings,
// sysctl settings of the interface). Saved are routes that look like the kernel's and are a program's:
// NetworkManager and systemd-networkd give addresses without a route, and add that themselves as of protocol
// kernel; and they listen to router advertisements in the kernel's place, with protocol ra.
#pragma once

#include <cstdint>
#include <map>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "capture/base/error.h"
#include "tools/memberships.h"
#include "tools/neighbours.h"

namespace ringcap::tools {

struct AddressState {
  std::string address;  // "10.0.0.1/24"
  std::string peer;     // "" where there is none
  std::string broadcast;
  std::string label;
  int scope = 0;
  uint32_t flags = 0;               // IFA_F_
  uint32_t metric = 0;              // of the route that the kernel makes for it; 0: the kernel's own choice
  uint32_t valid_s = ~uint32_t{0};  // all ones: for ever
  uint32_t preferred_s = ~uint32_t{0};
};

struct NextHopState {
  std::string interface;
  std::string via;  // "" where there is none; an IPv4 route may go via an IPv6 address
  uint32_t weight = 0;
  uint32_t flags = 0;  // RTNH_F_ONLINK
};

struct RouteState {
  int family = 0;  // AF_INET, AF_INET6
  std::string to;  // "default", "10.1.0.0/16"
  std::string source;
  uint32_t table = 0;
  uint32_t priority = 0;
  int protocol = 0;
  int scope = 0;
  int type = 0;
  int tos = 0;
  std::map<std::string, uint32_t> metrics;  // by RTAX_ number
  std::vector<NextHopState> next_hops;      // at least one goes through the interface
};

struct InterfaceState {
  std::string name;
  int index = 0;  // that it had; 0: not known (an old record)
  std::string mac;
  std::string master;  // bridge or bond that it is in
  uint32_t mtu = 0;
  uint32_t queue_length = 0;
  bool up = false;
  std::vector<AddressState> addresses;
  std::vector<RouteState> routes;
  std::vector<NeighbourState> neighbours;
  Memberships memberships;
};

Result<InterfaceState> save_interface(const std::string& name);

// Brings interface `current` (its name now) back to `state`: name, MAC, MTU, master, up, neighbours,
// addresses, routes, memberships. A temporary (privacy) address comes back as a plain one that is deprecated:
// its connections go on, and the kernel makes a new one for new connections. `current` may be another
// interface than the saved one, such as a TAP that takes its place, as long as nothing else has its name.
// What is there already is no error. Does all that it can and returns what it could not, a line each. Waits
// up to 3 s for an IPv6 address that a route names as its source.
std::vector<std::string> restore_interface(const std::string& current, const InterfaceState& state);

// Whether a default route of any table goes through the interface.
Result<bool> carries_default_route(const std::string& name);
// Whether one of the interface's addresses is `address` (as text, without prefix).
Result<bool> has_address(const std::string& name, const std::string& address);

void to_json(nlohmann::json& out, const InterfaceState& state);
void from_json(const nlohmann::json& in, InterfaceState& state);

}  // namespace ringcap::tools

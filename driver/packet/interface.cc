#include "driver/packet/interface.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <linux/ethtool.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <array>
#include <cstring>
#include <vector>

namespace ringcap::packet {

namespace {

constexpr uint32_t kLinktypeEthernet = 1;
constexpr uint32_t kLinktypeRaw = 101;  // starts with the IP header

std::vector<std::string> interface_names() {
  std::vector<std::string> names;
  struct if_nameindex* const all = ::if_nameindex();
  if (all == nullptr) return names;
  for (struct if_nameindex* i = all; i->if_index != 0; ++i) names.emplace_back(i->if_name);
  ::if_freenameindex(all);
  return names;
}

std::unexpected<Error> not_found(const std::string& name) {
  return fail(Code::kNotFound, fmt::format("there is no interface {}", name),
              fmt::format("there are: {}", fmt::join(interface_names(), ", ")));
}

ifreq request_for(const std::string& name) {
  ifreq request{};
  name.copy(request.ifr_name, IFNAMSIZ - 1);
  return request;
}

Result<Fd> open_events() {
  Fd fd(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE));
  sockaddr_nl address{};
  address.nl_family = AF_NETLINK;
  address.nl_groups = RTMGRP_LINK;
  if (!fd || ::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) {
    return fail_system("cannot listen for changes of interfaces");
  }
  return fd;
}

}  // namespace

Result<Interface> Interface::open(const std::string& name) {
  Interface interface;
  if (name.empty() || name.size() >= IFNAMSIZ) return not_found(name);
  interface.control_ = Fd(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!interface.control_) return fail_system("cannot open a socket");
  auto events = open_events();
  if (!events) return std::unexpected(events.error());
  interface.events_ = std::move(*events);
  if (auto found = interface.look_up(name); !found) return std::unexpected(found.error());
  return interface;
}

Result<void> Interface::look_up(const std::string& name) {
  ifreq request = request_for(name);
  if (::ioctl(control_.get(), SIOCGIFINDEX, &request) != 0) return not_found(name);
  index_ = request.ifr_ifindex;
  request = request_for(name);
  if (::ioctl(control_.get(), SIOCGIFHWADDR, &request) != 0) return not_found(name);
  const uint16_t type = request.ifr_hwaddr.sa_family;
  loopback_ = type == ARPHRD_LOOPBACK;
  if (type == ARPHRD_ETHER || type == ARPHRD_LOOPBACK) {
    link_type_ = kLinktypeEthernet;
  } else if (type == ARPHRD_NONE) {
    link_type_ = kLinktypeRaw;
  } else {
    return fail(
        Code::kUsage,
        fmt::format("interface {} has frames of a kind that ringcap does not know (ARPHRD {})", name, type),
        "ringcap captures Ethernet interfaces and those whose frames begin with the IP header");
  }
  return {};
}

Link Interface::link() const {
  ifreq request{};
  request.ifr_ifindex = index_;
  if (::ioctl(control_.get(), SIOCGIFNAME, &request) != 0) return {.up = false, .present = false, .mbps = 0};
  const std::array<char, IFNAMSIZ> name = std::to_array(request.ifr_name);
  if (::ioctl(control_.get(), SIOCGIFFLAGS, &request) != 0) return {.up = false, .present = false, .mbps = 0};
  const bool up = (request.ifr_flags & IFF_UP) != 0 && (request.ifr_flags & IFF_RUNNING) != 0;
  return {.up = up, .present = true, .mbps = up ? mbps(name.data()) : 0};
}

uint32_t Interface::mbps(const char* name) const {
  ethtool_cmd command{};
  command.cmd = ETHTOOL_GSET;  // kept by the kernel for drivers old and new
  ifreq request = request_for(name);
  request.ifr_data = reinterpret_cast<char*>(&command);
  if (::ioctl(control_.get(), SIOCETHTOOL, &request) != 0) return 0;
  const uint32_t speed = ethtool_cmd_speed(&command);
  return speed == static_cast<uint32_t>(SPEED_UNKNOWN) ? 0 : speed;
}

void Interface::consume_events() const {
  std::array<std::byte, 8192> message;
  // Bounded, though nothing makes thousands of link messages: what is left keeps the descriptor readable.
  for (int i = 0; i < 256; ++i) {
    const ssize_t bytes = ::recv(events_.get(), message.data(), message.size(), MSG_DONTWAIT | MSG_TRUNC);
    if (bytes < 0 && errno != ENOBUFS && errno != EINTR) return;
  }
}

}  // namespace ringcap::packet

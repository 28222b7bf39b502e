#include "driver/tap/device.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/if_tun.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <netinet/ether.h>
#include <netlink/netlink.h>
#include <netlink/route/link.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <array>
#include <cstring>

namespace ringcap::tap {

namespace {

constexpr const char* kTunFile = "/dev/net/tun";

struct FreeLink {
  void operator()(rtnl_link* link) const { rtnl_link_put(link); }
};
using LinkObject = std::unique_ptr<rtnl_link, FreeLink>;

ifreq request_for(const std::string& name, short flags = 0) {
  ifreq request{};
  name.copy(request.ifr_name, IFNAMSIZ - 1);
  request.ifr_flags = flags;
  return request;
}

std::unexpected<Error> no_permission(const std::string& name) {
  return fail(Code::kPermission, fmt::format("cannot open TAP {}: CAP_NET_ADMIN is missing", name),
              "run as root, or once: `sudo setcap cap_net_admin,cap_net_raw+ep $(command -v ringcap)`");
}

Result<Fd> open_tun() {
  Fd fd(::open(kTunFile, O_RDWR | O_NONBLOCK | O_CLOEXEC));
  if (fd) return fd;
  const bool missing = errno == ENOENT || errno == ENODEV || errno == ENXIO;
  return fail(missing           ? Code::kNotFound
              : errno == EACCES ? Code::kPermission
                                : Code::kSystem,
              fmt::format("cannot open {}: {}", kTunFile, std::strerror(errno)),
              missing ? "the kernel has no TAP driver; as root: `modprobe tun`" : "");
}

// 0, or the error's number.
int attach_to(const Fd& fd, const std::string& name, short flags) {
  ifreq request = request_for(name, flags);
  return ::ioctl(fd.get(), TUNSETIFF, &request) == 0 ? 0 : errno;
}

// Why an interface that is there cannot be attached to as a TAP with so many queues.
std::unexpected<Error> not_usable(const TapOptions& options, int number) {
  if (number == EPERM) return no_permission(options.name);
  if (number == EBUSY)
    return fail(Code::kUsage, fmt::format("TAP {} is in use by another program", options.name));
  if (number != EINVAL) return fail_system(fmt::format("cannot attach to TAP {}", options.name), number);
  return fail(Code::kUsage,
              fmt::format("interface {} is there, and is no TAP{}", options.name,
                          options.queues > 1 ? " with several queues" : ""),
              fmt::format("give another name, or: ip link del {0} && ip tuntap add {0} mode tap{1}",
                          options.name, options.queues > 1 ? " multi_queue" : ""));
}

Result<Fd> open_events() {
  Fd fd(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE));
  sockaddr_nl address{};
  address.nl_family = AF_NETLINK;
  address.nl_groups = RTMGRP_LINK;
  if (!fd || ::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0)
    return fail_system("cannot listen for changes of interfaces");
  return fd;
}

LinkObject ask(nl_sock* netlink, int index) {
  rtnl_link* link = nullptr;
  return LinkObject(rtnl_link_get_kernel(netlink, index, nullptr, &link) == 0 ? link : nullptr);
}

}  // namespace

Result<Device> Device::open(const TapOptions& options) {
  Device device;
  if (auto done = device.attach(options); !done) return std::unexpected(done.error());
  if (auto done = device.open_sockets(); !done) return std::unexpected(done.error());
  if (auto done = device.configure(options); !done) return std::unexpected(done.error());
  device.forget_dropped();
  return device;
}

Result<void> Device::attach(const TapOptions& options) {
  const auto several = static_cast<short>(options.queues > 1 ? IFF_MULTI_QUEUE : 0);
  const auto flags = static_cast<short>(IFF_TAP | IFF_NO_PI | several);
  auto fd = open_tun();
  if (!fd) return std::unexpected(fd.error());
  queues_.push_back(std::move(*fd));
  const int number = make(options, static_cast<short>(flags | IFF_TUN_EXCL));
  if (number == EPERM) return no_permission(options.name);
  if (number != 0 && number != EBUSY)
    return fail_system(fmt::format("cannot make TAP {}", options.name), number);
  if (number == EBUSY) {
    if (auto done = attach_existing(options, flags); !done) return done;
  }
  while (queues_.size() < options.queues) {
    if (auto done = add_queue(options.name, flags); !done) return done;
  }
  // Offered: nothing (a persistent TAP may have it from its last program).
  ::ioctl(queues_[0].get(), TUNSETOFFLOAD, 0UL);
  return {};
}

// 0, or the error's number. A number that another interface has is given up.
int Device::make(const TapOptions& options, short flags) {
  const auto choose = [&](int index) { return ::ioctl(queues_[0].get(), TUNSETIFINDEX, &index) == 0; };
  const bool chosen = options.index > 0 && choose(options.index);
  const int number = attach_to(queues_[0], options.name, flags);
  if (number != EBUSY || !chosen) return number;
  choose(0);
  return attach_to(queues_[0], options.name, flags);
}

Result<void> Device::attach_existing(const TapOptions& options, short flags) {
  int number = attach_to(queues_[0], options.name, flags);
  // One queue of a TAP that could have several is as good.
  if (number == EINVAL && options.queues == 1)
    number = attach_to(queues_[0], options.name, static_cast<short>(flags | IFF_MULTI_QUEUE));
  if (number != 0) return not_usable(options, number);
  ifreq request{};
  persistent_ = ::ioctl(queues_[0].get(), TUNGETIFF, &request) == 0 && (request.ifr_flags & IFF_PERSIST) != 0;
  // It has several queues, and lives only as long as the program that made it.
  return persistent_ ? Result<void>{} : not_usable(options, EBUSY);
}

Result<void> Device::add_queue(const std::string& name, short flags) {
  auto fd = open_tun();
  if (!fd) return std::unexpected(fd.error());
  if (const int number = attach_to(*fd, name, flags); number != 0)
    return fail_system(fmt::format("cannot open queue {} of TAP {}", queues_.size(), name), number);
  queues_.push_back(std::move(*fd));
  return {};
}

Result<void> Device::open_sockets() {
  control_ = Fd(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!control_) return fail_system("cannot open a socket");
  auto events = open_events();
  if (!events) return std::unexpected(events.error());
  events_ = std::move(*events);
  netlink_.reset(nl_socket_alloc());
  const int number = netlink_ ? nl_connect(netlink_.get(), NETLINK_ROUTE) : -NLE_NOMEM;
  if (number < 0)
    return fail(Code::kSystem, fmt::format("cannot open a netlink socket: {}", nl_geterror(number)));
  return {};
}

Result<void> Device::configure(const TapOptions& options) {
  const auto set = [&](auto number, ifreq request, std::string_view what) -> Result<void> {
    if (::ioctl(control_.get(), number, &request) == 0) return {};
    return fail_system(fmt::format("cannot set {} of TAP {}", what, options.name));
  };
  ifreq request = request_for(options.name);
  if (::ioctl(control_.get(), SIOCGIFINDEX, &request) != 0)
    return fail_system(fmt::format("cannot find TAP {}", options.name));
  index_ = request.ifr_ifindex;
  request.ifr_mtu = static_cast<int>(options.mtu);
  if (auto done = set(SIOCSIFMTU, request, "the MTU"); !done) return done;
  if (!options.mac.empty()) {
    request.ifr_hwaddr.sa_family = ARPHRD_ETHER;
    std::memcpy(request.ifr_hwaddr.sa_data, ::ether_aton(options.mac.c_str()), ETH_ALEN);
    if (auto done = set(SIOCSIFHWADDR, request, "the MAC address"); !done) return done;
  }
  if (!options.up) return {};
  if (::ioctl(control_.get(), SIOCGIFFLAGS, &request) != 0)
    return fail_system(fmt::format("cannot ask for the state of TAP {}", options.name));
  request.ifr_flags = static_cast<short>(request.ifr_flags | IFF_UP);
  return set(SIOCSIFFLAGS, request, "the state");
}

void Device::FreeSocket::operator()(nl_sock* socket) const { nl_socket_free(socket); }

// Its own descriptor knows it in every namespace.
bool Device::is_there() const {
  ifreq request{};
  return ::ioctl(queues_[0].get(), TUNGETIFF, &request) == 0;
}

Link Device::link() const {
  if (!is_there()) return {.up = false, .present = false, .mbps = 0};
  const LinkObject link = ask(netlink_.get(), index_);
  const unsigned flags = link ? rtnl_link_get_flags(link.get()) : 0;
  return {.up = (flags & IFF_UP) != 0 && (flags & IFF_RUNNING) != 0, .present = true, .mbps = 0};
}

void Device::set_carrier(bool up) const {
  const int value = up ? 1 : 0;
  ::ioctl(queues_[0].get(), TUNSETCARRIER, &value);
}

uint64_t Device::all_dropped() {
  if (const LinkObject link = ask(netlink_.get(), index_))
    dropped_ = rtnl_link_get_stat(link.get(), RTNL_LINK_TX_DROPPED);
  return dropped_;
}

uint64_t Device::dropped() { return all_dropped() - dropped_before_; }

void Device::forget_dropped() { dropped_before_ = all_dropped(); }

void Device::consume_events() const {
  std::array<std::byte, 8192> message;
  // Bounded: what is left keeps the descriptor readable.
  for (int i = 0; i < 256; ++i) {
    const ssize_t bytes = ::recv(events_.get(), message.data(), message.size(), MSG_DONTWAIT | MSG_TRUNC);
    if (bytes < 0 && errno != ENOBUFS && errno != EINTR) return;
  }
}

}  // namespace ringcap::tap

#include "tools/transparent.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <ifaddrs.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <netlink/netlink.h>
#include <netlink/socket.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <memory>

#include "capture/base/run_dir.h"
#include "tools/adopt.h"
#include "tools/adopt_guard.h"
#include "tools/bind_record.h"
#include "tools/binding.h"
#include "tools/engine_options.h"
#include "tools/guard.h"
#include "tools/nic.h"

namespace ringcap::tools {
namespace {

// The forwards of an engine with a TAP: from its port to the TAP first.
constexpr uint32_t kPort = 0, kTap = 1;
constexpr uint32_t kToTheKernel = 0;
constexpr size_t kLongestInterface = 15;

std::string text_of(const sockaddr& address) {
  char text[INET6_ADDRSTRLEN] = "";
  if (address.sa_family == AF_INET)
    ::inet_ntop(AF_INET, &reinterpret_cast<const sockaddr_in&>(address).sin_addr, text, sizeof text);
  else if (address.sa_family == AF_INET6)
    ::inet_ntop(AF_INET6, &reinterpret_cast<const sockaddr_in6&>(address).sin6_addr, text, sizeof text);
  return text;
}

// Tells when an address comes or goes, of any interface of this network namespace.
class AddressNews {
 public:
  static Result<std::shared_ptr<AddressNews>> open() {
    auto news = std::make_shared<AddressNews>();
    news->socket_.reset(::nl_socket_alloc());
    ::nl_socket_disable_seq_check(news->socket_.get());
    int number = ::nl_connect(news->socket_.get(), NETLINK_ROUTE);
    if (number == 0)
      number = ::nl_socket_add_memberships(news->socket_.get(), RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV6_IFADDR, 0);
    if (number == 0) number = ::nl_socket_set_nonblocking(news->socket_.get());
    if (number != 0)
      return fail(Code::kSystem,
                  fmt::format("cannot follow the host's addresses: {}", ::nl_geterror(number)));
    return news;
  }
  int fd() const { return ::nl_socket_get_fd(socket_.get()); }
  // What the messages say is read anew from the kernel, so they only need to go.
  void empty() {
    char rest[4096];
    while (::recv(fd(), rest, sizeof rest, MSG_DONTWAIT) > 0 || errno == ENOBUFS) {
    }
  }

 private:
  struct Free {
    void operator()(nl_sock* socket) const { ::nl_socket_free(socket); }
  };
  std::unique_ptr<nl_sock, Free> socket_;
};

// The address of the NIC's interface before `ringcap bind`; "": not known.
std::string mac_of_bound(const PortAddress& port) {
  if (port.kind != PortKind::kVfio) return {};
  const auto dir = writable_run_dir();
  const auto record = dir ? read_record(*dir, port.address) : std::unexpected(dir.error());
  return record && !record->interfaces.empty() ? record->interfaces.front().mac : "";
}

Error not_for(const PortAddress& port, Transparent mode) {
  const std::string text = format_port_address(port);
  if (port.kind == PortKind::kPacket)
    return {Code::kUsage,
            fmt::format("--transparent {}: the kernel has {} already",
                        mode == Transparent::kBoth ? "both" : "filter", port.address),
            fmt::format("ringcap up {} --transparent kernel-first", text)};
  return {Code::kUsage, fmt::format("--transparent kernel-first: the kernel does not have {}", text),
          fmt::format("ringcap up {} --transparent both", text)};
}

Result<void> check_port(const PortAddress& port, Transparent mode) {
  const bool kernels = port.kind == PortKind::kPacket;
  if (port.kind == PortKind::kTap)
    return fail(Code::kUsage, "--transparent: a TAP is the kernel's already", "leave --transparent out");
  if (kernels != (mode == Transparent::kKernelFirst)) return std::unexpected(not_for(port, mode));
  return {};
}

}  // namespace

Result<Transparent> parse_transparent(const std::string& word) {
  if (word == "off" || word == "2") return Transparent::kOff;
  if (word == "kernel-first" || word == "0") return Transparent::kKernelFirst;
  if (word == "both" || word == "1") return Transparent::kBoth;
  if (word == "filter") return Transparent::kFilter;
  return fail(Code::kUsage,
              fmt::format("--transparent {}: there is off (2), kernel-first (0), both (1) and filter", word));
}

std::string login_filter(const std::vector<std::string>& addresses) {
  std::string passes = "arp or icmp or icmp6 or udp port 67 or udp port 68 or udp port 546 or udp port 547";
  for (const std::string& address : addresses) passes += " or host " + address;
  return fmt::format("{0} or (vlan and ({0}))", passes);
}

std::vector<std::string> host_addresses() {
  std::vector<std::string> addresses;
  ifaddrs* list = nullptr;
  if (::getifaddrs(&list) != 0) return addresses;
  for (const ifaddrs* each = list; each != nullptr; each = each->ifa_next) {
    if (each->ifa_addr == nullptr || (each->ifa_flags & IFF_LOOPBACK) != 0) continue;
    if (std::string text = text_of(*each->ifa_addr); !text.empty()) addresses.push_back(std::move(text));
  }
  ::freeifaddrs(list);
  std::ranges::sort(addresses);
  const auto [first, last] = std::ranges::unique(addresses);
  addresses.erase(first, last);
  return addresses;
}

Result<Beside> Beside::prepare(const TransparentWords& words, const std::vector<PortAddress>& ports) {
  Beside beside;
  auto mode = parse_transparent(words.mode);
  if (!mode) return std::unexpected(mode.error());
  beside.mode_ = *mode;
  if (words.confirm_ns != 0 && !words.adopt)
    return fail(Code::kUsage, "--confirm is of no use without --adopt");
  const bool through_tap = *mode == Transparent::kBoth || *mode == Transparent::kFilter;
  if (words.adopt && (!through_tap || ports.front().kind != PortKind::kVfio))
    return fail(Code::kUsage, "--adopt gives a TAP what the interface of a NIC under VFIO had",
                "ringcap up vfio:0000:03:00.0 --transparent both --adopt");
  if (words.adopt && !words.tap.empty())
    return fail(Code::kUsage, "--tap is of no use with --adopt: the TAP has the interface's name");
  if (!words.pass.empty() && *mode != Transparent::kFilter)
    return fail(Code::kUsage, fmt::format("--pass is of no use with --transparent {}", words.mode),
                "--transparent filter");
  if (*mode == Transparent::kOff) return beside;
  if (ports.size() != 1)
    return fail(Code::kUsage, "--transparent: an engine with one port can be transparent",
                "run an engine for each");
  if (auto good = check_port(ports.front(), *mode); !good) return std::unexpected(good.error());
  if (*mode == Transparent::kKernelFirst) return beside;
  beside.has_tap_ = true;
  if (!words.pass.empty()) {
    auto pass = engine_filter({words.pass});
    if (!pass) return std::unexpected(pass.error());
    beside.pass_ = *pass;
  }
  beside.source_sends_ = ports.front().kind == PortKind::kVfio;
  beside.adopts_ = words.adopt;
  if (words.confirm_ns != 0)
    beside.confirm_ =
        std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::nanoseconds(words.confirm_ns));
  beside.tap_ = {.name = words.tap,
                 .queues = ports.front().queues,
                 .mtu = ports.front().mtu,
                 .mac = mac_of_bound(ports.front()),
                 .up = false};
  return beside;
}

Result<void> Beside::take_nic(PortAddress& port) {
  if (!adopts_) return {};
  auto dir = writable_run_dir();
  if (!dir) return std::unexpected(dir.error());
  const BindPlace place{.roots = {}, .run_dir = *dir};
  if (auto waited = wait_for_guard(place, port.address); !waited) return waited;
  const auto nic = read_nic(place.roots, port.address);
  if (!nic) return std::unexpected(nic.error());
  // The guard first: from the first change on there is somebody who gives the NIC back.
  const auto guard = [&]() -> Result<void> {
    auto started = start_adopt_guard(place, port.address, confirm_);
    if (!started) return std::unexpected(started.error());
    guard_ = std::make_shared<Fd>(std::move(*started));
    return {};
  };
  nic_ = port.address;
  if (nic->driver == "vfio-pci") {
    if (auto guarded = guard(); !guarded) return guarded;
  } else {
    if (auto good = check_nothing_on_top(place.roots, *nic, ""); !good) return good;
    if (auto bound = bind_nic(place, *nic, guard); !bound) return bound;
    spdlog::info("{} is bound to vfio-pci", nic->address);
  }
  auto state = adopted_interface(place, port.address);
  if (!state) return std::unexpected(state.error());
  if (confirm_) spdlog::warn("{}", unless_kept(port.address, *confirm_));
  port.mtu = std::max(port.mtu, state->mtu);
  tap_ = adopting_tap(*state, port.queues);
  adopted_ = std::move(*state);
  return {};
}

void Beside::configure() const {
  if (!adopted_) return;
  for (const std::string& problem : restore_interface(adopted_->name, *adopted_))
    spdlog::warn("{}: {}", adopted_->name, problem);
  if (!adopted_->master.empty())
    spdlog::warn(
        "{0} is in {1} again; what {1} was told of it as a port (VLANs, cost, priority) is not saved",
        adopted_->name, adopted_->master);
  spdlog::info("{} has what the NIC's interface had; it goes back when the engine ends", adopted_->name);
}

Result<std::unique_ptr<Port>> Beside::open(const std::string& engine_name) {
  if (!has_tap_) return nullptr;
  if (tap_.name.empty()) tap_.name = engine_name;
  if (tap_.name.size() > kLongestInterface)
    return fail(Code::kUsage, fmt::format("{} is too long a name for an interface", tap_.name),
                "name the TAP: --tap tap0");
  auto port = open_tap_port(tap_);
  if (!port && adopts_ && port.error().code == Code::kUsage)
    return fail(Code::kUsage, port.error().text,
                fmt::format("--adopt needs the name that the NIC's interface had: ip link set {} name OTHER",
                            tap_.name));
  if (!port) return std::unexpected(port.error());
  port_ = port->get();
  if (adopts_ && port_->persistent())
    return fail(Code::kUsage, fmt::format("there is a persistent TAP named {} already", tap_.name),
                fmt::format("ip link delete {}", tap_.name));
  return std::move(*port);
}

Result<void> Beside::add_to(engine::EngineOptions& options) {
  if (!has_tap_) return {};
  options.forwards.push_back({.from = kPort, .to = kTap});
  if (source_sends_) options.forwards.push_back({.from = kTap, .to = kPort});
  options.on_link = [port = port_, engine = engine_, needed = adopts_, name = tap_.name](uint32_t changed,
                                                                                         const Link& link) {
    if (changed == kPort) return port->set_link(link.up && link.present);
    if (link.present || !needed) return;
    spdlog::error("{} was deleted, and the host's network is on it: the engine ends, so that it goes back",
                  name);
    (*engine)->request_stop();
  };
  follow_guard(options);
  return add_filter(options);
}

// Closed at once, since it stays readable.
void Beside::follow_guard(engine::EngineOptions& options) const {
  if (!guard_) return;
  options.watches.push_back(
      {guard_->get(), [guard = guard_, nic = nic_] {
         guard->reset();
         spdlog::error(
             "the guard of {0} was ended: {0} does not go back by itself any more; when "
             "this engine has ended: ringcap unbind {0}",
             nic);
       }});
}

Result<void> Beside::add_filter(engine::EngineOptions& options) {
  if (mode_ != Transparent::kFilter) return {};
  if (pass_) {
    options.forwards[kToTheKernel].filter = pass_;
    return {};
  }
  auto filter = engine_filter({login_filter(host_addresses())});
  if (!filter) return std::unexpected(filter.error());
  options.forwards[kToTheKernel].filter = *filter;
  return follow_addresses(options);
}

Result<void> Beside::follow_addresses(engine::EngineOptions& options) {
  auto news = AddressNews::open();
  if (!news) return std::unexpected(news.error());
  const auto changed = [news = *news, engine = engine_, known = std::vector<std::string>()]() mutable {
    news->empty();
    auto addresses = host_addresses();
    if (addresses == known) return;
    known = std::move(addresses);
    auto filter = engine_filter({login_filter(known)});
    if (!filter) return spdlog::error("the kernel's filter stays as it was: {}", filter.error().message());
    spdlog::info("the kernel gets the traffic of {}", fmt::join(known, ", "));
    (*engine)->set_forward_filter(kToTheKernel, *filter);
  };
  options.watches.push_back({(*news)->fd(), changed});
  return {};
}

}  // namespace ringcap::tools

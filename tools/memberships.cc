#include "tools/memberships.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <netinet/ether.h>
#include <netinet/in.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <set>
#include <sstream>

#include "capture/base/fd.h"
#include "tools/system_files.h"

namespace ringcap::tools {
namespace {

// The caller's namespace is its thread's; /proc/net is the process's.
constexpr const char* kProcNet = "/proc/thread-self/net/";

// ---- what the interface is a member of -----------------------------------------------------------------

template <typename Each>
void for_each_line(const char* file, Each each) {
  std::ifstream in(std::string(kProcNet) + file);
  for (std::string line; std::getline(in, line);) each(line);
}

// A heading line for each interface, its number first; then a line for each group, the group first.
std::vector<std::string> ipv4_groups(int index) {
  std::vector<std::string> groups;
  int at = 0;
  for_each_line("igmp", [&](const std::string& line) {
    std::istringstream words(line);
    std::string first;
    words >> first;
    if (line.starts_with('\t')) {
      const in_addr group{.s_addr = static_cast<in_addr_t>(std::strtoul(first.c_str(), nullptr, 16))};
      char text[INET_ADDRSTRLEN];
      if (at == index) groups.emplace_back(::inet_ntop(AF_INET, &group, text, sizeof text));
    } else {
      at = std::atoi(first.c_str());
    }
  });
  return groups;
}

// "ff0200000000000000000000000000fb" as an address.
in6_addr parse_hex(const std::string& hex) {
  in6_addr address{};
  for (size_t i = 0; i < sizeof address.s6_addr && hex.size() == 32; ++i)
    address.s6_addr[i] = static_cast<uint8_t>(std::stoul(hex.substr(2 * i, 2), nullptr, 16));
  return address;
}

// A line for each group: number, name, group.
std::vector<std::string> ipv6_groups(int index) {
  std::vector<std::string> groups;
  for_each_line("igmp6", [&](const std::string& line) {
    std::istringstream words(line);
    int at = 0;
    std::string name, hex;
    if (!(words >> at >> name >> hex) || at != index) return;
    const in6_addr group = parse_hex(hex);
    char text[INET6_ADDRSTRLEN];
    groups.emplace_back(::inet_ntop(AF_INET6, &group, text, sizeof text));
  });
  return groups;
}

// A line for each address: number, name, users, users by hand, address.
std::vector<std::string> link_groups(int index) {
  std::vector<std::string> groups;
  for_each_line("dev_mcast", [&](const std::string& line) {
    std::istringstream words(line);
    int at = 0, users = 0, by_hand = 0;
    std::string name, hex;
    if (!(words >> at >> name >> users >> by_hand >> hex) || at != index || by_hand == 0) return;
    for (size_t i = 2; i < hex.size(); i += 3) hex.insert(i, ":");
    groups.push_back(hex);
  });
  return groups;
}

// All hosts, all routers, and the solicited-node groups of addresses.
bool kernel_joins(const std::string& group) {
  const std::vector<std::string> always{"224.0.0.1", "ff01::1", "ff02::1", "ff01::2", "ff02::2", "ff05::2"};
  return std::ranges::find(always, group) != always.end() || group.starts_with("ff02::1:ff");
}

// ---- sockets that are members ----------------------------------------------------------------------------

constexpr uint32_t kSources = 64;  // of a source-specific membership; Linux' limit is 10 by default

// A membership of a socket on an interface, with its sources.
struct Filter {
  group_filter head;
  sockaddr_storage more_sources[kSources];
};

socklen_t bytes_of(uint32_t sources) { return static_cast<socklen_t>(GROUP_FILTER_SIZE(sources)); }

sockaddr_storage address_of(const std::string& group) {
  sockaddr_storage address{};
  auto& ipv4 = reinterpret_cast<sockaddr_in&>(address);
  auto& ipv6 = reinterpret_cast<sockaddr_in6&>(address);
  const bool is_ipv4 = ::inet_pton(AF_INET, group.c_str(), &ipv4.sin_addr) == 1;
  if (!is_ipv4) ::inet_pton(AF_INET6, group.c_str(), &ipv6.sin6_addr);
  address.ss_family = is_ipv4 ? AF_INET : AF_INET6;
  return address;
}

int level_of(const sockaddr_storage& group) { return group.ss_family == AF_INET ? IPPROTO_IP : IPPROTO_IPV6; }

// Whether the socket is a member; fills in the sources.
bool read_membership(const Fd& socket, int index, const sockaddr_storage& group, Filter& filter) {
  filter = {};
  filter.head.gf_interface = static_cast<uint32_t>(index);
  filter.head.gf_group = group;
  filter.head.gf_numsrc = kSources;
  socklen_t bytes = bytes_of(kSources);
  return ::getsockopt(socket.get(), level_of(group), MCAST_MSFILTER, &filter, &bytes) == 0;
}

// 0, or the error's number. The old one first: it may be of the same number as the new.
int move_membership(const Fd& socket, int from, int to, Filter& filter) {
  const sockaddr_storage group = filter.head.gf_group;
  const int level = level_of(group);
  group_req request{.gr_interface = static_cast<uint32_t>(from), .gr_group = group};
  ::setsockopt(socket.get(), level, MCAST_LEAVE_GROUP, &request, sizeof request);
  request.gr_interface = static_cast<uint32_t>(to);
  if (::setsockopt(socket.get(), level, MCAST_JOIN_GROUP, &request, sizeof request) != 0) return errno;
  const bool everybody = filter.head.gf_fmode == MCAST_EXCLUDE && filter.head.gf_numsrc == 0;
  if (everybody) return 0;
  filter.head.gf_interface = static_cast<uint32_t>(to);
  const uint32_t sources = std::min(filter.head.gf_numsrc, kSources);
  filter.head.gf_numsrc = sources;
  return ::setsockopt(socket.get(), level, MCAST_MSFILTER, &filter, bytes_of(sources)) == 0 ? 0 : errno;
}

ino_t namespace_of(int fd) {
  struct stat status{};
  return ::fstat(fd, &status) == 0 ? status.st_ino : 0;
}

ino_t own_namespace() {
  const Fd fd(::open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC));
  return fd ? namespace_of(fd.get()) : 0;
}

// IP sockets of our network namespace: their numbers mean the same interfaces. A socket that several
// processes or descriptors share is given once.
template <typename Each>
void for_each_socket(Each each) {
  const ino_t own = own_namespace();
  std::set<std::string> seen;
  for (const std::string& pid : list_directory("/proc")) {
    if (pid.find_first_not_of("0123456789") != std::string::npos) continue;
    const std::string folder = "/proc/" + pid + "/fd";
    Fd process;
    for (const std::string& number : list_directory(folder)) {
      const std::string target = link_name(fmt::format("{}/{}", folder, number));
      if (!target.starts_with("socket:[") || !seen.insert(target).second) continue;
      if (!process) process = Fd(static_cast<int>(::syscall(SYS_pidfd_open, std::atoi(pid.c_str()), 0)));
      const Fd socket(
          static_cast<int>(::syscall(SYS_pidfd_getfd, process.get(), std::atoi(number.c_str()), 0)));
      int domain = 0;
      socklen_t bytes = sizeof domain;
      if (!socket || ::getsockopt(socket.get(), SOL_SOCKET, SO_DOMAIN, &domain, &bytes) != 0) continue;
      if (domain != AF_INET && domain != AF_INET6) continue;
      const Fd place(::ioctl(socket.get(), SIOCGSKNS));
      if (place && namespace_of(place.get()) == own) each(socket);
    }
  }
}

std::vector<std::string> restore_groups(int from, int to, const std::vector<std::string>& groups) {
  std::vector<std::string> problems;
  if (groups.empty() || from == 0) return problems;
  for_each_socket([&](const Fd& socket) {
    for (const std::string& group : groups) {
      Filter filter;
      if (!read_membership(socket, from, address_of(group), filter)) continue;
      if (const int number = move_membership(socket, from, to, filter); number != 0)
        problems.push_back(fmt::format("membership of group {}: {}", group, std::strerror(number)));
    }
  });
  return problems;
}

}  // namespace

Memberships save_memberships(int index) {
  Memberships state;
  for (const auto& groups : {ipv4_groups(index), ipv6_groups(index)})
    std::ranges::copy_if(groups, std::back_inserter(state.groups),
                         [](const std::string& group) { return !kernel_joins(group); });
  std::ranges::sort(state.groups);  // the kernel's order is that of joining
  state.link_groups = link_groups(index);
  std::ranges::sort(state.link_groups);
  return state;
}

std::vector<std::string> restore_memberships(const std::string& name, int index, const Memberships& state) {
  std::vector<std::string> problems =
      restore_groups(index, static_cast<int>(::if_nametoindex(name.c_str())), state.groups);
  const Fd control(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  for (const std::string& group : state.link_groups) {
    ifreq request{};
    name.copy(request.ifr_name, IFNAMSIZ - 1);
    const ether_addr* const address = ::ether_aton(group.c_str());
    if (address != nullptr) std::memcpy(request.ifr_hwaddr.sa_data, address, sizeof *address);
    if (::ioctl(control.get(), SIOCADDMULTI, &request) != 0 && errno != EEXIST)
      problems.push_back(fmt::format("membership of {}: {}", group, std::strerror(errno)));
  }
  return problems;
}

}  // namespace ringcap::tools

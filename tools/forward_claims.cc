#include "tools/forward_claims.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <net/if.h>
#include <netlink/netlink.h>
#include <netlink/route/link.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>

#include "capture/base/fd.h"
#include "capture/base/run_dir.h"

namespace ringcap::tools {
namespace {

uint64_t namespace_number() {
  struct stat status{};
  return ::stat("/proc/self/ns/net", &status) == 0 ? status.st_ino : 0;
}

Node interface_node(int index) { return fmt::format("if:{}:{}", namespace_number(), index); }

struct FreeSocket {
  void operator()(nl_sock* socket) const { ::nl_socket_free(socket); }
};
struct FreeCache {
  void operator()(nl_cache* cache) const { ::nl_cache_free(cache); }
};

// Both ends of each veth pair that lies wholly in this namespace.
std::vector<Edge> veth_edges() {
  const std::unique_ptr<nl_sock, FreeSocket> socket(::nl_socket_alloc());
  if (!socket || ::nl_connect(socket.get(), NETLINK_ROUTE) != 0) return {};
  nl_cache* all = nullptr;
  if (::rtnl_link_alloc_cache(socket.get(), AF_UNSPEC, &all) != 0) return {};
  const std::unique_ptr<nl_cache, FreeCache> cache(all);
  std::map<int, int> peer_of;
  for (nl_object* each = ::nl_cache_get_first(all); each != nullptr; each = ::nl_cache_get_next(each)) {
    auto* link = reinterpret_cast<rtnl_link*>(each);
    const char* type = ::rtnl_link_get_type(link);
    if (type == nullptr || std::string(type) != "veth") continue;
    peer_of[::rtnl_link_get_ifindex(link)] = ::rtnl_link_get_link(link);
  }
  std::vector<Edge> edges;
  for (const auto& [one, other] : peer_of)
    if (const auto back = peer_of.find(other); one < other && back != peer_of.end() && back->second == one)
      edges.emplace_back(interface_node(one), interface_node(other));
  return edges;
}

std::string claims_path(const std::string& dir, const std::string& engine) {
  return fmt::format("{}/{}.forwards", dir, engine);
}

// One edge a line, its ends divided by a blank. A file that somebody damaged says less, at worst.
std::vector<Edge> read_claims(const std::string& path) {
  std::vector<Edge> edges;
  std::ifstream file(path);
  for (std::string one, other; file >> one >> other;) edges.emplace_back(one, other);
  return edges;
}

// Which place a place is joined with, by the edges so far.
class Joined {
 public:
  Node root(Node node) {
    for (auto up = above_.find(node); up != above_.end(); up = above_.find(node)) node = up->second;
    return node;
  }
  bool join(const Edge& edge) {
    const Node one = root(edge.first), other = root(edge.second);
    if (one == other) return false;
    above_[one] = other;
    return true;
  }

 private:
  std::map<Node, Node> above_;
};

Result<Fd> lock_claims(const std::string& dir) {
  const std::string path = dir + "/forwards.lock";
  Fd fd(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  if (!fd || ::flock(fd.get(), LOCK_EX) != 0) return fail_system("cannot lock " + path);
  return fd;
}

// What all other running engines forward between, and this machine's veth pairs.
std::vector<Edge> known_edges(const std::string& dir, const std::string& engine) {
  std::vector<Edge> edges = veth_edges();
  for (const std::string& other : list_engines()) {
    if (other == engine) continue;
    const auto claimed = read_claims(claims_path(dir, other));
    edges.insert(edges.end(), claimed.begin(), claimed.end());
  }
  return edges;
}

}  // namespace

Node node_of_port(const std::string& address) {
  const size_t colon = address.find(':');
  const std::string kind = address.substr(0, colon), rest = address.substr(colon + 1);
  if (kind != "packet" && kind != "tap" && kind != "xdp") return address.substr(0, address.find(','));
  const std::string name = rest.substr(0, rest.find(','));
  const unsigned index = ::if_nametoindex(name.c_str());
  return index != 0 ? interface_node(static_cast<int>(index)) : address;
}

std::vector<Edge> closing_edges(const std::vector<Edge>& edges) {
  Joined joined;
  std::vector<Edge> closing;
  for (const Edge& edge : edges)
    if (!joined.join(edge)) closing.push_back(edge);
  return closing;
}

Result<void> claim_forwards(const std::string& engine,
                            const std::vector<std::pair<std::string, std::string>>& ports) {
  const auto dir = writable_run_dir();
  if (!dir) return std::unexpected(dir.error());
  const std::string path = claims_path(*dir, engine);
  if (ports.empty()) {
    ::unlink(path.c_str());
    return {};
  }
  auto lock = lock_claims(*dir);
  if (!lock) return std::unexpected(lock.error());
  const std::vector<Edge> known = known_edges(*dir, engine);
  const size_t circles_before = closing_edges(known).size();
  std::vector<Edge> all = known;
  std::string lines;
  for (const auto& [one, other] : ports) {
    const Edge edge{node_of_port(one), node_of_port(other)};
    all.push_back(edge);
    if (closing_edges(all).size() != circles_before)
      return fail(
          Code::kUsage,
          fmt::format("forwarding between {} and {} would close a circle: frames would run in it for ever",
                      one, other),
          "end the other bridge of these interfaces: ringcap devices lists the engines");
    lines += fmt::format("{} {}\n", edge.first, edge.second);
  }
  std::ofstream file(path, std::ios::trunc);
  file << lines << std::flush;
  if (!file) return fail_system("cannot write " + path);
  return {};
}

}  // namespace ringcap::tools

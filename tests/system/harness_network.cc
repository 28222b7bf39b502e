// Namespace: a network of a test's own. See namespaces(7), veth(4), packet(7).
#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <sched.h>
#include <sys/socket.h>
#include <unistd.h>

#include <exception>
#include <stdexcept>
#include <system_error>
#include <thread>

#include "tests/system/harness.h"

namespace ringcap::test {

namespace {

std::system_error system_error(const std::string& tried) {
  return std::system_error(errno, std::generic_category(), tried);
}

// Calls `what` in a thread that has gone into the namespace (or made one, without a descriptor).
void in_thread(const std::function<void()>& what) {
  std::exception_ptr problem;
  std::thread([&] {
    try {
      what();
    } catch (...) {
      problem = std::current_exception();
    }
  }).join();
  if (problem) std::rethrow_exception(problem);
}

void must_succeed(const std::vector<std::string>& command, const Namespace& network) {
  const Outcome outcome = run(command, {.network = &network});
  if (outcome.status != 0)
    throw std::runtime_error(command[0] + " " + command[1] + " failed: " + outcome.err);
}

}  // namespace

Namespace::Namespace() {
  in_thread([this] {
    if (::unshare(CLONE_NEWNET) != 0) throw system_error("making a network namespace (needs root)");
    fd_ = Fd(::open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC));
    if (!fd_) throw system_error("opening the network namespace");
    // Without these no router solicitation or neighbour discovery mixes with the test's frames.
    for (const char* which : {"all", "default"})
      write_file(std::string("/proc/sys/net/ipv6/conf/") + which + "/disable_ipv6", "1");
  });
  ip({"link", "set", "lo", "up"});
}

void Namespace::within(const std::function<void()>& what) const {
  in_thread([&] {
    if (::setns(fd_.get(), CLONE_NEWNET) != 0) throw system_error("entering the network namespace");
    what();
  });
}

void Namespace::ip(const std::vector<std::string>& arguments) const {
  std::vector<std::string> command{"ip"};
  command.insert(command.end(), arguments.begin(), arguments.end());
  must_succeed(command, *this);
}

void Namespace::add_veth(const std::string& end, const std::string& other_end, int mtu) const {
  ip({"link", "add", end, "type", "veth", "peer", "name", other_end});
  for (const std::string& name : {end, other_end}) {
    must_succeed({"ethtool", "-K", name, "tx", "off", "gso", "off", "gro", "off"}, *this);
    ip({"link", "set", name, "mtu", std::to_string(mtu), "up"});
  }
}

Fd Namespace::raw_socket(const std::string& interface) const {
  Fd fd;
  within([&] {
    fd = Fd(::socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, htons(ETH_P_ALL)));
    if (!fd) throw system_error("opening a raw socket");
    sockaddr_ll address{};
    address.sll_family = AF_PACKET;
    address.sll_protocol = htons(ETH_P_ALL);
    address.sll_ifindex = static_cast<int>(::if_nametoindex(interface.c_str()));
    if (::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
      throw system_error("binding a raw socket to " + interface);
  });
  return fd;
}

}  // namespace ringcap::test

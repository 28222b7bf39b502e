// The list of devices: the system's, and after them the running engines. Its nodes are allocated as
// libpcap allocates them, so that the real pcap_freealldevs() frees them.
#include <fmt/format.h>
#include <pcap/pcap.h>
#include <sys/socket.h>

#include <cstdlib>
#include <cstring>
#include <exception>
#include <string>

#include "capture/base/run_dir.h"
#include "capture/layout/view.h"
#include "capture/ledger/ledger.h"
#include "libcap/pcap/names.h"
#include "libcap/pcap/own.h"
#include "libcap/pcap/real.h"

namespace ringcap::shim {
namespace {

template <typename T>
T* allocate() {
  return static_cast<T*>(std::calloc(1, sizeof(T)));
}

sockaddr* copy_address(const sockaddr* from) {
  if (from == nullptr) return nullptr;
  const size_t bytes = from->sa_family == AF_INET6  ? sizeof(sockaddr_in6)
                       : from->sa_family == AF_INET ? sizeof(sockaddr_in)
                                                    : 0;
  auto* to = bytes == 0 ? nullptr : static_cast<sockaddr*>(std::malloc(bytes));
  if (to != nullptr) std::memcpy(to, from, bytes);
  return to;
}

// The IP addresses of a device.
pcap_addr* copy_addresses(const pcap_addr* from) {
  pcap_addr* first = nullptr;
  pcap_addr** end = &first;
  for (; from != nullptr; from = from->next) {
    sockaddr* address = copy_address(from->addr);
    if (address == nullptr) continue;
    auto* copy = allocate<pcap_addr>();
    if (copy == nullptr) {
      std::free(address);
      return first;
    }
    copy->addr = address;
    copy->netmask = copy_address(from->netmask);
    copy->broadaddr = copy_address(from->broadaddr);
    copy->dstaddr = copy_address(from->dstaddr);
    *end = copy;
    end = &copy->next;
  }
  return first;
}

struct Found {
  std::string description;
  std::string interface;  // that the first port is made of; "": none
  bpf_u_int32 flags = PCAP_IF_UP;
};

// Asks the engine. Where it does not let us, it is listed all the same: opening it says why not.
Found look_at(const std::string& engine) {
  Found found{.description = "ringcap engine", .interface = {}};
  const auto state = client::observe(engine);
  if (!state) return found;
  const ledger::Ledger ledger = ledger::read(*state->at<const layout::Header>(0));
  std::string ports;
  bool link = false;
  for (const auto& port : ledger.ports) {
    ports += (ports.empty() ? " on " : ", ") + port.address;
    link |= port.up;
  }
  found.description += ports;
  if (ledger.state == layout::EngineState::kRunning) found.flags |= PCAP_IF_RUNNING;
  found.flags |= link ? PCAP_IF_CONNECTION_STATUS_CONNECTED : PCAP_IF_CONNECTION_STATUS_DISCONNECTED;
  if (!ledger.ports.empty()) {
    const std::string& address = ledger.ports.front().address;
    const auto colon = address.find(':');
    found.interface = address.substr(colon + 1, address.find(',') - colon - 1);
  }
  return found;
}

pcap_if_t* make_device(const std::string& engine, const pcap_if_t* others) {
  const Found found = look_at(engine);
  auto* device = allocate<pcap_if_t>();
  if (device == nullptr) return nullptr;
  device->name = ::strdup((kDevicePrefix + engine).c_str());
  device->description = ::strdup(found.description.c_str());
  device->flags = found.flags;
  for (; others != nullptr; others = others->next)
    if (found.interface == others->name) device->addresses = copy_addresses(others->addresses);
  return device;
}

void append_engines(pcap_if_t** list) {
  pcap_if_t** end = list;
  while (*end != nullptr) end = &(*end)->next;
  for (const auto& engine : list_engines()) {
    pcap_if_t* device = make_device(engine, *list);
    if (device == nullptr) return;
    *end = device;
    end = &device->next;
  }
}

}  // namespace

namespace named {

int pcap_findalldevs(pcap_if_t** list, char* errbuf) {
  if (real().pcap_findalldevs == nullptr) return lacking(errbuf, "pcap_findalldevs", PCAP_ERROR);
  const int status = real().pcap_findalldevs(list, errbuf);
  if (status != 0) return status;
  try {
    append_engines(list);
  } catch (const std::exception&) {
    return 0;  // what is in the list so far is a list
  }
  return 0;
}

// An engine has no network of its own: 0/0, as libpcap says of an interface without an address. A name of
// the system's that is mapped to an engine keeps its network.
int pcap_lookupnet(const char* device, bpf_u_int32* net, bpf_u_int32* mask, char* errbuf) {
  if (!is_own_name(device))
    return real().pcap_lookupnet != nullptr ? real().pcap_lookupnet(device, net, mask, errbuf)
                                            : lacking(errbuf, "pcap_lookupnet", PCAP_ERROR);
  *net = *mask = 0;
  return 0;
}

}  // namespace named
}  // namespace ringcap::shim

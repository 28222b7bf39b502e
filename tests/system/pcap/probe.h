// What the cases of pcap_probe share: the frames that it sends, how it opens its device and reads. One
// thread.
#pragma once

#include <arpa/inet.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <pcap/pcap.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <map>
#include <string>
#include <vector>

#pragma GCC diagnostic ignored "-Wdeprecated-declarations"

namespace ringcap::probe {

inline std::string device, sender;  // the names that main() was given
inline char errbuf[PCAP_ERRBUF_SIZE];

#define SAY(...) (std::printf(__VA_ARGS__), std::fflush(stdout))

[[noreturn]] inline void give_up(const char* what) {
  std::fprintf(stderr, "pcap_probe: %s\n", what);
  std::exit(1);
}

inline double now() {
  timespec t{};
  clock_gettime(CLOCK_MONOTONIC, &t);
  return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec) / 1e9;
}

// ---- sending -------------------------------------------------------------------------------------------

inline int raw_socket(const std::string& interface) {
  const int fd = ::socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, htons(0x0800));
  sockaddr_ll address{};
  address.sll_family = AF_PACKET;
  address.sll_ifindex = static_cast<int>(::if_nametoindex(interface.c_str()));
  address.sll_protocol = htons(0x0800);
  if (fd < 0 || ::bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) give_up("raw socket");
  return fd;
}

// An Ethernet frame of `bytes` with an IPv4 header, UDP to `port`, and its number in the last byte.
inline std::vector<unsigned char> frame(int number, int port, size_t bytes = 100, bool vlan = false) {
  std::vector<unsigned char> f(bytes, 0);
  for (size_t i = 0; i < 12; ++i) f[i] = i < 6 ? 0xff : static_cast<unsigned char>(2 + i);
  size_t at = 12;
  if (vlan) {
    const unsigned char tag[] = {0x81, 0x00, 0x00, 0x05};
    std::copy(std::begin(tag), std::end(tag), &f[at]);
    at += 4;
  }
  f[at] = 0x08;
  const size_t ip = at + 2;
  f[ip] = 0x45;
  f[ip + 3] = static_cast<unsigned char>(bytes - ip);
  f[ip + 8] = 64;
  f[ip + 9] = 17;
  f[ip + 12] = f[ip + 16] = 10;
  f[ip + 15] = 1;
  f[ip + 19] = 2;
  unsigned sum = 0;
  for (size_t i = 0; i < 20; i += 2) sum += static_cast<unsigned>(f[ip + i] << 8 | f[ip + i + 1]);
  sum = ~((sum >> 16) + (sum & 0xffff)) & 0xffff;
  f[ip + 10] = static_cast<unsigned char>(sum >> 8);
  f[ip + 11] = static_cast<unsigned char>(sum);
  f[ip + 22] = static_cast<unsigned char>(port >> 8);
  f[ip + 23] = static_cast<unsigned char>(port);
  f[ip + 25] = static_cast<unsigned char>(bytes - ip - 20);
  const char payload[] = "hello";
  if (bytes >= ip + 34) std::copy(payload, payload + 5, &f[ip + 28]);
  f.back() = static_cast<unsigned char>(number);
  return f;
}

inline void send(int count, int port = 7, int first = 0, const std::string& by = sender, size_t bytes = 100,
                 bool vlan = false) {
  static std::map<std::string, int> sockets;
  auto [at, is_new] = sockets.try_emplace(by, -1);
  if (is_new) at->second = raw_socket(by);
  for (int i = 0; i < count; ++i) {
    const auto f = frame(first + i, port, bytes, vlan);
    if (::send(at->second, f.data(), f.size(), 0) != static_cast<ssize_t>(f.size())) give_up("send");
  }
}

// ---- opening -------------------------------------------------------------------------------------------

struct Opening {
  int snaplen = 65535;
  int timeout_ms = 50;
  bool immediate = false;
  bool nano = false;
};

// For calls that must succeed.
inline void must(pcap_t* p, int code) {
  if (code != 0) give_up(pcap_geterr(p));
}

inline void set_nonblock(pcap_t* p, bool nonblock) {
  if (pcap_setnonblock(p, nonblock, errbuf) != 0) give_up(errbuf);
}

inline pcap_t* open_device(const Opening& how = {}) {
  pcap_t* p = pcap_create(device.c_str(), errbuf);
  if (p == nullptr) give_up(errbuf);
  must(p, pcap_set_snaplen(p, how.snaplen));
  must(p, pcap_set_timeout(p, how.timeout_ms));
  must(p, pcap_set_immediate_mode(p, how.immediate));
  if (how.nano) must(p, pcap_set_tstamp_precision(p, PCAP_TSTAMP_PRECISION_NANO));
  if (pcap_activate(p) < 0) give_up(pcap_geterr(p));
  return p;
}

inline void set_filter(pcap_t* p, const char* text) {
  bpf_program program{};
  if (pcap_compile(p, &program, text, 1, PCAP_NETMASK_UNKNOWN) != 0) give_up(pcap_geterr(p));
  if (pcap_setfilter(p, &program) != 0) give_up(pcap_geterr(p));
  pcap_freecode(&program);
}

inline void count_frames(u_char* user, const pcap_pkthdr*, const u_char*) { ++*reinterpret_cast<int*>(user); }

// One pcap_dispatch() that must not fail; adds what came to `got`.
inline void take_frames(pcap_t* p, int count, int& got) {
  if (pcap_dispatch(p, count, count_frames, reinterpret_cast<u_char*>(&got)) < 0) give_up(pcap_geterr(p));
}

// Reads until `count` came, or nothing more comes for a while. How many came.
inline int read_frames(pcap_t* p, int count, double seconds = 10) {
  int got = 0;
  set_nonblock(p, true);
  const double end = now() + seconds;
  while (got < count && now() < end) {
    take_frames(p, count - got, got);
    if (got < count) ::poll(nullptr, 0, 1);
  }
  set_nonblock(p, false);
  return got;
}

// Reads what is there until nothing came for 0.3 seconds.
inline int read_rest(pcap_t* p) {
  int got = 0;
  set_nonblock(p, true);
  for (double last = now(); now() - last < 0.3; ::poll(nullptr, 0, 5))
    if (pcap_dispatch(p, -1, count_frames, reinterpret_cast<u_char*>(&got)) > 0) last = now();
  set_nonblock(p, false);
  return got;
}

// Which cases there are, by name: corners.cc's.
using Cases = std::map<std::string, void (*)()>;
extern const Cases kCorners;

}  // namespace ringcap::probe

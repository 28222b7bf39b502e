// pcap_probe CASE DEVICE SENDER: a program that uses libpcap, and prints what its functions return and do.
// The tests run it with the system's libpcap on a network interface and with the shim on an engine of that
// interface, and compare the output. SENDER is the interface at the other end, which this program sends
// its frames by. Exit status 0: the case ran to its end.
#include "tests/system/pcap/probe.h"

#include <arpa/inet.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <pcap/pcap.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <fstream>
#include <functional>
#include <map>
#include <string>
#include <thread>
#include <vector>

#include "libcap/pcap/ringcap_pcap.h"

namespace ringcap::probe {
namespace {

// ---- the cases -----------------------------------------------------------------------------------------

void not_activated() {
  pcap_t* p = pcap_create(device.c_str(), errbuf);
  pcap_pkthdr* header;
  pcap_pkthdr one;
  const u_char* packet;
  pcap_stat stats;
  int* list = nullptr;
  bpf_program program{};
  const auto say = [&](const char* name, int code) { SAY("%s %d %s\n", name, code, pcap_geterr(p)); };
  say("dispatch", pcap_dispatch(p, 1, count_frames, nullptr));
  say("loop", pcap_loop(p, 1, count_frames, nullptr));
  say("next_ex", pcap_next_ex(p, &header, &packet));
  SAY("next %d\n", pcap_next(p, &one) == nullptr);
  say("stats", pcap_stats(p, &stats));
  say("setfilter", pcap_setfilter(p, &program));
  say("compile", pcap_compile(p, &program, "tcp", 1, 0));
  say("setdirection", pcap_setdirection(p, PCAP_D_IN));
  say("inject", pcap_inject(p, "x", 1));
  SAY("getnonblock %d\n", pcap_getnonblock(p, errbuf));
  SAY("setnonblock %d\n", pcap_setnonblock(p, 1, errbuf));
  SAY("datalink %d\n", pcap_datalink(p));
  SAY("datalink_ext %d\n", pcap_datalink_ext(p));
  SAY("list_datalinks %d\n", pcap_list_datalinks(p, &list));
  SAY("snapshot %d\n", pcap_snapshot(p));
  SAY("is_swapped %d\n", pcap_is_swapped(p));
  SAY("version %d.%d\n", pcap_major_version(p), pcap_minor_version(p));
  SAY("bufsize %d\n", pcap_bufsize(p));
  SAY("file %d\n", pcap_file(p) == nullptr);
  SAY("fileno %d\n", pcap_fileno(p));
  SAY("selectable %d\n", pcap_get_selectable_fd(p));
  SAY("select timeout %d\n", pcap_get_required_select_timeout(p) == nullptr);
  SAY("precision %d\n", pcap_get_tstamp_precision(p));
  SAY("dump_open %d\n", pcap_dump_open(p, "/dev/null") == nullptr);
  SAY("can_set_rfmon %d\n", pcap_can_set_rfmon(p));
  SAY("set_precision %d\n", pcap_set_tstamp_precision(p, 7));
  SAY("set_tstamp_type %d\n", pcap_set_tstamp_type(p, PCAP_TSTAMP_HOST));
  SAY("set_buffer_size %d\n", pcap_set_buffer_size(p, -1));
  SAY("set_protocol %d\n", pcap_set_protocol_linux(p, 0));
  pcap_close(p);
}

void activated() {
  pcap_t* p = open_device();
  const auto say = [&](const char* name, int code) { SAY("%s %d %s\n", name, code, pcap_geterr(p)); };
  say("activate", pcap_activate(p));
  say("set_snaplen", pcap_set_snaplen(p, 1));
  say("set_promisc", pcap_set_promisc(p, 1));
  say("set_rfmon", pcap_set_rfmon(p, 1));
  say("set_timeout", pcap_set_timeout(p, 1));
  say("set_tstamp_type", pcap_set_tstamp_type(p, 0));
  say("set_immediate_mode", pcap_set_immediate_mode(p, 1));
  say("set_buffer_size", pcap_set_buffer_size(p, 1));
  say("set_tstamp_precision", pcap_set_tstamp_precision(p, 0));
  say("set_protocol_linux", pcap_set_protocol_linux(p, 0));
  say("set_datalink", pcap_set_datalink(p, DLT_EN10MB));
  say("set_datalink", pcap_set_datalink(p, DLT_PPP));
  SAY("datalink %d ext %d\n", pcap_datalink(p), pcap_datalink_ext(p));
  int* list = nullptr;
  const int links = pcap_list_datalinks(p, &list);
  SAY("list_datalinks %d first %d\n", links >= 1, list[0]);
  pcap_free_datalinks(list);
  const int types = pcap_list_tstamp_types(p, &list);
  SAY("list_tstamp_types %d first %d\n", types >= 1, list[0]);
  pcap_free_tstamp_types(list);
  SAY("snapshot %d\n", pcap_snapshot(p));
  SAY("is_swapped %d version %d.%d\n", pcap_is_swapped(p), pcap_major_version(p), pcap_minor_version(p));
  SAY("bufsize %d file %d\n", pcap_bufsize(p) > 0, pcap_file(p) == nullptr);
  SAY("fileno %d selectable %d\n", pcap_fileno(p) > 2, pcap_get_selectable_fd(p) > 2);
  SAY("select timeout %d\n", pcap_get_required_select_timeout(p) == nullptr);
  SAY("precision %d\n", pcap_get_tstamp_precision(p));
  SAY("nonblock %d", pcap_getnonblock(p, errbuf));
  SAY(" %d", pcap_setnonblock(p, 1, errbuf));
  SAY(" %d\n", pcap_getnonblock(p, errbuf));
  bpf_program program{};
  say("compile", pcap_compile(p, &program, "tcp port port", 1, 0));
  const bpf_insn backwards[] = {{0x05, 0, 0, 0xfffffffe}};
  program = {1, const_cast<bpf_insn*>(backwards)};
  SAY("setfilter %d\n", pcap_setfilter(p, &program));
  say("setfilter", pcap_setfilter(p, nullptr));
  SAY("dump_open %d\n", pcap_dump_open(p, "/nowhere/x") == nullptr);
  SAY("dump error %s\n", pcap_geterr(p));
  pcap_close(p);
  device += "-is-not-there";
  p = pcap_create(device.c_str(), errbuf);
  SAY("create %d activate %d\n", p != nullptr, pcap_activate(p));
  pcap_close(p);
  SAY("open_live %d", pcap_open_live(device.c_str(), 0, 0, 10, errbuf) == nullptr);
  SAY(" %d\n", errbuf[0] != 0);
}

// What kinds of time stamps a device has, and whether they say the time in the unit that was asked for.
void tstamps() {
  const int types[] = {PCAP_TSTAMP_HOST,    PCAP_TSTAMP_HOST_LOWPREC,     PCAP_TSTAMP_HOST_HIPREC,
                       PCAP_TSTAMP_ADAPTER, PCAP_TSTAMP_ADAPTER_UNSYNCED, 4711};
  for (const int type : types) {
    pcap_t* p = pcap_create(device.c_str(), errbuf);
    const int set = pcap_set_tstamp_type(p, type);
    SAY("type %d: %d, activate %d\n", type, set, pcap_activate(p));
    pcap_close(p);
  }
  for (const bool nano : {false, true}) {
    pcap_t* p = open_device({.nano = nano});
    send(50);
    const double per_second = nano ? 1e9 : 1e6;
    double furthest = 0;
    long most = 0;
    for (int got = 0; got < 50;) {
      pcap_pkthdr* header = nullptr;
      const u_char* packet = nullptr;
      if (pcap_next_ex(p, &header, &packet) != 1) continue;
      ++got;
      timespec t{};
      clock_gettime(CLOCK_REALTIME, &t);
      const double age = static_cast<double>(t.tv_sec - header->ts.tv_sec) +
                         static_cast<double>(t.tv_nsec) / 1e9 -
                         static_cast<double>(header->ts.tv_usec) / per_second;
      furthest = std::max(furthest, std::abs(age));
      most = std::max(most, static_cast<long>(header->ts.tv_usec));
    }
    SAY("nano %d: precision %d, it is the time: %d, within a second: %d, beyond a million: %d\n", nano,
        pcap_get_tstamp_precision(p), furthest < 5, most < (nano ? 1'000'000'000 : 1'000'000),
        nano && most >= 1'000'000);
    pcap_close(p);
  }
}

void snaplens() {
  for (const int snaplen : {0, -5, 64, 262144, 300000}) {
    pcap_t* p = open_device({.snaplen = snaplen});
    send(1, 7, 0, sender, 100);
    pcap_pkthdr* header = nullptr;
    const u_char* packet = nullptr;
    int code = 0;
    while ((code = pcap_next_ex(p, &header, &packet)) == 0) {
    }
    SAY("%d: snapshot %d, code %d, caplen %u, len %u\n", snaplen, pcap_snapshot(p), code, header->caplen,
        header->len);
    pcap_close(p);
  }
}

void loops() {
  pcap_t* p = open_device();
  send(20);
  int got = 0;
  int code = pcap_loop(p, 5, count_frames, reinterpret_cast<u_char*>(&got));
  SAY("loop 5: %d, %d frames\n", code, got);
  got = 0;
  while (got < 3) code = pcap_dispatch(p, 3 - got, count_frames, reinterpret_cast<u_char*>(&got));
  SAY("dispatch 3: %d frames\n", got);
  SAY("the rest: %d\n", read_frames(p, 12));
  set_nonblock(p, true);
  SAY("nothing left: dispatch %d", pcap_dispatch(p, -1, count_frames, reinterpret_cast<u_char*>(&got)));
  pcap_pkthdr* header;
  pcap_pkthdr one;
  const u_char* packet;
  SAY(", next_ex %d", pcap_next_ex(p, &header, &packet));
  SAY(", next %d\n", pcap_next(p, &one) == nullptr);
  pcap_close(p);
}

void lifetimes() {
  pcap_t* p = open_device();
  send(10);
  for (int i = 0; i < 10; ++i) {
    pcap_pkthdr* header = nullptr;
    const u_char* packet = nullptr;
    int code = 0;
    while ((code = pcap_next_ex(p, &header, &packet)) == 0) {
    }
    const std::vector<u_char> then(packet, packet + header->caplen);
    send(50, 9, 100);  // what comes meanwhile does not touch it
    pcap_stat stats;
    must(p, pcap_stats(p, &stats));
    SAY("%d: number %d, the same later: %d, ts %d\n", code, packet[header->len - 1],
        std::equal(then.begin(), then.end(), packet),
        header->ts.tv_usec < 1000000 && header->ts.tv_sec > 1600000000);
    if (i < 9) continue;
    pcap_pkthdr one;
    const u_char* next = pcap_next(p, &one);
    SAY("next: %d, caplen %u, len %u\n", next != nullptr && next[0] == 0xff, one.caplen, one.len);
  }
  pcap_close(p);
}

// A frame at a time with the callback breaking.
pcap_t* breaking = nullptr;
int break_at = 0;
void breaker(u_char* user, const pcap_pkthdr*, const u_char*) {
  if (++*reinterpret_cast<int*>(user) == break_at) pcap_breakloop(breaking);
}

void breaks_in_callbacks() {
  pcap_t* p = breaking = open_device();
  send(10);
  int got = 0;
  break_at = 4;
  int code = pcap_loop(p, -1, breaker, reinterpret_cast<u_char*>(&got));
  SAY("loop: %d after %d\n", code, got);
  SAY("the rest: %d\n", read_frames(p, 6));
  pcap_breakloop(p);
  SAY("before it begins: loop %d", pcap_loop(p, -1, count_frames, reinterpret_cast<u_char*>(&got)));
  pcap_breakloop(p);
  SAY(", dispatch %d", pcap_dispatch(p, -1, count_frames, reinterpret_cast<u_char*>(&got)));
  pcap_pkthdr* header;
  const u_char* packet;
  pcap_breakloop(p);
  SAY(", next_ex %d\n", pcap_next_ex(p, &header, &packet));
  send(1);
  SAY("cleared: %d\n", read_frames(p, 1));
  pcap_close(p);
}

// The system's library, reading a block at a time, does not look at the flag within one.
void breaks_in_dispatch() {
  pcap_t* p = breaking = open_device();
  int got = 0, code = 0;
  send(10);
  got = 0;
  break_at = 3;
  while ((code = pcap_dispatch(p, -1, breaker, reinterpret_cast<u_char*>(&got))) >= 0 && got < 3) {
  }
  SAY("dispatch: %d frames in all, then %d\n", got,
      pcap_dispatch(p, -1, breaker, reinterpret_cast<u_char*>(&got)));
  SAY("the rest: %d\n", read_frames(p, 7));
  pcap_close(p);
}

void breaks_from_elsewhere() {
  pcap_t* p = breaking = open_device();
  int got = 0;
  struct sigaction action{};
  action.sa_handler = [](int) { pcap_breakloop(breaking); };
  ::sigaction(SIGALRM, &action, nullptr);
  const itimerval soon{.it_interval = {0, 0}, .it_value = {0, 200'000}};
  ::setitimer(ITIMER_REAL, &soon, nullptr);
  double start = now();
  SAY("signal: loop %d", pcap_loop(p, -1, count_frames, reinterpret_cast<u_char*>(&got)));
  SAY(" in time %d\n", now() - start < 5);
  start = now();
  std::thread other([&] {
    ::poll(nullptr, 0, 200);
    pcap_breakloop(p);
  });
  SAY("thread: loop %d", pcap_loop(p, -1, count_frames, reinterpret_cast<u_char*>(&got)));
  SAY(" in time %d, frames %d\n", now() - start < 5, got);
  other.join();
  pcap_close(p);
}

void filters() {
  pcap_t* p = open_device();
  set_filter(p, "udp dst port 7");
  send(5, 9);
  send(4, 7);
  send(5, 9);
  SAY("port 7 of 14: %d\n", read_frames(p, 4));
  SAY("and no more: %d\n", read_rest(p));
  pcap_stat stats;
  must(p, pcap_stats(p, &stats));
  SAY("received %u dropped %u by the interface %u\n", stats.ps_recv, stats.ps_drop, stats.ps_ifdrop);
  send(6, 7);
  ::poll(nullptr, 0, 200);
  set_filter(p, "udp dst port 9");  // what waits in the buffer is filtered, too
  send(3, 9);
  SAY("changed: %d", read_frames(p, 3));
  SAY(" and %d\n", read_rest(p));
  set_filter(p, "");
  send(2, 5);
  SAY("none: %d\n", read_frames(p, 2));
  set_filter(p, "ip protochain 17 and udp dst port 7");
  send(2, 9);
  send(2, 7);
  SAY("protochain: %d", read_frames(p, 2));
  SAY(" and %d\n", read_rest(p));
  pcap_close(p);
}

void directions() {
  const std::string own = sender == "there" ? "here" : "there";
  const auto both = [&] {
    send(3, 7, 0, sender);
    send(2, 7, 0, own);
  };
  for (const char* text : {"inbound", "outbound", "udp and inbound", "not outbound"}) {
    pcap_t* p = open_device();
    set_filter(p, text);
    both();
    SAY("%s: %d\n", text, read_rest(p));
    pcap_close(p);
  }
  const std::string text = "ifindex " + std::to_string(::if_nametoindex(own.c_str()));
  for (const std::string& which : {text, std::string("ifindex 4711")}) {
    pcap_t* p = open_device();
    set_filter(p, which.c_str());
    both();
    SAY("ifindex: %d\n", read_rest(p));
    pcap_close(p);
  }
  for (const auto direction : {PCAP_D_IN, PCAP_D_OUT, PCAP_D_INOUT}) {
    pcap_t* p = open_device();
    const int code = pcap_setdirection(p, direction);
    both();
    SAY("direction %d: %d, %d\n", direction, code, read_rest(p));
    pcap_close(p);
  }
}

void vlans() {
  for (const char* text : {"vlan", "vlan 5", "vlan 6", "vlan and udp port 7", "not vlan"}) {
    pcap_t* p = open_device();
    set_filter(p, text);
    send(3, 7, 0, sender, 100, true);
    send(2, 7);
    SAY("%s: %d\n", text, read_rest(p));
    pcap_close(p);
  }
}

// A tag is in the frame, as it is in a file: what does not say `vlan` does not look behind it.
void tags() {
  pcap_t* p = open_device();
  set_filter(p, "udp port 7");
  send(3, 7, 0, sender, 100, true);
  send(2, 7);
  SAY("udp port 7: %d\n", read_rest(p));
  pcap_close(p);
}

bool readable(int fd, int ms) {
  pollfd wait{fd, POLLIN, 0};
  return ::poll(&wait, 1, ms) == 1;
}

void selectable() {
  pcap_t* p = open_device({.immediate = true});
  set_nonblock(p, true);
  const int fd = pcap_get_selectable_fd(p);
  SAY("idle: %d\n", readable(fd, 0));
  send(3);
  SAY("frames: %d", readable(fd, 5000));
  SAY(", still: %d\n", readable(fd, 0));
  int got = 0;
  take_frames(p, 1, got);
  SAY("one of three taken: %d, readable %d\n", got, readable(fd, 1000));
  while (got < 3) take_frames(p, -1, got);
  take_frames(p, -1, got);
  SAY("all taken: readable %d\n", readable(fd, 0));
  fd_set set;
  FD_ZERO(&set);
  FD_SET(fd, &set);
  send(1);
  timeval patience{5, 0};
  SAY("select: %d\n", ::select(fd + 1, &set, nullptr, nullptr, &patience));
  while (got < 4) take_frames(p, -1, got);
  pcap_close(p);
}

// dumpcap asks for the descriptor before it sets its filter.
void selectable_and_filter() {
  pcap_t* p = open_device({.immediate = true});
  set_nonblock(p, true);
  const int fd = pcap_get_selectable_fd(p);
  send(2);
  SAY("frames: %d", readable(fd, 5000));
  set_filter(p, "udp port 7");
  send(3);
  SAY(", with a filter: %d", readable(fd, 5000));
  SAY(", %d frames\n", read_frames(p, 5));
  pcap_close(p);
}

void edge_triggered() {
  pcap_t* p = open_device({.immediate = true});
  set_nonblock(p, true);
  const int epoll = ::epoll_create1(0);
  epoll_event event{};
  event.events = EPOLLIN | EPOLLET;
  ::epoll_ctl(epoll, EPOLL_CTL_ADD, pcap_get_selectable_fd(p), &event);
  int got = 0, rounds = 0;
  for (int i = 0; i < 200; ++i) {
    send(3, 7, i);
    while (got < 3 * (i + 1)) {
      if (::epoll_wait(epoll, &event, 1, 5000) != 1) give_up("no event for frames that came");
      ++rounds;
      while (pcap_dispatch(p, -1, count_frames, reinterpret_cast<u_char*>(&got)) > 0) {
      }
    }
  }
  SAY("frames %d, every event in time %d\n", got, rounds >= 200);
  pcap_close(p);
}

void timeouts() {
  // The system's library may or may not return when a timeout passes without frames: what is compared is
  // that a frame ends the wait.
  for (const int timeout_ms : {0, 20, 10000}) {
    pcap_t* p = open_device({.timeout_ms = timeout_ms, .immediate = true});
    std::thread later([] {
      ::poll(nullptr, 0, 100);
      send(1);
    });
    const double start = now();
    int got = 0, code = 0;
    while ((code = pcap_dispatch(p, -1, count_frames, reinterpret_cast<u_char*>(&got))) == 0) {
    }
    SAY("timeout %d: %d frame, in time %d\n", timeout_ms, code, now() - start > 0.05 && now() - start < 5);
    later.join();
    pcap_close(p);
  }
}

void forks() {
  pcap_t* p = open_device();
  ::fflush(stdout);
  const pid_t child = ::fork();
  if (child == 0) {
    send(5);
    SAY("child: %d\n", read_frames(p, 5));
    pcap_close(p);
    std::_Exit(0);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  send(4);
  SAY("parent, after the child has closed: %d or more\n", read_frames(p, 4) >= 4 ? 4 : 0);
  int both[2];
  if (::pipe(both) != 0) give_up("pipe");
  const pid_t heir = ::fork();
  if (heir == 0) {
    ::close(both[1]);
    char nothing;
    if (::read(both[0], &nothing, 1) != 0) give_up("the parent has said something");
    read_rest(p);
    send(6);
    SAY("heir, after its parent has closed: %d\n", read_frames(p, 6));
    std::_Exit(0);
  }
  pcap_close(p);
  ::close(both[1]);
  ::waitpid(heir, &status, 0);
}

void low_descriptors() {
  const int out = ::fcntl(1, F_DUPFD, 50);
  for (const int fd : {0, 1, 2}) ::close(fd);
  pcap_t* p = open_device();
  bool taken = false;
  for (const int fd : {0, 1, 2}) taken |= ::fcntl(fd, F_GETFD) >= 0;
  const int fd = pcap_get_selectable_fd(p);
  send(3);
  const int got = read_frames(p, 3);
  ::dprintf(out, "descriptor above 2: %d, frames %d\n", fd > 2, got);
  if (::getenv("PROBE_STRICT") != nullptr) ::dprintf(out, "one below 3 taken: %d\n", taken);
  pcap_close(p);
}

void closed_by_program() {
  for (int fd = 3; fd < 100; ++fd) ::close(fd);
  pcap_t* p = open_device();
  for (int fd = 3; fd < 100; ++fd) ::close(fd);
  int got = 0;
  const double start = now();
  int code = 0;
  while ((code = pcap_dispatch(p, -1, count_frames, reinterpret_cast<u_char*>(&got))) >= 0 &&
         now() - start < 10) {
  }
  SAY("dispatch: %d, with a text: %d\n", code, pcap_geterr(p)[0] != 0);
  const int other = ::open("/dev/null", O_RDONLY);
  pcap_close(p);
  if (::getenv("PROBE_STRICT") != nullptr)
    SAY("what took the number stays open: %d\n", ::fcntl(other, F_GETFD) >= 0);
}

void two_consumers() {
  pcap_t* first = open_device();
  pcap_t* second = open_device();
  set_filter(second, "udp dst port 7");
  send(4, 9);
  send(3, 7);
  SAY("first %d", read_frames(first, 7));
  SAY(" second %d\n", read_frames(second, 3));
  pcap_close(first);
  send(2, 7);
  SAY("second, alone: %d\n", read_frames(second, 2));
  pcap_close(second);
}

void dumps() {
  for (const bool nano : {false, true}) {
    pcap_t* p = open_device({.snaplen = 80, .nano = nano});
    const std::string name = "/tmp/pcap_probe." + std::to_string(::getpid());
    pcap_dumper_t* dumper = pcap_dump_open(p, name.c_str());
    if (dumper == nullptr) give_up(pcap_geterr(p));
    send(5);
    SAY("loop %d", pcap_loop(p, 5, pcap_dump, reinterpret_cast<u_char*>(dumper)));
    SAY(" flush %d tell %ld\n", pcap_dump_flush(dumper), pcap_dump_ftell(dumper));
    pcap_dump_close(dumper);
    dumper = pcap_dump_open_append(p, name.c_str());
    if (dumper == nullptr) give_up(pcap_geterr(p));
    send(2, 7, 5);
    must(p, pcap_loop(p, 2, pcap_dump, reinterpret_cast<u_char*>(dumper)));
    pcap_dump_close(dumper);
    pcap_close(p);
    pcap_t* file = pcap_open_offline_with_tstamp_precision(
        name.c_str(), nano ? PCAP_TSTAMP_PRECISION_NANO : PCAP_TSTAMP_PRECISION_MICRO, errbuf);
    SAY("snaplen %d link %d\n", pcap_snapshot(file), pcap_datalink(file));
    pcap_pkthdr header;
    while (const u_char* packet = pcap_next(file, &header))
      SAY("%u of %u, first %02x\n", header.caplen, header.len, packet[0]);
    std::ifstream bytes(name, std::ios::binary);
    unsigned magic = 0;
    bytes.read(reinterpret_cast<char*>(&magic), sizeof magic);
    SAY("magic %08x\n", magic);
    pcap_close(file);
    ::unlink(name.c_str());
  }
}

pcap_t* counted = nullptr;
volatile sig_atomic_t asked = 0, answered = 0;
void statistics_in_handlers() {
  pcap_t* p = counted = open_device();
  struct sigaction action{};
  action.sa_handler = [](int) {
    pcap_stat stats;
    asked = asked + 1;
    if (pcap_stats(counted, &stats) == 0) answered = answered + 1;
  };
  action.sa_flags = SA_RESTART;
  ::sigaction(SIGALRM, &action, nullptr);
  const itimerval often{.it_interval = {0, 1000}, .it_value = {0, 1000}};
  ::setitimer(ITIMER_REAL, &often, nullptr);
  int got = 0;
  while (got < 500) {
    send(10);
    for (int until = got + 10; got < until;) take_frames(p, until - got, got);
  }
  while (asked < 20) ::poll(nullptr, 0, 1);
  const itimerval never{};
  ::setitimer(ITIMER_REAL, &never, nullptr);
  pcap_stat stats;
  SAY("frames %d, all answered %d, stats %d", got, asked == answered, pcap_stats(p, &stats));
  SAY(" received %u dropped %u\n", stats.ps_recv, stats.ps_drop);
  pcap_close(p);
}

// ---- cases of the shim alone ---------------------------------------------------------------------------

std::string real_library() {
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);)
    if (line.find("/libpcap.so.") != std::string::npos && line.find("/usr/lib/") != std::string::npos)
      return "yes";
  return "no";
}

void loaded() {
  int more = 0;
  for (int fd = 3; fd < 100; ++fd) more += ::fcntl(fd, F_GETFD) >= 0 ? 1 : 0;
  SAY("before: %d more descriptors, real library mapped: %s\n", more, real_library().c_str());
  pcap_lib_version();
  SAY("after: real library mapped: %s\n", real_library().c_str());
}

void lacking() {
  using Function = decltype(&pcap_findalldevs_ex);
  const auto function = reinterpret_cast<Function>(::dlsym(RTLD_DEFAULT, "pcap_findalldevs_ex"));
  if (function == nullptr) give_up("not exported");
  pcap_if_t* list = nullptr;
  SAY("%d ", function("rpcap://", nullptr, &list, errbuf));
  SAY("%s\n", errbuf);
}

// The options of libpcap's main branch, which no header here declares.
void newer() {
  const auto find = [](const char* name) {
    void* function = ::dlsym(RTLD_DEFAULT, name);
    if (function == nullptr) give_up("not exported");
    return function;
  };
  void* options = reinterpret_cast<void* (*)()>(find("pcap_alloc_option"))();
  SAY("alloc %d, set int %d", options != nullptr,
      reinterpret_cast<int (*)(void*, int, int)>(find("pcap_set_option_int"))(options, 1, 9));
  SAY(", string %d",
      reinterpret_cast<int (*)(void*, int, const char*)>(find("pcap_set_option_string"))(options, 2, "plug"));
  const auto get_int = reinterpret_cast<int (*)(void*, int)>(find("pcap_get_option_int"));
  const auto get_string = reinterpret_cast<const char* (*)(void*, int)>(find("pcap_get_option_string"));
  const char* text = get_string(options, 2);
  SAY(", get int %d, string %s\n", get_int(options, 1), text == nullptr ? "(null)" : text);
  reinterpret_cast<void (*)(void*)>(find("pcap_free_option"))(options);
  if (options != nullptr) SAY("freed %d\n", get_int(options, 4711));
}

void no_real() {
  pcap_if_t* list = nullptr;
  SAY("%d ", pcap_findalldevs(&list, errbuf));
  SAY("%s\n", errbuf);
  SAY("%d ", pcap_create("lo", errbuf) == nullptr);
  SAY("%s\n", errbuf);
  SAY("%d\n", pcap_compile_nopcap(100, 1, nullptr, "tcp", 1, 0));
  SAY("%s\n", pcap_lib_version());
}

// Reads until the device ends; says how.
void until_the_end() {
  pcap_t* p = open_device();
  int got = 0;
  SAY("reading\n");
  const int code = pcap_loop(p, -1, count_frames, reinterpret_cast<u_char*>(&got));
  SAY("loop %d: %s\n", code, code == PCAP_ERROR ? pcap_geterr(p) : "");
  SAY("frames %d, dispatch again %d", got,
      pcap_dispatch(p, -1, count_frames, reinterpret_cast<u_char*>(&got)));
  SAY(" and %d\n", pcap_dispatch(p, -1, count_frames, reinterpret_cast<u_char*>(&got)));
  pcap_close(p);
}

// A frame's first byte is changed.
void writes_into_frames() {
  pcap_t* p = open_device();
  send(1);
  pcap_pkthdr* header = nullptr;
  const u_char* packet = nullptr;
  while (pcap_next_ex(p, &header, &packet) == 0) {
  }
  const_cast<u_char*>(packet)[0] = 1;
  SAY("written: %d\n", packet[0]);
}

void list_devices() {
  pcap_if_t* list = nullptr;
  if (pcap_findalldevs(&list, errbuf) != 0) give_up(errbuf);
  for (const pcap_if_t* one = list; one != nullptr; one = one->next) {
    SAY("%s|%s|%x|", one->name, one->description == nullptr ? "" : one->description, one->flags);
    for (const pcap_addr* a = one->addresses; a != nullptr; a = a->next) {
      char text[64] = "";
      if (a->addr != nullptr && a->addr->sa_family == AF_INET)
        ::inet_ntop(AF_INET, &reinterpret_cast<sockaddr_in*>(a->addr)->sin_addr, text, sizeof text);
      SAY("%s ", text);
    }
    SAY("\n");
  }
  pcap_freealldevs(list);
  bpf_u_int32 net = 1, mask = 1;
  SAY("lookupnet %d", pcap_lookupnet(device.c_str(), &net, &mask, errbuf));
  SAY(" %x/%x\n", net, mask);
}

void counters() {
  pcap_t* p = open_device();
  send(5);
  read_frames(p, 5);
  pcap_t* dead = pcap_open_dead(DLT_EN10MB, 100);
  ringcap_counters c{};
  for (const double end = now() + 10; now() < end && c.published < 5; ::poll(nullptr, 0, 5))
    if (ringcap_pcap_counters(p, &c) != RINGCAP_OK) give_up("no counters");
  SAY("published %d of %d, released all: %d\n", static_cast<int>(c.published), static_cast<int>(c.offered),
      c.released <= c.published);
  SAY("an offline handle: %d\n", ringcap_pcap_counters(dead, &c));
}

// To ports 7 and 9, and an ARP answer of 192.0.2.9 to everybody's question.
void send_for_ever() {
  std::vector<unsigned char> arp = frame(0, 0, 60);
  const unsigned char answer[] = {0x08, 0x06, 0, 1, 8, 0, 6, 4, 0, 2, 2, 3, 4, 5, 6, 7, 192, 0, 2, 9};
  std::copy(std::begin(answer), std::end(answer), &arp[12]);
  const int fd = raw_socket(sender);
  ifreq request{};
  std::strncpy(request.ifr_name, "here", sizeof request.ifr_name - 1);
  if (::ioctl(fd, SIOCGIFHWADDR, &request) != 0) give_up("address");
  for (size_t i = 0; i < 6; ++i)
    arp[i] = arp[32 + i] = static_cast<unsigned char>(request.ifr_hwaddr.sa_data[i]);
  const unsigned char question[] = {192, 0, 2, 1};
  std::copy(std::begin(question), std::end(question), &arp[38]);
  for (int i = 0;; ++i) {
    send(1, 7, i);
    send(1, 9, i);
    if (::send(fd, arp.data(), arp.size(), 0) < 0) give_up("send");
    ::poll(nullptr, 0, 10);
  }
}

const Cases kCases = {
    {"not_activated", not_activated},
    {"activated", activated},
    {"snaplens", snaplens},
    {"tstamps", tstamps},
    {"loops", loops},
    {"lifetimes", lifetimes},
    {"breaks_in_callbacks", breaks_in_callbacks},
    {"breaks_in_dispatch", breaks_in_dispatch},
    {"breaks_from_elsewhere", breaks_from_elsewhere},
    {"filters", filters},
    {"directions", directions},
    {"vlans", vlans},
    {"tags", tags},
    {"selectable", selectable},
    {"selectable_and_filter", selectable_and_filter},
    {"edge_triggered", edge_triggered},
    {"timeouts", timeouts},
    {"forks", forks},
    {"low_descriptors", low_descriptors},
    {"closed_by_program", closed_by_program},
    {"two_consumers", two_consumers},
    {"dumps", dumps},
    {"statistics_in_handlers", statistics_in_handlers},
    {"loaded", loaded},
    {"lacking", lacking},
    {"newer", newer},
    {"no_real", no_real},
    {"until_the_end", until_the_end},
    {"writes_into_frames", writes_into_frames},
    {"list_devices", list_devices},
    {"counters", counters},
    {"send_for_ever", send_for_ever},
};

}  // namespace
}  // namespace ringcap::probe

int main(int argc, char** argv) {
  using namespace ringcap::probe;
  auto cases = kCases;
  cases.insert(kCorners.begin(), kCorners.end());
  const auto found = argc > 1 ? cases.find(argv[1]) : cases.end();
  if (found == cases.end()) give_up("no such case");
  if (argc > 2) device = argv[2];
  if (argc > 3) sender = argv[3];
  found->second();
  return 0;
}

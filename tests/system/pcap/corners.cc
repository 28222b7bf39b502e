// The corners of libpcap's man pages, as cases of pcap_probe: counts that mean "all", calls before activation
// and after one that failed, null pointers where they are allowed, what is only for files asked of a device.
#include <fcntl.h>
#include <sys/stat.h>

#include <cerrno>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <iterator>

// clang-format off: namedb.h needs what pcap.h defines
#include "tests/system/pcap/probe.h"
#include <netdb.h>
#include <pcap/namedb.h>
// clang-format on

namespace ringcap::probe {
namespace {

u_char* address_of(int& number) { return reinterpret_cast<u_char*>(&number); }

pcap_t* breaking = nullptr;
int break_at = 0;
void break_there(u_char* user, const pcap_pkthdr*, const u_char*) {
  if (++*reinterpret_cast<int*>(user) == break_at) pcap_breakloop(breaking);
}

// pcap_dispatch(3PCAP), pcap_loop(3PCAP): -1 and 0 are all that there is. pcap_breakloop(3PCAP): the flag
// stays where the count ended the loop first.
void counts() {
  pcap_t* p = breaking = open_device();
  for (const int all : {0, -1}) {
    send(6);
    int got = 0, code = 0;
    while (got < 6 && code >= 0) code = pcap_dispatch(p, all, count_frames, address_of(got));
    SAY("dispatch %d: %d frames, %s\n", all, got, code > 0 ? "their number" : "?");
    got = 0;
    break_at = 6;
    send(6);
    code = pcap_loop(p, all, break_there, address_of(got));
    SAY("loop %d: %d after %d frames\n", all, code, got);
  }
  int got = 0;
  pcap_pkthdr header;
  pcap_breakloop(p);
  SAY("broken: next %d", pcap_next(p, &header) == nullptr);
  set_nonblock(p, true);
  SAY(", then %d\n", pcap_dispatch(p, -1, count_frames, address_of(got)));
  pcap_close(p);
}

// A count that is exhausted ends a loop; a break that came with its last frame is for the next call.
// (libpcap 1.10's reader of TPACKET_V3 lets the break win.)
void break_at_the_count() {
  pcap_t* p = breaking = open_device();
  int got = 0;
  send(5);
  break_at = 5;
  const int code = pcap_loop(p, 5, break_there, address_of(got));
  SAY("loop 5, broken at the fifth: %d, %d frames", code, got);
  SAY(", then %d\n", pcap_dispatch(p, -1, count_frames, address_of(got)));
  pcap_close(p);
}

// pcap_setnonblock(3PCAP), before activation too.
void nonblock() {
  pcap_t* p = pcap_create(device.c_str(), errbuf);
  must(p, pcap_set_timeout(p, 50));
  SAY("before: get %d, set %d, get %d\n", pcap_getnonblock(p, errbuf), pcap_setnonblock(p, 5, errbuf),
      pcap_getnonblock(p, errbuf));
  SAY("says: %s\n", errbuf);
  const bool activated = pcap_activate(p) == 0;
  SAY("activated %d, get %d\n", activated, pcap_getnonblock(p, errbuf));
  pcap_pkthdr* header;
  pcap_pkthdr one;
  const u_char* packet;
  int got = 0;
  SAY("nothing: dispatch %d", pcap_dispatch(p, 1, count_frames, address_of(got)));
  SAY(" next_ex %d next %d\n", pcap_next_ex(p, &header, &packet), pcap_next(p, &one) == nullptr);
  send(3);
  while (got < 3) take_frames(p, -1, got);
  SAY("%d frames\n", got);
  for (const int value : {0, -1, 0}) {
    SAY("set %d: %d", value, pcap_setnonblock(p, value, errbuf));
    SAY(", get %d\n", pcap_getnonblock(p, errbuf));
  }
  send(1);
  SAY("blocking: loop %d\n", pcap_loop(p, 1, count_frames, address_of(got)));
  pcap_close(p);
}

// pcap_create(3PCAP): what may be set before activation; pcap_activate(3PCAP): after one that failed, the
// handle is as before it.
void after_failure() {
  const std::string real_device = device;
  device += "-is-not-there";
  pcap_t* p = pcap_create(device.c_str(), errbuf);
  SAY("set: %d %d %d %d %d %d %d\n", pcap_set_snaplen(p, 100), pcap_set_promisc(p, 1),
      pcap_set_timeout(p, 10), pcap_set_immediate_mode(p, 1), pcap_set_buffer_size(p, 1 << 20),
      pcap_set_rfmon(p, 0), pcap_set_tstamp_precision(p, PCAP_TSTAMP_PRECISION_NANO));
  SAY("precision %d\n", pcap_get_tstamp_precision(p));
  SAY("activate %d", pcap_activate(p));
  SAY(", with a text %d\n", pcap_geterr(p)[0] != 0);
  pcap_stat stats;
  bpf_program program{};
  int got = 0;
  const auto say = [&](const char* name, int code) { SAY("%s %d %s\n", name, code, pcap_geterr(p)); };
  say("dispatch", pcap_dispatch(p, 1, count_frames, address_of(got)));
  say("stats", pcap_stats(p, &stats));
  say("setfilter", pcap_setfilter(p, &program));
  say("compile", pcap_compile(p, &program, "udp", 1, 0));
  say("inject", pcap_inject(p, "x", 1));
  SAY("datalink %d snapshot %d bufsize %d fileno %d selectable %d\n", pcap_datalink(p), pcap_snapshot(p),
      pcap_bufsize(p), pcap_fileno(p), pcap_get_selectable_fd(p));
  SAY("nonblock %d %d\n", pcap_getnonblock(p, errbuf), pcap_setnonblock(p, 1, errbuf));
  SAY("set again: %d %d %d\n", pcap_set_snaplen(p, 200), pcap_set_timeout(p, 20), pcap_set_rfmon(p, 0));
  pcap_close(p);
  p = pcap_create(real_device.c_str(), errbuf);
  SAY("rfmon: can %d, set %d", pcap_can_set_rfmon(p), pcap_set_rfmon(p, 1));
  SAY(", activate %d\n", pcap_activate(p));
  pcap_close(p);
  device = real_device;
  p = open_device();
  SAY("can, when activated: %d\n", pcap_can_set_rfmon(p));
  pcap_close(p);
}

// libpcap 1.10.3 crashes when a handle is activated again whose activation failed.
void activated_again() {
  pcap_t* p = pcap_create((device + "-is-not-there").c_str(), errbuf);
  SAY("not there: %d", pcap_activate(p));
  SAY(" and %d\n", pcap_activate(p));
  pcap_breakloop(p);
  pcap_close(p);
  p = pcap_create(device.c_str(), errbuf);
  SAY("rfmon: %d", pcap_set_rfmon(p, 1));
  SAY(" %d", pcap_activate(p));
  SAY(", without it %d", pcap_set_rfmon(p, 0));
  SAY(" %d", pcap_activate(p));
  send(1);
  int got = 0;
  SAY(", loop %d\n", pcap_loop(p, 1, count_frames, address_of(got)));
  pcap_close(p);
}

// What may be null, what is only for files, and what a direction can be.
void nulls() {
  pcap_free_datalinks(nullptr);
  pcap_free_tstamp_types(nullptr);
  pcap_freealldevs(nullptr);
  pcap_t* p = open_device({.timeout_ms = 10});
  constexpr auto none = static_cast<pcap_direction_t>(3);  // of the type's values, and not a direction
  const auto say = [&](const char* name, int code) { SAY("%s %d %s\n", name, code, pcap_geterr(p)); };
  bpf_program program{};
  say("compile nothing", pcap_compile(p, &program, nullptr, 1, PCAP_NETMASK_UNKNOWN));
  SAY("%u instructions\n", program.bf_len);
  pcap_freecode(&program);
  SAY("freed: %u %d\n", program.bf_len, program.bf_insns == nullptr);
  say("compile a broadcast", pcap_compile(p, &program, "ip broadcast", 1, PCAP_NETMASK_UNKNOWN));
  say("compile rubbish", pcap_compile(p, &program, "udp and and", 1, 0));
  program = {0, nullptr};
  say("an empty program", pcap_setfilter(p, &program));
  say("no direction", pcap_setdirection(p, none));
  SAY("dump to nowhere %d %s\n", pcap_dump_open(p, nullptr) == nullptr, pcap_geterr(p));
  SAY("append to nowhere %d %s\n", pcap_dump_open_append(p, nullptr) == nullptr, pcap_geterr(p));
  SAY("of files: %d %d %d %d\n", pcap_file(p) == nullptr, pcap_is_swapped(p), pcap_major_version(p),
      pcap_minor_version(p));
  std::fflush(stderr);
  const int kept = ::dup(2);
  ::dup2(1, 2);
  if (pcap_setdirection(p, none) == 0) give_up("no such direction, and no error");
  pcap_perror(p, "perror says");
  ::dup2(kept, 2);
  send(1);
  SAY("without a user: %d\n",
      pcap_loop(
          p, 1, [](u_char* user, const pcap_pkthdr*, const u_char*) { SAY("user %d, ", user == nullptr); },
          nullptr));
  pcap_close(p);
  p = pcap_open_live(nullptr, 100, 0, 10, errbuf);
  SAY("no device is any: %d\n", p == nullptr ? -1 : pcap_datalink(p));
  if (p != nullptr) pcap_close(p);
}

// A signal that says nothing does not end a loop, though it is not one that restarts system calls.
int alarms = 0;
void interrupted() {
  pcap_t* p = open_device({.timeout_ms = 0, .immediate = true});
  send(0);  // its socket, before the signals
  struct sigaction action{};
  action.sa_handler = [](int) {
    if (++alarms == 3) send(1);
  };
  ::sigaction(SIGALRM, &action, nullptr);
  const itimerval often{.it_interval = {0, 30'000}, .it_value = {0, 30'000}};
  ::setitimer(ITIMER_REAL, &often, nullptr);
  int got = 0;
  const int code = pcap_loop(p, 1, count_frames, address_of(got));
  SAY("loop %d, %d frame, after three signals: %d\n", code, got, alarms >= 3);
  const itimerval never{};
  ::setitimer(ITIMER_REAL, &never, nullptr);
  pcap_close(p);
}

// pcap_inject(3PCAP): what is returned and said, and that the frames arrive.
void sends() {
  pcap_t* p = open_device();
  const int far = raw_socket(sender);
  const auto arrives = [&](size_t bytes) {
    unsigned char got[2048];
    pollfd wait{far, POLLIN, 0};
    if (::poll(&wait, 1, 10'000) != 1) return false;
    const auto sent = frame(3, 4711, bytes);
    return ::recv(far, got, sizeof got, 0) == static_cast<ssize_t>(bytes) &&
           std::equal(sent.begin(), sent.end(), got);
  };
  const auto bytes_of = [](size_t bytes) { return frame(3, 4711, bytes); };
  SAY("inject %d", pcap_inject(p, bytes_of(60).data(), 60));
  SAY(", arrives %d\n", arrives(60));
  SAY("sendpacket %d", pcap_sendpacket(p, bytes_of(1514).data(), 1514));
  SAY(", arrives %d\n", arrives(1514));
  const std::vector<u_char> big(100'000);
  SAY("too long: %d", pcap_inject(p, big.data(), big.size()));
  SAY(", %d", pcap_sendpacket(p, big.data(), static_cast<int>(big.size())));
  SAY(", with a text %d\n", pcap_geterr(p)[0] != 0);
  SAY("nothing: %d\n", pcap_inject(p, big.data(), 0));
  SAY("less than nothing: %d\n", pcap_sendpacket(p, big.data(), -1));
  SAY("inject %d", pcap_inject(p, bytes_of(60).data(), 60));
  SAY(", arrives %d\n", arrives(60));
  pcap_close(p);
}

// pcap_dump_open(3PCAP): into a stream, on a full disk, after what was written otherwise.
void more_dumps() {
  pcap_t* p = open_device({.snaplen = 80});
  const std::string name = "/tmp/pcap_probe." + std::to_string(::getpid());
  FILE* file = std::fopen(name.c_str(), "w+b");
  pcap_dumper_t* dumper = pcap_dump_fopen(p, file);
  SAY("fopen %d, its file %d\n", dumper != nullptr, pcap_dump_file(dumper) == file);
  send(5);
  SAY("loop %d", pcap_loop(p, 5, pcap_dump, reinterpret_cast<u_char*>(dumper)));
  SAY(" tell %d", static_cast<int>(pcap_dump_ftell64(dumper)));
  SAY(" flush %d", pcap_dump_flush(dumper));
  struct stat status{};
  ::fstat(::fileno(file), &status);
  SAY(", bytes %d\n", static_cast<int>(status.st_size));
  pcap_dump_close(dumper);
  pcap_t* nano = pcap_open_dead_with_tstamp_precision(DLT_EN10MB, 80, PCAP_TSTAMP_PRECISION_NANO);
  pcap_t* ppp = pcap_open_dead(DLT_PPP, 80);
  dumper = pcap_dump_open(nano, name.c_str());
  pcap_dump_close(dumper);
  SAY("append to another precision: %d", pcap_dump_open_append(p, name.c_str()) == nullptr);
  SAY(", %d\n", std::strstr(pcap_geterr(p), "time stamp precision") != nullptr);
  dumper = pcap_dump_open(ppp, name.c_str());
  pcap_dump_close(dumper);
  SAY("append to another link type: %d", pcap_dump_open_append(p, name.c_str()) == nullptr);
  SAY(", %d\n", std::strstr(pcap_geterr(p), "different linktype") != nullptr);
  pcap_close(nano);
  pcap_close(ppp);
  ::unlink(name.c_str());
  dumper = pcap_dump_open(p, "/dev/full");
  SAY("a full disk: open %d", dumper != nullptr);
  send(5);
  SAY(", loop %d", pcap_loop(p, 5, pcap_dump, reinterpret_cast<u_char*>(dumper)));
  SAY(", flush %d", pcap_dump_flush(dumper));
  SAY(", error %d\n", std::ferror(pcap_dump_file(dumper)) != 0);
  pcap_dump_close(dumper);
  dumper = pcap_dump_open(p, "-");
  SAY("standard output %d\n", dumper != nullptr && pcap_dump_file(dumper) == stdout);
  pcap_close(p);
}

// Time stamp types before activation; pcap_lookupnet(3PCAP) and pcap_open_live(3PCAP) with
// what does not exist.
void lists() {
  pcap_t* p = pcap_create(device.c_str(), errbuf);
  int* list = nullptr;
  const int types = pcap_list_tstamp_types(p, &list);
  SAY("tstamp types %d, host first %d\n", types >= 1, types >= 1 && list[0] == PCAP_TSTAMP_HOST);
  pcap_free_tstamp_types(list);
  pcap_close(p);
  SAY("open_live %d", pcap_open_live((device + "-is-not-there").c_str(), 0, 0, 10, errbuf) == nullptr);
  SAY(", says the device's name %d", std::strncmp(errbuf, device.c_str(), device.size()) == 0);
  SAY(", and what is wrong %d\n",
      std::strstr(errbuf, pcap_statustostr(PCAP_ERROR_NO_SUCH_DEVICE)) != nullptr);
  std::memset(errbuf, 'x', sizeof errbuf);
  p = pcap_open_live(device.c_str(), 100, 1, 10, errbuf);
  SAY("open_live %d, snapshot %d, warns %d\n", p != nullptr, pcap_snapshot(p),
      errbuf[0] != 0 && errbuf[0] != 'x');
  pcap_close(p);
}

// pcap_stats(3PCAP): received counts the dropped, and what is neither was handed out.
void overrun() {
  pcap_t* p = pcap_create(device.c_str(), errbuf);
  must(p, pcap_set_buffer_size(p, 1 << 20));
  if (pcap_activate(p) < 0) give_up(pcap_geterr(p));
  set_nonblock(p, true);
  pcap_stat stats{};
  const double end = now() + 20;
  while (stats.ps_drop == 0 && now() < end) {
    send(1000);
    if (pcap_stats(p, &stats) != 0) give_up(pcap_geterr(p));
  }
  SAY("some were dropped: %d\n", stats.ps_drop > 0);
  int got = 0;
  do {  // until the last that was sent has arrived
    while (pcap_dispatch(p, -1, count_frames, address_of(got)) > 0) {
    }
    if (pcap_stats(p, &stats) != 0) give_up(pcap_geterr(p));
  } while (stats.ps_recv != stats.ps_drop + static_cast<u_int>(got) && now() < end);
  SAY("received = dropped + handed out: %d, handed out %d\n",
      stats.ps_recv == stats.ps_drop + static_cast<u_int>(got), got > 0);
  pcap_close(p);
}

// What a library may leave in a program that only captures: no thread, no signal handler.
void footprint() {
  pcap_t* p = open_device();
  send(3);
  SAY("frames %d\n", read_frames(p, 3));
  long threads = 0;
  for ([[maybe_unused]] const auto& task : std::filesystem::directory_iterator("/proc/self/task")) ++threads;
  int handlers = 0;
  for (int number = 1; number < 32; ++number) {
    struct sigaction action{};
    if (::sigaction(number, nullptr, &action) == 0 && action.sa_handler != SIG_DFL &&
        action.sa_handler != SIG_IGN)
      ++handlers;
  }
  SAY("threads %ld, signal handlers %d\n", threads, handlers);
  pcap_close(p);
}

const char* or_null(const char* text) { return text == nullptr ? "(null)" : text; }

// Every function that takes no handle, with its arguments in their places.
void forwarded() {
  for (int i = -13; i <= 9; ++i) SAY("status %d: %s\n", i, or_null(pcap_statustostr(i)));
  SAY("strerror %s\n", pcap_strerror(ENOENT));
  for (const int type : {-1, 0, 1, 9, 113, 276, 100'000}) {
    SAY("type %d: %s, %s", type, or_null(pcap_datalink_val_to_name(type)),
        or_null(pcap_datalink_val_to_description(type)));
    SAY(", %s\n", or_null(pcap_datalink_val_to_description_or_dlt(type)));
  }
  SAY("EN10MB %d, NONE %d\n", pcap_datalink_name_to_val("en10mb"), pcap_datalink_name_to_val("none such"));
  for (int i = -1; i <= 6; ++i)
    SAY("tstamp %d: %s, %s\n", i, or_null(pcap_tstamp_type_val_to_name(i)),
        or_null(pcap_tstamp_type_val_to_description(i)));
  SAY("adapter %d, none %d\n", pcap_tstamp_type_name_to_val("adapter"), pcap_tstamp_type_name_to_val("none"));
  SAY("%s\n", pcap_lib_version());
  pcap_t* dead = pcap_open_dead(DLT_EN10MB, 77);
  SAY("dead: %d %d %d\n", pcap_datalink(dead), pcap_snapshot(dead), pcap_get_tstamp_precision(dead));
  bpf_program program{};
  SAY("compile_nopcap %d\n", pcap_compile_nopcap(96, DLT_EN10MB, &program, "udp port 7", 1, 0));
  const auto f = frame(1, 7);
  pcap_pkthdr header{};
  header.caplen = header.len = static_cast<bpf_u_int32>(f.size());
  SAY("offline_filter %d, bpf_filter %u, validate %d\n",
      pcap_offline_filter(&program, &header, f.data()) != 0,
      bpf_filter(program.bf_insns, f.data(), header.len, header.caplen),
      bpf_validate(program.bf_insns, static_cast<int>(program.bf_len)));
  SAY("%s\n", bpf_image(program.bf_insns, 3));
  bpf_dump(&program, 2);
  std::fflush(stdout);
  pcap_freecode(&program);
  pcap_close(dead);
  int port = 0, first = 0, last = 0, proto = 0;
  SAY("port %d: %d", pcap_nametoport("22", &port, &proto), port);
  SAY(" %d; range %d:", proto, pcap_nametoportrange("20-25", &first, &last, &proto));
  SAY(" %d %d %d\n", first, last, proto);
  SAY("proto %d eproto %d llc %d none %d\n", pcap_nametoproto("udp"), pcap_nametoeproto("arp"),
      pcap_nametollc("ipx"), pcap_nametoeproto("none such"));
  SAY("net %u, address %d\n", pcap_nametonetaddr("no.such.net.invalid"), pcap_nametoaddr("") == nullptr);
  u_char* mac = pcap_ether_aton("02:00:00:00:00:0a");
  SAY("aton %d %d, hostton %d\n", mac[0], mac[5], pcap_ether_hostton("no such host") == nullptr);
  std::free(mac);
  FILE* ethers = ::fmemopen(const_cast<char*>("02:00:00:00:00:0b host\n"), 23, "r");
  const auto* entry = pcap_next_etherent(ethers);
  SAY("etherent %s %d\n", entry == nullptr ? "" : entry->name, entry == nullptr ? 0 : entry->addr[5]);
  std::fclose(ethers);
  SAY("offline %d", pcap_open_offline("/nowhere/x", errbuf) == nullptr);
  SAY(" %s\n", errbuf);
  SAY("init %d\n", pcap_init(PCAP_CHAR_ENC_UTF_8, errbuf));
  SAY("lookupdev %d\n", pcap_lookupdev(errbuf) == nullptr);
}

}  // namespace

const Cases kCorners = {
    {"counts", counts},
    {"break_at_the_count", break_at_the_count},
    {"nonblock", nonblock},
    {"after_failure", after_failure},
    {"activated_again", activated_again},
    {"nulls", nulls},
    {"interrupted", interrupted},
    {"sends", sends},
    {"more_dumps", more_dumps},
    {"overrun", overrun},
    {"footprint", footprint},
    {"lists", lists},
    {"forwarded", forwarded},
};

}  // namespace ringcap::probe

// Transparent mode's taking over and giving back: a TAP in the place of an interface that is gone, and the
// guard that brings everything back when the engine's process ends, with processes that are really killed.
#include "tools/adopt.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <linux/neighbour.h>
#include <net/if.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "driver/tap/port.h"
#include "tests/system/fake_machine.h"
#include "tools/adopt_guard.h"
#include "tools/bind_record.h"

namespace ringcap::test {
namespace {

std::unique_ptr<TapPort> open_tap(const Namespace& network, const TapOptions& options) {
  std::unique_ptr<TapPort> port;
  network.within([&] {
    auto opened = open_tap_port(options);
    if (!opened) throw std::runtime_error(opened.error().message());
    port = std::move(*opened);
  });
  return port;
}

// ---- taking over
// --------------------------------------------------------------------------------------------

class Adopted : public testing::Test {
 protected:
  // `looks`: for duplicates of IPv6 addresses, which takes a second.
  explicit Adopted(bool looks = true) {
    network_.within([&] {
      for (const char* which : {"all", "default"}) {
        const std::string folder = std::string("/proc/sys/net/ipv6/conf/") + which;
        write_file(folder + "/disable_ipv6", "0");
        if (!looks) write_file(folder + "/accept_dad", "0");
      }
    });
    network_.add_veth("eth7", "peer");
    network_.ip({"link", "set", "eth7", "down", "mtu", "1400", "address", "02:00:00:00:07:07"});
    network_.ip({"link", "set", "eth7", "up"});
    const std::vector<std::vector<std::string>> commands{
        {"addr", "add", "10.7.0.1/24", "dev", "eth7"},
        {"addr", "add", "10.7.0.2/24", "dev", "eth7"},
        {"addr", "add", "2001:db8:7::1/64", "dev", "eth7"},
        {"addr", "add", "2001:db8:7::2/64", "dev", "eth7", "nodad"},
        {"route", "add", "default", "via", "10.7.0.254"},
        {"route", "add", "10.8.0.0/16", "via", "10.7.0.254", "src", "10.7.0.2"},
        {"route", "add", "10.9.0.0/16", "dev", "eth7", "table", "77"},
        {"-6", "route", "add", "default", "via", "fe80::1", "dev", "eth7", "metric", "50"},
        {"-6", "route", "add", "2001:db8:9::/48", "via", "2001:db8:7::ff", "dev", "eth7", "table", "77"},
        {"neigh", "add", "10.7.0.254", "lladdr", "02:00:00:00:00:fe", "dev", "eth7", "nud", "reachable"},
        {"neigh", "add", "10.7.0.9", "lladdr", "02:00:00:00:00:09", "dev", "eth7", "nud", "stale"},
        {"neigh", "add", "10.7.0.8", "lladdr", "02:00:00:00:00:08", "dev", "eth7"},
        {"-6", "neigh", "add", "fe80::1", "lladdr", "02:00:00:00:00:fe", "dev", "eth7", "router", "nud",
         "stale"},
        {"maddress", "add", "01:80:c2:00:00:0e", "dev", "eth7"}};
    for (const auto& command : commands) network_.ip(command);
    settled("eth7");
    network_.ip({"-6", "route", "add", "2001:db8:8::/48", "via", "2001:db8:7::ff", "src", "2001:db8:7::1"});
    before_ = settled("eth7");
  }

  tools::InterfaceState saved(const std::string& name) {
    tools::InterfaceState state;
    network_.within([&] { state = tools::save_interface(name).value(); });
    return state;
  }
  // When its IPv6 addresses can be used.
  tools::InterfaceState settled(const std::string& name) {
    tools::InterfaceState state;
    EXPECT_TRUE(wait_until([&] {
      state = saved(name);
      return std::ranges::none_of(state.addresses, [](const auto& own) { return (own.flags & 0x40) != 0; });
    }));
    return state;
  }
  nlohmann::json comparable(const tools::InterfaceState& state) {
    nlohmann::json json = state;
    json.erase("index");
    return json;
  }
  std::vector<std::string> restore(const std::string& current) {
    std::vector<std::string> problems;
    network_.within([&] { problems = tools::restore_interface(current, before_); });
    return problems;
  }

  Namespace network_;
  tools::InterfaceState before_;
};

TEST_F(Adopted, tap_has_all_that_the_interface_had) {
  ASSERT_EQ(before_.addresses.size(), 5u) << "and the link-local one";
  ASSERT_EQ(before_.routes.size(), 6u);
  ASSERT_EQ(before_.neighbours.size(), 4u);
  network_.ip({"link", "del", "eth7"});
  const auto tap = open_tap(network_, tools::adopting_tap(before_));
  EXPECT_EQ(tap->interface_index(), before_.index);
  EXPECT_EQ(restore("eth7"), std::vector<std::string>{});
  EXPECT_EQ(comparable(settled("eth7")), comparable(before_));
  EXPECT_TRUE(tap->link().up);
}

TEST_F(Adopted, tap_that_had_another_name_number_and_address_is_renamed_and_has_all) {
  network_.ip({"link", "del", "eth7"});
  const auto tap = open_tap(network_, {.name = "tap3", .up = true});
  EXPECT_NE(tap->interface_index(), before_.index);
  EXPECT_EQ(restore("tap3"), std::vector<std::string>{});
  EXPECT_EQ(comparable(settled("eth7")), comparable(before_));
}

TEST_F(Adopted, number_that_another_interface_has_by_now_is_given_up) {
  network_.ip({"link", "del", "eth7"});
  network_.ip(
      {"link", "add", "taken", "index", std::to_string(before_.index), "type", "veth", "peer", "name", "x"});
  const auto tap = open_tap(network_, tools::adopting_tap(before_));
  EXPECT_NE(tap->interface_index(), before_.index);
  EXPECT_EQ(restore("eth7"), std::vector<std::string>{});
}

// The host must not ask who has the gateway's address: the first frame out is the datagram itself.
TEST_F(Adopted, neighbours_are_not_resolved_anew) {
  network_.ip({"link", "del", "eth7"});
  const auto tap = open_tap(network_, tools::adopting_tap(before_));
  ASSERT_EQ(restore("eth7"), std::vector<std::string>{});
  FreeBuffers free(64);
  std::vector<std::byte> memory(64 * 2048);
  for (uint32_t i = 0; i < 64; ++i) free.push(i);
  ReceiveQueue& queue = *tap->receive_queues()[0];
  ASSERT_TRUE(queue.arm({.base = memory.data(), .buffer_bytes = 2048, .count = 64}, free));
  ASSERT_TRUE(tap->start());
  network_.within([] {
    const Fd socket(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    sockaddr_in to{};
    to.sin_family = AF_INET;
    to.sin_port = htons(9);
    ::inet_pton(AF_INET, "192.0.2.1", &to.sin_addr);
    ASSERT_EQ(::sendto(socket.get(), "x", 1, 0, reinterpret_cast<const sockaddr*>(&to), sizeof to), 1);
  });
  bool arp = false, datagram = false;
  EXPECT_TRUE(wait_until([&] {
    std::vector<Frame> frames(64);
    const Burst burst = queue.receive(frames, free);
    for (uint32_t i = 0; i < burst.frames; ++i) {
      const auto at = [&](int offset) { return static_cast<uint8_t>(frames[i].data[offset]); };
      arp |= at(12) == 0x08 && at(13) == 0x06 && !datagram && at(21) == 1 && at(41) == 254;
      datagram |= at(12) == 0x08 && at(13) == 0x00 && at(5) == 0xfe && at(30) == 192;
      free.push(frames[i].buffer);
    }
    return datagram;
  }));
  EXPECT_FALSE(arp);
}

// ---- hosts that programs configure ------------------------------------------------------------------------

// What a host shows of its network, as far as it does not change by itself.
class AdoptedFrom : public Adopted {
 protected:
  AdoptedFrom() : Adopted(false) {}
  std::string shown(const std::string& what) {
    const Outcome outcome = run({"sh", "-c", what}, {.network = &network_});
    EXPECT_EQ(outcome.status, 0) << outcome.err;
    return outcome.out;
  }
  // All routes of eth7, but those that a TAP's and a veth's multicast table differ in.
  std::string routes() {
    return shown(
        "{ ip route show table all; ip -6 route show table all; } | grep eth7 | sed 's/ expires .*//' | "
        "sort");
  }
  // The interface goes, and a TAP comes in its place with what it had.
  std::unique_ptr<TapPort> replace() {
    before_ = saved("eth7");
    network_.ip({"link", "del", "eth7"});
    auto tap = open_tap(network_, tools::adopting_tap(before_));
    EXPECT_EQ(restore("eth7"), std::vector<std::string>{});
    settled("eth7");
    return tap;
  }
  void without_addresses() {
    ip("-6 route del 2001:db8:8::/48");
    ip("-6 route del 2001:db8:9::/48 table 77");
    ip("addr flush dev eth7 scope global");
  }
  void ip(const std::string& words) { EXPECT_EQ(shown("ip " + words), ""); }
};

// NetworkManager gives addresses without a route and makes that itself, as of protocol kernel; without it
// there is no way to the gateway, and so no default route.
TEST_F(AdoptedFrom, network_manager_keeps_the_routes_that_only_look_like_the_kernels) {
  shown("echo 0 > /proc/sys/net/ipv6/conf/eth7/accept_ra");
  without_addresses();
  ip("addr add 10.17.0.2/24 dev eth7 noprefixroute");
  ip("route add 10.17.0.0/24 dev eth7 proto kernel scope link src 10.17.0.2 metric 100");
  ip("route add 192.0.2.0/24 via 10.17.0.1 dev eth7 proto dhcp src 10.17.0.2 metric 100");
  ip("-6 addr add 2001:db8:17::2/64 dev eth7 noprefixroute nodad");
  ip("-6 route add 2001:db8:17::/64 dev eth7 proto ra metric 100");
  ip("-6 route add 2001:db8:18::/48 via fe80::1 dev eth7 proto ra metric 100");
  const std::string before = routes();
  const auto tap = replace();
  EXPECT_EQ(routes(), before);
}

// systemd-networkd gives addresses with a metric, which the kernel's route then has.
TEST_F(AdoptedFrom, networkd_keeps_the_metrics_of_its_addresses) {
  ip("addr add 10.27.0.2/24 dev eth7 metric 1024");
  ip("-6 addr add 2001:db8:27::2/64 dev eth7 metric 512 nodad");
  const std::string before = routes();
  ASSERT_NE(before.find("10.27.0.0/24 dev eth7 proto kernel scope link src 10.27.0.2 metric 1024"),
            std::string::npos)
      << before;
  const auto tap = replace();
  EXPECT_EQ(routes(), before);
}

TEST_F(AdoptedFrom, a_host_with_privacy_addresses_keeps_them_until_they_expire) {
  shown("echo 2 > /proc/sys/net/ipv6/conf/eth7/use_tempaddr");
  ip("-6 addr add 2001:db8:37::2/64 dev eth7 mngtmpaddr nodad valid_lft 3600 preferred_lft 1800");
  const auto temporary = [&] {
    for (const auto& own : saved("eth7").addresses)
      if (own.address.starts_with("2001:db8:37:0:") && own.address != "2001:db8:37::2/64") return own;
    return tools::AddressState{};
  };
  ASSERT_TRUE(wait_until([&] { return !temporary().address.empty(); }));
  settled("eth7");
  const auto before = temporary();
  const auto tap = replace();
  const auto after = temporary();
  EXPECT_EQ(after.address, before.address);
  EXPECT_EQ(after.preferred_s, 0u) << "new connections do not begin on it";
  EXPECT_GT(after.valid_s, 0u);
  EXPECT_LE(after.valid_s, before.valid_s);
}

TEST_F(AdoptedFrom, routes_of_several_hops_and_via_the_other_family_keeps_them) {
  network_.add_veth("eth8", "peer8");
  ip("link set eth8 up");
  ip("addr add 10.47.0.2/24 dev eth8");
  ip("-6 addr add 2001:db8:47::2/64 dev eth8 nodad");
  ip("route add 10.40.0.0/16 nexthop via 10.7.0.254 dev eth7 weight 2 nexthop via 10.47.0.1 dev eth8");
  ip("-6 route add 2001:db8:40::/48 nexthop via 2001:db8:7::fe dev eth7 nexthop via 2001:db8:47::1 dev eth8");
  ip("-6 route add 2001:db8:41::/48 nexthop via 2001:db8:7::fe dev eth7 nexthop via 2001:db8:7::fd dev eth7");
  ip("route add 10.48.0.0/16 via inet6 fe80::1 dev eth7");
  const auto shown_routes = [&] {
    return shown("ip route show; ip -6 route show root 2001:db8:40::/47 | sort");
  };
  const std::string before = shown_routes();
  EXPECT_NE(before.find("via inet6 fe80::1"), std::string::npos) << before;
  const auto tap = replace();
  EXPECT_EQ(shown_routes(), before);
}

// Rules name an interface, and wait for one of that name.
TEST_F(AdoptedFrom, rules_of_the_interface_keeps_them) {
  ip("rule add iif eth7 lookup 77 priority 700");
  ip("rule add oif eth7 lookup 77 priority 701");
  ip("rule add from 10.7.0.2 lookup 77 priority 702");
  const std::string before = shown("ip rule");
  const auto tap = replace();
  EXPECT_EQ(shown("ip rule"), before);
}

TEST_F(AdoptedFrom, a_bridge_takes_its_place_in_that) {
  ip("link add br7 type bridge");
  without_addresses();
  ip("link set eth7 master br7");
  ip("link set br7 up");
  const auto tap = replace();
  EXPECT_NE(shown("ip link show eth7").find("master br7"), std::string::npos);
}

// ---- memberships ------------------------------------------------------------------------------------------

bool is_member(const Namespace& network, const std::string& name, const std::string& group) {
  bool found = false;
  network.within([&] {
    const auto state = tools::save_interface(name);
    found = state && std::ranges::find(state->memberships.groups, group) != state->memberships.groups.end();
  });
  return found;
}

// A program that has joined three groups, one of them from a single source, and prints what it gets.
constexpr const char* kJoiner = R"(
import signal, socket, struct
index = socket.if_nametoindex("eth7")
four = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
four.bind(("", 7000))
four.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP,
                struct.pack("=4s4si", socket.inet_aton("239.7.7.7"), b"\0" * 4, index))
single = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
single.setsockopt(socket.IPPROTO_IP, 39,  # IP_ADD_SOURCE_MEMBERSHIP
                  socket.inet_aton("232.1.1.1") + socket.inet_aton("10.7.0.1") + socket.inet_aton("192.0.2.9"))
six = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
six.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, socket.inet_pton(socket.AF_INET6, "ff05::77") + struct.pack("=i", index))
print("joined", flush=True)
print(four.recv(100).decode(), flush=True)
signal.pause()
)";

TEST_F(Adopted, memberships_of_programs_are_theirs_again_and_end_with_them) {
  Process program({"python3", "-c", kJoiner}, {.network = &network_});
  ASSERT_TRUE(wait_until([&] { return program.out().find("joined") != std::string::npos; })) << program.err();
  before_ = saved("eth7");
  EXPECT_EQ(before_.memberships.groups, (std::vector<std::string>{"232.1.1.1", "239.7.7.7", "ff05::77"}));
  EXPECT_EQ(before_.memberships.link_groups, std::vector<std::string>{"01:80:c2:00:00:0e"});
  network_.ip({"link", "del", "eth7"});
  // Once with the number that it had, once with another.
  for (const int index : {before_.index, 0}) {
    TapOptions options = tools::adopting_tap(before_);
    options.index = index;
    const auto tap = open_tap(network_, options);
    EXPECT_EQ(restore("eth7"), std::vector<std::string>{});
    const auto now = saved("eth7");
    EXPECT_EQ(now.memberships.groups, before_.memberships.groups);
    EXPECT_EQ(now.memberships.link_groups, before_.memberships.link_groups);
    before_.index = now.index;
    const auto filters = run({"cat", "/proc/net/mcfilter"}, {.network = &network_});
    EXPECT_NE(filters.out.find("0xe8010101 0xc0000209      1      0"), std::string::npos) << filters.out;
  }
  const auto tap = open_tap(network_, tools::adopting_tap(before_));
  EXPECT_EQ(restore("eth7"), std::vector<std::string>{});
  // A datagram to the group arrives in the program.
  const std::string hex =
      "01005e070707"
      "0200000000fe"
      "0800"
      "4500"
      "0020"
      "00000000"
      "4011"
      "0000"
      "0a0700fe"
      "ef070707"
      "1388"
      "1b58"
      "000c"
      "0000"
      "68616c6c";
  std::vector<std::byte> frame;
  for (size_t i = 0; i < hex.size(); i += 2)
    frame.push_back(static_cast<std::byte>(std::stoi(hex.substr(i, 2), nullptr, 16)));
  uint32_t sum = 0;
  for (size_t i = 14; i < 34; i += 2)
    sum += static_cast<uint32_t>(frame[i]) << 8 | static_cast<uint32_t>(frame[i + 1]);
  sum = ~((sum & 0xffff) + (sum >> 16));
  frame[24] = static_cast<std::byte>(sum >> 8);
  frame[25] = static_cast<std::byte>(sum);
  const TransmitFrame sent{.data = frame.data(), .length = static_cast<uint32_t>(frame.size()), .cookie = 0};
  ASSERT_EQ(tap->transmit_queues()[0]->transmit({&sent, 1}), 1u);
  EXPECT_TRUE(wait_until([&] { return program.out().find("hall") != std::string::npos; })) << program.err();
  EXPECT_TRUE(is_member(network_, "eth7", "239.7.7.7"));
  program.kill();
  EXPECT_TRUE(wait_until([&] { return !is_member(network_, "eth7", "239.7.7.7"); }));
}

// ---- the guard
// ---------------------------------------------------------------------------------------------

// A process that stands for the engine: it has the TAP, and the guard.
class AdoptGuard : public FakeMachine {
 protected:
  ~AdoptGuard() override {
    if (const pid_t left = guard(); left != 0) ::kill(left, SIGKILL);
    if (engine_ > 0) ::kill(engine_, SIGKILL), ::waitpid(engine_, nullptr, 0);
  }

  // Returns when the guard is there and the TAP has the interface's place; what the engine says otherwise.
  std::string start_engine(std::optional<std::chrono::milliseconds> confirm = std::nullopt,
                           bool deaf = false) {
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) != 0) throw std::runtime_error("pipe");
    said_ = Fd(ends[0]);
    Fd writing(ends[1]);
    network_.within([&] {
      engine_ = ::fork();
      if (engine_ == 0) be_engine(writing.get(), confirm, deaf);
    });
    writing.reset();
    std::string said;
    char text[1000];
    for (ssize_t bytes = 1; bytes > 0 && !said.ends_with("\n");
         said.append(text, std::max<ssize_t>(bytes, 0)))
      bytes = ::read(said_.get(), text, sizeof text);
    return said;
  }
  [[noreturn]] void be_engine(int writing, std::optional<std::chrono::milliseconds> confirm, bool deaf) {
    const auto say = [&](const std::string& text) {
      (void)!::write(writing, (text + "\n").data(), text.size() + 1);
    };
    if (deaf) ::signal(SIGTERM, SIG_IGN);
    const int arena = ::memfd_create("arena", 0);  // what must not outlive the engine
    if (::ftruncate(arena, 4096) != 0 || ::mmap(nullptr, 4096, PROT_READ, MAP_SHARED, arena, 0) == MAP_FAILED)
      ::_exit(2);
    const auto state = tools::adopted_interface(place_, kNic);
    if (!state) say(state.error().message()), ::_exit(1);
    const auto guarded = tools::start_adopt_guard(place_, kNic, confirm);
    if (!guarded) say(guarded.error().message()), ::_exit(1);
    auto tap = open_tap_port(tools::adopting_tap(*state));
    if (!tap) say(tap.error().message()), ::_exit(1);
    const auto problems = tools::restore_interface(state->name, *state);
    say(problems.empty() ? "up" : problems.front());
    pollfd guard_ended{.fd = guarded->get(), .events = POLLIN, .revents = 0};
    while (::poll(&guard_ended, 1, -1) < 0) {
    }
    say("noticed");
    while (true) ::pause();
  }
  // The guard in the test's network namespace; 0: there is none.
  pid_t guard() {
    struct stat own{};
    ::fstat(network_.fd(), &own);
    for (const auto& entry : fs::directory_iterator("/proc")) {
      struct stat its{};
      const fs::path process = entry.path();
      if (::stat((process / "ns/net").c_str(), &its) != 0 || its.st_ino != own.st_ino) continue;
      if (read_file(process / "comm") == "ringcap-guard\n") return std::atoi(process.filename().c_str());
    }
    return 0;
  }
  bool kernel_has_it() { return !tools::read_record(place_.run_dir, kNic).has_value(); }
  bool engine_has_ended() {
    siginfo_t info{};
    return ::waitid(P_PID, static_cast<id_t>(engine_), &info, WEXITED | WNOHANG | WNOWAIT) == 0 &&
           info.si_pid != 0;
  }

  pid_t engine_ = -1;
  Fd said_;  // what the engine says
};

TEST_F(AdoptGuard, gives_everything_back_when_the_engine_is_killed) {
  set_up_interface();
  const auto before = interface("eth7");
  ASSERT_TRUE(bind());
  for (const int number : {SIGKILL, SIGTERM, SIGSEGV}) {
    ASSERT_EQ(start_engine(), "up\n") << number;
    EXPECT_EQ(interface("eth7"), before) << "the TAP's";
    EXPECT_EQ(kernel_.driver(), "vfio-pci");
    ::kill(engine_, number);
    EXPECT_TRUE(wait_until([&] { return kernel_has_it(); }));
    EXPECT_EQ(kernel_.driver(), "e1000e");
    EXPECT_EQ(interface("eth7"), before) << "the NIC's";
    ::waitpid(std::exchange(engine_, -1), nullptr, 0);
    ASSERT_TRUE(bind());
  }
}

TEST_F(AdoptGuard, is_not_ended_by_what_ends_the_engine_and_ends_when_it_is_done) {
  ASSERT_TRUE(bind());
  ASSERT_EQ(start_engine(), "up\n");
  ASSERT_TRUE(wait_until([&] { return guard() != 0; }));
  const pid_t pid = guard();
  for (const int number : {SIGHUP, SIGINT, SIGTERM, SIGPIPE}) ::kill(pid, number);
  EXPECT_NE(::getsid(pid), ::getsid(0));
  EXPECT_LE(descriptors_of(pid), 6u) << "0 to 2, the engine, the record, and a pipe for the engine";
  for (const ProcessMapping& mapping : mappings_of(pid))
    EXPECT_FALSE(mapping.permissions.ends_with('s') && mapping.file.starts_with("/memfd:")) << mapping.file;
  ::kill(engine_, SIGKILL);
  EXPECT_TRUE(wait_until([&] { return kernel_has_it(); }));
  EXPECT_TRUE(wait_until([&] { return guard() == 0; }));
}

TEST_F(AdoptGuard, ends_the_engine_and_gives_back_what_was_not_confirmed) {
  set_up_interface();
  const auto before = interface("eth7");
  ASSERT_TRUE(bind());
  // The time may be over before it says that it is up: then it says nothing.
  const std::string said = start_engine(1500ms);
  EXPECT_TRUE(said == "up\n" || said.empty()) << said;
  EXPECT_TRUE(wait_until([&] { return kernel_has_it(); }));
  EXPECT_TRUE(engine_has_ended());
  EXPECT_EQ(kernel_.driver(), "e1000e");
  EXPECT_EQ(interface("eth7"), before);
  EXPECT_FALSE(tools::confirmation_pending(place_.run_dir, kNic));
}

TEST_F(AdoptGuard, kills_an_engine_that_does_not_end) {
  ASSERT_TRUE(bind());
  const std::string said = start_engine(500ms, true);
  EXPECT_TRUE(said == "up\n" || said.empty()) << said;
  ::kill(engine_, SIGSTOP);  // it looks alive, and nothing passes
  EXPECT_TRUE(wait_until([&] { return kernel_has_it(); }));
  EXPECT_TRUE(engine_has_ended());
}

// A directory in its place cannot be unlinked, as nothing in a folder that became read-only can.
TEST_F(AdoptGuard, gives_back_what_nobody_was_able_to_confirm) {
  ASSERT_TRUE(bind());
  const fs::path file = dir_.run_dir() / "bind" / (std::string(kNic) + ".confirm");
  const std::string said = start_engine(1500ms);
  EXPECT_TRUE(said == "up\n" || said.empty()) << said;
  const fs::path beside = dir_.file("beside");
  fs::create_directories(beside);
  const int exchanged = ::renameat2(AT_FDCWD, beside.c_str(), AT_FDCWD, file.c_str(),
                                    RENAME_EXCHANGE);  // or it is over already
  EXPECT_TRUE(exchanged == 0 || errno == ENOENT);
  EXPECT_TRUE(wait_until([&] { return kernel_has_it(); }));
  EXPECT_TRUE(engine_has_ended());
}

TEST_F(AdoptGuard, gives_the_nic_back_under_another_name_where_its_own_is_taken) {
  set_up_interface();
  ASSERT_TRUE(bind());
  kernel_.new_name = "eth0";
  network_.add_veth("eth7", "taken");
  EXPECT_NE(start_engine().find("interface eth7 is there, and is no TAP"), std::string::npos);
  ::waitpid(std::exchange(engine_, -1), nullptr, 0);
  EXPECT_TRUE(wait_until([&] { return kernel_has_it(); }));
  EXPECT_EQ(kernel_.driver(), "e1000e");
  EXPECT_EQ(interface("eth0")["addresses"].size(), 2u);
  EXPECT_EQ(interface("eth0")["routes"].size(), 3u);
  EXPECT_EQ(interface("eth7")["addresses"].size(), 0u) << "it is somebody else's";
}

TEST_F(AdoptGuard, gives_back_what_an_engine_was_binding_when_it_was_killed) {
  set_up_interface();
  const auto before = interface("eth7");
  kernel_.broken_driver = "vfio-pci";  // so that it stays between the two drivers
  network_.within([&] {
    engine_ = ::fork();
    if (engine_ != 0) return;
    (void)tools::bind_nic(place_, nic(), [&]() -> Result<void> {
      auto started = tools::start_adopt_guard(place_, kNic);
      if (!started) return std::unexpected(started.error());
      (void)started->release();
      return {};
    });
    ::_exit(1);
  });
  ASSERT_TRUE(wait_until([&] { return guard() != 0 && kernel_.driver().empty(); }));
  ::kill(engine_, SIGKILL);
  EXPECT_TRUE(wait_until([&] { return kernel_has_it(); }));
  EXPECT_EQ(kernel_.driver(), "e1000e");
  EXPECT_EQ(interface("eth7"), before);
}

TEST_F(AdoptGuard, that_cannot_be_started_leaves_the_nic_alone) {
  fs::create_directories(dir_.run_dir() / "bind" / (std::string(kNic) + ".confirm.new"));
  Result<void> bound;
  network_.within([&] {
    bound = tools::bind_nic(place_, nic(), [&]() -> Result<void> {
      const auto started = tools::start_adopt_guard(place_, kNic, 60s);
      return started ? Result<void>{} : std::unexpected(started.error());
    });
  });
  ASSERT_FALSE(bound);
  EXPECT_NE(bound.error().text.find(".confirm"), std::string::npos) << bound.error().message();
  EXPECT_EQ(kernel_.driver(), "e1000e");
  EXPECT_EQ(kernel_.driver_override(), "(null)\n");
  EXPECT_TRUE(kernel_has_it());
}

TEST_F(AdoptGuard, that_was_ended_is_noticed_and_unbind_gives_the_nic_back) {
  set_up_interface();
  const auto before = interface("eth7");
  ASSERT_TRUE(bind());
  ASSERT_EQ(start_engine(), "up\n");
  ::kill(guard(), SIGKILL);
  char said[16] = {};
  EXPECT_EQ(::read(said_.get(), said, sizeof said), 8);
  EXPECT_EQ(std::string(said), "noticed\n");
  ::kill(engine_, SIGKILL);
  ::waitpid(std::exchange(engine_, -1), nullptr, 0);
  EXPECT_EQ(kernel_.driver(), "vfio-pci");
  const auto problems = unbind();
  ASSERT_TRUE(problems) << problems.error().message();
  EXPECT_EQ(*problems, std::vector<std::string>{});
  EXPECT_EQ(interface("eth7"), before);
}

// It was given back by hand, and bound anew by somebody.
TEST_F(AdoptGuard, takes_nothing_that_was_bound_anew) {
  ASSERT_TRUE(bind());
  ASSERT_EQ(start_engine(), "up\n");
  ASSERT_NE(guard(), 0);
  network_.ip({"link", "del", "eth7"});  // the TAP
  ASSERT_TRUE(unbind());
  ASSERT_TRUE(bind());
  ::kill(engine_, SIGKILL);
  EXPECT_TRUE(wait_until([&] { return guard() == 0; }));
  EXPECT_EQ(kernel_.driver(), "vfio-pci");
  EXPECT_FALSE(kernel_has_it());
}

TEST_F(AdoptGuard, leaves_alone_what_was_confirmed_and_still_guards_it) {
  ASSERT_TRUE(bind());
  ASSERT_EQ(start_engine(60s), "up\n");
  EXPECT_TRUE(tools::take_confirmation(place_.run_dir, kNic)) << "as bind --keep does";
  EXPECT_FALSE(engine_has_ended());
  EXPECT_EQ(kernel_.driver(), "vfio-pci");
  ::kill(engine_, SIGKILL);
  EXPECT_TRUE(wait_until([&] { return kernel_has_it(); }));
}

TEST_F(AdoptGuard, of_an_engine_that_ends_before_it_was_confirmed_leaves_no_confirmation_behind) {
  ASSERT_TRUE(bind());
  ASSERT_EQ(start_engine(60s), "up\n");
  ::kill(engine_, SIGKILL);
  EXPECT_TRUE(wait_until([&] { return kernel_has_it(); }));
  EXPECT_FALSE(tools::confirmation_pending(place_.run_dir, kNic));
}

TEST_F(AdoptGuard, is_refused_in_words_without_a_record_and_before_a_binding_is_confirmed) {
  EXPECT_NE(start_engine().find("ringcap bind 0000:03:00.0"), std::string::npos);
  ::waitpid(std::exchange(engine_, -1), nullptr, 0);
  ASSERT_TRUE(bind());
  ASSERT_TRUE(tools::make_confirmation(place_.run_dir, kNic));
  EXPECT_NE(start_engine().find("ringcap bind --keep 0000:03:00.0"), std::string::npos);
  EXPECT_EQ(kernel_.driver(), "vfio-pci");
}

TEST_F(AdoptGuard, is_one_a_nic_and_a_second_engine_that_fails_takes_nothing_away) {
  ASSERT_TRUE(bind());
  ASSERT_EQ(start_engine(), "up\n");
  const pid_t first = std::exchange(engine_, -1);
  EXPECT_NE(start_engine().find("has adopted it"), std::string::npos);
  ::waitpid(engine_, nullptr, 0);
  engine_ = first;
  EXPECT_EQ(kernel_.driver(), "vfio-pci");
  ::kill(engine_, SIGKILL);
  EXPECT_TRUE(wait_until([&] { return kernel_has_it(); }));
}

TEST_F(AdoptGuard, is_waited_for_by_an_engine_that_is_started_again_at_once) {
  set_up_interface();
  const auto before = interface("eth7");
  ASSERT_TRUE(bind());
  for (int round = 0; round < 3; ++round) {
    ASSERT_EQ(start_engine(), "up\n");
    ::kill(engine_, SIGKILL);
    ::waitpid(std::exchange(engine_, -1), nullptr, 0);
    network_.within([&] {
      const auto waited = tools::wait_for_guard(place_, kNic);
      EXPECT_TRUE(waited) << waited.error().message();
    });
    EXPECT_TRUE(kernel_has_it());
    EXPECT_EQ(interface("eth7"), before);
    const auto bound = bind();
    ASSERT_TRUE(bound) << bound.error().message();
    EXPECT_FALSE(bind()) << "what is recorded is not recorded anew";
  }
}

TEST_F(AdoptGuard, does_not_take_the_nic_from_somebody_else) {
  ASSERT_TRUE(bind());
  const fs::path other = dir_.file("proc") / "4242";
  fs::create_directories(other / "fd");
  fs::create_symlink(dir_.file("dev") / "vfio/9", other / "fd/7");
  ASSERT_EQ(start_engine(), "up\n");
  ASSERT_TRUE(wait_until([&] { return guard() != 0; }));
  ::kill(engine_, SIGKILL);
  EXPECT_TRUE(wait_until([&] { return guard() == 0; }));
  EXPECT_EQ(kernel_.driver(), "vfio-pci");
  EXPECT_FALSE(kernel_has_it());
}

}  // namespace
}  // namespace ringcap::test

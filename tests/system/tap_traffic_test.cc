// `tap:` under real protocols: ping, UDP and TCP between two hosts whose cable is two TAPs, and an engine on
// a TAP.
#include <arpa/inet.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <nlohmann/json.hpp>
#include <sstream>
#include <thread>

#include "tap_bridge.h"

namespace ringcap::test {
namespace {

sockaddr_in address_of(int host, uint16_t port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(0x0a010001u + static_cast<uint32_t>(host));
  return address;
}

Fd socket_on(const Namespace& host, int type) {
  Fd fd;
  host.within([&] { fd = Fd(::socket(AF_INET, type | SOCK_CLOEXEC, 0)); });
  const timeval patience{.tv_sec = 30, .tv_usec = 0};
  ::setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  ::setsockopt(fd.get(), SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
  return fd;
}

template <auto Call>
bool at(const Fd& fd, const sockaddr_in& address) {
  return Call(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0;
}

class TapHosts : public testing::TestWithParam<uint32_t> {
 protected:
  // Sends `data` from host 0 to host 1; what came.
  Bytes through_tcp(TapBridge& bridge, const Bytes& data) {
    const Fd listener = socket_on(bridge.host(1), SOCK_STREAM);
    if (!at<::bind>(listener, address_of(1, 7000)) || ::listen(listener.get(), 1) != 0) return {};
    const Fd sender = socket_on(bridge.host(0), SOCK_STREAM);
    if (!at<::connect>(sender, address_of(1, 7000))) return {};
    const Fd receiver(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
    std::thread send([&] {
      for (size_t sent = 0; sent < data.size();) {
        const ssize_t bytes = ::send(sender.get(), data.data() + sent, data.size() - sent, MSG_NOSIGNAL);
        if (bytes <= 0) break;
        sent += static_cast<size_t>(bytes);
      }
      ::shutdown(sender.get(), SHUT_WR);
    });
    Bytes got(data.size() + 1);
    size_t filled = 0;
    for (ssize_t bytes = 1; bytes > 0 && filled < got.size();
         filled += static_cast<size_t>(bytes > 0 ? bytes : 0))
      bytes = ::recv(receiver.get(), got.data() + filled, got.size() - filled, 0);
    send.join();
    got.resize(filled);
    return got;
  }
};

INSTANTIATE_TEST_SUITE_P(Queues, TapHosts, testing::Values(1, 4),
                         [](const auto& each) { return each.param == 1 ? "one_queue" : "four_queues"; });

TEST_P(TapHosts, ping_each_other) {
  TapBridge bridge({.queues = GetParam()});
  for (const int host : {0, 1}) {
    const std::string other = "10.1.0." + std::to_string(2 - host);
    // With a deadline ping goes on until it has 20 answers; without, it waits for the last one 10 ms only.
    const auto ping = run({"ping", "-c", "20", "-w", "25", "-i", "0.01", "-s", "1400", other},
                          {.network = &bridge.host(host)});
    EXPECT_EQ(ping.status, 0) << ping.out;
    for (int i = 1; i <= 20; ++i)
      EXPECT_NE(ping.out.find("icmp_seq=" + std::to_string(i) + " "), std::string::npos) << ping.out;
  }
  bridge.stop();
  EXPECT_GE(bridge.frames(), 80u);
  EXPECT_EQ(bridge.fault(), "");
}

// The kernel leaves checksums and segments to a device that offers it; ours offers nothing.
TEST_P(TapHosts, send_tcp_in_whole_segments_with_right_checksums) {
  TapBridge bridge({.queues = GetParam()});
  Bytes data(8 << 20);
  std::mt19937 random(5);
  for (std::byte& byte : data) byte = static_cast<std::byte>(random());
  EXPECT_TRUE(through_tcp(bridge, data) == data);
  bridge.stop();
  EXPECT_EQ(bridge.fault(), "");
  EXPECT_GT(bridge.tcp_frames(), data.size() / 1460);
  EXPECT_EQ(bridge.longest(), 1514u);
}

TEST_P(TapHosts, use_the_mtu_that_the_port_was_opened_with) {
  TapBridge bridge({.queues = GetParam(), .mtu = 9000});
  const Bytes data(4 << 20);
  EXPECT_TRUE(through_tcp(bridge, data) == data);
  bridge.stop();
  EXPECT_EQ(bridge.fault(), "");
  EXPECT_EQ(bridge.longest(), 9014u);
}

TEST_P(TapHosts, answer_datagrams_with_right_checksums) {
  TapBridge bridge({.queues = GetParam()});
  const Fd asker = socket_on(bridge.host(0), SOCK_DGRAM), answerer = socket_on(bridge.host(1), SOCK_DGRAM);
  ASSERT_TRUE(at<::bind>(answerer, address_of(1, 7001)));
  ASSERT_TRUE(at<::bind>(asker, address_of(0, 7002)));
  ASSERT_TRUE(at<::connect>(asker, address_of(1, 7001)));
  ASSERT_TRUE(at<::connect>(answerer, address_of(0, 7002)));
  for (uint32_t number = 0; number < 500; ++number) {
    uint32_t got = 0;
    ASSERT_EQ(::send(asker.get(), &number, sizeof number, 0), 4);
    ASSERT_EQ(::recv(answerer.get(), &got, sizeof got, 0), 4);
    ASSERT_EQ(::send(answerer.get(), &got, sizeof got, 0), 4);
    ASSERT_EQ(::recv(asker.get(), &got, sizeof got, 0), 4);
    ASSERT_EQ(got, number);
  }
  bridge.stop();
  EXPECT_EQ(bridge.fault(), "");
}

// Of a process and its threads, user and system, in milliseconds.
uint64_t processor_ms(pid_t pid) {
  const std::string text = read_file("/proc/" + std::to_string(pid) + "/stat");
  std::istringstream fields(text.substr(text.rfind(')') + 2));
  std::string skipped;
  uint64_t user = 0, system = 0;
  for (int i = 0; i < 11; ++i) fields >> skipped;
  fields >> user >> system;
  return (user + system) * 1000 / static_cast<uint64_t>(::sysconf(_SC_CLK_TCK));
}

TEST(TapEngine, captures_what_the_host_sends_as_another_user_and_its_ledger_balances) {
  const TestDir dir;
  const Namespace network;
  Engine engine({"tap:t0,queues=2,mac=02:00:00:00:00:07", "--user", "nobody", "--memory", "plain"},
                {.network = &network});
  network.ip({"addr", "add", "10.1.0.1/24", "dev", "t0"});
  network.ip({"link", "set", "t0", "up"});
  network.ip({"neigh", "add", "10.1.0.2", "lladdr", "02:00:00:00:00:02", "dev", "t0"});
  const Fd sender = socket_on(network, SOCK_DGRAM);
  const sockaddr_in to = address_of(1, 9);
  for (uint32_t i = 0; i < 300; ++i)
    ASSERT_EQ(::sendto(sender.get(), &i, sizeof i, 0, reinterpret_cast<const sockaddr*>(&to), sizeof to), 4);
  const auto ledger = [&] { return engine.stat()["workers"]; };
  const auto taken = [&] {
    uint64_t sum = 0;
    for (const auto& worker : ledger()) sum += worker["considered"].get<uint64_t>();
    return sum;
  };
  EXPECT_TRUE(wait_until([&] { return taken() >= 300; })) << engine.stat().dump();
  EXPECT_EQ(engine.imbalance(), "");
  EXPECT_EQ(engine.stat()["ports"][0]["driver"], "tap");
  EXPECT_EQ(engine.stat()["ports"][0]["link"]["up"], true);
}

TEST(TapEngine, goes_on_when_its_tap_is_deleted_and_does_not_spin) {
  const TestDir dir;
  const Namespace network;
  Engine engine({"tap:t0", "--memory", "plain"}, {.network = &network});
  network.ip({"link", "set", "t0", "up"});
  EXPECT_TRUE(wait_until([&] { return engine.stat()["ports"][0]["link"]["up"] == true; }));
  network.ip({"link", "del", "t0"});
  EXPECT_TRUE(wait_until([&] { return engine.stat()["ports"][0]["link"]["up"] == false; }));
  EXPECT_TRUE(wait_until([&] { return engine.process().err().find("tap:t0 is gone") != std::string::npos; }));
  const uint64_t before_ms = processor_ms(engine.process().pid());
  // A second of the engine's life, of which a worker that spins would take all.
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(1);
  EXPECT_TRUE(wait_until([&] { return std::chrono::steady_clock::now() >= end; }));
  EXPECT_LT(processor_ms(engine.process().pid()) - before_ms, 500u);
  EXPECT_EQ(engine.imbalance(), "");
  EXPECT_EQ(engine.down(), 0);
}

}  // namespace
}  // namespace ringcap::test

// `tap:` under real protocols: ping, UDP and TCP between two hosts whose cable is two TAPs.
#include <arpa/inet.h>
#include <poll.h>
#include <sys/socket.h>

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
    const auto ping =
        run({"ping", "-c", "20", "-i", "0.01", "-s", "1400", other}, {.network = &bridge.host(host)});
    EXPECT_EQ(ping.status, 0) << ping.out;
    EXPECT_NE(ping.out.find("20 received, 0% packet loss"), std::string::npos) << ping.out;
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

}  // namespace
}  // namespace ringcap::test

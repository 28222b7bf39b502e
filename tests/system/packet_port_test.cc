// `packet:` against real senders on a veth pair: what is sent arrives byte for byte, and is counted.
#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <sys/ioctl.h>

#include <algorithm>
#include <map>
#include <random>
#include <set>
#include <thread>

#include "packet_lab.h"
#include "tests/lib/traffic.h"

namespace ringcap::test {
namespace {

Bytes with_tags(const Bytes& frame, std::initializer_list<uint32_t> tags) {
  Bytes tagged(frame.begin(), frame.begin() + 12);
  for (const uint32_t tag : tags) {
    for (const int shift : {24, 16, 8, 0}) tagged.push_back(static_cast<std::byte>(tag >> shift));
  }
  tagged.insert(tagged.end(), frame.begin() + 12, frame.end());
  return tagged;
}

Bytes traffic(uint32_t flow, uint64_t sequence, bool back = false) {
  Bytes frame(64);
  make_traffic(frame, flow);
  set_sequence(frame.data(), sequence);
  if (back) {
    std::swap_ranges(frame.begin() + 26, frame.begin() + 30, frame.begin() + 30);
    std::swap_ranges(frame.begin() + 34, frame.begin() + 36, frame.begin() + 36);
  }
  return frame;
}

uint64_t realtime_ns() {
  timespec now{};
  ::clock_gettime(CLOCK_REALTIME, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
}

TEST(PacketPort, frames_of_all_lengths_arrive_byte_for_byte_and_in_order) {
  const PacketLab lab(9000);
  PacketCapture capture(lab, "near", {.mtu = 9000}, 16384, 64);
  const Fd sender = lab.raw_socket("far");
  std::mt19937 random(1);
  const uint64_t before_ns = realtime_ns();
  uint64_t last_ns = before_ns;
  for (size_t bytes = 15; bytes <= 9014;) {
    std::vector<Bytes> sent;
    for (; bytes <= 9014 && sent.size() < 100; bytes += bytes < 1600 ? 1 : 37) {
      sent.push_back(random_frame(random, bytes));
      send_frame(sender, sent.back());
    }
    const std::vector<Captured> got = capture.take(sent.size());
    ASSERT_EQ(got.size(), sent.size());
    for (size_t i = 0; i < sent.size(); ++i) {
      ASSERT_TRUE(got[i].data == sent[i]) << sent[i].size() << " bytes";
      EXPECT_EQ(got[i].length, sent[i].size());
      EXPECT_EQ(got[i].flags, layout::kCopied);
      EXPECT_GE(got[i].timestamp_ns, last_ns);
      last_ns = got[i].timestamp_ns;
    }
  }
  EXPECT_LE(last_ns, realtime_ns());
  EXPECT_EQ(capture.totals().copied, capture.totals().frames);
  EXPECT_EQ(capture.counters().received, capture.totals().frames);
  EXPECT_EQ(capture.counters().missed, 0u);
}

// The kernel closes a block each time that its timer finds a frame in it, so it is blocks that a trickle
// uses up, not bytes.
TEST(PacketPort, a_worker_that_stands_still_for_a_while_loses_nothing_of_a_trickle) {
  for (const uint32_t queues : {1u, 4u}) {
    const PacketLab lab;
    PacketCapture capture(lab, "near", {.queues = queues});
    const Fd sender = lab.raw_socket("far");
    for (uint32_t i = 0; i < 100; ++i) {
      send_frame(sender, traffic(1, i));
      std::this_thread::sleep_for(std::chrono::milliseconds(2));  // long enough to close a block, mostly
    }
    EXPECT_EQ(capture.take(100).size(), 100u) << queues << " queues";
  }
}

TEST(PacketPort, vlan_tags_are_put_back) {
  const PacketLab lab(1600);
  PacketCapture capture(lab, "near", {});
  const Fd sender = lab.raw_socket("far");
  std::mt19937 random(2);
  std::vector<Bytes> sent;
  // The kernel throws tagged frames away that have less than 6 bytes behind the tag.
  for (size_t bytes : {16, 60, 64, 65, 500, 1514}) {
    const Bytes frame = random_frame(random, bytes);
    sent.push_back(with_tags(frame, {0x8100'0000 | 0x6123}));
    sent.push_back(with_tags(frame, {0x8100'0000}));  // priority tag of VLAN 0
    sent.push_back(with_tags(frame, {0x88a8'0000 | 0x0064}));
    sent.push_back(with_tags(frame, {0x88a8'0000 | 0x0064, 0x8100'0000 | 0xa007}));
  }
  for (const Bytes& frame : sent) send_frame(sender, frame);
  const std::vector<Captured> got = capture.take(sent.size());
  ASSERT_EQ(got.size(), sent.size());
  for (size_t i = 0; i < sent.size(); ++i) {
    EXPECT_TRUE(got[i].data == sent[i]) << i;
    EXPECT_EQ(got[i].length, sent[i].size());
    EXPECT_EQ(got[i].flags & layout::kTruncated, 0);
  }
}

TEST(PacketPort, frames_that_the_host_sends_are_flagged_or_left_out) {
  const PacketLab lab;
  PacketCapture all(lab, "near", {});
  PacketCapture incoming(lab, "near", {.outgoing = false});
  PacketCapture incoming_of_two_queues(lab, "near", {.queues = 2, .outgoing = false});
  send_frame(lab.raw_socket("near"), traffic(1, 1));
  send_frame(lab.raw_socket("far"), traffic(1, 2));
  const std::vector<Captured> both = all.take(2);
  ASSERT_EQ(both.size(), 2u);
  EXPECT_EQ(both[0].flags, layout::kOutgoing | layout::kCopied);
  EXPECT_EQ(both[1].flags, layout::kCopied);
  for (PacketCapture* one : {&incoming, &incoming_of_two_queues}) {
    const std::vector<Captured> got = one->take(1);
    ASSERT_EQ(got.size(), 1u);
    EXPECT_EQ(sequence_of(got[0].data.data()), 2u);
    EXPECT_EQ(one->counters().received, 1u);
  }
}

TEST(PacketPort, a_loopback_frame_is_seen_once) {
  const PacketLab lab;
  PacketCapture capture(lab, "lo", {});
  EXPECT_EQ(capture.port().link_type(), 1u);
  const Fd sender = lab.raw_socket("lo");
  for (uint64_t i = 0; i < 10; ++i) send_frame(sender, traffic(0, i));
  const std::vector<Captured> got = capture.take(10);
  ASSERT_EQ(got.size(), 10u);
  for (uint64_t i = 0; i < 10; ++i) EXPECT_EQ(sequence_of(got[i].data.data()), i);
  EXPECT_EQ(capture.counters().received, 10u);
}

class PacketFanout : public testing::TestWithParam<uint32_t> {};

TEST_P(PacketFanout, loses_nothing_and_keeps_both_directions_of_a_flow_together) {
  constexpr uint32_t kFlows = 64;
  constexpr uint32_t kRounds = 20;
  const PacketLab lab;
  PacketCapture capture(lab, "near", {.queues = GetParam()});
  ASSERT_EQ(capture.queues().size(), GetParam());
  const Fd sender = lab.raw_socket("far");
  for (uint32_t round = 0; round < kRounds; ++round) {
    for (uint32_t flow = 0; flow < kFlows; ++flow) {
      send_frame(sender, traffic(flow, round, round % 2 == 1));
    }
  }
  const std::vector<Captured> got = capture.take(kFlows * kRounds);
  ASSERT_EQ(got.size(), kFlows * kRounds);
  std::map<uint16_t, std::set<uint32_t>> queues_of_flow;
  std::map<uint16_t, uint64_t> next;
  std::set<uint32_t> used;
  for (const Captured& frame : got) {
    const uint64_t sequence = sequence_of(frame.data.data());
    uint16_t flow = 0;
    std::memcpy(&flow, frame.data.data() + kFlowOffset + (sequence % 2 == 1 ? 4 : 0), sizeof(flow));
    queues_of_flow[flow].insert(frame.queue);
    used.insert(frame.queue);
    EXPECT_EQ(sequence, next[flow]++);
  }
  EXPECT_EQ(queues_of_flow.size(), kFlows);
  for (const auto& [flow, queues] : queues_of_flow) EXPECT_EQ(queues.size(), 1u) << ntohs(flow);
  EXPECT_EQ(used.size(), GetParam());
  EXPECT_EQ(capture.counters().received, kFlows * kRounds);
  EXPECT_EQ(capture.counters().missed, 0u);
}

INSTANTIATE_TEST_SUITE_P(Queues, PacketFanout, testing::Values(2, 4));

TEST(PacketPort, two_ports_on_one_interface_each_see_everything) {
  const PacketLab lab;
  PacketCapture one(lab, "near", {.queues = 2});
  PacketCapture other(lab, "near", {.queues = 2});
  const Fd sender = lab.raw_socket("far");
  for (uint32_t i = 0; i < 50; ++i) send_frame(sender, traffic(i, i));
  EXPECT_EQ(one.take(50).size(), 50u);
  EXPECT_EQ(other.take(50).size(), 50u);
}

// struct virtio_net_hdr: <linux/virtio_net.h> is not C++.
struct OffloadHeader {
  uint8_t flags = 1;     // NEEDS_CSUM
  uint8_t gso_type = 1;  // TCPV4
  uint16_t header_bytes = 54;
  uint16_t segment_bytes = 1448;
  uint16_t checksum_start = 34;
  uint16_t checksum_offset = 16;
};

// A TCP segment as an interface with offloads hands it over: 30,000 bytes in one piece.
Bytes segment_with_offload_header(size_t bytes) {
  Bytes frame(bytes);
  make_traffic(frame, 7);
  frame[23] = std::byte{IPPROTO_TCP};
  frame[46] = std::byte{0x50};  // data offset: 20 bytes
  const OffloadHeader header;
  Bytes all(sizeof(header));
  std::memcpy(all.data(), &header, sizeof(header));
  all.insert(all.end(), frame.begin(), frame.end());
  return all;
}

TEST(PacketPort, a_frame_longer_than_a_buffer_is_cut_flagged_and_keeps_its_length) {
  const Namespace lab;  // not PacketLab: its interfaces would cut the segment before it leaves
  lab.ip({"link", "add", "near", "up", "type", "veth", "peer", "name", "far"});
  lab.ip({"link", "set", "far", "up"});
  PacketCapture capture(lab, "near", {});
  const Fd sender = lab.raw_socket("far");
  const int on = 1;
  ASSERT_EQ(::setsockopt(sender.get(), SOL_PACKET, PACKET_VNET_HDR, &on, sizeof(on)), 0);
  const Bytes message = segment_with_offload_header(30'000);
  ASSERT_EQ(::send(sender.get(), message.data(), message.size(), 0), static_cast<ssize_t>(message.size()))
      << std::strerror(errno);
  const std::vector<Captured> got = capture.take(1);
  ASSERT_EQ(got.size(), 1u);
  EXPECT_EQ(got[0].length, 30'000u);
  EXPECT_EQ(got[0].data.size(), 2048u);
  EXPECT_EQ(got[0].flags, layout::kTruncated | layout::kCopied);
  EXPECT_TRUE(
      std::equal(got[0].data.begin(), got[0].data.begin() + 34, message.begin() + sizeof(OffloadHeader)));
}

TEST(PacketPort, without_a_free_buffer_frames_are_counted_and_the_next_ones_still_come) {
  const PacketLab lab;
  PacketCapture capture(lab, "near", {}, 2048, 3);
  const Fd sender = lab.raw_socket("far");
  std::vector<uint32_t> held;
  while (capture.free().size() > 0) held.push_back(capture.free().pop());
  for (uint64_t i = 0; i < 10; ++i) send_frame(sender, traffic(0, i));
  std::vector<Captured> got;
  const auto deadline = std::chrono::steady_clock::now() + kPatience;
  while (capture.totals().no_buffer < 10 && std::chrono::steady_clock::now() < deadline) {
    if (!capture.take_once(got)) capture.wait();
  }
  EXPECT_EQ(capture.totals().no_buffer, 10u);
  EXPECT_TRUE(got.empty());
  for (const uint32_t buffer : held) capture.free().push(buffer);
  send_frame(sender, traffic(0, 10));
  got = capture.take(1);
  ASSERT_EQ(got.size(), 1u);
  EXPECT_EQ(sequence_of(got[0].data.data()), 10u);
  EXPECT_EQ(capture.counters().received, 11u);
  EXPECT_EQ(capture.counters().missed, 0u);
}

TEST(PacketPort, what_the_kernel_has_no_room_for_is_missed_and_the_sum_balances) {
  constexpr uint32_t kFrames = 60'000;
  const PacketLab lab;
  PacketCapture capture(lab, "near", {.queues = 4});  // 8 MiB each: 5,000 frames of a flow
  const Fd sender = lab.raw_socket("far");
  Bytes frame(1514);
  make_traffic(frame, 1);
  for (uint32_t i = 0; i < kFrames; ++i) {
    set_sequence(frame.data(), i);
    send_frame(sender, frame);
  }
  EXPECT_EQ(capture.counters().received, kFrames);
  const uint64_t missed = capture.counters().missed;
  EXPECT_GT(missed, kFrames / 2);
  const std::vector<Captured> got = capture.take(kFrames - missed);
  ASSERT_EQ(got.size(), kFrames - missed);
  // In order, and none twice; the kernel may miss one before its ring is full, too (a block that is being
  // closed).
  for (size_t i = 1; i < got.size(); ++i)
    ASSERT_GT(sequence_of(got[i].data.data()), sequence_of(got[i - 1].data.data()));
  EXPECT_EQ(capture.counters().received, kFrames);
  EXPECT_EQ(capture.counters().missed, missed);
  // And it goes on: the kernel fills the blocks that it got back.
  set_sequence(frame.data(), kFrames);
  send_frame(sender, frame);
  const std::vector<Captured> next = capture.take(1);
  ASSERT_EQ(next.size(), 1u);
  EXPECT_EQ(sequence_of(next[0].data.data()), kFrames);
}

TEST(PacketPort, frames_that_nobody_took_are_missed_once_the_queue_is_disarmed) {
  const PacketLab lab;
  PacketCapture capture(lab, "near", {});
  const Fd sender = lab.raw_socket("far");
  for (uint64_t i = 0; i < 3; ++i) send_frame(sender, traffic(0, i));
  ASSERT_EQ(capture.take(3).size(), 3u);
  for (uint64_t i = 0; i < 7; ++i) send_frame(sender, traffic(0, i));
  capture.port().stop();
  capture.queues()[0]->disarm(capture.free());
  send_frame(sender, traffic(0, 8));
  EXPECT_EQ(capture.counters().received, 10u);
  EXPECT_EQ(capture.counters().missed, 7u);
}

TEST(PacketPort, no_frame_comes_before_start_or_after_stop) {
  const PacketLab lab;
  std::unique_ptr<Port> port;
  lab.within([&] { port = std::move(*open_packet_port("near", {.queues = 2})); });
  const Fd sender = lab.raw_socket("far");
  send_frame(sender, traffic(0, 0));
  port->stop();
  send_frame(sender, traffic(0, 1));
  for (const auto& queue : port->receive_queues()) EXPECT_EQ(queue->counters().received, 0u);
}

TEST(PacketPort, an_interface_that_goes_down_and_up_again_goes_on) {
  const PacketLab lab;
  PacketCapture capture(lab, "near", {.queues = 2});
  EXPECT_TRUE(capture.port().link().up);
  lab.ip({"link", "set", "near", "down"});
  EXPECT_FALSE(capture.port().link().up);
  EXPECT_TRUE(capture.port().link().present);
  std::vector<Captured> none;
  EXPECT_FALSE(capture.take_once(none));
  capture.wait(0);
  pollfd quiet{.fd = capture.queues()[0]->wait_fd(), .events = POLLIN, .revents = 0};
  EXPECT_EQ(::poll(&quiet, 1, 0), 0) << "a worker would spin";
  lab.ip({"link", "set", "near", "up"});
  const auto deadline = std::chrono::steady_clock::now() + kPatience;
  while (!capture.port().link().up && std::chrono::steady_clock::now() < deadline) {
    pollfd changed{.fd = capture.port().event_fd(), .events = POLLIN, .revents = 0};
    ::poll(&changed, 1, 100);
    capture.port().handle_event();
  }
  EXPECT_TRUE(capture.port().link().up);
  send_frame(lab.raw_socket("far"), traffic(3, 33));
  const std::vector<Captured> got = capture.take(1);
  ASSERT_EQ(got.size(), 1u);
  EXPECT_EQ(sequence_of(got[0].data.data()), 33u);
}

TEST(PacketPort, a_deleted_interface_is_told_and_what_came_before_can_be_read) {
  const PacketLab lab;
  PacketCapture capture(lab, "near", {.queues = 2});
  send_frame(lab.raw_socket("far"), traffic(0, 5));
  capture.port().handle_event();
  pollfd changed{.fd = capture.port().event_fd(), .events = POLLIN, .revents = 0};
  EXPECT_EQ(::poll(&changed, 1, 0), 0);
  lab.ip({"link", "del", "near"});
  EXPECT_EQ(::poll(&changed, 1, 20'000), 1);
  capture.port().handle_event();
  EXPECT_EQ(::poll(&changed, 1, 0), 0);
  EXPECT_FALSE(capture.port().link().present);
  EXPECT_FALSE(capture.port().link().up);
  EXPECT_EQ(capture.take(1).size(), 1u);
  capture.wait(0);
  for (const auto& queue : capture.queues()) {
    pollfd quiet{.fd = queue->wait_fd(), .events = POLLIN, .revents = 0};
    EXPECT_EQ(::poll(&quiet, 1, 0), 0) << "a worker would spin";
  }
  EXPECT_EQ(capture.counters().received, 1u);
  const Bytes frame = traffic(0, 6);
  const TransmitFrame lost{.data = frame.data(), .length = 64, .cookie = 1};
  EXPECT_EQ(capture.port().transmit_queues()[0]->transmit({&lost, 1}), 1u);
}

TEST(PacketPort, sent_frames_leave_in_order_and_are_not_captured_again) {
  const PacketLab lab;
  PacketCapture capture(lab, "near", {});
  const Fd receiver = lab.raw_socket("far");
  const int buffer_bytes = 4 << 20;
  ASSERT_EQ(::setsockopt(receiver.get(), SOL_SOCKET, SO_RCVBUFFORCE, &buffer_bytes, sizeof(buffer_bytes)), 0);
  std::vector<Bytes> frames;
  std::vector<TransmitFrame> batch;
  for (uint32_t i = 0; i < 300; ++i) frames.push_back(traffic(i, i));
  for (uint32_t i = 0; i < 300; ++i) batch.push_back({.data = frames[i].data(), .length = 64, .cookie = i});
  TransmitQueue& queue = *capture.port().transmit_queues()[0];
  EXPECT_EQ(queue.transmit(batch), 256u);
  EXPECT_EQ(queue.transmit(std::span(batch).subspan(256)), 0u) << "nothing was completed yet";
  std::vector<uint32_t> cookies(300);
  ASSERT_EQ(queue.completed(cookies), 256u);
  for (uint32_t i = 0; i < 256; ++i) EXPECT_EQ(cookies[i], i);
  EXPECT_EQ(queue.transmit(std::span(batch).subspan(256)), 44u);
  for (uint32_t i = 0; i < 300; ++i) {
    Bytes got(2048);
    pollfd ready{.fd = receiver.get(), .events = POLLIN, .revents = 0};
    ASSERT_EQ(::poll(&ready, 1, 20'000), 1);
    const ssize_t bytes = ::recv(receiver.get(), got.data(), got.size(), 0);
    got.resize(static_cast<size_t>(std::max<ssize_t>(bytes, 0)));
    ASSERT_TRUE(got == frames[i]) << i;
  }
  EXPECT_EQ(capture.counters().received, 0u);
}

TEST(PacketPort, an_interface_without_link_addresses_gives_raw_ip) {
  const PacketLab lab;
  lab.ip({"tuntap", "add", "dev", "tun", "mode", "tun"});
  lab.within([] {
    auto port = open_packet_port("tun", {});
    ASSERT_TRUE(port) << port.error().message();
    EXPECT_EQ((*port)->link_type(), 101u);
  });
}

TEST(PacketPort, an_interface_of_an_unknown_kind_is_refused) {
  const PacketLab lab;
  lab.within([] {
    const Fd tun(::open("/dev/net/tun", O_RDWR | O_CLOEXEC));
    ifreq request{};
    std::strcpy(request.ifr_name, "other");
    request.ifr_flags = IFF_TUN | IFF_NO_PI;
    ASSERT_EQ(::ioctl(tun.get(), TUNSETIFF, &request), 0) << std::strerror(errno);
    ASSERT_EQ(::ioctl(tun.get(), TUNSETLINK, ARPHRD_PPP), 0) << std::strerror(errno);
    auto port = open_packet_port("other", {});
    ASSERT_FALSE(port);
    EXPECT_EQ(port.error().code, Code::kUsage);
    EXPECT_NE(port.error().text.find("ARPHRD 512"), std::string::npos) << port.error().text;
  });
}

}  // namespace
}  // namespace ringcap::test

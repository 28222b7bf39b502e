// `tap:` against the real kernel: what the host sends through the TAP is received, what is transmitted is
// received by the host.
#include <linux/if_packet.h>

#include <algorithm>
#include <map>
#include <random>
#include <set>

#include "driver/tap/port.h"
#include "packet_lab.h"
#include "tests/lib/traffic.h"

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

Error refusal(const Namespace& network, const TapOptions& options) {
  Error error;
  network.within([&] {
    auto opened = open_tap_port(options);
    EXPECT_FALSE(opened);
    if (!opened) error = opened.error();
  });
  return error;
}

class TapCapture : public PortCapture {
 public:
  TapCapture(const Namespace& network, TapOptions options, uint32_t buffer_bytes = 2048,
             uint32_t buffers = 512)
      : PortCapture(open_tap(network, options), buffer_bytes, buffers) {}
  TapPort& tap() { return static_cast<TapPort&>(port()); }
  TransmitQueue& transmit(uint32_t queue = 0) { return *port().transmit_queues()[queue]; }
};

Bytes traffic(uint32_t flow, uint64_t sequence = 0) {
  Bytes frame(64);
  make_traffic(frame, flow);
  set_sequence(frame.data(), sequence);
  return frame;
}

// Transmits a frame, and takes it back.
void transmit(TransmitQueue& queue, const Bytes& frame) {
  const TransmitFrame one{
      .data = frame.data(), .length = static_cast<uint32_t>(frame.size()), .cookie = 4711};
  ASSERT_EQ(queue.transmit({&one, 1}), 1u);
  uint32_t cookie = 0;
  ASSERT_EQ(queue.completed({&cookie, 1}), 1u);
  EXPECT_EQ(cookie, 4711u);
}

// The next frame that the host received (a packet socket sees those that it sends, too).
Bytes received_by_host(const Fd& raw) {
  while (true) {
    pollfd ready{.fd = raw.get(), .events = POLLIN, .revents = 0};
    if (::poll(&ready, 1, 20'000) != 1) return {};
    Bytes frame(70'000);
    sockaddr_ll from{};
    socklen_t length = sizeof from;
    const ssize_t bytes =
        ::recvfrom(raw.get(), frame.data(), frame.size(), 0, reinterpret_cast<sockaddr*>(&from), &length);
    if (bytes < 0 || from.sll_pkttype == PACKET_OUTGOING) continue;
    frame.resize(static_cast<size_t>(bytes));
    return frame;
  }
}

bool readable(int fd) {
  pollfd polled{.fd = fd, .events = POLLIN, .revents = 0};
  return ::poll(&polled, 1, 0) != 0;
}

TEST(TapPort, frames_of_all_lengths_that_the_host_sends_arrive_byte_for_byte_and_flagged_outgoing) {
  const Namespace network;
  TapCapture capture(network, {.name = "t0", .mtu = 9000, .up = true}, 16384, 64);
  const Fd host = network.raw_socket("t0");
  std::mt19937 random(1);
  for (size_t bytes = 15; bytes <= 9014;) {
    std::vector<Bytes> sent;
    for (; bytes <= 9014 && sent.size() < 60; bytes += bytes < 1600 ? 1 : 37) {
      sent.push_back(random_frame(random, bytes));
      send_frame(host, sent.back());
    }
    const std::vector<Captured> got = capture.take(sent.size());
    ASSERT_EQ(got.size(), sent.size());
    for (size_t i = 0; i < sent.size(); ++i) {
      ASSERT_TRUE(got[i].data == sent[i]) << sent[i].size() << " bytes";
      EXPECT_EQ(got[i].length, sent[i].size());
      EXPECT_EQ(got[i].flags, layout::kCopied | layout::kOutgoing);
    }
  }
  EXPECT_EQ(capture.totals().copied, capture.totals().frames);
  EXPECT_EQ(capture.counters().received, capture.totals().frames);
  EXPECT_EQ(capture.counters().missed, 0u);
}

TEST(TapPort, what_is_transmitted_is_received_by_the_host_in_order) {
  const Namespace network;
  TapCapture capture(network, {.name = "t0", .up = true});
  const Fd host = network.raw_socket("t0");
  const int buffer_bytes = 4 << 20;
  ASSERT_EQ(::setsockopt(host.get(), SOL_SOCKET, SO_RCVBUFFORCE, &buffer_bytes, sizeof buffer_bytes), 0);
  std::mt19937 random(2);
  std::vector<Bytes> frames;
  std::vector<TransmitFrame> batch;
  for (uint32_t i = 0; i < 300; ++i) frames.push_back(random_frame(random, 60 + 4 * i));
  for (uint32_t i = 0; i < 300; ++i)
    batch.push_back({.data = frames[i].data(), .length = 60 + 4 * i, .cookie = i});
  EXPECT_EQ(capture.transmit().transmit(batch), 256u);
  EXPECT_EQ(capture.transmit().transmit(std::span(batch).subspan(256)), 0u) << "nothing was completed yet";
  std::vector<uint32_t> cookies(300);
  ASSERT_EQ(capture.transmit().completed(cookies), 256u);
  for (uint32_t i = 0; i < 256; ++i) EXPECT_EQ(cookies[i], i);
  for (uint32_t i = 0; i < 256; ++i) ASSERT_TRUE(received_by_host(host) == frames[i]) << i;
  EXPECT_EQ(capture.transmit().transmit(std::span(batch).subspan(256)), 44u);
  for (uint32_t i = 256; i < 300; ++i) ASSERT_TRUE(received_by_host(host) == frames[i]) << i;
  EXPECT_EQ(capture.transmit().refused(), 0u);
  std::vector<Captured> none;
  EXPECT_FALSE(capture.take_once(none)) << "what is transmitted is not captured again";
}

TEST(TapPort, vlan_tags_stay_in_the_frame_both_ways) {
  const Namespace network;
  TapCapture capture(network, {.name = "t0", .up = true});
  std::mt19937 random(3);
  Bytes tagged = random_frame(random, 104);
  for (const size_t at : {12, 13, 14, 15}) tagged[at] = std::byte{at == 12 ? uint8_t{0x81} : uint8_t{0}};
  tagged[15] = std::byte{7};
  send_frame(network.raw_socket("t0"), tagged);
  const auto got = capture.take(1);
  ASSERT_EQ(got.size(), 1u);
  EXPECT_TRUE(got[0].data == tagged);
  PacketCapture host(network, "t0", {.outgoing = false});
  transmit(capture.transmit(), tagged);
  const auto received = host.take(1);
  ASSERT_EQ(received.size(), 1u);
  EXPECT_TRUE(received[0].data == tagged);
}

TEST(TapPort, a_frame_longer_than_a_buffer_is_cut_and_flagged_and_one_that_just_fits_is_whole) {
  const Namespace network;
  TapCapture capture(network, {.name = "t0", .up = true}, 2048, 64);
  network.ip({"link", "set", "t0", "mtu", "65521"});
  const Fd host = network.raw_socket("t0");
  std::mt19937 random(4);
  for (const size_t bytes : {1537, 1600, 1985, 2047, 2048, 2049, 4096, 9014, 65535}) {
    std::vector<Bytes> sent;  // eight, which come to lie in buffers of eight colours
    for (int i = 0; i < 8; ++i) sent.push_back(random_frame(random, bytes));
    for (const Bytes& frame : sent) send_frame(host, frame);
    const auto got = capture.take(8);
    ASSERT_EQ(got.size(), 8u) << bytes;
    for (int i = 0; i < 8; ++i) {
      EXPECT_EQ(got[i].length, bytes);
      ASSERT_EQ(got[i].data.size(), std::min<size_t>(bytes, 2048));
      EXPECT_TRUE(std::equal(got[i].data.begin(), got[i].data.end(), sent[i].begin())) << bytes;
      EXPECT_EQ((got[i].flags & layout::kTruncated) != 0, bytes > 2048) << bytes;
    }
  }
  EXPECT_EQ(capture.totals().cut, 4u * 8);
}

TEST(TapPort, without_a_free_buffer_frames_are_taken_and_counted) {
  const Namespace network;
  TapCapture capture(network, {.name = "t0", .up = true}, 2048, 4);
  const Fd host = network.raw_socket("t0");
  for (uint32_t i = 0; i < 10; ++i) send_frame(host, traffic(0, i));
  std::vector<Frame> frames(64);
  const Burst burst = capture.queues()[0]->receive(frames, capture.free());
  EXPECT_EQ(burst.frames, 4u);
  EXPECT_EQ(burst.no_buffer, 6u);
  EXPECT_TRUE(capture.free().empty());
  EXPECT_EQ(capture.counters().received, 10u);
  EXPECT_EQ(capture.counters().missed, 0u);
  for (uint32_t i = 0; i < 4; ++i) EXPECT_EQ(sequence_of(frames[i].data), i);
}

TEST(TapPort, what_the_kernel_drops_because_the_queue_is_full_is_missed) {
  for (const uint32_t queues : {1u, 2u}) {
    const Namespace network;
    TapCapture capture(network, {.name = "t0", .queues = queues, .up = true});
    network.ip({"link", "set", "t0", "txqueuelen", "50"});
    const Fd host = network.raw_socket("t0");
    for (uint32_t i = 0; i < 400; ++i) send_frame(host, traffic(i));
    std::vector<Captured> got;
    while (capture.take_once(got)) {
    }
    ASSERT_LT(got.size(), 400u);
    const QueueCounters one = capture.queues()[0]->counters();
    const QueueCounters all = capture.port().counters();
    const QueueCounters& counted = queues == 1 ? one : all;
    const QueueCounters& none = queues == 1 ? all : one;
    EXPECT_EQ(counted.received, 400u);
    EXPECT_EQ(counted.missed, 400 - got.size());
    EXPECT_EQ(none.received, layout::kNotCounted);
    EXPECT_EQ(none.missed, layout::kNotCounted);
  }
}

TEST(TapPort, several_queues_keep_a_flow_together_and_answer_where_its_other_direction_came) {
  const Namespace network;
  TapCapture capture(network, {.name = "t0", .queues = 4, .up = true});
  const Fd host = network.raw_socket("t0");
  for (uint32_t round = 0; round < 5; ++round)
    for (uint32_t flow = 0; flow < 40; ++flow) send_frame(host, traffic(flow, round));
  std::map<uint32_t, std::set<uint32_t>> queues_of;
  std::set<uint32_t> used;
  for (const Captured& frame : capture.take(200)) {
    queues_of[static_cast<uint32_t>(frame.data[35]) | static_cast<uint32_t>(frame.data[34]) << 8].insert(
        frame.queue);
    used.insert(frame.queue);
  }
  EXPECT_EQ(queues_of.size(), 40u);
  for (const auto& [port, queues] : queues_of) EXPECT_EQ(queues.size(), 1u) << port;
  EXPECT_GT(used.size(), 1u);
  for (uint32_t queue = 0; queue < 4; ++queue) {
    const Bytes there = traffic(1000 + queue);
    Bytes back = there;
    std::swap_ranges(back.begin() + 26, back.begin() + 30, back.begin() + 30);
    std::swap_ranges(back.begin() + 34, back.begin() + 36, back.begin() + 36);
    transmit(capture.transmit(queue), there);
    send_frame(host, back);
    const auto got = capture.take(1);
    ASSERT_EQ(got.size(), 1u);
    EXPECT_EQ(got[0].queue, queue);
  }
}

TEST(TapPort, a_new_tap_is_down_and_what_is_transmitted_to_it_is_refused) {
  const Namespace network;
  TapCapture capture(network, {.name = "t0"});
  EXPECT_FALSE(capture.port().link().up);
  EXPECT_TRUE(capture.port().link().present);
  transmit(capture.transmit(), traffic(0));
  EXPECT_EQ(capture.transmit().refused(), 1u);
  network.ip({"link", "set", "t0", "up"});
  EXPECT_TRUE(capture.port().link().up);
  const Fd host = network.raw_socket("t0");
  transmit(capture.transmit(), traffic(0, 5));
  EXPECT_TRUE(received_by_host(host) == traffic(0, 5));
  network.ip({"link", "set", "t0", "down"});
  EXPECT_FALSE(capture.port().link().up);
  EXPECT_FALSE(readable(capture.queues()[0]->wait_fd())) << "a worker would spin";
  transmit(capture.transmit(), traffic(0));
  transmit(capture.transmit(), Bytes(7));
  EXPECT_EQ(capture.transmit().refused(), 3u);
  network.ip({"link", "set", "t0", "up"});
  send_frame(network.raw_socket("t0"), traffic(0, 6));
  EXPECT_EQ(capture.take(1).size(), 1u);
  transmit(capture.transmit(), Bytes(7));
  EXPECT_EQ(capture.transmit().refused(), 4u) << "shorter than a header";
}

TEST(TapPort, a_deleted_tap_is_told_and_nothing_hangs_or_spins) {
  for (const uint32_t queues : {1u, 3u}) {
    const Namespace network;
    TapCapture capture(network, {.name = "t0", .queues = queues, .up = true});
    const Fd host = network.raw_socket("t0");
    send_frame(host, traffic(0));
    EXPECT_EQ(capture.take(1).size(), 1u);
    capture.port().handle_event();
    EXPECT_FALSE(readable(capture.port().event_fd()));
    network.ip({"link", "del", "t0"});
    EXPECT_TRUE(wait_until([&] { return readable(capture.port().event_fd()); }));
    capture.port().handle_event();
    EXPECT_FALSE(capture.port().link().present);
    EXPECT_FALSE(capture.port().link().up);
    capture.tap().set_link(true);
    std::vector<Captured> none;
    EXPECT_FALSE(capture.take_once(none));
    capture.wait(0);
    for (const auto& queue : capture.queues()) EXPECT_FALSE(readable(queue->wait_fd())) << "it would spin";
    transmit(capture.transmit(queues - 1), traffic(0));
    EXPECT_EQ(capture.transmit(queues - 1).refused(), 1u);
    const QueueCounters counted = queues == 1 ? capture.counters() : capture.port().counters();
    EXPECT_EQ(counted.received, 1u);
    EXPECT_EQ(counted.missed, 0u);
  }
}

TEST(TapPort, its_carrier_follows_the_link_of_the_nic_that_it_stands_for) {
  const Namespace network;
  TapCapture capture(network, {.name = "t0", .up = true});
  const Fd host = network.raw_socket("t0");
  capture.tap().set_link(false);
  EXPECT_TRUE(wait_until([&] { return !capture.port().link().up; }));
  const Bytes frame = traffic(0);
  std::vector<Captured> none;
  (void)!::send(host.get(), frame.data(), frame.size(), 0);
  EXPECT_FALSE(capture.take_once(none));
  capture.tap().set_link(true);
  EXPECT_TRUE(wait_until([&] { return capture.port().link().up; }));
  EXPECT_TRUE(wait_until([&] {
    (void)!::send(host.get(), frame.data(), frame.size(), 0);
    std::vector<Captured> got;
    return capture.take_once(got);
  }));
}

TEST(TapPort, nothing_comes_before_it_is_started_and_starting_wakes_the_worker) {
  const Namespace network;
  const auto port = open_tap(network, {.name = "t0", .up = true});
  const Fd host = network.raw_socket("t0");
  FreeBuffers free(4);
  std::vector<std::byte> memory(4 * 2048);
  for (uint32_t i = 0; i < 4; ++i) free.push(i);
  ReceiveQueue& queue = *port->receive_queues()[0];
  ASSERT_TRUE(queue.arm({.base = memory.data(), .buffer_bytes = 2048, .count = 4}, free));
  send_frame(host, traffic(0));
  std::vector<Frame> frames(8);
  EXPECT_EQ(queue.receive(frames, free).frames, 0u);
  const int waited_for = queue.wait_fd();
  EXPECT_FALSE(readable(waited_for));
  ASSERT_TRUE(port->start());
  EXPECT_TRUE(readable(waited_for));
  queue.disable_wake();
  EXPECT_EQ(queue.receive(frames, free).frames, 1u);
  port->stop();
  send_frame(host, traffic(0));
  EXPECT_EQ(queue.receive(frames, free).frames, 0u);
  EXPECT_FALSE(readable(queue.wait_fd()));
}

TEST(TapPort, has_the_mtu_and_address_that_were_asked_for_and_goes_with_its_port) {
  const Namespace network;
  auto port = open_tap(network, {.name = "t0", .mtu = 1400, .mac = "02:11:22:33:44:55"});
  EXPECT_EQ(port->mtu(), 1400u);
  EXPECT_FALSE(port->persistent());
  EXPECT_EQ(port->remark(), "");
  const auto shown = run({"ip", "-d", "link", "show", "t0"}, {.network = &network});
  EXPECT_NE(shown.out.find("mtu 1400"), std::string::npos) << shown.out;
  EXPECT_NE(shown.out.find("02:11:22:33:44:55"), std::string::npos) << shown.out;
  EXPECT_NE(shown.out.find("tun type tap"), std::string::npos) << shown.out;
  EXPECT_NE(shown.out.find("state DOWN"), std::string::npos) << shown.out;
  port.reset();
  EXPECT_NE(run({"ip", "link", "show", "t0"}, {.network = &network}).status, 0);
}

TEST(TapPort, a_persistent_tap_is_attached_to_and_stays) {
  const Namespace network;
  network.ip({"tuntap", "add", "t0", "mode", "tap"});
  network.ip({"tuntap", "add", "t4", "mode", "tap", "multi_queue"});
  for (const TapOptions& options :
       {TapOptions{.name = "t0"}, TapOptions{.name = "t4", .queues = 4}, TapOptions{.name = "t4"}}) {
    {
      TapCapture capture(network, options);
      EXPECT_TRUE(capture.tap().persistent());
      EXPECT_NE(capture.port().remark().find("stays"), std::string::npos);
      network.ip({"link", "set", options.name, "up"});
      send_frame(network.raw_socket(options.name), traffic(1));
      EXPECT_EQ(capture.take(1).size(), 1u);
    }
    network.ip({"link", "show", options.name});
    network.ip({"link", "set", options.name, "down"});
  }
}

TEST(TapPort, what_is_no_tap_or_in_use_is_refused_in_words) {
  const Namespace network;
  network.add_veth("veth", "other");
  network.ip({"tuntap", "add", "tun", "mode", "tun"});
  network.ip({"tuntap", "add", "single", "mode", "tap"});
  const auto one = open_tap(network, {.name = "mine"});
  const auto several = open_tap(network, {.name = "many", .queues = 2});
  for (const char* name : {"veth", "tun", "lo"}) {
    const Error error = refusal(network, {.name = name});
    EXPECT_EQ(error.code, Code::kUsage);
    EXPECT_NE(error.text.find(std::string("interface ") + name), std::string::npos) << error.message();
    EXPECT_NE(error.text.find("is no TAP"), std::string::npos) << error.message();
  }
  const Error too_many = refusal(network, {.name = "single", .queues = 2});
  EXPECT_NE(too_many.message().find("multi_queue"), std::string::npos) << too_many.message();
  EXPECT_NE(refusal(network, {.name = "mine"}).text.find("in use"), std::string::npos);
  EXPECT_NE(refusal(network, {.name = "many", .queues = 2}).text.find("in use"), std::string::npos);
  EXPECT_EQ(several->transmit_queues().size(), 2u);
}

TEST(TapPort, options_that_make_no_sense_are_refused_before_anything_is_made) {
  const Namespace network;
  for (const TapOptions& options :
       {TapOptions{.name = ""}, TapOptions{.name = "a-name-that-is-too-long"}, TapOptions{.name = "tap%d"},
        TapOptions{.name = "a b"}, TapOptions{.name = "t0", .queues = 0},
        TapOptions{.name = "t0", .queues = 65}, TapOptions{.name = "t0", .mtu = 67},
        TapOptions{.name = "t0", .mtu = 16363}, TapOptions{.name = "t0", .mac = "02:00:00:00:00"},
        TapOptions{.name = "t0", .mac = "01:00:00:00:00:01"}, TapOptions{.name = "t0", .mac = "x"},
        TapOptions{.name = "t0", .mac = "00:00:00:00:00:00"},
        TapOptions{.name = "t0", .mac = "02:00:00:00:00:011"}}) {
    const Error error = refusal(network, options);
    EXPECT_EQ(error.code, Code::kUsage) << error.message();
    EXPECT_NE(error.mend, "");
  }
  EXPECT_EQ(run({"ip", "-o", "link"}, {.network = &network}).out.find("t0"), std::string::npos);
}

}  // namespace
}  // namespace ringcap::test

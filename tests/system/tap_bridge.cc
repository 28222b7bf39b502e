#include "tap_bridge.h"

#include <poll.h>

#include <span>
#include <stdexcept>

namespace ringcap::test {

namespace {

constexpr uint32_t kIpv4 = 14;  // where it begins
constexpr uint8_t kIcmp = 1, kTcp = 6, kUdp = 17;

uint32_t word(const Bytes& frame, size_t at) {
  const auto low = at + 1 < frame.size() ? static_cast<uint32_t>(frame[at + 1]) : 0;
  return static_cast<uint32_t>(frame[at]) << 8 | low;
}

// RFC 1071, without the complement: 0xffff where a checksum in it is right.
uint32_t sum(const Bytes& frame, size_t from, size_t until, uint32_t start = 0) {
  uint64_t total = start;
  for (size_t at = from; at < until; at += 2) total += word(frame, at);
  while (total >> 16 != 0) total = (total & 0xffff) + (total >> 16);
  return static_cast<uint32_t>(total);
}

}  // namespace

std::string fault_of(const Bytes& frame) {
  if (frame.size() < kIpv4 + 20 || word(frame, 12) != 0x0800) return "";
  const size_t header = (static_cast<size_t>(frame[kIpv4]) & 15) * 4;
  const size_t end = kIpv4 + word(frame, kIpv4 + 2);
  if (end > frame.size()) return "a length beyond the frame";
  if (sum(frame, kIpv4, kIpv4 + header) != 0xffff) return "IPv4's checksum";
  Bytes rest(frame.begin(), frame.begin() + static_cast<ptrdiff_t>(end));
  const auto protocol = static_cast<uint8_t>(frame[kIpv4 + 9]);
  const size_t payload = kIpv4 + header;
  if (protocol == kIcmp) return sum(rest, payload, end) == 0xffff ? "" : "ICMP's checksum";
  if (protocol == kUdp && word(frame, payload + 6) == 0) return "no UDP checksum";
  if (protocol != kTcp && protocol != kUdp) return "";
  const uint32_t pseudo = sum(rest, kIpv4 + 12, kIpv4 + 20, protocol + static_cast<uint32_t>(end - payload));
  return sum(rest, payload, end, pseudo) == 0xffff ? "" : "TCP's or UDP's checksum";
}

TapBridge::TapBridge(TapOptions options) {
  options.name = "t0";
  options.up = true;
  const uint32_t buffer_bytes = options.mtu > 1500 ? 16384 : 2048;
  for (int n = 0; n < 2; ++n) {
    std::unique_ptr<Port> opened;
    hosts_[n].within([&] {
      auto port = open_tap_port(options);
      if (!port) throw std::runtime_error(port.error().message());
      opened = std::move(*port);
    });
    captures_[n] = std::make_unique<PortCapture>(std::move(opened), buffer_bytes, 256);
    hosts_[n].ip({"addr", "add", "10.1.0." + std::to_string(n + 1) + "/24", "dev", "t0"});
  }
  thread_ = std::thread([this] { carry(); });
}

TapBridge::~TapBridge() { stop(); }

void TapBridge::stop() {
  stop_ = true;
  if (thread_.joinable()) thread_.join();
}

void TapBridge::carry() {
  while (!stop_) {
    const bool there = carry_once(*captures_[0], static_cast<TapPort&>(captures_[1]->port()));
    const bool back = carry_once(*captures_[1], static_cast<TapPort&>(captures_[0]->port()));
    if (there || back) continue;
    std::vector<pollfd> polled;
    for (auto& capture : captures_)
      for (const auto& queue : capture->queues())
        polled.push_back({.fd = queue->wait_fd(), .events = POLLIN, .revents = 0});
    ::poll(polled.data(), polled.size(), 20);
  }
}

bool TapBridge::carry_once(PortCapture& from, TapPort& to) {
  std::vector<Captured> taken;
  from.take_once(taken);
  for (const Captured& frame : taken) {
    look_at(frame);
    TransmitQueue& queue = *to.transmit_queues()[frame.queue];
    const TransmitFrame sent{.data = frame.data.data(), .length = frame.length, .cookie = 0};
    uint32_t cookie = 0;
    while (queue.transmit({&sent, 1}) == 0) queue.completed({&cookie, 1});
    queue.completed({&cookie, 1});
  }
  return !taken.empty();
}

void TapBridge::look_at(const Captured& frame) {
  ++frames_;
  longest_ = std::max(longest_, frame.length);
  if (word(frame.data, 12) == 0x0800 && static_cast<uint8_t>(frame.data[kIpv4 + 9]) == kTcp) ++tcp_frames_;
  if (fault_.empty()) fault_ = fault_of(frame.data);
}

}  // namespace ringcap::test

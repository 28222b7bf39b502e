#include "driver/packet/port.h"

#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "driver/packet/interface.h"
#include "driver/packet/queue.h"
#include "driver/packet/socket.h"
#include "driver/packet/transmit.h"

namespace ringcap {

namespace packet {

namespace {

// Ethernet header and two VLAN tags.
constexpr uint32_t kHeaderBytes = 14 + 2 * 4;
constexpr uint32_t kMinimumMtu = 68;
constexpr uint32_t kMaximumMtu = 16384 - kHeaderBytes;

Result<void> check(const PacketOptions& options) {
  if (options.queues < 1 || options.queues > layout::kMaxWorkers) {
    return fail(Code::kUsage, fmt::format("queues={} is not possible", options.queues),
                fmt::format("give 1 to {}", layout::kMaxWorkers));
  }
  if (options.mtu < kMinimumMtu || options.mtu > kMaximumMtu) {
    return fail(Code::kUsage, fmt::format("mtu={} is not possible", options.mtu),
                fmt::format("give {} to {}", kMinimumMtu, kMaximumMtu));
  }
  return {};
}

Result<std::vector<PacketSocket>> open_sockets(const PacketSocket::Options& options, uint32_t count) {
  std::vector<PacketSocket> sockets;
  for (uint32_t i = 0; i < count; ++i) {
    auto socket = PacketSocket::open(options);
    if (!socket) return std::unexpected(socket.error());
    sockets.push_back(std::move(*socket));
  }
  return sockets;
}

Result<void> join(std::vector<PacketSocket>& sockets) {
  if (sockets.size() < 2) return {};
  const auto group = sockets.front().make_group();
  if (!group) return std::unexpected(group.error());
  for (size_t i = 1; i < sockets.size(); ++i) {
    if (auto joined = sockets[i].join_group(*group); !joined) return joined;
  }
  return {};
}

}  // namespace

class PacketPort final : public Port {
 public:
  PacketPort(const std::string& name, uint32_t mtu, Interface interface, std::vector<PacketSocket> sockets,
             std::unique_ptr<PacketTransmit> transmit);

  const std::string& address() const override { return address_; }
  std::string driver() const override { return "tpacket"; }
  uint32_t mtu() const override { return mtu_; }
  uint32_t buffer_need() const override { return mtu_ + kHeaderBytes; }
  uint32_t link_type() const override { return interface_.link_type(); }

  std::span<const std::unique_ptr<ReceiveQueue>> receive_queues() const override { return queues_; }
  std::vector<TransmitQueue*> transmit_queues() override { return {transmit_.get()}; }

  Result<void> start() override;
  void stop() override;

  Link link() override { return interface_.link(); }
  int event_fd() const override { return interface_.event_fd(); }
  void handle_event() override { interface_.consume_events(); }

 private:
  std::string address_;
  uint32_t mtu_;
  Interface interface_;
  std::vector<std::unique_ptr<ReceiveQueue>> queues_;
  std::vector<PacketQueue*> packet_queues_;  // the same
  std::unique_ptr<PacketTransmit> transmit_;
};

PacketPort::PacketPort(const std::string& name, uint32_t mtu, Interface interface,
                       std::vector<PacketSocket> sockets, std::unique_ptr<PacketTransmit> transmit)
    : address_("packet:" + name),
      mtu_(mtu),
      interface_(std::move(interface)),
      transmit_(std::move(transmit)) {
  for (PacketSocket& socket : sockets) {
    auto queue = std::make_unique<PacketQueue>(std::move(socket), interface_.link_type() == 1);
    packet_queues_.push_back(queue.get());
    queues_.push_back(std::move(queue));
  }
}

Result<void> PacketPort::start() {
  for (PacketQueue* queue : packet_queues_) {
    if (auto started = queue->start(); !started) {
      stop();
      return started;
    }
  }
  return {};
}

void PacketPort::stop() {
  for (PacketQueue* queue : packet_queues_) queue->stop();
}

}  // namespace packet

Result<std::unique_ptr<Port>> open_packet_port(const std::string& interface, const PacketOptions& options) {
  if (auto checked = packet::check(options); !checked) return std::unexpected(checked.error());
  auto found = packet::Interface::open(interface);
  if (!found) return std::unexpected(found.error());
  const packet::PacketSocket::Options each{
      .interface_index = found->index(),
      .interface = interface,
      .ring_bytes = std::max(packet::kPortRingBytes / options.queues, packet::kQueueRingBytes),
      .outgoing = options.outgoing && !found->loopback(),
  };
  auto sockets = packet::open_sockets(each, options.queues);
  if (!sockets) return std::unexpected(sockets.error());
  if (auto joined = packet::join(*sockets); !joined) return std::unexpected(joined.error());
  auto transmit = packet::PacketTransmit::open(found->index(), interface);
  if (!transmit) return std::unexpected(transmit.error());
  return std::make_unique<packet::PacketPort>(interface, options.mtu, std::move(*found), std::move(*sockets),
                                              std::move(*transmit));
}

}  // namespace ringcap

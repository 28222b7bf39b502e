#include "driver/pcap/port.h"

#include <fmt/format.h>

#include <vector>

#include "capture/base/monotonic.h"
#include "driver/pcap/queue.h"

namespace ringcap {
namespace pcap {
namespace {

// Ethernet header and two VLAN tags.
constexpr uint32_t kHeaderBytes = 14 + 2 * 4;
constexpr uint32_t kMinimumMtu = 68;
constexpr uint32_t kMaximumMtu = 16384 - kHeaderBytes;

// As in an address, where a comma begins a key.
std::string escaped(const std::string& path) {
  std::string text;
  for (const char letter : path) text += letter == ',' ? std::string("\\,") : std::string(1, letter);
  return text;
}

class PcapPort final : public Port {
 public:
  PcapPort(const std::string& path, const PcapOptions& options)
      : address_("pcap:" + escaped(path)), mtu_(options.mtu) {}

  void add(pcapfile::Reader reader, const PcapOptions& options) {
    link_type_ = reader.link_type();
    const auto number = static_cast<uint32_t>(queues_.size());
    queues_.push_back(std::make_unique<PcapQueue>(std::move(reader), options, number, start_));
  }

  const std::string& address() const override { return address_; }
  std::string driver() const override { return "file"; }
  uint32_t mtu() const override { return mtu_; }
  uint32_t buffer_need() const override { return mtu_ + kHeaderBytes; }
  uint32_t link_type() const override { return link_type_; }
  std::span<const std::unique_ptr<ReceiveQueue>> receive_queues() const override { return queues_; }
  std::string problem() const override;
  Result<void> start() override;
  void stop() override;

 private:
  std::string address_;
  uint32_t mtu_;
  uint32_t link_type_ = 1;
  Start start_;
  uint64_t played_ns_ = 0;  // before the last stop()
  std::vector<std::unique_ptr<ReceiveQueue>> queues_;
};

std::string PcapPort::problem() const {
  for (const auto& queue : queues_) {
    const auto& pcap_queue = static_cast<const PcapQueue&>(*queue);
    if (pcap_queue.ended() && !pcap_queue.problem().empty()) return pcap_queue.problem();
  }
  return {};
}

Result<void> PcapPort::start() {
  if (start_.origin_ns.load(std::memory_order_relaxed) == 0)
    start_.origin_ns.store(monotonic_ns() - played_ns_, std::memory_order_release);  // pairs with receive()
  return {};
}

void PcapPort::stop() {
  const uint64_t origin_ns = start_.origin_ns.exchange(0, std::memory_order_acq_rel);
  if (origin_ns != 0) played_ns_ = monotonic_ns() - origin_ns;
}

Result<void> check(const PcapOptions& options) {
  if (options.queues < 1 || options.queues > layout::kMaxWorkers)
    return fail(Code::kUsage, fmt::format("queues={} is not possible", options.queues),
                fmt::format("give 1 to {}", layout::kMaxWorkers));
  if (options.mtu < kMinimumMtu || options.mtu > kMaximumMtu)
    return fail(Code::kUsage, fmt::format("mtu={} is not possible", options.mtu),
                fmt::format("give {} to {}", kMinimumMtu, kMaximumMtu));
  if (!(options.speed >= 0)) return fail(Code::kUsage, "a negative speed is not possible");
  return {};
}

Result<void> check_pipe(const pcapfile::Reader& reader, const PcapOptions& options) {
  if (reader.seekable() || (options.queues == 1 && options.loop == 1)) return {};
  return fail(Code::kUsage, fmt::format("{} is a pipe: it is read once, by one queue", reader.name()),
              "leave out queues= and loop=, or write it to a file first");
}

}  // namespace
}  // namespace pcap

Result<std::unique_ptr<Port>> open_pcap_port(const std::string& path, const PcapOptions& options) {
  if (Result<void> good = pcap::check(options); !good) return std::unexpected(std::move(good.error()));
  auto port = std::make_unique<pcap::PcapPort>(path, options);
  for (uint32_t number = 0; number < options.queues; ++number) {
    Result<pcapfile::Reader> reader =
        pcapfile::Reader::open(path, {.wait = false, .read_ahead = options.speed == 0});
    if (!reader) return std::unexpected(std::move(reader.error()));
    if (Result<void> good = pcap::check_pipe(*reader, options); !good)
      return std::unexpected(std::move(good.error()));
    port->add(std::move(*reader), options);
  }
  return port;
}

}  // namespace ringcap

#include "driver/tap/port.h"

#include <fmt/format.h>
#include <netinet/ether.h>
#include <sys/eventfd.h>

#include <cstdio>
#include <vector>

#include "driver/tap/device.h"
#include "driver/tap/queue.h"
#include "driver/tap/transmit.h"

namespace ringcap {

namespace tap {

namespace {

// Ethernet header and two VLAN tags.
constexpr uint32_t kHeaderBytes = 14 + 2 * 4;
constexpr uint32_t kMinimumMtu = 68;
constexpr uint32_t kMaximumMtu = 16384 - kHeaderBytes;
constexpr size_t kLongestName = 15;

Result<void> check(const TapOptions& options) {
  const std::string& name = options.name;
  // The kernel would take a '%' for a pattern, and choose a name.
  if (name.empty() || name.size() > kLongestName || name.find_first_of("%/ :") != std::string::npos)
    return fail(Code::kUsage, fmt::format("'{}' cannot be the name of a TAP", name),
                fmt::format("give 1 to {} letters, such as tap0", kLongestName));
  if (options.queues < 1 || options.queues > layout::kMaxWorkers)
    return fail(Code::kUsage, fmt::format("queues={} is not possible", options.queues),
                fmt::format("give 1 to {}", layout::kMaxWorkers));
  if (options.mtu < kMinimumMtu || options.mtu > kMaximumMtu)
    return fail(Code::kUsage, fmt::format("mtu={} is not possible", options.mtu),
                fmt::format("give {} to {}", kMinimumMtu, kMaximumMtu));
  if (!options.mac.empty() && !is_station_mac(options.mac))
    return fail(Code::kUsage, fmt::format("mac={} is not possible", options.mac),
                "give the address of one station, such as 02:00:00:00:00:01");
  return {};
}

class KernelTapPort final : public TapPort {
 public:
  KernelTapPort(const TapOptions& options, Device device)
      : address_("tap:" + options.name), mtu_(options.mtu), device_(std::move(device)) {}
  Result<void> make_queues();

  const std::string& address() const override { return address_; }
  std::string driver() const override { return "tap"; }
  uint32_t mtu() const override { return mtu_; }
  uint32_t buffer_need() const override { return mtu_ + kHeaderBytes; }
  std::span<const std::unique_ptr<ReceiveQueue>> receive_queues() const override { return queues_; }
  std::vector<TransmitQueue*> transmit_queues() override;

  Result<void> start() override;
  void stop() override;

  Link link() override { return device_.link(); }
  QueueCounters counters() override;
  std::string remark() const override;
  int event_fd() const override { return device_.event_fd(); }
  void handle_event() override { device_.consume_events(); }

  void set_link(bool up) override { device_.set_carrier(up); }
  int interface_index() const override { return device_.index(); }
  bool persistent() const override { return device_.persistent(); }

 private:
  std::string address_;
  uint32_t mtu_;
  Device device_;  // before the queues: they use it
  std::vector<std::unique_ptr<ReceiveQueue>> queues_;
  std::vector<TapQueue*> tap_queues_;  // the same
  std::vector<std::unique_ptr<TapTransmit>> transmit_;
  bool started_ = false;  // once
};

Result<void> KernelTapPort::make_queues() {
  const bool alone = device_.queues().size() == 1;
  for (const Fd& fd : device_.queues()) {
    Fd quiet(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
    if (!quiet) return fail_system("cannot make an eventfd");
    auto queue = std::make_unique<TapQueue>(fd.get(), device_, alone, buffer_need(), std::move(quiet));
    tap_queues_.push_back(queue.get());
    queues_.push_back(std::move(queue));
    transmit_.push_back(std::make_unique<TapTransmit>(fd.get()));
  }
  return {};
}

std::vector<TransmitQueue*> KernelTapPort::transmit_queues() {
  std::vector<TransmitQueue*> queues;
  queues.reserve(transmit_.size());
  for (const auto& queue : transmit_) queues.push_back(queue.get());
  return queues;
}

Result<void> KernelTapPort::start() {
  if (!started_) device_.forget_dropped();  // what came too early is nobody's loss
  started_ = true;
  for (TapQueue* queue : tap_queues_) queue->start();
  return {};
}

void KernelTapPort::stop() {
  for (TapQueue* queue : tap_queues_) queue->stop();
}

QueueCounters KernelTapPort::counters() {
  if (tap_queues_.size() == 1) return {};
  const uint64_t missed = device_.dropped();
  uint64_t received = missed;
  for (const TapQueue* queue : tap_queues_) received += queue->taken();
  return {.received = received, .missed = missed, .bad = 0};
}

std::string KernelTapPort::remark() const {
  return device_.persistent() ? "the TAP was there before, and stays when the engine ends" : "";
}

}  // namespace

}  // namespace tap

bool is_station_mac(const std::string& text) {
  ether_addr mac{};
  int end = 0;
  const bool whole = std::sscanf(text.c_str(), "%*2x:%*2x:%*2x:%*2x:%*2x:%*2x%n", &end) == 0 &&
                     static_cast<size_t>(end) == text.size() && end > 0;
  return whole && ::ether_aton_r(text.c_str(), &mac) != nullptr && (mac.ether_addr_octet[0] & 1) == 0 &&
         text.find_first_not_of("0:") != std::string::npos;
}

Result<std::unique_ptr<TapPort>> open_tap_port(const TapOptions& options) {
  if (auto checked = tap::check(options); !checked) return std::unexpected(checked.error());
  auto device = tap::Device::open(options);
  if (!device) return std::unexpected(device.error());
  auto port = std::make_unique<tap::KernelTapPort>(options, std::move(*device));
  if (auto made = port->make_queues(); !made) return std::unexpected(made.error());
  return port;
}

}  // namespace ringcap

#include "driver/virtio/port.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>

#include "driver/pci/moderation_names.h"

namespace ringcap::virtio {
namespace {

constexpr uint32_t kTwoTags = 22;  // header and two VLAN tags: what a frame has beside its MTU
constexpr uint32_t kGreatestBuffer = 16384;
constexpr uint32_t kGreatestMtu = kGreatestBuffer - VirtioReceive::kLastStart - kTwoTags;
constexpr uint32_t kTransmitDescriptors = 1024, kControlDescriptors = 64;
constexpr uint32_t kLeastSize = 8;  // of a ring that this driver uses
constexpr uint32_t kHashes = hash::IPv4 | hash::TCPv4 | hash::UDPv4 | hash::IPv6 | hash::TCPv6 | hash::UDPv6;

// Nothing that would let the device merge frames (GUEST_TSO4, GUEST_TSO6, GUEST_UFO, GUEST_USO, RSC_EXT),
// leave their checksums unfinished (GUEST_CSUM), or filter them (CTRL_VLAN) is among them.
constexpr uint64_t kWanted = feature::VERSION_1 | feature::ACCESS_PLATFORM | feature::ORDER_PLATFORM |
                             feature::RING_PACKED | feature::MRG_RXBUF | feature::STATUS |
                             feature::SPEED_DUPLEX | feature::CTRL_VQ | feature::CTRL_RX;

void put16(std::vector<uint8_t>& to, uint32_t value) {
  to.push_back(static_cast<uint8_t>(value));
  to.push_back(static_cast<uint8_t>(value >> 8));
}

void put32(std::vector<uint8_t>& to, uint32_t value) {
  put16(to, value);
  put16(to, value >> 16);
}

}  // namespace

// ---- open --------------------------------------------------------------------------------------------

Result<std::unique_ptr<Port>> VirtioPort::open(std::unique_ptr<pci::Function> function,
                                               const pci::NicOptions& options) {
  const std::string address = function->address();
  std::unique_ptr<VirtioPort> port(new VirtioPort(std::move(function), options));
  if (Result<void> ready = port->initialise(); !ready) return context(address, ready.error());
  return port;
}

Result<void> VirtioPort::initialise() {
  if (Result<void> found = device_.find(*function_); !found) return found;
  if (Result<void> done = reset(); !done) return done;
  const Result<uint64_t> offered = device_.offered();
  if (!offered) return std::unexpected(offered.error());
  features_ = *offered & kWanted;
  if (*offered & feature::CTRL_VQ) features_ |= *offered & (feature::MQ | feature::RSS | feature::NOTF_COAL);
  choose_steering();
  if (Result<void> possible = check(); !possible) return possible;
  if (Result<void> agreed = device_.negotiate(features_); !agreed) return agreed;
  if (Result<void> armed = arm_interrupts(options_.queues + 1); !armed) return armed;
  if (Result<void> watched = watch_events(); !watched) return watched;
  if (Result<void> made = make_queues(); !made) return made;
  return reset();
}

// With one queue nothing is spread. RSS is only of use with the key and the table of all others.
void VirtioPort::choose_steering() {
  if (has(feature::MQ) || has(feature::RSS)) pairs_ = device_.read_net(net::max_virtqueue_pairs, 2);
  if (pairs_ == 0 || pairs_ > 0x8000) pairs_ = 1;
  const bool usable = options_.queues > 1 && has(feature::RSS) &&
                      device_.read_net(net::rss_max_key_size, 1) >= rss_key_.size() &&
                      device_.read_net(net::rss_max_indirection_table_length, 2) >= pci::kRssTableEntries;
  if (!usable) features_ &= ~feature::RSS;
}

Result<void> VirtioPort::check() {
  if (Result<void> possible = check_options(
          {.driver = "virtio", .chip = "this virtio device", .queues = pairs_, .greatest_mtu = kGreatestMtu});
      !possible)
    return possible;
  if (options_.bad)
    return pci::refuse("bad=1: virtio has no frames with a bad CRC or length to deliver", "leave bad=1 out");
  if (options_.crc)
    return pci::refuse("crc=1: frames come to virtio without a CRC that could be kept", "leave crc=1 out");
  if (options_.moderation_us > 0 && !has(feature::NOTF_COAL))
    return pci::refuse(
        fmt::format("moderation={}: this virtio device cannot keep its interrupts apart (it does not "
                    "offer VIRTIO_NET_F_NOTF_COAL)",
                    options_.moderation_us),
        "use moderation=auto or moderation=off: they come as they do");
  return {};
}

// A power of two, which split rings need; as many as the device has, if it has fewer.
uint32_t VirtioPort::ring_size(uint32_t queue, uint32_t wanted) {
  const uint32_t size = std::min({device_.queue_size(queue), wanted, 32768u});
  return size < kLeastSize ? 0 : std::bit_floor(size);
}

Result<void> VirtioPort::make_queues() {
  for (uint32_t number = 0; number < options_.queues; ++number) {
    if (Result<void> made = make_receive(number); !made) return made;
  }
  if (options_.transmit) {
    if (Result<void> made = make_transmit(); !made) return made;
  }
  if (!has(feature::CTRL_VQ)) return {};
  control_size_ = ring_size(control_queue(), kControlDescriptors);
  if (control_size_ == 0) return fail(Code::kSystem, "it has no control queue, and says that it has");
  Result<std::unique_ptr<Control>> control =
      make_control(*function_, control_size_, has(feature::RING_PACKED));
  if (!control) return std::unexpected(control.error());
  control_ = std::move(*control);
  return {};
}

Result<void> VirtioPort::make_receive(uint32_t number) {
  const uint32_t size = ring_size(receive_queue(number), options_.descriptors);
  if (size == 0) return fail(Code::kSystem, fmt::format("it has no receive queue {}", number));
  const bool line = interrupt_ == pci::Interrupt::kIntx;
  const bool alone = !has_vector(number) && (own_vectors_ || interrupt_ == pci::Interrupt::kNone);
  const ReceiveSettings settings{.number = number,
                                 .descriptors = size,
                                 .buffer_need = buffer_need(),
                                 .merges = has(feature::MRG_RXBUF),
                                 .function = function_.get(),
                                 .vector = alone          ? -1
                                           : own_vectors_ ? static_cast<int>(number)
                                                          : 0,
                                 .line = line ? &device_ : nullptr,
                                 .event_fd = link_event_.get()};
  auto queue = has(feature::RING_PACKED) ? VirtioReceiveQueue<PackedRing>::make(settings)
                                         : VirtioReceiveQueue<SplitRing>::make(settings);
  if (!queue) return std::unexpected(queue.error());
  receive_.push_back(queue->get());
  if (wakes(number))
    statistics_.push_back({pci::moderation_us_name(number),
                           static_cast<uint64_t>(std::max<int64_t>(options_.moderation_us, 0))});
  queues_.push_back(std::move(*queue));
  return {};
}

Result<void> VirtioPort::make_transmit() {
  transmit_size_ = ring_size(kTransmitQueue, kTransmitDescriptors);
  if (transmit_size_ == 0) return fail(Code::kSystem, "it has no transmit queue");
  const TransmitSettings settings{.descriptors = transmit_size_,
                                  .longest = kGreatestMtu + kTwoTags,
                                  .function = function_.get(),
                                  .event_fd = link_event_.get()};
  auto queue = has(feature::RING_PACKED) ? VirtioTransmitQueue<PackedRing>::make(settings)
                                         : VirtioTransmitQueue<SplitRing>::make(settings);
  if (!queue) return std::unexpected(queue.error());
  transmit_ = std::move(*queue);
  return {};
}

uint32_t VirtioPort::buffer_need() const {
  return std::max(2048u, std::bit_ceil(options_.mtu + kTwoTags + VirtioReceive::kLastStart));
}

void VirtioPort::set_receive_arena(pci::Iova arena) {
  for (VirtioReceive* queue : receive_) queue->set_arena(arena);
}

bool VirtioPort::armed() const {
  return std::ranges::all_of(receive_, [](const VirtioReceive* queue) { return queue->armed(); });
}

// ---- bring up: "Device Initialization" ---------------------------------------------------------------

Result<void> VirtioPort::bring_up() {
  Result<void> done = reset();
  if (done) done = negotiate();
  if (done) done = enable_queues();
  if (done) done = go();
  if (!done) static_cast<void>(reset());
  return done;
}

// The device's reset first: with bus mastering off it could not tell of the end of what it is at.
Result<void> VirtioPort::reset() {
  if (device_.absent()) return std::unexpected(lost());
  Result<void> done = device_.reset();
  if (Result<void> off = function_->set_bus_master(false); !off) return off;
  return done;
}

Result<void> VirtioPort::negotiate() {
  const Result<uint64_t> offered = device_.offered();
  if (!offered) return std::unexpected(offered.error());
  return device_.negotiate(features_);
}

Result<void> VirtioPort::enable_queues() {
  bells_.clear();
  Result<void> done = device_.set_configuration_vector(own_vectors_ ? link_vector_ : kNoVector);
  // One vector of MSI-X for everything is the queue's.
  const bool shared = interrupt_ == pci::Interrupt::kMsix && !own_vectors_;
  for (uint32_t number = 0; done && number < receive_.size(); ++number) {
    done = enable(receive_queue(number), receive_[number]->descriptors(), receive_[number]->prepare(),
                  has_vector(number) || shared ? number : kNoVector);
  }
  if (done && transmit_) done = enable(kTransmitQueue, transmit_size_, transmit_->prepare(), kNoVector);
  if (done && control_) done = enable(control_queue(), control_size_, control_->prepare(), kNoVector);
  return done;
}

Result<void> VirtioPort::enable(uint32_t queue, uint32_t size, const RingAddresses& ring, uint32_t vector) {
  const Result<Doorbell> bell = device_.enable_queue(queue, size, ring, vector);
  if (!bell) return std::unexpected(bell.error());
  bells_.push_back(*bell);
  return {};
}

// Doorbells may be rung once the device goes: so the rings are offered to their threads after it.
Result<void> VirtioPort::go() {
  // Until here the device could not reach memory, whatever state it was in.
  if (Result<void> on = function_->set_bus_master(true); !on) return on;
  device_.go();
  size_t next = 0;
  for (VirtioReceive* queue : receive_) queue->offer(bells_[next++]);
  if (transmit_) transmit_->offer(bells_[next++]);
  if (control_) control_->offer(bells_[next++]);
  return tell_device();
}

// ---- what it is told: "Control Virtqueue" ------------------------------------------------------------

Result<void> VirtioPort::tell_device() {
  if (has(feature::CTRL_RX)) {
    constexpr uint8_t kOn[] = {1};
    for (const uint8_t which : {control::RX_PROMISC, control::RX_ALLMULTI}) {
      if (!control_->command(control::RX, which, kOn))
        return fail(Code::kSystem, "it refuses to receive frames for all addresses (promiscuous mode)");
    }
  }
  if (Result<void> done = moderate(); !done) return done;
  return spread();
}

// "Notifications Coalescing" (version 1.3). After a reset nothing keeps them apart, and "auto" leaves it at
// that: only the control thread could change it. Not so long that the ring fills: half of it ends the wait.
Result<void> VirtioPort::moderate() {
  if (options_.moderation_us <= 0) return {};
  std::vector<uint8_t> data;
  put32(data, receive_[0]->descriptors() / 2);
  put32(data, static_cast<uint32_t>(options_.moderation_us));
  if (control_->command(control::NOTF_COAL, control::NOTF_COAL_RX_SET, data)) return {};
  return fail(Code::kSystem, fmt::format("it refuses moderation={}, and says that it can keep its interrupts "
                                         "apart",
                                         options_.moderation_us));
}

// "Receive-side scaling (RSS)" where the device has it; else "Automatic receive steering in multiqueue mode".
Result<void> VirtioPort::spread() {
  if (queue_count() == 1) return {};
  std::vector<uint8_t> pairs;
  put16(pairs, queue_count());
  const bool done = has(feature::RSS) ? control_->command(control::MQ, control::MQ_RSS_CONFIG, rss_command())
                                      : control_->command(control::MQ, control::MQ_VQ_PAIRS_SET, pairs);
  if (done) return {};
  return fail(Code::kSystem, fmt::format("it refuses to spread frames over {} queues", queue_count()));
}

// struct virtio_net_rss_config
std::vector<uint8_t> VirtioPort::rss_command() const {
  std::vector<uint8_t> command;
  put32(command, kHashes & device_.read_net(net::supported_hash_types, 4));
  put16(command, pci::kRssTableEntries - 1);
  put16(command, 0);  // what has no hash goes to queue 0
  for (uint32_t entry = 0; entry < pci::kRssTableEntries; ++entry)
    put16(command, pci::rss_queue(entry, queue_count()));
  put16(command, queue_count());  // pairs that may send
  command.push_back(static_cast<uint8_t>(rss_key_.size()));
  command.insert(command.end(), rss_key_.begin(), rss_key_.end());
  return command;
}

// ---- the end, link, remarks --------------------------------------------------------------------------

void VirtioPort::quiesce() { static_cast<void>(reset()); }

Link VirtioPort::read_link() {
  const bool up = !has(feature::STATUS) || (device_.read_net(net::status, 2) & net::LINK_UP);
  const uint32_t mbps = has(feature::SPEED_DUPLEX) && up ? device_.read_net(net::speed, 4) : 0;
  return {.up = up, .present = true, .mbps = mbps == ~0u ? 0 : mbps};
}

bool VirtioPort::broken() const {
  const bool nonsense =
      std::ranges::any_of(receive_, [](const VirtioReceive* queue) { return queue->broken(); });
  return nonsense || (transmit_ && transmit_->broken()) || (running_ && device_.needs_reset());
}

std::string VirtioPort::remark() const {
  std::string text;
  const auto add = [&](const std::string& sentence) { text += (text.empty() ? "" : "; ") + sentence; };
  if (receive_[0]->descriptors() < options_.descriptors)
    add(fmt::format("{} descriptors a queue, the most that this device has", receive_[0]->descriptors()));
  if (!has(feature::CTRL_RX))
    add("the device cannot be told to deliver frames for all addresses: it delivers what it wants to");
  if (has(feature::RSS)) add(pci::rss_remark(rss_key_, queue_count()));
  if (queue_count() > 1 && !has(feature::RSS))
    add(fmt::format("{} receive queues: which frame comes through which is the host's choice",
                    queue_count()));
  return text;
}

}  // namespace ringcap::virtio

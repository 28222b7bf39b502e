#include "libcap/client/sender.h"

#include <fmt/format.h>
#include <poll.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <charconv>
#include <cstring>
#include <ctime>

#include "capture/base/fence.h"
#include "capture/base/monotonic.h"
#include "capture/base/run_dir.h"
#include "capture/layout/view.h"
#include "libcap/client/client.h"

namespace ringcap::client {
namespace {

constexpr uint32_t kShortest = 14;    // an Ethernet header
constexpr long kNapNs = 50'000;       // between looks for room
constexpr uint64_t kSpinNs = 20'000;  // before the first nap
constexpr uint64_t kMillisecond = 1'000'000;

void nap() {
  const timespec pause{0, kNapNs};
  ::nanosleep(&pause, nullptr);
}

// Whether the time of somebody who has waited since `start` is over.
bool late(uint64_t start_ns, int timeout_ms) {
  return timeout_ms >= 0 && monotonic_ns() - start_ns >= static_cast<uint64_t>(timeout_ms) * kMillisecond;
}

}  // namespace

Result<std::unique_ptr<Sender>> Sender::open(const std::string& engine, const SenderOptions& options) {
  auto joined = join_as_sender(engine, options.program);
  if (!joined) return std::unexpected(joined.error());
  std::unique_ptr<Sender> sender(new Sender);
  sender->socket_ = std::move(joined->socket);
  sender->watched_ = sender->socket_.get();
  sender->state_ = std::move(joined->state);
  sender->header_ = sender->state_.at<const layout::Header>(0);
  auto port = find_port(sender->header(), options.port);
  if (!port) return std::unexpected(port.error());
  auto answer = ask_to_send(sender->socket_.get(), *port, options.frames);
  if (!answer) return std::unexpected(answer.error());
  if (auto taken = sender->take(std::move(*answer)); !taken) return std::unexpected(taken.error());
  return sender;
}

Result<std::unique_ptr<Sender>> Sender::open(Client& consumer, const SenderOptions& options) {
  std::unique_ptr<Sender> sender(new Sender);
  sender->header_ = &consumer.header();
  sender->watched_ = consumer.socket();
  auto port = find_port(sender->header(), options.port);
  if (!port) return std::unexpected(port.error());
  auto answer = consumer.ask_to_send(*port, options.frames);
  if (!answer) return std::unexpected(answer.error());
  if (auto taken = sender->take(std::move(*answer)); !taken) return std::unexpected(taken.error());
  return sender;
}

// A connection of our own tells the engine by closing; a consumer's goes on.
Sender::~Sender() {
  if (socket_ || granted_.id == 0 || ::getpid() != opened_by_) return;  // a forked child leaves it open
  [[maybe_unused]] const auto sent = message::send(watched_, message::encode_send_close(granted_.id));
}

// By number, or by address.
Result<uint32_t> Sender::find_port(const layout::Header& header, const std::string& port) {
  if (port.empty()) return message::kAnyPort;
  uint32_t number = 0;
  const char* const end = port.data() + port.size();
  if (const auto [last, error] = std::from_chars(port.data(), end, number);
      error == std::errc{} && last == end)
    return number;
  std::string known;
  for (uint32_t i = 0; i < header.ports.count; ++i) {
    const auto& entry = layout::entry<layout::PortEntry>(header, header.ports, i);
    const std::string address(entry.address, strnlen(entry.address, sizeof entry.address));
    if (address == port) return i;
    known += (known.empty() ? "" : ", ") + address;
  }
  return fail(Code::kNotFound, fmt::format("engine {} has no port {}", header.name, port),
              fmt::format("it has {}", known));
}

Result<void> Sender::take(message::Received answer) {
  auto granted = message::parse_send_granted(answer.bytes);
  if (!granted) return std::unexpected(message::parse_error(answer.bytes));
  granted_ = *granted;
  if (answer.fds.size() != 2 || !std::has_single_bit(granted_.slots) ||
      granted_.slots > layout::kMaxSendSlots || granted_.entry >= header().senders.count)
    return fail(Code::kVersion, "the engine did not send the memory that belongs to the answer");
  auto memory = Mapping::map(answer.fds[0].get(), layout::send_bytes(granted_.slots, granted_.slot_bytes),
                             Mapping::Access::kReadWrite, "the memory to send from");
  if (!memory) return std::unexpected(memory.error());
  memory_ = std::move(*memory);
  bell_ = std::move(answer.fds[1]);
  return {};
}

bool Sender::port_is_gone() const {
  const auto& entry = layout::entry<layout::PortEntry>(header(), header().ports, granted_.port);
  return entry.present.load(std::memory_order_relaxed) == 0;
}

const layout::SenderEntry& Sender::entry() const {
  return layout::entry<layout::SenderEntry>(header(), header().senders, granted_.entry);
}

// Slots that the engine has read; it writes `consumed` when the frame is copied.
uint64_t Sender::room() const {
  return granted_.slots - (produced_ - entry().consumed.load(std::memory_order_acquire));
}

// The engine has thrown us out, or closed us because another process did.
bool Sender::closed() const {
  const auto state = static_cast<layout::SenderState>(entry().state.load(std::memory_order_acquire));
  return state == layout::SenderState::kFree || entry().id.load(std::memory_order_relaxed) != granted_.id;
}

bool Sender::over() const {
  const auto state = static_cast<layout::EngineState>(header().state.load(std::memory_order_acquire));
  if (state == layout::EngineState::kEnded || closed()) return true;
  pollfd wait{watched_, 0, 0};
  return ::poll(&wait, 1, 0) != 0 && (wait.revents & (POLLHUP | POLLERR | POLLNVAL)) != 0;
}

Error Sender::gone() const {
  if (closed() &&
      header().state.load(std::memory_order_acquire) != static_cast<uint32_t>(layout::EngineState::kEnded))
    return {Code::kGone, fmt::format("engine {} has closed this sender", header().name), "open it again"};
  return {Code::kGone, fmt::format("engine {} has ended", header().name), "start it again: ringcap up"};
}

void Sender::queue(std::span<const std::byte> frame) {
  const auto slot = static_cast<uint32_t>(produced_ & (granted_.slots - 1));
  const layout::SendRequest request{slot * granted_.slot_bytes, static_cast<uint32_t>(frame.size())};
  std::memcpy(memory_.data() + layout::send_frames_offset(granted_.slots) + request.offset, frame.data(),
              frame.size());
  uint64_t word = 0;
  std::memcpy(&word, &request, sizeof word);
  memory_.at<std::atomic<uint64_t>>(sizeof(layout::SendLine))[slot].store(word, std::memory_order_relaxed);
  ++produced_;
}

// Pairs with Forwarder::sleep(): either the forwarder sees what we ask for, or we see that it sleeps.
void Sender::publish() {
  memory_.at<layout::SendLine>(0)->produced.store(produced_, std::memory_order_release);
  full_fence();
  if (entry().sleeps.load(std::memory_order_relaxed) == 0) return;
  const uint64_t one = 1;
  [[maybe_unused]] const auto written = ::write(bell_.get(), &one, sizeof one);
}

Result<uint32_t> Sender::send(std::span<const std::span<const std::byte>> frames, int timeout_ms) {
  const uint64_t start = monotonic_ns();
  uint32_t queued = 0;
  while (queued < frames.size()) {
    uint64_t room_left = room();
    const uint32_t before = queued;
    for (; room_left != 0 && queued < frames.size(); --room_left, ++queued) {
      const auto frame = frames[queued];
      if (frame.size() < kShortest || frame.size() > granted_.slot_bytes) {
        publish();
        return fail(Code::kUsage, fmt::format("a frame of {} bytes cannot be sent: {} to {} bytes can",
                                              frame.size(), kShortest, granted_.slot_bytes));
      }
      queue(frame);
    }
    if (queued != before) publish();
    if (queued == frames.size()) break;
    if (over()) return std::unexpected(gone());
    if (late(start, timeout_ms)) break;
    if (monotonic_ns() - start > kSpinNs) nap();
  }
  return queued;
}

Result<bool> Sender::flush(int timeout_ms) {
  const uint64_t start = monotonic_ns();
  for (;;) {
    const bool read = room() == granted_.slots;
    if (read && stats().pending == 0) return true;
    if (over()) return std::unexpected(gone());
    if (late(start, timeout_ms)) return false;
    nap();
  }
}

}  // namespace ringcap::client

#include "tools/outlet.h"

#include <fmt/format.h>
#include <poll.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>

#include "capture/base/monotonic.h"
#include "capture/memory/arena.h"
#include "capture/port/port.h"
#include "driver/ports/open.h"
#include "libcap/client/sender.h"

namespace ringcap::tools {
namespace {

constexpr uint32_t kFrames = 256;  // in one go
constexpr uint64_t kLinkNs = 10'000'000'000;
constexpr uint64_t kPiece = uint64_t{2} << 20;

class PortOutlet final : public Outlet {
 public:
  ~PortOutlet() override {
    if (started_) port_->stop();
  }
  static Result<std::unique_ptr<Outlet>> open(const PortAddress& address, uint64_t arena_bytes);

  bool add(std::span<const std::byte> frame) override;
  Result<bool> push() override;
  Result<bool> finish(int patience_ms) override;
  OutletCounts counts() const override {
    const uint64_t refused = queue_->refused() + unfit_;
    return {.sent = completed_ - queue_->refused(), .refused = refused};
  }
  uint32_t longest() const override { return port_->mtu() + 14; }
  std::string name() const override { return port_->address(); }

 private:
  Result<void> prepare(const PortAddress& address, uint64_t arena_bytes);
  Result<void> start();
  void collect();

  memory::Arena arena_;  // outlives the port
  std::unique_ptr<Port> port_;
  TransmitQueue* queue_ = nullptr;
  Region region_;  // to send from
  FreeBuffers free_;
  std::vector<TransmitFrame> staged_;
  FreeBuffers receive_free_;
  bool started_ = false;
  uint64_t given_ = 0, completed_ = 0, unfit_ = 0, refused_ = 0;
};

Result<std::unique_ptr<Outlet>> PortOutlet::open(const PortAddress& address, uint64_t arena_bytes) {
  auto port = open_port(address, {.sends = true});
  if (!port) return std::unexpected(port.error());
  std::unique_ptr<PortOutlet> outlet(new PortOutlet);
  outlet->port_ = std::move(*port);
  if (outlet->port_->transmit_queues().empty())
    return fail(Code::kUsage, fmt::format("{} cannot send", outlet->port_->address()),
                "vfio:, tap: and packet: ports can");
  outlet->queue_ = outlet->port_->transmit_queues().front();
  if (auto prepared = outlet->prepare(address, arena_bytes); !prepared)
    return std::unexpected(prepared.error());
  return outlet;
}

// The arena: buffers to send from, and at its end what a NIC needs to receive into while it is up.
Result<void> PortOutlet::prepare(const PortAddress& address, uint64_t arena_bytes) {
  const bool nic = address.kind == PortKind::kVfio;
  auto arena = memory::Arena::create({.kind = nic ? layout::MemoryKind::kMemfd : layout::MemoryKind::kPlain,
                                      .bytes = arena_bytes,
                                      .engine = "send"});
  if (!arena) return std::unexpected(arena.error());
  arena_ = std::move(*arena);
  if (auto done = port_->prepare({arena_.data(), arena_.bytes()}); !done) return done;
  const uint32_t buffer = std::max(2048u, std::bit_ceil(port_->buffer_need()));
  uint64_t received = 0;
  for (const auto& queue : port_->receive_queues()) received += queue->descriptors();
  const uint64_t kept = nic ? (received * buffer + kPiece - 1) / kPiece * kPiece : 0;
  if (kept + kPiece > arena_.bytes())
    return fail(Code::kUsage,
                fmt::format("{} MiB are too little for {}", arena_.bytes() >> 20, port_->address()),
                fmt::format("--memory {}M, or fewer descriptors=", ((kept + kPiece) >> 20) + 1));
  region_ = {arena_.data(), 0, buffer, static_cast<uint32_t>((arena_.bytes() - kept) / buffer), 0};
  free_ = FreeBuffers(region_.count);
  for (uint32_t i = region_.count; i > 0; --i) free_.push(i - 1);
  if (!nic) return {};
  const uint64_t at = arena_.bytes() - kept;
  const Region behind{arena_.data() + at, at, buffer, static_cast<uint32_t>(kept / buffer), 0};
  receive_free_ = FreeBuffers(behind.count);
  for (uint32_t i = behind.count; i > 0; --i) receive_free_.push(i - 1);
  for (const auto& queue : port_->receive_queues())
    if (auto armed = queue->arm(behind, receive_free_); !armed) return armed;
  return start();
}

// A NIC sends when it is up; what is sent by the kernel needs no start (and would only receive).
Result<void> PortOutlet::start() {
  if (auto started = port_->start(); !started) return started;
  started_ = true;
  const uint64_t began = monotonic_ns();
  while (!port_->link().up) {
    if (!port_->link().present) return fail(Code::kSystem, fmt::format("{} is gone", port_->address()));
    if (monotonic_ns() - began > kLinkNs)
      return fail(Code::kSystem, fmt::format("{} has no link", port_->address()), "is its cable in?");
    pollfd event{port_->event_fd(), POLLIN, 0};
    ::poll(&event, event.fd >= 0 ? 1 : 0, 10);
    port_->handle_event();
  }
  return {};
}

void PortOutlet::collect() {
  std::array<uint32_t, kFrames> done;
  for (;;) {
    const uint32_t count = queue_->completed(done);
    for (uint32_t i = 0; i < count; ++i) free_.push(done[i]);
    completed_ += count;
    if (count < done.size()) return;
  }
}

bool PortOutlet::add(std::span<const std::byte> frame) {
  if (frame.size() < kShortest || frame.size() > region_.buffer_bytes) {
    ++unfit_;
    return true;
  }
  if (free_.empty()) collect();
  if (free_.empty()) return false;
  const uint32_t buffer = free_.pop();
  std::memcpy(region_.buffer(buffer), frame.data(), frame.size());
  staged_.push_back({.data = region_.buffer(buffer),
                     .arena_offset = region_.arena_offset + uint64_t{buffer} * region_.buffer_bytes,
                     .length = static_cast<uint32_t>(frame.size()),
                     .cookie = buffer});
  return true;
}

Result<bool> PortOutlet::push() {
  if (staged_.empty()) return true;
  const uint32_t taken = queue_->transmit(staged_);
  staged_.erase(staged_.begin(), staged_.begin() + taken);
  given_ += taken;
  collect();
  const bool refuses = queue_->refused() != refused_;
  refused_ = queue_->refused();
  if (taken != 0 && !refuses) return true;
  port_->handle_event();
  if (!port_->link().present) return fail(Code::kGone, fmt::format("{} is gone", port_->address()));
  return taken != 0;
}

Result<bool> PortOutlet::finish(int patience_ms) {
  uint64_t progress = monotonic_ns(), seen = completed_;
  for (;;) {
    if (auto pushed = push(); !pushed) return pushed;
    collect();
    if (staged_.empty() && completed_ == given_) return true;
    if (completed_ != seen) progress = monotonic_ns();
    seen = completed_;
    if (monotonic_ns() - progress > static_cast<uint64_t>(patience_ms) * 1'000'000) return false;
  }
}

class EngineOutlet final : public Outlet {
 public:
  EngineOutlet(std::unique_ptr<client::Sender> sender, std::string name)
      : sender_(std::move(sender)), name_(std::move(name)) {}

  bool add(std::span<const std::byte> frame) override {
    if (frame.size() < kShortest || frame.size() > sender_->longest()) {
      ++unfit_;
      return true;
    }
    const auto sent = sender_->send({&frame, 1}, 0);
    if (!sent) error_ = sent.error();
    return sent && *sent == 1;
  }
  // Each frame is on its way when it is added.
  Result<bool> push() override {
    if (!error_.text.empty()) return std::unexpected(error_);
    if (sender_->port_is_gone()) return fail(Code::kGone, fmt::format("the port of {} is gone", name_));
    return true;
  }
  Result<bool> finish(int patience_ms) override { return sender_->flush(patience_ms); }
  OutletCounts counts() const override {
    const auto stats = sender_->stats();
    return {.sent = stats.sent, .refused = stats.refused + stats.dropped + unfit_};
  }
  uint32_t longest() const override { return sender_->longest(); }
  std::string name() const override { return name_; }

 private:
  std::unique_ptr<client::Sender> sender_;
  std::string name_;
  uint64_t unfit_ = 0;
  Error error_;
};

}  // namespace

Result<std::unique_ptr<Outlet>> open_port_outlet(const PortAddress& port, uint64_t arena_bytes) {
  return PortOutlet::open(port, arena_bytes);
}

Result<std::unique_ptr<Outlet>> open_engine_outlet(const std::string& engine, const std::string& port) {
  auto sender = client::Sender::open(engine, {.port = port, .frames = layout::kMaxSendSlots, .program = {}});
  if (!sender) return std::unexpected(sender.error());
  return std::make_unique<EngineOutlet>(std::move(*sender), fmt::format("engine {}", engine));
}

}  // namespace ringcap::tools

#include "capture/engine/forwarders.h"

#include <fmt/format.h>
#include <grp.h>
#include <spdlog/spdlog.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <bit>

#include "capture/base/monotonic.h"
#include "capture/layout/view.h"

namespace ringcap::engine {
namespace {

constexpr uint32_t kDefaultSendSlots = 512;
constexpr uint32_t kMaxPeerGroups = 256;
constexpr uint64_t kLogLossNs = 10'000'000'000;

uint32_t transmit_queues(const std::vector<Port*>& ports, uint32_t port) {
  return static_cast<uint32_t>(ports[port]->transmit_queues().size());
}

bool in_group(int socket, const ucred& peer, uint32_t group) {
  if (peer.gid == group) return true;
  gid_t groups[kMaxPeerGroups];
  socklen_t bytes = sizeof groups;
  if (::getsockopt(socket, SOL_SOCKET, SO_PEERGROUPS, groups, &bytes) != 0) return false;
  return std::ranges::find(groups, groups + bytes / sizeof *groups, group) != groups + bytes / sizeof *groups;
}

}  // namespace

std::vector<std::pair<uint32_t, uint32_t>> send_places(const std::vector<Port*>& ports) {
  std::vector<std::pair<uint32_t, uint32_t>> places;
  for (uint32_t port = 0; port < ports.size(); ++port)
    for (uint32_t queue = 0; queue < transmit_queues(ports, port); ++queue) places.emplace_back(port, queue);
  return places;
}

std::vector<StateForwarder> forward_lines(const std::vector<Forward>& forwards,
                                          const std::vector<Port*>& ports,
                                          const std::vector<StateSource>& sources) {
  std::vector<StateForwarder> lines;
  for (uint32_t f = 0; f < forwards.size(); ++f) {
    const uint32_t queues = std::max(1u, transmit_queues(ports, forwards[f].to));
    for (const StateSource& source : sources) {
      if (source.port != forwards[f].from) continue;
      lines.push_back({.from = forwards[f].from,
                       .to = forwards[f].to,
                       .worker = source.worker,
                       .slot = layout::kMaxConsumers - 1 - f,
                       .queue = source.queue % queues});
    }
  }
  return lines;
}

Result<void> check_forwards(const std::vector<Forward>& forwards, const std::vector<Port*>& ports) {
  if (forwards.size() > kMaxForwards)
    return fail(Code::kUsage, fmt::format("{} pairs of ports to forward between: at most {}", forwards.size(),
                                          kMaxForwards));
  for (size_t i = 0; i < forwards.size(); ++i) {
    const Forward& f = forwards[i];
    if (f.from == f.to)
      return fail(Code::kUsage, fmt::format("{} would be sent back to itself: a frame never goes to the port "
                                            "that it came from",
                                            ports[f.from]->address()));
    if (transmit_queues(ports, f.to) == 0)
      return fail(Code::kUsage, fmt::format("{} cannot send", ports[f.to]->address()),
                  "bridge to a vfio:, tap: or packet: port");
    if (ports[f.from]->keeps_crc())
      return fail(Code::kUsage,
                  fmt::format("{} keeps each frame's CRC, which would be sent on as a part of it",
                              ports[f.from]->address()),
                  "leave crc=1 out");
    if (ports[f.from]->link_type() != ports[f.to]->link_type())
      return fail(Code::kUsage, fmt::format("the frames of {} and of {} are of different link types",
                                            ports[f.from]->address(), ports[f.to]->address()));
    for (size_t j = 0; j < i; ++j)
      if (forwards[j].from == f.from && forwards[j].to == f.to)
        return fail(Code::kUsage, fmt::format("{} is forwarded to {} twice", ports[f.from]->address(),
                                              ports[f.to]->address()));
  }
  return {};
}

Result<std::unique_ptr<Forwarders>> Forwarders::create(ForwardersSetup setup) {
  std::unique_ptr<Forwarders> forwarders(new Forwarders(std::move(setup)));
  if (auto made = forwarders->make(); !made) return std::unexpected(made.error());
  return forwarders;
}

Result<void> Forwarders::make() {
  losses_.resize(setup_.forwards.size());
  lines_ = forward_lines(setup_.forwards, setup_.ports, setup_.sources);
  for (const StateForwarder& line : lines_)
    rings_.push_back(make_ring(line, layout::kMaxConsumers - 1 - line.slot));
  for (const auto& [port, queue] : send_places(setup_.ports))
    if (auto made = make_place(port, queue); !made) return made;
  return {};
}

Forwarders::Ring Forwarders::make_ring(const StateForwarder& line, uint32_t forward) {
  Ring ring;
  ring.forward = forward;
  ring.worker = line.worker;
  ring.slots.reset(new layout::Descriptor[setup_.ring_slots]());
  ring.line = std::make_unique<layout::RingLine>();
  ring.control = std::make_unique<layout::ControlLine>();
  ring.line->head.store(layout::kFirstPosition, std::memory_order_relaxed);
  ring.control->cursor.store(layout::kFirstPosition, std::memory_order_relaxed);
  ring.taker = std::make_unique<TakerRing>();
  ring.taker->slots = ring.slots.get();
  ring.taker->line = ring.line.get();
  ring.taker->control = ring.control.get();
  ring.taker->buffers.reset(new uint32_t[setup_.ring_slots]);
  ring.taker->mask = setup_.ring_slots - 1;
  ring.taker->slot = line.slot;
  return ring;
}

// The thread of one transmit queue, with the rings that end there; none where there is nothing to send.
Result<void> Forwarders::make_place(uint32_t port, uint32_t queue) {
  ForwarderSetup setup;
  int pair[2];
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) != 0)
    return fail_system("cannot make a socket pair for a forwarder");
  setup.wake_socket = Fd(pair[0]);
  Fd wake(pair[1]);
  for (size_t i = 0; i < lines_.size(); ++i) {
    if (lines_[i].to != port || lines_[i].queue != queue) continue;
    Ring& ring = rings_[i];
    ring.taker->wake_socket = wake.get();
    setup.rings.push_back({.slots = ring.slots.get(),
                           .line = ring.line.get(),
                           .control = ring.control.get(),
                           .mask = ring.taker->mask,
                           .entry = &setup_.state->forwarder(static_cast<uint32_t>(i))});
  }
  if (setup.rings.size() > Forwarder::kMaxRings)
    return fail(Code::kUsage,
                fmt::format("{} receive queues are to be sent on one queue of {}: at most {}",
                            setup.rings.size(), setup_.ports[port]->address(), Forwarder::kMaxRings));
  if (setup.rings.empty() && !setup_.send) return {};
  if (setup_.send) setup.region = setup_.send_regions[places_.size()];
  setup.queue = setup_.ports[port]->transmit_queues()[queue];
  setup.arena = setup_.arena;
  setup.poll = setup_.poll;
  setup.thread_name = fmt::format("forwarder {}.{}", port, queue);
  Place place{.port = port, .queue = queue, .forwarder = {}, .wake_socket = std::move(wake), .thread = {}};
  place.forwarder = std::make_unique<Forwarder>(std::move(setup));
  places_.push_back(std::move(place));
  return {};
}

void Forwarders::start() {
  for (Place& place : places_) place.thread = std::thread([f = place.forwarder.get()] { f->run(); });
}

void Forwarders::stop() {
  for (Place& place : places_) place.forwarder->request_stop();
  for (Place& place : places_)
    if (place.thread.joinable()) place.thread.join();
}

void Forwarders::fill(Plan& plan) const {
  for (const Ring& ring : rings_) {
    plan.rings[ring.worker].push_back(ring.taker.get());
    plan.takers[ring.worker].push_back(
        {ring.taker.get(), filter_index(plan, setup_.forwards[ring.forward].filter)});
  }
}

// ---- senders -------------------------------------------------------------------------------------

Result<void> Forwarders::may_send(int socket, const ucred& peer) const {
  if (!setup_.send)
    return fail(Code::kPermission, fmt::format("engine {} lets nobody send", setup_.engine),
                "start it with --send-group GROUP");
  if (peer.uid == 0 || peer.uid == ::geteuid()) return {};
  if (setup_.send->group && in_group(socket, peer, *setup_.send->group)) return {};
  const group* named = setup_.send->group ? ::getgrgid(*setup_.send->group) : nullptr;
  return fail(Code::kPermission,
              fmt::format("uid {} may not send through engine {}: only root, the engine's user and the group "
                          "of its --send-group ({}) may",
                          peer.uid, setup_.engine, named != nullptr ? named->gr_name : "nobody's"),
              "become a member of that group, or start the engine with another --send-group");
}

Result<Forwarders::Place*> Forwarders::place_for(const message::SendOpen& open) {
  if (open.port != message::kAnyPort && open.port >= setup_.ports.size())
    return fail(Code::kUsage, fmt::format("engine {} has no port {}: its ports are 0 to {}", setup_.engine,
                                          open.port, setup_.ports.size() - 1));
  std::vector<Place*> queues;
  for (Place& place : places_) {
    const bool wanted = open.port == message::kAnyPort ? queues.empty() || place.port == queues[0]->port
                                                       : place.port == open.port;
    if (wanted) queues.push_back(&place);
  }
  if (queues.empty())
    return fail(Code::kUsage,
                open.port == message::kAnyPort
                    ? fmt::format("engine {} has no port that can send", setup_.engine)
                    : fmt::format("{} cannot send", setup_.ports[open.port]->address()),
                "vfio:, tap: and packet: ports can");
  return queues[open.cpu % queues.size()];
}

Result<uint32_t> Forwarders::free_entry() {
  for (uint32_t i = 0; i < layout::kMaxSenders; ++i)
    if (std::ranges::none_of(senders_, [i](const auto& open) { return open.second.entry == i; })) return i;
  return fail(Code::kSystem, fmt::format("engine {} has {} senders already: no more fit", setup_.engine,
                                         layout::kMaxSenders));
}

Result<Forwarders::Grant> Forwarders::open_sender(const message::SendOpen& open, int socket,
                                                  const ucred& peer, const std::string& name) {
  tick();
  if (auto may = may_send(socket, peer); !may) return std::unexpected(may.error());
  auto place = place_for(open);
  if (!place) return std::unexpected(place.error());
  auto entry_number = free_entry();
  if (!entry_number) return std::unexpected(entry_number.error());
  const uint32_t slots = std::bit_ceil(std::clamp(open.slots == 0 ? kDefaultSendSlots : open.slots,
                                                  layout::kMinSendSlots, layout::kMaxSendSlots));
  const uint32_t slot_bytes = std::bit_ceil(setup_.ports[(*place)->port]->buffer_need());
  auto memory =
      memory::SharedMemory::create("ringcap-send-" + setup_.engine, layout::send_bytes(slots, slot_bytes));
  if (!memory) return std::unexpected(memory.error());
  memory->at<layout::SendLine>(0)->produced.store(layout::kFirstPosition, std::memory_order_relaxed);
  if (auto sealed = memory->seal_size(); !sealed) return std::unexpected(sealed.error());
  auto mapped = Mapping::map(memory->fd(), memory->bytes(), Mapping::Access::kRead, "a sender's memory");
  if (!mapped) return std::unexpected(mapped.error());

  auto& entry = setup_.state->sender(*entry_number);
  const uint64_t id = next_sender_++;
  {
    const layout::SequenceWrite writing(entry.sequence);
    entry.id.store(id, std::memory_order_relaxed);
    entry.state.store(static_cast<uint32_t>(layout::SenderState::kOpen), std::memory_order_relaxed);
    entry.pid = static_cast<uint32_t>(peer.pid);
    entry.uid = peer.uid;
    entry.port = (*place)->port;
    entry.queue = (*place)->queue;
    entry.slots = slots;
    put_name(entry.name, sizeof entry.name, name);
    for (auto* counter : {&entry.asked, &entry.refused, &entry.sent, &entry.dropped, &entry.pending,
                          &entry.limited, &entry.bytes, &entry.sleeps})
      counter->store(0, std::memory_order_relaxed);
    entry.consumed.store(layout::kFirstPosition, std::memory_order_relaxed);
  }
  auto sender = std::make_shared<Sender>(SenderSetup{.id = id,
                                                     .slots = slots,
                                                     .slot_bytes = slot_bytes,
                                                     .rate = setup_.send->rate,
                                                     .entry = &entry,
                                                     .memory = std::move(*mapped)});
  if (auto made = sender->make_bell(); !made) return std::unexpected(made.error());
  Grant grant{.granted = {.id = id,
                          .entry = *entry_number,
                          .port = (*place)->port,
                          .slots = slots,
                          .slot_bytes = slot_bytes},
              .memory = memory->release_fd(),
              .bell = sender->bell()};
  spdlog::info("{} may send on {}, queue {}", name, setup_.ports[(*place)->port]->address(), (*place)->queue);
  senders_[id] = {sender, *entry_number, name};
  (*place)->forwarder->add(std::move(sender));
  return grant;
}

void Forwarders::close_sender(uint64_t id) {
  const auto found = senders_.find(id);
  if (found == senders_.end()) return;
  found->second.sender->close();
  for (Place& place : places_) place.forwarder->wake();
}

void Forwarders::log_losses(bool all) {
  const uint64_t now = monotonic_ns();
  for (uint32_t f = 0; f < setup_.forwards.size(); ++f) {
    Losses& last = losses_[f];
    if (!all && last.logged_at_ns != 0 && now - last.logged_at_ns < kLogLossNs) continue;
    Losses losses{.dropped = 0, .refused = 0, .logged_at_ns = now};
    for (uint32_t i = 0; i < lines_.size(); ++i) {
      if (rings_[i].forward != f) continue;
      losses.refused += setup_.state->forwarder(i).refused.load(std::memory_order_relaxed);
      losses.dropped +=
          layout::taker_block(setup_.state->header(), setup_.state->worker(lines_[i].worker), lines_[i].slot)
              .dropped.load(std::memory_order_relaxed);
    }
    if (losses.dropped == last.dropped && losses.refused == last.refused) continue;
    spdlog::warn(
        "from {} to {}: {} frames dropped (it is too slow for them), {} refused (cut, too long, or it is "
        "down)",
        setup_.ports[setup_.forwards[f].from]->address(), setup_.ports[setup_.forwards[f].to]->address(),
        losses.dropped - last.dropped, losses.refused - last.refused);
    last = losses;
  }
}

void Forwarders::tick(bool all) {
  log_losses(all);
  std::erase_if(senders_, [&](const auto& each) {
    const Open& open = each.second;
    if (!open.sender->gone()) return false;
    if (open.sender->misbehaved())
      spdlog::warn("{} may not send any more: its count of requests made no sense", open.name);
    auto& entry = setup_.state->sender(open.entry);
    const layout::SequenceWrite writing(entry.sequence);
    entry.state.store(static_cast<uint32_t>(layout::SenderState::kFree), std::memory_order_relaxed);
    return true;
  });
}

}  // namespace ringcap::engine

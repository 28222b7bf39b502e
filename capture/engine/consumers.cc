#include "capture/engine/consumers.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <algorithm>
#include <bit>

#include "capture/filter/machine_code.h"

namespace ringcap::engine {
namespace {

// Not compiled yet; nullptr for no instructions.
Result<std::shared_ptr<filter::Program>> program_of(const std::vector<filter::Instruction>& instructions) {
  if (instructions.empty()) return nullptr;
  auto program = filter::validate(instructions);
  if (!program) return std::unexpected(program.error());
  return std::make_shared<filter::Program>(std::move(*program));
}

}  // namespace

Consumers::Consumers(State& state, ConsumerLimits limits, std::string engine)
    : state_(state),
      limits_(limits),
      engine_(std::move(engine)),
      clusters_(state, limits.workers, limits.ports) {}

Consumer* Consumers::find(uint64_t id) {
  const auto found = consumers_.find(id);
  return found == consumers_.end() ? nullptr : found->second.get();
}

void Consumers::for_each(const std::function<void(Consumer&)>& visit) {
  for (auto& [id, consumer] : consumers_) visit(*consumer);
}

Result<uint32_t> Consumers::grant_slots(const message::Hello& hello) const {
  const uint32_t asked = hello.ring_slots != 0 ? hello.ring_slots : limits_.default_ring_slots;
  if (asked > layout::kMaxRingSlots)
    return fail(Code::kUsage,
                fmt::format("a ring of {} frames is too large: at most {}", asked, layout::kMaxRingSlots));
  const uint64_t left = limits_.slots - std::min(limits_.slots, slots_granted_);
  uint64_t slots = std::bit_ceil(std::max(asked, layout::kMinRingSlots));
  // Who asks for no particular size takes what is left; who does is told.
  if (slots > left && (hello.allow_smaller || hello.ring_slots == 0)) slots = std::bit_floor(left);
  if (slots <= left && slots >= layout::kMinRingSlots) return static_cast<uint32_t>(slots);
  const uint64_t more =
      (uint64_t{asked} - std::min<uint64_t>(asked, left)) * limits_.workers * limits_.buffer_bytes;
  const uint64_t fits = std::bit_floor(left);
  const std::string smaller =
      fits < layout::kMinRingSlots
          ? "end a consumer"
          : fmt::format("ask for a smaller ring (ringcap capture --consumer-ring {0}, ringcap up --ring {0})",
                        fits);
  return fail(
      Code::kSystem,
      fmt::format("engine {} has room for a ring of {} more frames per worker, {} were asked for", engine_,
                  left, asked),
      fmt::format("{}, or start the engine with a larger --arena ({} MiB more)", smaller, (more >> 20) + 1));
}

Result<uint32_t> Consumers::free_slot() const {
  std::vector<bool> used(layout::kMaxConsumers - limits_.forwards);
  for (const auto& [id, consumer] : consumers_) used[consumer->slot] = true;
  const auto free = std::ranges::find(used, false);
  if (free == used.end())
    return fail(Code::kSystem,
                fmt::format("engine {} has {} consumers already: no more fit", engine_, used.size()),
                "end one, or start another engine");
  return static_cast<uint32_t>(free - used.begin());
}

// Looked at before anything changes: who asks for nonsense keeps the filter that it has.
Result<void> Consumers::take_filter(const message::SetFilter& wanted, Consumer& c) const {
  auto incoming = program_of(wanted.filter);
  if (!incoming) return std::unexpected(incoming.error());
  auto outgoing = wanted.outgoing ? program_of(*wanted.outgoing) : incoming;
  if (!outgoing) return std::unexpected(outgoing.error());
  c.filter = {};
  c.filter_place = layout::FilterPlace::kNone;
  if (!*incoming && !*outgoing) return {};
  c.filter_place = layout::FilterPlace::kLibrary;  // evaluate it yourself
  for (const auto& program : {*incoming, *outgoing})
    if (program && program->instructions().size() > limits_.filter_budget) return {};
  for (const auto& program : {*incoming, *outgoing})
    if (program) filter::compile_or_say(*program, [](const std::string& text) { spdlog::warn("{}", text); });
  c.filter_place = layout::FilterPlace::kEngine;
  c.filter = {.incoming = std::move(*incoming), .outgoing = std::move(*outgoing)};
  return {};
}

Result<void> Consumers::set_filter(Consumer& c, const message::SetFilter& wanted) {
  if (auto taken = take_filter(wanted, c); !taken) return taken;
  if (c.seat != nullptr) c.seat->filter = c.filter;
  auto& entry = state_.consumer(c.slot);
  const layout::SequenceWrite writing(entry.sequence);
  entry.filter = static_cast<uint32_t>(c.filter_place);
  return {};
}

Result<void> Consumers::take_seat(const message::Hello& hello, const ucred& peer, Consumer& c) {
  if (hello.cluster.empty()) return {};
  auto seat = clusters_.join({.cluster = hello.cluster,
                              .member = hello.member,
                              .program = hello.program,
                              .kind = hello.kind,
                              .level = hello.level,
                              .uid = peer.uid,
                              .consumer = static_cast<uint16_t>(c.slot)});
  if (!seat) return std::unexpected(seat.error());
  c.seat = *seat;
  c.seat->filter = c.filter;
  return {};
}

Result<void> Consumers::make_memory(Consumer& c) {
  auto rings = memory::SharedMemory::create("ringcap-rings-" + engine_,
                                            layout::rings_bytes(limits_.workers, c.ring_slots));
  if (!rings) return std::unexpected(rings.error());
  auto control =
      memory::SharedMemory::create("ringcap-control-" + engine_, layout::control_bytes(limits_.workers));
  if (!control) return std::unexpected(control.error());
  for (uint32_t w = 0; w < limits_.workers; ++w) {
    rings->at<layout::RingLine>(0)[w].head.store(layout::kFirstPosition, std::memory_order_relaxed);
    control->at<layout::ControlLine>(0)[w].cursor.store(layout::kFirstPosition, std::memory_order_relaxed);
  }
  if (auto sealed = rings->seal_read_only(); !sealed) return sealed;
  if (auto sealed = control->seal_size(); !sealed) return sealed;
  c.rings = std::move(*rings);
  c.control = std::move(*control);
  return {};
}

void Consumers::make_rings(Consumer& c) {
  for (uint32_t w = 0; w < limits_.workers; ++w) {
    auto ring = std::make_unique<TakerRing>();
    ring->slots = c.rings.at<layout::Descriptor>(layout::ring_offset(limits_.workers, c.ring_slots, w));
    ring->line = c.rings.at<layout::RingLine>(0) + w;
    ring->control = c.control.at<layout::ControlLine>(0) + w;
    ring->buffers.reset(new uint32_t[c.ring_slots]);
    ring->cluster = c.seat != nullptr ? static_cast<int>(c.seat->cluster) : -1;
    ring->mask = c.ring_slots - 1;
    ring->id = c.id;
    ring->slot = c.slot;
    ring->wake_socket = c.socket.get();
    if (c.seat != nullptr) c.seat->rings.push_back(ring.get());
    c.taker_rings.push_back(std::move(ring));
  }
}

void Consumers::write_entry(const Consumer& c, const ucred& peer) {
  auto& entry = state_.consumer(c.slot);
  const layout::SequenceWrite writing(entry.sequence);
  entry.id.store(c.id, std::memory_order_relaxed);
  entry.state.store(static_cast<uint32_t>(layout::ConsumerState::kAttached), std::memory_order_relaxed);
  entry.pid = static_cast<uint32_t>(peer.pid);
  entry.uid = peer.uid;
  entry.ring_slots = c.ring_slots;
  entry.filter = static_cast<uint32_t>(c.filter_place);
  entry.detached.store(0, std::memory_order_relaxed);
  entry.attached_ns = realtime_ns();
  put_name(entry.name, sizeof entry.name, c.name);
  put_name(entry.cluster, sizeof entry.cluster, c.seat != nullptr ? c.cluster : "");
  put_name(entry.member, sizeof entry.member, c.seat != nullptr ? c.seat->member : "");
}

Result<Consumer*> Consumers::admit(const message::Hello& hello, const ucred& peer, bool inside, Fd socket) {
  if (!limits_.arena_sealed && !inside && (peer.uid == 0 || peer.uid == ::geteuid()))
    return fail(
        Code::kPermission,
        "this engine's arena is a hugetlbfs file, which cannot be sealed: a consumer that is root or has the "
        "engine's user could write to it",
        "run the consumer as another user, or the engine with --memory memfd");
  auto slot = free_slot();
  if (!slot) return std::unexpected(slot.error());
  auto slots = grant_slots(hello);
  if (!slots) return std::unexpected(slots.error());

  auto consumer = std::make_unique<Consumer>();
  consumer->id = next_id_;
  consumer->slot = *slot;
  consumer->ring_slots = *slots;
  consumer->name = fmt::format("{}[{}]", hello.program.empty() ? "?" : hello.program.substr(0, 20), peer.pid);
  consumer->cluster = hello.cluster;
  if (auto taken = take_filter({.filter = hello.filter}, *consumer); !taken)
    return std::unexpected(taken.error());
  if (auto made = make_memory(*consumer); !made) return std::unexpected(made.error());
  if (auto seated = take_seat(hello, peer, *consumer); !seated) return std::unexpected(seated.error());
  consumer->socket = std::move(socket);
  consumer->held_by = limits_.workers;
  make_rings(*consumer);
  write_entry(*consumer, peer);
  ++next_id_;
  slots_granted_ += consumer->ring_slots;
  auto& place = consumers_[consumer->id];
  place = std::move(consumer);
  return place.get();
}

bool Consumers::leave(Consumer& consumer, layout::Detached why) {
  if (consumer.leaving) return false;
  consumer.leaving = true;
  if (consumer.seat != nullptr) clusters_.leave(std::exchange(consumer.seat, nullptr));
  auto& entry = state_.consumer(consumer.slot);
  const layout::SequenceWrite writing(entry.sequence);
  entry.detached.store(static_cast<uint32_t>(why), std::memory_order_relaxed);
  entry.state.store(static_cast<uint32_t>(layout::ConsumerState::kLeaving), std::memory_order_relaxed);
  return true;
}

bool Consumers::let_go(uint64_t id) {
  Consumer* consumer = find(id);
  if (consumer == nullptr || --consumer->held_by != 0) return false;
  slots_granted_ -= consumer->ring_slots;
  auto& entry = state_.consumer(consumer->slot);
  {
    const layout::SequenceWrite writing(entry.sequence);
    entry.state.store(static_cast<uint32_t>(layout::ConsumerState::kFree), std::memory_order_relaxed);
  }
  state_.header().departed.fetch_add(1, std::memory_order_relaxed);
  gone_.push_back(std::move(consumers_.extract(id).mapped()));
  return true;
}

void Consumers::free_gone(uint64_t seen) {
  std::erase_if(gone_,
                [&](const auto& c) { return c->missing_from_plan != 0 && c->missing_from_plan <= seen; });
}

uint32_t filter_index(Plan& plan, const Filter& filter) {
  if (!filter) return kNoFilter;
  const auto same = [&](const Filter& other) {
    return std::ranges::equal(other->instructions(), filter->instructions());
  };
  const auto index = static_cast<size_t>(std::ranges::find_if(plan.filters, same) - plan.filters.begin());
  if (index == plan.filters.size()) plan.filters.push_back(filter);
  return static_cast<uint32_t>(index);
}

void Consumers::fill(Plan& plan) {
  const auto leaves_out = [&](Consumer& consumer) {
    if (consumer.leaving && consumer.missing_from_plan == 0) consumer.missing_from_plan = plan.number;
  };
  for (const auto& [id, consumer] : consumers_) leaves_out(*consumer);
  for (const auto& consumer : gone_) leaves_out(*consumer);
  plan.takers.resize(limits_.workers);
  plan.rings.resize(limits_.workers);
  for (const auto& [id, consumer] : consumers_) {
    if (consumer->leaving) continue;
    for (uint32_t w = 0; w < limits_.workers; ++w) plan.rings[w].push_back(consumer->taker_rings[w].get());
    if (consumer->seat != nullptr) continue;
    const uint32_t incoming = filter_index(plan, consumer->filter.incoming);
    const uint32_t outgoing = filter_index(plan, consumer->filter.outgoing);
    for (uint32_t w = 0; w < limits_.workers; ++w)
      plan.takers[w].push_back({consumer->taker_rings[w].get(), incoming, outgoing});
  }
  plan.clusters =
      clusters_.plan(limits_.workers, [&plan](const Filter& filter) { return filter_index(plan, filter); });
}

}  // namespace ringcap::engine

// OneWorker: an engine's parts without its threads, so that a test decides when the worker does a round,
// when a plan comes, and what a consumer writes. Everything is the real thing: a generator, an arena, the
// state memory, consumers admitted as by the control thread, rings mapped as by a client.
#pragma once

#include <spdlog/spdlog.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "capture/base/fence.h"
#include "capture/engine/consumers.h"
#include "capture/engine/plan.h"
#include "capture/engine/state.h"
#include "capture/engine/worker.h"
#include "capture/ledger/ledger.h"
#include "driver/ports/address.h"
#include "driver/ports/open.h"
#include "libcap/client/rings.h"

namespace ringcap::test {

// A consumer in this process: its rings as it maps them, and its end of the control socket.
struct Attached {
  uint64_t id = 0;
  uint32_t slot = 0;
  Fd socket;
  client::Rings rings;
  client::Ring& ring() { return rings.all().front(); }
  uint64_t ready() { return ring().head() - ring().next; }
  // Takes and gives back everything that is there; returns how many.
  uint64_t drain() {
    const uint64_t count = ready();
    ring().next += count;
    ring().give_back(ring().next);
    return count;
  }
};

class OneWorker {
 public:
  explicit OneWorker(const std::string& gen_address, uint64_t arena_bytes = uint64_t{8} << 20,
                     engine::Poll poll = engine::Poll::kBusy,
                     layout::MemoryKind memory = layout::MemoryKind::kPlain)
      : OneWorker(open_port(parse_port_address(gen_address).value()).value(), arena_bytes, poll, memory) {}

  OneWorker(std::unique_ptr<Port> port, uint64_t arena_bytes, engine::Poll poll, layout::MemoryKind memory)
      : port_(std::move(port)) {
    spdlog::set_level(spdlog::level::warn);  // who joined which cluster is of no interest here
    arena_ = memory::Arena::create(
                 {.kind = memory, .bytes = arena_bytes, .page_bytes = 0, .node = -1, .engine = "one-worker"})
                 .value();
    port_->prepare({.arena = arena_.data(), .arena_bytes = arena_.bytes()}).value();
    region_ = {arena_.data(), 0, 2048, static_cast<uint32_t>(arena_.bytes() / 2048), 0};
    auto* queue = port_->receive_queues().front().get();
    const engine::StateShape shape{.name = "one-worker",
                                   .ports = {{port_->address(), port_->driver(), 1500, 1, 1}},
                                   .sources = {{0, 0, 0, queue->clock()}},
                                   .regions = {region_},
                                   .lags_ns = {0},
                                   .arena = &arena_};
    state_ = engine::State::create(shape).value();
    events_fd_ = Fd(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
    worker_ =
        std::make_unique<engine::Worker>(engine::WorkerSetup{.number = 0,
                                                             .queues = {{queue, &state_.source(0), 0, true}},
                                                             .region = region_,
                                                             .state = &state_.header(),
                                                             .poll = poll,
                                                             .hash_key = {},
                                                             .cpu = -1,
                                                             .events_fd = events_fd_.get(),
                                                             .thread_name = "worker"});
    worker_->arm_queues().value();
    consumers_ = std::make_unique<engine::Consumers>(
        state_,
        engine::ConsumerLimits{.workers = 1,
                               .slots = region_.count - queue->descriptors() - 2 * engine::kBurst,
                               .default_ring_slots = 1024,
                               .filter_budget = 256,
                               .buffer_bytes = 2048,
                               .arena_sealed = true},
        "one-worker");
    port_->start().value();
    publish();
  }

  // Admits a consumer, maps its rings, and publishes the plan that names it; the worker sees it in its
  // next round.
  Attached attach(uint32_t ring_slots, std::vector<filter::Instruction> filter = {},
                  const std::string& cluster = {}, const std::string& member = {},
                  std::optional<cluster::Kind> kind = {}) {
    int pair[2];
    if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0) std::abort();
    const message::Hello hello{.role = message::Role::kConsumer,
                               .ring_slots = ring_slots,
                               .allow_smaller = false,
                               .program = "test",
                               .cluster = cluster,
                               .member = member,
                               .filter = std::move(filter),
                               .kind = kind,
                               .level = {}};
    engine::Consumer* c =
        consumers_->admit(hello, ucred{::getpid(), ::getuid(), ::getgid()}, true, Fd(pair[0])).value();
    const message::Attached granted{.id = c->id,
                                    .slot = c->slot,
                                    .workers = 1,
                                    .ring_slots = c->ring_slots,
                                    .filter = c->filter_place,
                                    .state_bytes = 0,
                                    .arena_bytes = 0,
                                    .rings_bytes = c->rings.bytes(),
                                    .control_bytes = c->control.bytes()};
    Attached attached{c->id, c->slot, Fd(pair[1]),
                      client::Rings::map(granted, c->rings.fd(), c->control.fd()).value()};
    share_addresses(*c->taker_rings.front(), attached.ring());
    publish();
    return attached;
  }

  // The next plan names the consumer no longer.
  void leave(const Attached& attached) {
    consumers_->leave(*consumers_->find(attached.id));
    publish();
  }

  // The next plan is made anew from what the clusters and consumers are now.
  void publish_again() { publish(); }

  uint32_t round() { return worker_->round(); }
  void rounds(uint32_t count) {
    for (uint32_t i = 0; i < count; ++i) worker_->round();
  }
  // What the worker told the control thread of consumers since the last call.
  std::vector<engine::Event> events() {
    std::vector<engine::Event> all;
    while (const auto event = worker_->events().pop())
      if (event->id != 0) all.push_back(*event);
    return all;
  }

  ledger::Ledger ledger() { return ledger::read(state_.header()); }
  ledger::Worker counts() { return ledger().workers.front(); }
  ledger::Taker taker(const Attached& attached) { return ledger::read_taker(state_.header(), attached.slot); }
  std::vector<ledger::Mismatch> unbalanced() { return ledger::check(ledger()).unbalanced; }

  engine::Worker& worker() { return *worker_; }
  engine::Consumers& consumers() { return *consumers_; }
  const Region& region() const { return region_; }
  const std::byte* frame(const layout::Descriptor& d) const {
    return arena_.data() + layout::frame_offset(d);
  }

 private:
  // The thread sanitizer knows an atomic by its address: a release through one mapping and the acquire
  // through another are strangers to it. For it alone, the consumer's side uses the engine's mapping.
  static void share_addresses([[maybe_unused]] const engine::TakerRing& engines,
                              [[maybe_unused]] client::Ring& consumers) {
#if defined(RINGCAP_THREAD_SANITIZER)
    consumers.slots = engines.slots;
    consumers.line = engines.line;
    consumers.control = engines.control;
#endif
  }

  void publish() {
    auto plan = std::make_unique<engine::Plan>();
    plan->number = plans_.size() + 1;
    consumers_->fill(*plan);
    worker_->go_by(plan.get());
    plans_.push_back(std::move(plan));
  }

  std::unique_ptr<Port> port_;
  memory::Arena arena_;
  Region region_;
  engine::State state_;
  Fd events_fd_;
  std::vector<std::unique_ptr<engine::Plan>> plans_;
  std::unique_ptr<engine::Consumers> consumers_;
  std::unique_ptr<engine::Worker> worker_;
};

}  // namespace ringcap::test

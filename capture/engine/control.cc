#include "capture/engine/control.h"

#include <spdlog/spdlog.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <algorithm>

#include "capture/base/monotonic.h"

namespace ringcap::engine {
namespace {

constexpr uint64_t kLogLossNs = 10'000'000'000;
constexpr long kTickNs = 250'000'000;
constexpr long kShortestTickNs = 5'000'000;

// epoll tags; connections have their number, ports kPortTag + index.
constexpr uint64_t kListenerTag = ~uint64_t{0};
constexpr uint64_t kEventsTag = kListenerTag - 1;
constexpr uint64_t kStopTag = kListenerTag - 2;
constexpr uint64_t kTimerTag = kListenerTag - 3;
constexpr uint64_t kPortTag = uint64_t{1} << 62;
constexpr uint64_t kWatchTag = uint64_t{1} << 61;

void drain(int fd) {
  uint64_t count = 0;
  [[maybe_unused]] const auto got = ::read(fd, &count, sizeof count);
}

void signal_fd(int fd) {
  const uint64_t one = 1;
  [[maybe_unused]] const auto written = ::write(fd, &one, sizeof one);
}

}  // namespace

Control::Control(ControlSetup setup)
    : setup_(std::move(setup)),
      consumers_(*setup_.state, setup_.limits, setup_.name),
      readings_(*setup_.state, setup_.ports, setup_.queues, setup_.workers, setup_.on_link),
      tick_ns_(kTickNs) {}

Result<std::unique_ptr<Control>> Control::create(ControlSetup setup) {
  std::unique_ptr<Control> control(new Control(std::move(setup)));
  for (const ClusterOptions& cluster : control->setup_.clusters)
    if (auto declared = control->consumers_.clusters().declare(cluster, ::geteuid()); !declared)
      return std::unexpected(declared.error());
  if (auto opened = control->open(); !opened) return std::unexpected(opened.error());
  return control;
}

Result<void> Control::watch(int fd, uint64_t tag, uint32_t events) {
  epoll_event event{};
  event.events = events;
  event.data.u64 = tag;
  if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) != 0)
    return fail_system("cannot watch a descriptor");
  return {};
}

Result<void> Control::open() {
  epoll_ = Fd(::epoll_create1(EPOLL_CLOEXEC));
  stop_fd_ = Fd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  timer_ = Fd(::timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK));
  if (!epoll_ || !stop_fd_ || !timer_) return fail_system("cannot set up the control thread");
  // Four looks within the time after which a member counts as stalled.
  if (const auto stall_ms = consumers_.clusters().shortest_stall_ms())
    tick_ns_ = std::clamp<long>(static_cast<long>(*stall_ms) * 250'000, kShortestTickNs, kTickNs);
  const itimerspec period{{0, tick_ns_}, {0, tick_ns_}};
  ::timerfd_settime(timer_.get(), 0, &period, nullptr);
  if (auto done = watch(stop_fd_.get(), kStopTag); !done) return done;
  if (auto done = watch(timer_.get(), kTimerTag); !done) return done;
  if (auto done = watch(setup_.events_fd, kEventsTag); !done) return done;
  if (setup_.listener)
    if (auto done = watch(setup_.listener.get(), kListenerTag); !done) return done;
  for (size_t i = 0; i < setup_.ports.size(); ++i)
    if (setup_.ports[i]->event_fd() >= 0)
      if (auto done = watch(setup_.ports[i]->event_fd(), kPortTag + i); !done) return done;
  for (size_t i = 0; i < setup_.watches.size(); ++i)
    if (auto done = watch(setup_.watches[i].fd, kWatchTag + i); !done) return done;
  return {};
}

void Control::request_stop() {
  stop_.store(true, std::memory_order_release);
  signal_fd(stop_fd_.get());
}

Result<Fd> Control::connect_inside() {
  int pair[2];
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0)
    return fail_system("cannot make a socket pair");
  add_connection(Fd(pair[0]), true);
  return Fd(pair[1]);
}

Result<void> Control::run() {
  setup_.state->header().state.store(static_cast<uint32_t>(layout::EngineState::kRunning),
                                     std::memory_order_release);
  publish_plan();
  readings_.refresh();
  start_sources_when_ready();
  epoll_event events[64];
  while (!stop_.load(std::memory_order_acquire)) {
    const int count = ::epoll_wait(epoll_.get(), events, 64, -1);
    for (int i = 0; i < count; ++i) {
      const uint64_t tag = events[i].data.u64;
      if (tag == kListenerTag)
        accept_some();
      else if (tag == kEventsTag)
        on_events();
      else if (tag == kTimerTag)
        tick();
      else if (tag >= kPortTag && tag < kPortTag + setup_.ports.size())
        readings_.refresh_link(static_cast<uint32_t>(tag - kPortTag));
      else if (tag >= kWatchTag && tag < kWatchTag + setup_.watches.size())
        setup_.watches[tag - kWatchTag].on_readable();
      else if (tag < next_connection_)
        on_connection(tag);
    }
    advance_plan();
  }
  stop_everything();
  return start_result_;
}

// ---- workers and plans ---------------------------------------------------------------------------

void Control::on_events() {
  drain(setup_.events_fd);
  for (Worker* worker : setup_.workers)
    while (const auto event = worker->events().pop()) on_event(*event);
}

void Control::on_event(const Event& event) {
  switch (event.kind) {
    case EventKind::kPlanSeen:  // advance_plan() follows every event
      return;
    case EventKind::kGone:
      consumers_.let_go(event.id);
      return;
    case EventKind::kMisbehaved:
      if (Consumer* consumer = consumers_.find(event.id)) {
        const Error error{Code::kGone, std::string(layout::kControlAreaNonsense), "attach again"};
        detach(*consumer, layout::Detached::kControlArea, &error);
      }
      return;
    case EventKind::kSourceEnded:
      if (++workers_ended_ == setup_.workers.size()) sources_ended();
      return;
  }
}

bool Control::all_seen() const {
  return std::ranges::all_of(setup_.workers, [&](Worker* w) { return w->plan_seen() >= plan_->number; });
}

void Control::advance_plan() {
  if (!all_seen()) return;
  previous_plan_.reset();
  consumers_.free_gone(plan_->number);
  answer_joined();
  answer_filters();
  if (plan_dirty_) publish_plan();
  if (setup_.until_end && attached_ever_ != 0 && consumers_.count() == 0 &&
      workers_ended_ == setup_.workers.size())
    request_stop();
}

void Control::publish_plan() {
  auto plan = std::make_shared<Plan>();
  plan->number = plan_ ? plan_->number + 1 : 1;
  plan->filter = setup_.filter;
  consumers_.fill(*plan);
  if (setup_.forwarders != nullptr) setup_.forwarders->fill(*plan);
  consumers_.for_each([&](Consumer& c) {
    if (!c.leaving && c.joins_with_plan == 0) c.joins_with_plan = plan->number;
  });
  previous_plan_ = std::move(plan_);
  plan_ = std::move(plan);
  plan_dirty_ = false;
  for (Worker* worker : setup_.workers) worker->go_by(plan_.get());
}

void Control::answer_joined() {
  consumers_.for_each([&](Consumer& c) {
    if (!c.attached && !c.leaving && c.joins_with_plan != 0 && c.joins_with_plan <= plan_->number)
      send_attached(c);
  });
  start_sources_when_ready();
}

void Control::send_attached(Consumer& c) {
  c.attached = true;
  ++attached_ever_;
  const message::Attached attached{.id = c.id,
                                   .slot = c.slot,
                                   .workers = static_cast<uint32_t>(setup_.workers.size()),
                                   .ring_slots = c.ring_slots,
                                   .filter = c.filter_place,
                                   .state_bytes = setup_.state->bytes(),
                                   .arena_bytes = setup_.arena->bytes(),
                                   .rings_bytes = c.rings.bytes(),
                                   .control_bytes = c.control.bytes()};
  const int fds[] = {setup_.state->fd(), setup_.arena->fd(), c.rings.fd(), c.control.fd()};
  spdlog::info("{} attached, ring of {} frames", c.name, c.ring_slots);
  if (auto sent = message::send(c.socket.get(), message::encode(attached), fds); !sent)
    detach(c, layout::Detached::kNot, nullptr);
}

// ---- ports, time, the end ------------------------------------------------------------------------

void Control::start_sources_when_ready() {
  if (sources_started_ || attached_ever_ < setup_.wait_consumers) return;
  sources_started_ = true;
  for (Port* port : setup_.ports) {
    if (auto started = port->start(); !started) {
      start_result_ = context("cannot start " + port->address(), started.error());
      return request_stop();
    }
    if (const std::string remark = port->remark(); !remark.empty())
      spdlog::info("{}: {}", port->address(), remark);
  }
  readings_.refresh();
}

void Control::tick() {
  drain(timer_.get());
  if (!listening_) listening_ = watch(setup_.listener.get(), kListenerTag).has_value();
  readings_.refresh();
  check_stalls();
  if (setup_.forwarders != nullptr) setup_.forwarders->tick();
  log_losses(false);
  const uint64_t now = monotonic_ns();
  std::vector<uint64_t> late;
  for (const auto& [number, connection] : connections_)
    if (connection.silent() && connection.deadline_ns < now) late.push_back(number);
  for (const uint64_t number : late) close_connection(number);
}

// One line per consumer at most every ten seconds, and one at the end.
void Control::log_losses(bool all) {
  const uint64_t now = monotonic_ns();
  consumers_.for_each([&](Consumer& c) {
    if (!all && c.logged_at_ns != 0 && now - c.logged_at_ns < kLogLossNs) return;
    uint64_t dropped = 0;
    for (uint32_t w = 0; w < setup_.workers.size(); ++w)
      dropped += layout::taker_block(setup_.state->header(), setup_.state->worker(w), c.slot)
                     .dropped.load(std::memory_order_relaxed);
    if (dropped <= c.dropped_logged) return;
    spdlog::warn("{} lost {} frames: its ring was full", c.name, dropped - c.dropped_logged);
    c.dropped_logged = dropped;
    c.logged_at_ns = now;
  });
}

void Control::wake_everybody() {
  consumers_.for_each([](Consumer& c) {
    if (c.attached && !c.leaving) message::send_wake(c.socket.get());
  });
}

void Control::sources_ended() {
  readings_.refresh();
  setup_.state->header().state.store(
      static_cast<uint32_t>(layout::EngineState::kSourcesEnded),
      std::memory_order_release);  // pairs with the client's look at its rings' end
  for (const Port* port : setup_.ports)
    if (const std::string problem = port->problem(); !problem.empty())
      spdlog::error("{}: {}", port->address(), problem);
  spdlog::info("all sources have ended");
  wake_everybody();
}

void Control::finish() {
  readings_.workers_ended();
  readings_.refresh();
  log_losses(true);
  if (setup_.forwarders != nullptr) setup_.forwarders->tick(true);
  setup_.state->header().state.store(static_cast<uint32_t>(layout::EngineState::kEnded),
                                     std::memory_order_release);
  wake_everybody();
}

// What is on its way out leaves while the ports still run.
void Control::stop_everything() {
  if (setup_.forwarders != nullptr) setup_.forwarders->stop();
  for (Port* port : setup_.ports)
    if (sources_started_) port->stop();
  for (Worker* worker : setup_.workers) worker->request_stop();
}

}  // namespace ringcap::engine

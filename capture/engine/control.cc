#include "capture/engine/control.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <spdlog/spdlog.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>

#include "capture/base/monotonic.h"
#include "capture/filter/machine_code.h"

namespace ringcap::engine {
namespace {

constexpr uint32_t kMaxSilent = 256;
constexpr uint64_t kHelloNs = 5'000'000'000;
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
constexpr size_t kSendersOfOne = 16;  // that one connection may open

void drain(int fd) {
  uint64_t count = 0;
  [[maybe_unused]] const auto got = ::read(fd, &count, sizeof count);
}

void signal_fd(int fd) {
  const uint64_t one = 1;
  [[maybe_unused]] const auto written = ::write(fd, &one, sizeof one);
}

ucred peer_of(int socket) {
  ucred peer{};
  socklen_t bytes = sizeof peer;
  peer.uid = static_cast<uid_t>(-1);
  ::getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &bytes);
  return peer;
}

}  // namespace

Control::Control(ControlSetup setup)
    : setup_(std::move(setup)),
      consumers_(*setup_.state, setup_.limits, setup_.name),
      tick_ns_(kTickNs),
      rest_(static_cast<uint32_t>(setup_.workers.size())),
      rest_of_queues_(setup_.queues.size()),
      rest_of_ports_(setup_.ports.size()),
      workers_of_ports_(setup_.ports.size()),
      links_(setup_.ports.size()) {
  for (uint32_t i = 0; i < setup_.queues.size(); ++i) {
    const auto& source = setup_.state->source(i);
    workers_of_ports_[source.port].push_back(source.worker);
  }
}

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
  refresh_ports();
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
        refresh_link(static_cast<uint32_t>(tag - kPortTag));
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

// ---- connections ---------------------------------------------------------------------------------

void Control::accept_some() {
  for (int i = 0; i < 64; ++i) {
    Fd socket(::accept4(setup_.listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
    if (!socket && (errno == EMFILE || errno == ENFILE)) return make_room_for_descriptors();
    if (!socket) return;
    add_connection(std::move(socket), false);
  }
}

// Out of descriptors: a silent connection gives way; if there is none, nobody is let in until the next tick
// (the listener stays readable, and would be asked again and again).
void Control::make_room_for_descriptors() {
  if (silent_ != 0) return forget_oldest_silent();
  if (!listening_) return;
  spdlog::warn("out of file descriptors: no more clients are let in for now (raise `ulimit -n`)");
  ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, setup_.listener.get(), nullptr);
  listening_ = false;
}

void Control::add_connection(Fd socket, bool inside) {
  while (silent_ >= kMaxSilent) forget_oldest_silent();
  const uint64_t number = next_connection_++;
  const int fd = socket.get();
  connections_[number] = Connection{.socket = std::move(socket),
                                    .number = number,
                                    .deadline_ns = monotonic_ns() + kHelloNs,
                                    .inside = inside,
                                    .sender = {},
                                    .senders = {}};
  ++silent_;
  if (!watch(fd, number, EPOLLIN | EPOLLRDHUP)) close_connection(number);
}

// Connections are numbered as they come, so the first silent one is the oldest.
void Control::forget_oldest_silent() {
  const auto oldest = std::ranges::find_if(connections_, [](const auto& c) { return c.second.silent(); });
  if (oldest != connections_.end()) close_connection(oldest->first);
}

void Control::close_connection(uint64_t number) {
  const auto found = connections_.find(number);
  if (found == connections_.end()) return;
  const Connection& connection = found->second;
  if (connection.silent()) --silent_;
  for (const uint64_t id : connection.senders) setup_.forwarders->close_sender(id);
  connections_.erase(found);
}

void Control::on_connection(uint64_t number) {
  const auto found = connections_.find(number);
  if (found == connections_.end()) return;
  Connection& connection = found->second;
  if (connection.consumer != 0) return on_consumer_socket(connection);
  if (!connection.sender.empty()) return on_sender_socket(connection);
  auto received = message::receive(connection.socket.get(), false);
  if (!received && received.error().text.empty()) return;
  if (!received) return refuse(connection, received.error());
  if (received->bytes.empty()) return close_connection(number);
  on_hello(connection, received->bytes);
}

void Control::refuse(Connection& connection, const Error& error) {
  spdlog::info("refused a client: {}", error.message());
  [[maybe_unused]] const auto sent =
      message::send(connection.socket.get(), message::encode_error(message::Type::kRefused, error));
  close_connection(connection.number);
}

void Control::on_hello(Connection& connection, std::span<const std::byte> packet) {
  auto hello = message::parse_hello(packet);
  if (!hello) return refuse(connection, hello.error());
  const ucred peer = peer_of(connection.socket.get());
  if (hello->role == message::Role::kObserver) return answer_observer(connection);
  if (hello->role == message::Role::kStop) {
    if (peer.uid != 0 && peer.uid != ::geteuid())
      return refuse(connection,
                    {Code::kPermission, "only root and the engine's user may end it", "use sudo"});
    const message::Header stopping = message::plain(message::Type::kStopping);
    [[maybe_unused]] const auto sent =
        message::send(connection.socket.get(), std::as_bytes(std::span(&stopping, 1)));
    spdlog::info("asked to end by pid {} (uid {})", peer.pid, peer.uid);
    return request_stop();
  }
  if (hello->role == message::Role::kSender) {
    connection.sender =
        fmt::format("{}[{}]", hello->program.empty() ? "?" : hello->program.substr(0, 20), peer.pid);
    return answer_observer(connection);
  }
  if (hello->role == message::Role::kOperator) return on_operator(connection, *hello, peer);
  Fd copy(::fcntl(connection.socket.get(), F_DUPFD_CLOEXEC, 3));
  if (!copy) return refuse(connection, fail_system("cannot keep the client's socket").error());
  auto consumer = consumers_.admit(*hello, peer, connection.inside, std::move(copy));
  if (!consumer) return refuse(connection, consumer.error());
  connection.consumer = (*consumer)->id;
  --silent_;
  plan_dirty_ = true;
}

// The engine's filter is its operator's; a cluster's is also its owner's.
void Control::on_operator(Connection& connection, const message::Hello& hello, const ucred& peer) {
  const bool ours = peer.uid == 0 || peer.uid == ::geteuid();
  if (!ours && hello.cluster.empty())
    return refuse(connection,
                  {Code::kPermission, "only root and the engine's user may change its filter", "use sudo"});
  Filter filter;
  if (!hello.filter.empty()) {
    auto program = filter::validate(hello.filter);
    if (!program) return refuse(connection, program.error());
    filter::compile_or_say(*program, [](const std::string& text) { spdlog::warn("{}", text); });
    filter = std::make_shared<filter::Program>(std::move(*program));
  }
  if (hello.cluster.empty())
    setup_.filter = std::move(filter);
  else if (auto set = consumers_.clusters().set_filter(hello.cluster, std::move(filter), ours ? 0 : peer.uid);
           !set)
    return refuse(connection, set.error());
  connection.filter_with_plan = plan_->number + 1;
  plan_dirty_ = true;
}

void Control::on_set_filter(Consumer& consumer, std::span<const std::byte> packet) {
  auto filter = message::parse_set_filter(packet);
  Result<void> set = filter ? consumers_.set_filter(consumer, *filter) : std::unexpected(filter.error());
  if (!set) {
    [[maybe_unused]] const auto sent = message::send(
        consumer.socket.get(), message::encode_error(message::Type::kFilterRefused, set.error()));
    return;
  }
  consumer.filter_with_plan = plan_->number + 1;
  plan_dirty_ = true;
}

void Control::tell_filter_set(int socket, layout::FilterPlace place) {
  [[maybe_unused]] const auto sent = message::send(socket, message::encode_filter_set(place));
}

// Every worker goes by the plan that brought them.
void Control::answer_filters() {
  consumers_.for_each([&](Consumer& c) {
    if (c.filter_with_plan == 0 || c.filter_with_plan > plan_->number) return;
    c.filter_with_plan = 0;
    tell_filter_set(c.socket.get(), c.filter_place);
  });
  for (auto& [number, connection] : connections_) {
    if (connection.filter_with_plan == 0 || connection.filter_with_plan > plan_->number) continue;
    connection.filter_with_plan = 0;
    tell_filter_set(connection.socket.get(), layout::FilterPlace::kEngine);
  }
}

void Control::set_forward_filter(uint32_t forward, Filter filter) {
  if (setup_.forwarders == nullptr) return;
  setup_.forwarders->set_filter(forward, std::move(filter));
  plan_dirty_ = true;
}

void Control::check_stalls() {
  if (consumers_.clusters().check_stalls(monotonic_ns())) plan_dirty_ = true;
}

void Control::answer_observer(Connection& connection) {
  refresh_ports();
  const int fd = setup_.state->fd();
  [[maybe_unused]] const auto sent = message::send(
      connection.socket.get(), message::encode_observing(setup_.state->bytes()), std::span(&fd, 1));
  // The connection stays silent from here on; it goes when the observer closes it or at its deadline.
}

void Control::on_sender_socket(Connection& connection) {
  auto received = message::receive(connection.socket.get(), false);
  if (!received && received.error().text.empty()) return;
  if (!received || received->bytes.empty()) return close_connection(connection.number);
  const auto header = message::parse_header(received->bytes);
  if (header && header->type == message::Type::kSendOpen)
    return on_send_open(connection, connection.sender, received->bytes);
  close_connection(connection.number);
}

void Control::on_send_open(Connection& connection, const std::string& name,
                           std::span<const std::byte> packet) {
  const auto grant = [&]() -> Result<Forwarders::Grant> {
    auto open = message::parse_send_open(packet);
    if (!open) return std::unexpected(open.error());
    if (setup_.forwarders == nullptr || !setup_.forwarders->sends())
      return fail(Code::kPermission, fmt::format("engine {} lets nobody send", setup_.name),
                  "start it with --send-group GROUP");
    if (connection.senders.size() == kSendersOfOne)
      return fail(Code::kUsage, fmt::format("one client may send on {} ports at once", kSendersOfOne));
    const int socket = connection.socket.get();
    return setup_.forwarders->open_sender(*open, socket, peer_of(socket), name);
  }();
  if (!grant) {
    [[maybe_unused]] const auto sent = message::send(
        connection.socket.get(), message::encode_error(message::Type::kSendRefused, grant.error()));
    return;
  }
  if (connection.silent()) --silent_;
  connection.senders.push_back(grant->granted.id);
  const int fds[] = {grant->memory.get(), grant->bell};
  [[maybe_unused]] const auto sent =
      message::send(connection.socket.get(), message::encode(grant->granted), fds);
}

// Of a client that goes on as a consumer; one that only sends closes its connection.
void Control::on_send_close(Connection& connection, std::span<const std::byte> packet) {
  const auto id = message::parse_send_close(packet);
  if (id && std::erase(connection.senders, *id) != 0) setup_.forwarders->close_sender(*id);
}

void Control::on_consumer_socket(Connection& connection) {
  Consumer* consumer = consumers_.find(connection.consumer);
  auto received = message::receive(connection.socket.get(), false);
  if (!received && received.error().text.empty()) return;
  const bool closed = !received || received->bytes.empty();
  if (!closed) {
    const auto header = message::parse_header(received->bytes);
    if (header && header->type == message::Type::kSetFilter && consumer != nullptr && !consumer->leaving)
      return on_set_filter(*consumer, received->bytes);
    if (header && header->type == message::Type::kSendOpen && consumer != nullptr && !consumer->leaving)
      return on_send_open(connection, consumer->name, received->bytes);
    if (header && header->type == message::Type::kSendClose)
      return on_send_close(connection, received->bytes);
    if (header && header->type != message::Type::kDetach) return;  // nothing else is asked of us: ignored
    if (!header && consumer != nullptr) detach(*consumer, layout::Detached::kMessage, &header.error());
  }
  const uint64_t number = connection.number;
  if (consumer != nullptr) detach(*consumer, layout::Detached::kNot, nullptr);
  close_connection(number);
}

void Control::detach(Consumer& consumer, layout::Detached why, const Error* reason) {
  if (!consumers_.leave(consumer, why)) return;
  if (reason != nullptr) {
    spdlog::warn("detached {}: {}", consumer.name, reason->message());
    [[maybe_unused]] const auto sent =
        message::send(consumer.socket.get(), message::encode_error(message::Type::kDetached, *reason));
    ::shutdown(consumer.socket.get(), SHUT_RDWR);  // its own descriptor says so at once
  } else {
    spdlog::info("{} left", consumer.name);
  }
  plan_dirty_ = true;
  if (consumer.joins_with_plan != 0) return;
  // No plan ever named it: no worker knows it.
  const uint64_t id = consumer.id;
  for (size_t i = 0; i < setup_.workers.size(); ++i) consumers_.let_go(id);
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
  refresh_ports();
}

void Control::tick() {
  drain(timer_.get());
  if (!listening_) listening_ = watch(setup_.listener.get(), kListenerTag).has_value();
  refresh_ports();
  check_stalls();
  if (setup_.forwarders != nullptr) setup_.forwarders->tick();
  log_losses(false);
  const uint64_t now = monotonic_ns();
  std::vector<uint64_t> late;
  for (const auto& [number, connection] : connections_)
    if (connection.silent() && connection.deadline_ns < now) late.push_back(number);
  for (const uint64_t number : late) close_connection(number);
}

std::vector<uint64_t> Control::rounds_ended() const {
  std::vector<uint64_t> rounds;
  rounds.reserve(setup_.workers.size());
  for (const Worker* worker : setup_.workers) rounds.push_back(worker->rounds_ended());
  return rounds;
}

// What the device says of all queues together, and what it counts besides.
void Control::refresh_counters(uint32_t i) {
  const QueueCounters counters = setup_.ports[i]->counters();
  uint64_t taken = 0, lag_ns = 0;
  for (uint32_t s = 0; s < setup_.queues.size(); ++s) {
    const auto& source = setup_.state->source(s);
    if (source.port != i) continue;
    taken += source.taken.load(std::memory_order_relaxed);
    lag_ns = std::max(lag_ns, setup_.queues[s]->lag_ns());
  }
  const bool rests = rest_.of(rest_of_ports_[i], taken, counters.received, workers_of_ports_[i], lag_ns);
  auto& entry = setup_.state->port(i);
  {
    const layout::SequenceWrite writing(entry.sequence);
    entry.received.store(counters.received, std::memory_order_relaxed);
    entry.missed.store(counters.missed, std::memory_order_relaxed);
    entry.bad.store(counters.bad, std::memory_order_relaxed);
    entry.at_rest.store(rests ? taken + 1 : 0, std::memory_order_relaxed);
  }
  uint32_t place = 0;
  for (uint32_t before = 0; before < i; ++before)
    place += static_cast<uint32_t>(setup_.ports[before]->statistics().size());
  for (const Statistic& statistic : setup_.ports[i]->statistics())
    setup_.state->statistic(place++).value.store(statistic.value, std::memory_order_relaxed);
}

void Control::refresh_queue(uint32_t i) {
  auto& source = setup_.state->source(i);
  const QueueCounters counters = setup_.queues[i]->counters();
  const uint64_t taken = source.taken.load(std::memory_order_relaxed);
  const std::array workers{source.worker};
  const bool rests =
      rest_.of(rest_of_queues_[i], taken, counters.received, workers, setup_.queues[i]->lag_ns());
  const layout::SequenceWrite writing(source.sequence);
  source.received.store(counters.received, std::memory_order_relaxed);
  source.missed.store(counters.missed, std::memory_order_relaxed);
  source.bad.store(counters.bad, std::memory_order_relaxed);
  source.ended.store(setup_.queues[i]->ended() ? 1 : 0, std::memory_order_relaxed);
  source.at_rest.store(rests ? taken + 1 : 0, std::memory_order_relaxed);
}

void Control::refresh_link(uint32_t i) {
  Port& port = *setup_.ports[i];
  port.handle_event();
  const Link link = port.link();
  auto& entry = setup_.state->port(i);
  const std::optional<Link>& last = links_[i];
  if (last && link.up == last->up && link.present == last->present && link.mbps == last->mbps) return;
  if (!link.present)
    spdlog::error("{} is gone; what it received stays readable", port.address());
  else
    spdlog::info("{}: link {}{}", port.address(), link.up ? "up" : "down",
                 link.mbps != 0 ? fmt::format(", {} Mbit/s", link.mbps) : "");
  links_[i] = link;
  const layout::SequenceWrite writing(entry.sequence);
  entry.link_up.store(link.up ? 1 : 0, std::memory_order_relaxed);
  entry.link_mbps.store(link.mbps, std::memory_order_relaxed);
  entry.present.store(link.present ? 1 : 0, std::memory_order_relaxed);
  if (setup_.on_link) setup_.on_link(i, link);
}

void Control::refresh_ports() {
  rest_.begin(rounds_ended(), monotonic_ns());
  for (uint32_t i = 0; i < setup_.ports.size(); ++i) refresh_counters(i);
  for (uint32_t i = 0; i < setup_.queues.size(); ++i) refresh_queue(i);
  rest_.end(rounds_ended());
  for (uint32_t i = 0; i < setup_.ports.size(); ++i) refresh_link(i);
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
  refresh_ports();
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
  rest_.workers_ended();
  refresh_ports();
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

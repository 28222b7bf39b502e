// Control's connections: who comes to the socket, as what, what each may ask for, and how each leaves.
#include <fcntl.h>
#include <fmt/format.h>
#include <spdlog/spdlog.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>

#include "capture/base/monotonic.h"
#include "capture/engine/control.h"
#include "capture/filter/machine_code.h"

namespace ringcap::engine {
namespace {

constexpr uint32_t kMaxSilent = 256;
constexpr uint64_t kHelloNs = 5'000'000'000;
constexpr size_t kSendersOfOne = 16;  // that one connection may open

ucred peer_of(int socket) {
  ucred peer{};
  socklen_t bytes = sizeof peer;
  peer.uid = static_cast<uid_t>(-1);
  ::getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &bytes);
  return peer;
}

}  // namespace

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
  readings_.refresh();
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

}  // namespace ringcap::engine

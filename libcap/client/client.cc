#include "libcap/client/client.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <ctime>
#include <utility>

#include "capture/base/names.h"
#include "capture/base/run_dir.h"
#include "capture/layout/view.h"
#include "capture/ledger/ledger.h"

namespace ringcap::client {
namespace {

constexpr int kAnswerMs = 10'000;
constexpr int kAppearMs = 20;  // between looks for an engine that is to appear
constexpr int kLagMs = 1;      // between looks while a worker lags
constexpr uint32_t kMaxBatchMs = 60'000;
// A ring has room for this many batches: for what comes while a woken consumer is on its way.
constexpr uint32_t kBatchesPerRing = 4;

uint64_t monotonic_ms() {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1000 + static_cast<uint64_t>(now.tv_nsec) / 1'000'000;
}

// A descriptor below 3 would be the standard input or output of a program that has closed its own.
Fd above_standard(Fd fd) {
  if (!fd || fd.get() > STDERR_FILENO) return fd;
  return Fd(::fcntl(fd.get(), F_DUPFD_CLOEXEC, STDERR_FILENO + 1));
}

void empty_eventfd(int fd) {
  uint64_t count = 0;
  [[maybe_unused]] const auto got = ::read(fd, &count, sizeof count);
}

uint32_t this_cpu() { return static_cast<uint32_t>(std::max(0, ::sched_getcpu())); }

uint64_t inode(int fd) {
  struct stat status{};
  return ::fstat(fd, &status) == 0 ? status.st_ino : 0;
}

Result<Fd> connect_waiting(const std::string& engine, int32_t wait_ms) {
  const uint64_t start = monotonic_ms();
  for (;;) {
    auto socket = connect_engine(engine);
    if (socket || wait_ms == 0) return socket;
    // Between its lock and its socket an engine is starting: that is not an error yet.
    if (socket.error().code == Code::kPermission || socket.error().code == Code::kUsage) return socket;
    if (wait_ms > 0 && monotonic_ms() - start >= static_cast<uint64_t>(wait_ms)) return socket;
    ::poll(nullptr, 0, kAppearMs);
  }
}

std::unexpected<Error> too_long() {
  return fail(Code::kFilter,
              fmt::format("a filter has at most {} instructions", message::kMaxFilterInstructions));
}

// Empty: every frame. Where a program cannot be compiled it is interpreted, and the same comes out.
Result<std::optional<filter::Program>> program_of(const std::vector<filter::Instruction>& instructions) {
  if (instructions.empty()) return std::nullopt;
  auto program = filter::validate(instructions);
  if (!program) return std::unexpected(program.error());
  [[maybe_unused]] const auto compiled = program->compile();
  return std::move(*program);
}

Result<std::optional<LocalFilter>> local_filter(const std::vector<filter::Instruction>& incoming,
                                                const std::vector<filter::Instruction>& outgoing) {
  auto in = program_of(incoming);
  if (!in) return std::unexpected(in.error());
  auto out = program_of(outgoing);
  if (!out) return std::unexpected(out.error());
  if (!*in && !*out) return std::nullopt;
  return LocalFilter{std::move(*in), std::move(*out)};
}

}  // namespace

Result<std::unique_ptr<Client>> Client::attach(const std::string& consumed, const ClientOptions& options) {
  auto names = parse_consumed(consumed);
  if (!names) return std::unexpected(names.error());
  auto socket = connect_waiting(names->engine, options.wait_ms);
  if (!socket) return std::unexpected(socket.error());
  return attach_socket(std::move(*socket), options, names->cluster, names->member);
}

Result<std::unique_ptr<Client>> Client::attach_socket(Fd socket, const ClientOptions& options,
                                                      const std::string& cluster, const std::string& member) {
  std::unique_ptr<Client> client(new Client);
  client->socket_ = above_standard(std::move(socket));
  client->socket_inode_ = inode(client->socket_.get());
  client->detach_ = options.detach;
  if (auto greeted = client->greet(options, cluster, member); !greeted)
    return std::unexpected(greeted.error());
  return client;
}

Client::~Client() {
  if (!descriptors_are_ours()) {  // the program closed them; what has their numbers now is not ours to close
    for (Fd* fd : {&socket_, &break_fd_, &ready_fd_, &epoll_}) fd->release();
    return;
  }
  if (!detach_) return;
  const message::Header detach = message::plain(message::Type::kDetach);
  [[maybe_unused]] const auto sent = message::send(socket_.get(), std::as_bytes(std::span(&detach, 1)));
}

Result<message::Received> Client::answer() {
  pollfd wait{socket_.get(), POLLIN, 0};
  int ready = 0;
  do {
    ready = ::poll(&wait, 1, kAnswerMs);
  } while (ready < 0 && errno == EINTR);
  if (ready == 0) return fail(Code::kSystem, "the engine did not answer within 10 seconds");
  auto received = message::receive(socket_.get(), true);
  if (!received) return received;
  if (received->bytes.empty()) return fail(Code::kGone, "the engine closed the connection without an answer");
  auto header = message::parse_header(received->bytes);
  if (!header) return std::unexpected(header.error());
  if (header->type == message::Type::kRefused || header->type == message::Type::kDetached)
    return std::unexpected(message::parse_error(received->bytes));
  return received;
}

Result<void> Client::greet(const ClientOptions& options, const std::string& cluster,
                           const std::string& member) {
  const message::Hello hello{
      .role = message::Role::kConsumer,
      .ring_slots = options.ring_slots,
      .allow_smaller = options.allow_smaller,
      .program = options.program.empty() ? program_invocation_short_name : options.program,
      .cluster = cluster,
      .member = member,
      .filter = options.filter,
      .kind = options.kind,
      .level = options.level};
  if (hello.filter.size() > message::kMaxFilterInstructions) return too_long();
  if (auto sent = message::send(socket_.get(), message::encode(hello)); !sent) return sent;
  auto received = answer();
  if (!received) return std::unexpected(received.error());
  auto attached = message::parse_attached(received->bytes);
  if (!attached) return std::unexpected(attached.error());
  attached_ = *attached;
  if (auto mapped = map(received->fds); !mapped) return mapped;

  Gather::Setup gather{
      .state = &header(), .arena = arena(), .filter = std::nullopt, .merge = false, .wait_ns = 0};
  if (attached_.filter == layout::FilterPlace::kLibrary) {
    auto local = local_filter(options.filter, options.filter);
    if (!local) return std::unexpected(local.error());
    gather.filter = std::move(*local);
  }
  batch_frames_ = std::min(options.batch_frames, attached_.ring_slots / kBatchesPerRing);
  batch_ms_ = static_cast<int>(std::min(options.batch_ms, kMaxBatchMs));
  gather.merge = options.merge && attached_.workers > 1;
  gather.wait_ns = uint64_t{options.merge_wait_ms} * 1'000'000;
  gathering_ = gather.merge || gather.filter;
  if (gathering_) gather_.emplace(std::move(gather));
  return make_wake_fds();
}

Result<void> Client::map(std::vector<Fd>& fds) {
  if (fds.size() != 4)
    return fail(Code::kVersion, "the engine did not send the memory that belongs to the answer");
  auto state =
      Mapping::map(fds[0].get(), attached_.state_bytes, Mapping::Access::kRead, "the engine's state");
  if (!state) return std::unexpected(state.error());
  state_ = std::move(*state);
  auto header = ledger::check_state({state_.data(), state_.bytes()});
  if (!header) return std::unexpected(header.error());
  auto arena = Mapping::map(fds[1].get(), attached_.arena_bytes, Mapping::Access::kRead, "the arena");
  if (!arena) return std::unexpected(arena.error());
  arena_ = std::move(*arena);
  auto rings = Rings::map(attached_, fds[2].get(), fds[3].get());
  if (!rings) return std::unexpected(rings.error());
  rings_ = std::move(*rings);
  return {};
}

// The selectable descriptor holds three: the control socket, which the engine makes readable, and two
// eventfds of our own, for break_loop() and for frames that were there before anybody slept.
Result<void> Client::make_wake_fds() {
  break_fd_ = above_standard(Fd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)));
  ready_fd_ = above_standard(Fd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)));
  epoll_ = above_standard(Fd(::epoll_create1(EPOLL_CLOEXEC)));
  if (!break_fd_ || !ready_fd_ || !epoll_) return fail_system("cannot make the descriptors to wait with");
  for (const int fd : {socket_.get(), break_fd_.get(), ready_fd_.get()}) {
    epoll_event event{};
    event.events = EPOLLIN;
    if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) != 0)
      return fail_system("cannot watch a descriptor");
  }
  return {};
}

uint32_t Client::link_type() const {
  return header().ports.count == 0 ? 1
                                   : layout::entry<layout::PortEntry>(header(), header().ports, 0).link_type;
}

// ---- taking --------------------------------------------------------------------------------------

uint32_t Client::look_direct(uint32_t max, FrameBurst& burst) {
  auto& rings = rings_.all();
  for (uint32_t i = 0; i < rings.size(); ++i) {
    const uint32_t number = (next_ring_ + i) % static_cast<uint32_t>(rings.size());
    Ring& ring = rings[number];
    ring.catch_up();
    const uint64_t head = ring.head();
    if (head == ring.next) continue;
    const auto count = static_cast<uint32_t>(std::min<uint64_t>(head - ring.next, max));
    burst = {.frames = ring.at(ring.next), .count = count, .ring = number, .position = ring.next + count};
    ring.next += count;
    next_ring_ = number + 1;
    return count;
  }
  return 0;
}

uint32_t Client::look(uint32_t max, bool flush, FrameBurst& burst) {
  if (gathering_ && gather_->idle(rings_.all())) gathering_ = false;
  if (!gathering_) return look_direct(max, burst);
  burst.ring = kMerged;
  burst.count = gather_->take(rings_.all(), max, flush, burst.frames, burst.position);
  return burst.count;
}

Taken Client::take(uint32_t max, int timeout_ms, FrameBurst& burst) {
  max = max == 0 ? kMaxBurst : std::min(max, kMaxBurst);
  const uint64_t start = monotonic_ms();
  burst = {};
  for (bool looked_after_sleep = false;; looked_after_sleep = true) {
    if (break_.load(std::memory_order_relaxed) && break_.exchange(false, std::memory_order_relaxed)) {
      empty_eventfd(break_fd_.get());
      return Taken::kBreak;
    }
    // Read what is over before the rings: frames published before that are seen then.
    const bool over = closed_ || sources_ended();
    if (look(max, over, burst) != 0) {
      if (selectable_) update_selectable();
      flowing_ = true;
      return Taken::kFrames;
    }
    if (over && !rings_.any_ready()) {
      if (selectable_) update_selectable();
      return nothing_left();
    }
    const auto waited = static_cast<int64_t>(monotonic_ms() - start);
    const int64_t left = timeout_ms < 0 ? -1 : std::max<int64_t>(0, timeout_ms - waited);
    if (left == 0 && (looked_after_sleep || timeout_ms == 0)) {
      read_socket();
      if (closed_ || rings_.any_ready()) {
        if (!gathering_ || !gather_->holding()) continue;
      }
      if (selectable_) {
        if (!break_.load(std::memory_order_relaxed)) empty_eventfd(break_fd_.get());
        update_selectable();
      }
      return Taken::kTimeout;
    }
    sleep(max, static_cast<int>(std::min<int64_t>(left, 1 << 30)));
  }
}

bool Client::give_back(const FrameBurst& burst) {
  auto& rings = rings_.all();
  if (burst.ring == kMerged) return gather_ && gather_->give_back(rings, burst.position);
  if (burst.ring >= rings.size() || burst.position > rings[burst.ring].next) return false;
  rings[burst.ring].give_back(burst.position);
  return true;
}

// ---- waiting -------------------------------------------------------------------------------------

bool Client::sources_ended() const {
  const auto state = static_cast<layout::EngineState>(header().state.load(std::memory_order_acquire));
  return state == layout::EngineState::kSourcesEnded || state == layout::EngineState::kEnded;
}

// Everything was read: was it the sources' end, or the engine's?
Taken Client::nothing_left() {
  bool all_ended = header().sources.count != 0;
  for (uint32_t i = 0; i < header().sources.count; ++i)
    all_ended &= layout::entry<layout::SourceEntry>(header(), header().sources, i)
                     .ended.load(std::memory_order_relaxed) != 0;
  if (all_ended && error_.text.empty()) return Taken::kEnd;
  if (error_.text.empty()) error_ = {Code::kGone, why_detached(), "attach again"};
  if (error_.text.empty())
    error_ = {Code::kGone, fmt::format("engine {} has ended", header().name), "start it again: ringcap up"};
  return Taken::kError;
}

// What the engine says in the state, where its message did not fit into our socket; "": it did not detach us.
std::string Client::why_detached() const {
  const auto& entry = layout::entry<layout::ConsumerEntry>(header(), header().consumers, attached_.slot);
  if (entry.id.load(std::memory_order_relaxed) != attached_.id) return {};
  switch (static_cast<layout::Detached>(entry.detached.load(std::memory_order_relaxed))) {
    case layout::Detached::kControlArea:
      return std::string(layout::kControlAreaNonsense);
    case layout::Detached::kMessage:
      return "the engine got a message from us that makes no sense";
    case layout::Detached::kNot:
      break;
  }
  return {};
}

// Empties the socket: wake-ups, the reason for a detachment, the end.
void Client::read_socket() {
  if (!closed_ && !descriptors_are_ours()) {
    closed_ = true;
    error_ = {Code::kSystem, "the program closed a descriptor of this capture", ""};
  }
  while (!closed_) {
    auto received = message::receive(socket_.get(), false);
    if (!received && received.error().text.empty()) return;
    if (!received || received->bytes.empty()) {
      closed_ = true;
      return;
    }
    on_packet(std::move(*received));
  }
}

void Client::on_packet(message::Received received) {
  const auto header = message::parse_header(received.bytes);
  if (!header) return;
  using message::Type;
  if (header->type == Type::kFilterSet || header->type == Type::kFilterRefused ||
      header->type == Type::kSendGranted || header->type == Type::kSendRefused) {
    later_answer_ = std::move(received);
    return;
  }
  if (header->type != message::Type::kDetached) return;
  error_ = message::parse_error(received.bytes);
  error_.code = Code::kGone;
}

// ---- another filter ------------------------------------------------------------------------------

// Wake-ups are read with the answer, and come no second time: what they were for is looked for here.
Result<message::Received> Client::later_answer() {
  auto answer = wait_for_answer();
  if (selectable_) update_selectable();
  return answer;
}

Result<message::Received> Client::wait_for_answer() {
  const uint64_t start = monotonic_ms();
  while (!later_answer_) {
    if (closed_) return fail(Code::kGone, fmt::format("engine {} has ended", header().name));
    const uint64_t waited = monotonic_ms() - start;
    if (waited > kAnswerMs) return fail(Code::kSystem, "the engine did not answer within 10 seconds");
    pollfd wait{socket_.get(), POLLIN, 0};
    ::poll(&wait, 1, kAnswerMs - static_cast<int>(waited));
    read_socket();
  }
  auto answer = std::move(*later_answer_);
  later_answer_.reset();
  return answer;
}

Result<void> Client::set_filter(const std::vector<filter::Instruction>& incoming,
                                const std::optional<std::vector<filter::Instruction>>& outgoing) {
  auto local = local_filter(incoming, outgoing.value_or(incoming));
  if (!local) return std::unexpected(local.error());
  if (incoming.size() + (outgoing ? outgoing->size() : 0) > message::kMaxFilterInstructions)
    return too_long();
  const auto asked = message::encode(message::SetFilter{.filter = incoming, .outgoing = outgoing});
  if (auto sent = message::send(socket_.get(), asked); !sent) return sent;
  auto answer = later_answer();
  if (!answer) return std::unexpected(answer.error());
  auto place = message::parse_filter_set(answer->bytes);
  if (!place) return std::unexpected(message::parse_error(answer->bytes));
  attached_.filter = *place;
  // What was published before the workers went by it is filtered here.
  std::vector<uint64_t> until, out;
  for (const Ring& ring : rings_.all()) {
    if (*place != layout::FilterPlace::kLibrary) until.push_back(ring.head());
    out.push_back(ring.next);
  }
  if (!gather_)
    gather_.emplace(Gather::Setup{
        .state = &header(), .arena = arena(), .filter = std::nullopt, .merge = false, .wait_ns = 0});
  gather_->set_filter(std::move(*local), std::move(until), std::move(out));
  gathering_ = true;
  return {};
}

Result<message::Received> Client::ask_to_send(uint32_t port, uint32_t frames) {
  const message::SendOpen open{.port = port, .slots = frames, .cpu = this_cpu()};
  if (auto sent = message::send(socket_.get(), message::encode(open)); !sent)
    return std::unexpected(sent.error());
  return later_answer();
}

// Once for a batch, if frames came lately; and if none came by then, for a single one.
void Client::sleep(uint32_t max, int timeout_ms) {
  if (gathering_ && gather_->holding()) {
    ::poll(nullptr, 0, timeout_ms < 0 ? kLagMs : std::min(timeout_ms, kLagMs));
    return;
  }
  uint32_t frames = 1;
  if (std::exchange(flowing_, false) && batch_frames_ > 1) {
    frames = std::min(batch_frames_, max);
    timeout_ms = timeout_ms < 0 ? batch_ms_ : std::min(timeout_ms, batch_ms_);
  }
  read_socket();
  if (closed_ || !rings_.prepare_sleep(frames) || sources_ended()) return;
  wait(timeout_ms);
}

void Client::wait(int timeout_ms) {
  pollfd fds[] = {{socket_.get(), POLLIN, 0}, {break_fd_.get(), POLLIN, 0}};
  ::poll(fds, 2, timeout_ms);
  // A break that nobody has taken yet keeps its flag: take() looks at that before it sleeps again.
  if ((fds[1].revents & POLLIN) != 0) empty_eventfd(break_fd_.get());
}

void Client::settle(uint32_t frames, int ms) {
  if (break_.load(std::memory_order_relaxed)) return;
  read_socket();
  if (closed_ || !rings_.prepare_sleep(frames) || sources_ended()) return;
  wait(ms);
}

// The socket's inode is its own; a number that was closed and taken again by another file has another.
bool Client::descriptors_are_ours() const {
  if (!socket_ || inode(socket_.get()) != socket_inode_) return false;
  return !break_fd_ || (::fcntl(break_fd_.get(), F_GETFD) >= 0 && ::fcntl(epoll_.get(), F_GETFD) >= 0);
}

int Client::selectable_fd() {
  selectable_ = true;
  update_selectable();
  return epoll_.get();
}

void Client::keep_ready(bool frames_left) {
  frames_left_ = frames_left;
  if (selectable_) update_selectable();
}

// Keeps the selectable descriptor readable exactly while there is something to take.
void Client::update_selectable() {
  signal_ready(frames_left_ || closed_ || sources_ended() || rings_.any_ready() || !rings_.prepare_sleep());
}

void Client::signal_ready(bool ready) {
  if (ready == ready_signalled_) return;
  const uint64_t count = 1;
  if (ready) {
    [[maybe_unused]] const auto written = ::write(ready_fd_.get(), &count, sizeof count);
  } else {
    empty_eventfd(ready_fd_.get());
  }
  ready_signalled_ = ready;
}

void Client::break_loop() {
  break_.store(true, std::memory_order_relaxed);
  const uint64_t one = 1;
  [[maybe_unused]] const auto written = ::write(break_fd_.get(), &one, sizeof one);
}

namespace {
// What we filtered may be ahead of the worker's ledger, which is written once a round.
uint64_t less(uint64_t from, uint64_t here) { return from - std::min(from, here); }
}  // namespace

Stats Client::stats() const {
  const ledger::Taker t = ledger::read_taker(header(), attached_.slot);
  const auto& own = *const_cast<Rings&>(rings_).all().front().control;
  const uint64_t here = own.not_matched.load(std::memory_order_relaxed);
  Stats stats{.considered = t.considered,
              .not_matched = t.not_matched + here,
              .offered = less(t.offered, here),
              .published = less(t.published, here),
              .dropped = t.dropped,
              .released = less(t.released, here),
              .in_ring = t.in_ring,
              .late = own.late.load(std::memory_order_relaxed),
              .missed = ledger::missed(header())};
  return stats;
}

// ---- observers -----------------------------------------------------------------------------------

namespace {

Result<message::Received> ask(int socket, std::span<const std::byte> question) {
  if (auto sent = message::send(socket, question); !sent) return std::unexpected(sent.error());
  pollfd wait{socket, POLLIN, 0};
  if (::poll(&wait, 1, kAnswerMs) == 0)
    return fail(Code::kSystem, "the engine did not answer within 10 seconds");
  auto received = message::receive(socket, true);
  if (!received) return received;
  auto header = message::parse_header(received->bytes);
  if (!header) return std::unexpected(header.error());
  if (header->type == message::Type::kRefused) return std::unexpected(message::parse_error(received->bytes));
  return received;
}

Result<message::Received> greet_as(int socket, message::Role role, const std::string& program = {},
                                   const std::string& cluster = {},
                                   const std::vector<filter::Instruction>& filter = {}) {
  message::Hello hello;
  hello.role = role;
  hello.program = program.empty() ? program_invocation_short_name : program;
  hello.cluster = cluster;
  hello.filter = filter;
  return ask(socket, message::encode(hello));
}

Result<Mapping> map_state(const message::Received& received) {
  auto bytes = message::parse_observing(received.bytes);
  if (!bytes) return std::unexpected(bytes.error());
  if (received.fds.size() != 1) return fail(Code::kVersion, "the engine did not send its state");
  auto state = Mapping::map(received.fds[0].get(), *bytes, Mapping::Access::kRead, "the engine's state");
  if (!state) return state;
  if (auto header = ledger::check_state({state->data(), state->bytes()}); !header)
    return std::unexpected(header.error());
  return state;
}

}  // namespace

Result<Mapping> observe(const std::string& engine) {
  auto socket = connect_engine(engine);
  if (!socket) return std::unexpected(socket.error());
  auto received = greet_as(socket->get(), message::Role::kObserver);
  if (!received) return std::unexpected(received.error());
  return map_state(*received);
}

Result<Joined> join_as_sender(const std::string& engine, const std::string& program) {
  auto socket = connect_engine(engine);
  if (!socket) return std::unexpected(socket.error());
  Joined joined{above_standard(std::move(*socket)), {}};
  auto received = greet_as(joined.socket.get(), message::Role::kSender, program);
  if (!received) return std::unexpected(received.error());
  auto state = map_state(*received);
  if (!state) return std::unexpected(state.error());
  joined.state = std::move(*state);
  return joined;
}

Result<message::Received> ask_to_send(int socket, uint32_t port, uint32_t frames) {
  return ask(socket, message::encode(message::SendOpen{.port = port, .slots = frames, .cpu = this_cpu()}));
}

Result<void> replace_filter(const std::string& engine, const std::string& cluster,
                            const std::vector<filter::Instruction>& filter) {
  auto socket = connect_engine(engine);
  if (!socket) return std::unexpected(socket.error());
  if (auto answer = greet_as(socket->get(), message::Role::kOperator, {}, cluster, filter); !answer)
    return std::unexpected(answer.error());
  return {};
}

Result<void> stop_engine(const std::string& engine, int wait_ms) {
  auto dir = find_engine(engine);
  if (!dir) return std::unexpected(dir.error());
  auto socket = connect_engine(engine);
  if (!socket) return std::unexpected(socket.error());
  if (auto answer = greet_as(socket->get(), message::Role::kStop); !answer)
    return std::unexpected(answer.error());
  const uint64_t start = monotonic_ms();
  while (engine_runs(*dir, engine)) {
    if (monotonic_ms() - start > static_cast<uint64_t>(wait_ms))
      return fail(Code::kSystem, fmt::format("engine {} did not end within {} ms", engine, wait_ms),
                  "look at its log; its pid is in: ringcap stat " + engine);
    ::poll(nullptr, 0, 5);
  }
  return {};
}

}  // namespace ringcap::client

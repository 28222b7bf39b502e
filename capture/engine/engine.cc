#include "capture/engine/engine.h"

#include <fmt/format.h>
#include <grp.h>
#include <spdlog/spdlog.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cstring>

#include "capture/base/run_dir.h"

namespace ringcap::engine {
namespace {

// Four descriptors a consumer: with the usual soft limit of 1,024 fewer than kMaxConsumers would fit.
void allow_descriptors() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= limit.rlim_max) return;
  limit.rlim_cur = limit.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &limit);
}

constexpr uint64_t kPiece = uint64_t{2} << 20;  // regions begin and end at multiples of a hugepage
constexpr uint32_t kEthernet = 1;               // LINKTYPE_ETHERNET
constexpr uint32_t kMinBuffer = 2048;
constexpr uint32_t kMaxBuffer = 16384;

// Buffers that a worker needs besides its queues' descriptors and the rings.
constexpr uint32_t kBurstReserve = 2 * kBurst;

HashKey random_key() {
  HashKey key{};
  [[maybe_unused]] const auto got = ::getrandom(&key, sizeof key, 0);
  return key;
}

}  // namespace

Result<std::unique_ptr<Engine>> Engine::create(EngineOptions options,
                                               std::vector<std::unique_ptr<Port>> ports) {
  std::unique_ptr<Engine> engine(new Engine(std::move(options)));
  if (auto opened = engine->open(std::move(ports)); !opened) return std::unexpected(opened.error());
  return engine;
}

Engine::~Engine() {
  control_.reset();
  if (!socket_path_.empty()) ::unlink(socket_path_.c_str());
}

Result<void> Engine::open(std::vector<std::unique_ptr<Port>> ports) {
  ports_ = std::move(ports);
  if (auto done = take_name(); !done) return done;
  auto arena = memory::Arena::create(options_.arena);
  if (!arena) return std::unexpected(arena.error());
  arena_ = std::move(*arena);
  if (auto done = check_forwards(options_.forwards, port_pointers()); !done) return done;
  if (auto done = divide_arena(); !done) return done;
  for (auto& port : ports_)
    if (auto done = port->prepare({arena_.data(), arena_.bytes()}); !done)
      return context("cannot give the arena to " + port->address(), done.error());
  if (auto done = make_state(); !done) return done;
  if (auto done = make_workers(); !done) return done;
  if (auto done = make_forwarders(); !done) return done;
  return make_control();
}

std::vector<Port*> Engine::port_pointers() const {
  std::vector<Port*> pointers;
  pointers.reserve(ports_.size());
  for (const auto& port : ports_) pointers.push_back(port.get());
  return pointers;
}

Result<void> Engine::take_name() {
  options_.arena.engine = options_.name;
  if (!options_.listen) return {};
  auto dir = writable_run_dir();
  if (!dir) return std::unexpected(dir.error());
  auto lock = lock_engine(*dir, options_.name);
  if (!lock) return std::unexpected(lock.error());
  lock_ = std::move(*lock);
  socket_path_ = socket_path(*dir, options_.name);
  return {};
}

// One worker per receive queue; the arena in equal parts, whole hugepages each. What senders' frames need on
// their way is at its end.
Result<void> Engine::divide_arena() {
  uint32_t need = kMinBuffer;
  for (uint32_t p = 0; p < ports_.size(); ++p) {
    need = std::max(need, std::bit_ceil(ports_[p]->buffer_need()));
    uint32_t number = 0;
    for (const auto& queue : ports_[p]->receive_queues()) {
      sources_.push_back({p, number++, static_cast<uint32_t>(queues_.size()), queue->clock()});
      queues_.push_back(queue.get());
    }
  }
  const auto workers = static_cast<uint32_t>(queues_.size());
  if (workers == 0 || workers > layout::kMaxWorkers)
    return fail(Code::kUsage,
                fmt::format("{} receive queues: an engine has 1 to {}", workers, layout::kMaxWorkers));
  if (need > kMaxBuffer)
    return fail(Code::kUsage,
                fmt::format("frames of {} bytes do not fit a buffer of at most {}", need, kMaxBuffer),
                "choose a smaller mtu=");
  const uint64_t sends = options_.send ? send_places(port_pointers()).size() : 0;
  const uint64_t reserved = std::min(arena_.bytes(), sends * kSendRegionBytes);
  for (uint64_t i = 0; i < sends; ++i) {
    const uint64_t offset = arena_.bytes() - reserved + i * kSendRegionBytes;
    send_regions_.push_back(
        {arena_.data() + offset, offset, need, static_cast<uint32_t>(kSendRegionBytes / need), 0});
  }
  const uint64_t part = (arena_.bytes() - reserved) / workers / kPiece * kPiece;
  for (uint32_t w = 0; w < workers; ++w) {
    const uint64_t offset = w * part;
    regions_.push_back(
        {arena_.data() + offset, offset, need, static_cast<uint32_t>(part / need), static_cast<uint8_t>(w)});
    const uint64_t least = queues_[w]->descriptors() + kBurstReserve + layout::kMinRingSlots;
    if (regions_.back().count >= least) continue;
    const uint64_t mib =
        ((least * need + kPiece - 1) / kPiece * kPiece * workers + sends * kSendRegionBytes) >> 20;
    return fail(
        Code::kUsage,
        fmt::format(
            "an arena of {} MiB is too small: {} workers with {} descriptors and buffers of {} bytes need "
            "{} MiB, more for larger rings",
            arena_.bytes() >> 20, workers, queues_[w]->descriptors(), need, mib),
        fmt::format("give it more: --arena {}M", mib));
  }
  return {};
}

Result<void> Engine::make_state() {
  hash_key_ = options_.hash_key.value_or(random_key());
  StateShape shape{.name = options_.name,
                   .ports = {},
                   .sources = sources_,
                   .forwarders = forward_lines(options_.forwards, port_pointers(), sources_),
                   .regions = regions_,
                   .lags_ns = {},
                   .arena = &arena_,
                   .hash_key = hash_key_};
  for (const auto& port : ports_) {
    shape.ports.push_back({.address = port->address(),
                           .driver = port->driver(),
                           .mtu = port->mtu(),
                           .queues = static_cast<uint32_t>(port->receive_queues().size()),
                           .link_type = port->link_type(),
                           .statistics = {}});
    for (const Statistic& statistic : port->statistics())
      shape.ports.back().statistics.push_back(statistic.name);
  }
  for (const auto* queue : queues_) shape.lags_ns.push_back(queue->lag_ns());
  auto state = State::create(shape);
  if (!state) return std::unexpected(state.error());
  state_ = std::move(*state);
  return {};
}

Result<void> Engine::make_workers() {
  events_fd_ = Fd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!events_fd_) return fail_system("cannot make an eventfd");
  for (uint32_t w = 0; w < queues_.size(); ++w) {
    WorkerSetup setup{.number = w,
                      .queues = {{queues_[w], &state_.source(w), static_cast<uint8_t>(w),
                                  ports_[sources_[w].port]->link_type() == kEthernet}},
                      .region = regions_[w],
                      .state = &state_.header(),
                      .poll = options_.poll,
                      .hash_key = hash_key_,
                      .cpu = options_.cpus.empty() ? -1 : options_.cpus[w % options_.cpus.size()],
                      .events_fd = events_fd_.get(),
                      .thread_name = fmt::format("worker {}", w)};
    workers_.push_back(std::make_unique<Worker>(std::move(setup)));
    if (auto armed = workers_.back()->arm_queues(); !armed) return armed;
  }
  return {};
}

// A forwarder's ring is as long as a consumer's by default, as far as a quarter of the room that the smallest
// region has goes.
Result<void> Engine::make_forwarders() {
  if (options_.forwards.empty() && !options_.send) return {};
  uint64_t room = ~uint64_t{0};
  for (uint32_t w = 0; w < workers_.size(); ++w)
    room = std::min<uint64_t>(room, regions_[w].count - queues_[w]->descriptors() - kBurstReserve);
  const uint64_t most = std::bit_floor(std::max<uint64_t>(room / 4, 1));
  const uint64_t forwards = std::max<uint64_t>(options_.forwards.size(), 1);
  forward_slots_ = std::clamp<uint64_t>(std::min<uint64_t>(options_.ring_slots, most), layout::kMinRingSlots,
                                        layout::kMaxRingSlots);
  if (forward_slots_ * forwards > room)
    return fail(
        Code::kUsage,
        fmt::format("an arena of {} MiB is too small to forward between so many ports", arena_.bytes() >> 20),
        "give it more: --arena");
  auto made = Forwarders::create({.state = &state_,
                                  .engine = options_.name,
                                  .ports = port_pointers(),
                                  .sources = sources_,
                                  .forwards = options_.forwards,
                                  .send = options_.send,
                                  .send_regions = send_regions_,
                                  .arena = arena_.data(),
                                  .ring_slots = static_cast<uint32_t>(forward_slots_),
                                  .poll = options_.poll});
  if (!made) return std::unexpected(made.error());
  forwarders_ = std::move(*made);
  return {};
}

Result<void> Engine::make_control() {
  uint64_t slots = ~uint64_t{0};
  for (uint32_t w = 0; w < workers_.size(); ++w) {
    const auto feeds = std::ranges::count(options_.forwards, sources_[w].port, &Forward::from);
    slots = std::min<uint64_t>(slots, regions_[w].count - queues_[w]->descriptors() - kBurstReserve -
                                          static_cast<uint64_t>(feeds) * forward_slots_);
  }
  // A default that fits no ring into the arena would refuse everybody who asks for nothing special.
  if (const auto four = static_cast<uint32_t>(std::bit_floor(slots / 4)); options_.ring_slots > slots) {
    options_.ring_slots = std::max(four, layout::kMinRingSlots);
    spdlog::warn(
        "the arena has room for {} frames in rings: a consumer's ring holds {} if it does not ask for "
        "another "
        "number; a larger --arena gives more",
        slots, options_.ring_slots);
  }
  ControlSetup setup;
  setup.state = &state_;
  for (auto& worker : workers_) setup.workers.push_back(worker.get());
  setup.ports = port_pointers();
  setup.queues = queues_;
  setup.limits = {.workers = static_cast<uint32_t>(workers_.size()),
                  .slots = slots,
                  .default_ring_slots = options_.ring_slots,
                  .filter_budget = options_.filter_budget,
                  .buffer_bytes = regions_.front().buffer_bytes,
                  .arena_sealed = arena_.sealed(),
                  .ports = static_cast<uint32_t>(ports_.size()),
                  .forwards = static_cast<uint32_t>(options_.forwards.size())};
  setup.forwarders = forwarders_.get();
  setup.watches = options_.watches;
  setup.on_link = options_.on_link;
  setup.filter = options_.filter;
  setup.clusters = options_.clusters;
  setup.name = options_.name;
  setup.arena = &arena_;
  setup.events_fd = events_fd_.get();
  setup.wait_consumers = options_.wait_consumers;
  setup.until_end = options_.until_end;
  if (options_.listen) {
    allow_descriptors();
    auto listener = listen();
    if (!listener) return std::unexpected(listener.error());
    setup.listener = std::move(*listener);
  }
  auto control = Control::create(std::move(setup));
  if (!control) return std::unexpected(control.error());
  control_ = std::move(*control);
  return {};
}

// The lock says that the engine runs, so a socket that is there already is an engine's that died.
Result<Fd> Engine::listen() {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (socket_path_.size() >= sizeof address.sun_path)
    return fail(Code::kUsage, fmt::format("the socket's path is too long: {}", socket_path_),
                "set RINGCAP_RUN_DIR to a shorter one");
  std::memcpy(address.sun_path, socket_path_.c_str(), socket_path_.size() + 1);
  Fd fd(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd) return fail_system("cannot make the control socket");
  ::unlink(socket_path_.c_str());
  const mode_t before = ::umask(0117);
  const int bound = ::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address);
  const int number = errno;
  ::umask(before);
  if (bound != 0) return fail_system("cannot make the control socket " + socket_path_, number);
  if (const group* group = options_.group.empty() ? nullptr : ::getgrnam(options_.group.c_str())) {
    if (::chown(socket_path_.c_str(), static_cast<uid_t>(-1), group->gr_gid) != 0)
      spdlog::warn("cannot give {} to the group {}", socket_path_, options_.group);
  } else if (!options_.group.empty()) {
    spdlog::info("no group {}: only root and this user may attach (groupadd --system {})", options_.group,
                 options_.group);
  }
  if (::listen(fd.get(), 1024) != 0) return fail_system("cannot listen on " + socket_path_);
  return fd;
}

Result<void> Engine::run() {
  std::vector<std::jthread> threads;
  threads.reserve(workers_.size());
  for (auto& worker : workers_) threads.emplace_back([&worker] { worker->run(); });
  if (forwarders_) forwarders_->start();
  auto result = control_->run();  // asks the workers to stop at its end
  threads.clear();
  for (auto& worker : workers_) worker->disarm_queues();
  control_->finish();
  return result;
}

}  // namespace ringcap::engine

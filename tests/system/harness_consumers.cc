#include "tests/system/harness_consumers.h"

#include <poll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <stdexcept>
#include <system_error>

#include "capture/base/run_dir.h"
#include "libcap/client/client.h"

namespace ringcap::test {
namespace {

constexpr uint32_t kSequenceOffset = 56;  // of a gen: frame (driver/gen/port.h)
constexpr int kTakeMs = 20;
// Mappings that the C library's allocator may add, however often something is repeated.
#if defined(__SANITIZE_ADDRESS__)
constexpr size_t kOfTheAllocator = 512;  // its own allocator maps as it likes
#else
constexpr size_t kOfTheAllocator = 8;
#endif

std::system_error system_error(const std::string& tried) {
  return std::system_error(errno, std::generic_category(), tried);
}

}  // namespace

void SequenceCheck::look(const ringcap_burst& burst) {
  for (uint32_t i = 0; i < burst.count; ++i) {
    const ringcap_descriptor& d = burst.frames[i];
    uint64_t number = 0;
    std::memcpy(&number, burst.arena + RINGCAP_OFFSET(&d) + kSequenceOffset, sizeof number);
    const auto [place, is_new] = next_.try_emplace(d.source, from_start_ ? 0 : number);
    const uint64_t expected = place->second + (is_new && !from_start_ ? 0 : RINGCAP_LOST_BEFORE(&d));
    if (number < expected)
      ++backwards;
    else
      unexplained += number - expected;
    place->second = number + 1;
    lost += RINGCAP_LOST_BEFORE(&d);
    if (d.timestamp_ns < last_ns_) ++time_went_back;
    last_ns_ = d.timestamp_ns;
  }
  frames += burst.count;
}

// ---- consumers in processes of their own -----------------------------------------------------------

void Progress::take_over(const SequenceCheck& check) {
  lost = check.lost;
  unexplained = check.unexplained;
  backwards = check.backwards;
  time_went_back = check.time_went_back;
  frames = check.frames;
}

void Progress::take_over(const ringcap_error& error) {
  std::memcpy(text, error.text, sizeof text);
  text[sizeof text - 1] = 0;
}

Consumer::Consumer(const Body& body) {
  void* memory = ::mmap(nullptr, sizeof(Progress), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) throw system_error("mapping a consumer's progress");
  memory_ = Mapping::adopt(memory, sizeof(Progress));
  progress_ = new (memory) Progress{};
  const pid_t parent = ::getpid();
  pid_ = ::fork();
  if (pid_ < 0) throw system_error("forking a consumer");
  if (pid_ > 0) return;
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() != parent) ::_exit(1);
  ::close_range(3, ~0U, 0);
  body(*progress_);
  ::_exit(0);
}

Consumer::~Consumer() { kill(); }

Consumer::Consumer(Consumer&& other) noexcept
    : pid_(std::exchange(other.pid_, -1)),
      memory_(std::move(other.memory_)),
      progress_(other.progress_),
      status_(other.status_) {}

void Consumer::signal(int number) const {
  if (!status_ && pid_ > 0) ::kill(pid_, number);
}

int Consumer::wait() {
  if (status_) return *status_;
  int status = 0;
  const bool ended = wait_until([&] { return ::waitpid(pid_, &status, WNOHANG) == pid_; });
  if (!ended) {
    kill();
    throw std::runtime_error("a consumer did not end in time");
  }
  status_ = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
  return *status_;
}

int Consumer::stop() {
  progress_->stop = true;
  return wait();
}

void Consumer::kill() {
  if (status_ || pid_ < 0) return;
  ::kill(pid_, SIGKILL);
  int status = 0;
  while (::waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
  }
  status_ = 128 + SIGKILL;
}

namespace {

void follow_attached(const Following& following, ringcap_t* handle, Progress& progress) {
  SequenceCheck check(following.from_start);
  while (!progress.stop) {
    ringcap_burst burst;
    progress.result = ringcap_take(handle, 0, kTakeMs, &burst);
    if (progress.result < 0) break;
    if (progress.result == 0) continue;
    check.look(burst);
    progress.take_over(check);
    if (following.hold != 0 && check.frames >= following.hold) {
      progress.holding = true;
      while (!progress.stop) ::poll(nullptr, 0, 10);
      return;
    }
    if (following.hold == 0) ringcap_give_back(handle, &burst);
  }
  ringcap_counters counters;
  ringcap_stats(handle, &counters);
  progress.dropped = counters.dropped;
  progress.take_over(*ringcap_last_error(handle));
}

}  // namespace

Consumer::Body follow(Following following) {
  return [following = std::move(following)](Progress& progress) {
    ringcap_options options = RINGCAP_OPTIONS_INIT;
    options.ring_frames = following.ring_frames;
    options.flags = following.flags;
    options.merge_wait_ms = 10'000;  // on a busy machine a worker may lag for long: the order is what counts
    options.filter = following.filter.empty() ? nullptr : following.filter.data();
    options.filter_length = static_cast<uint32_t>(following.filter.size());
    ringcap_t* handle = nullptr;
    ringcap_error error{};
    progress.result = ringcap_attach(following.engine.c_str(), &options, &handle, &error);
    progress.take_over(error);
    if (progress.result != RINGCAP_OK) return;
    progress.attached = true;
    follow_attached(following, handle, progress);
    ringcap_detach(handle);
  };
}

std::vector<Consumer> start_followers(size_t count, const Following& following) {
  std::vector<Consumer> consumers;
  consumers.reserve(count);
  for (size_t i = 0; i < count; ++i) consumers.emplace_back(follow(following));
  for (Consumer& consumer : consumers) {
    Progress& progress = consumer.progress();
    if (!wait_until([&] { return progress.attached || progress.result != RINGCAP_OK; }) || !progress.attached)
      throw std::runtime_error(std::string("a consumer did not attach: ") + progress.text);
  }
  return consumers;
}

bool took(Consumer& consumer, uint64_t frames) {
  return wait_until([&] { return consumer.progress().frames >= frames || consumer.progress().result < 0; }) &&
         consumer.progress().frames >= frames;
}

// ---- consumers in this process ---------------------------------------------------------------------

Attachment::Attachment(const std::string& engine, ringcap_options options)
    : handle_(nullptr, &ringcap_detach) {
  ringcap_t* handle = nullptr;
  ringcap_error error{};
  if (ringcap_attach(engine.c_str(), &options, &handle, &error) != RINGCAP_OK)
    throw std::runtime_error(std::string("cannot attach: ") + error.text);
  handle_.reset(handle);
}

ringcap_counters Attachment::counters() const {
  ringcap_counters counters;
  ringcap_stats(handle_.get(), &counters);
  return counters;
}

message::Hello asking(uint32_t ring_slots, std::string program, std::vector<filter::Instruction> filter) {
  message::Hello hello;
  hello.ring_slots = ring_slots;
  hello.program = std::move(program);
  hello.filter = std::move(filter);
  return hello;
}

RawClient::RawClient(const std::string& engine) {
  auto socket = connect_engine(engine);
  if (!socket) throw std::runtime_error(socket.error().message());
  socket_ = std::move(*socket);
}

void RawClient::say(std::span<const std::byte> packet) const {
  if (auto sent = message::send(socket(), packet); !sent) throw std::runtime_error(sent.error().message());
}

message::Received RawClient::hear() const {
  pollfd wait{socket(), POLLIN, 0};
  if (::poll(&wait, 1, static_cast<int>(kPatience.count())) != 1)
    throw std::runtime_error("the engine says nothing");
  auto received = message::receive(socket(), false);
  if (!received) throw std::runtime_error(received.error().message());
  return std::move(*received);
}

Error RawClient::hear_error() const {
  for (;;) {
    const message::Received received = hear();
    const auto header = message::parse_header(received.bytes);
    if (!header) throw std::runtime_error("instead of a reason: " + header.error().message());
    if (header->type == message::Type::kWake) continue;
    return message::parse_error(received.bytes);
  }
}

void RawClient::attach(message::Hello hello) {
  say(hello);
  message::Received received = hear();
  auto attached = message::parse_attached(received.bytes);
  if (!attached) throw std::runtime_error(message::parse_error(received.bytes).message());
  attached_ = *attached;
  fds_ = std::move(received.fds);
  auto rings = Mapping::map(fds_.at(2).get(), attached_.rings_bytes, Mapping::Access::kRead, "the rings");
  auto control = Mapping::map(fds_.at(3).get(), attached_.control_bytes, Mapping::Access::kReadWrite,
                              "the control area");
  if (!rings || !control) throw std::runtime_error("cannot map what the engine sent");
  rings_ = std::move(*rings);
  control_ = std::move(*control);
}

// ---- the ledger --------------------------------------------------------------------------------------

ledger::Ledger ledger_of(const Engine& engine) {
  auto state = client::observe(engine.name());
  if (!state) throw std::runtime_error(state.error().message());
  return ledger::read(*state->at<const layout::Header>(0));
}

uint64_t sum_of(const ledger::Ledger& ledger, uint64_t ledger::Worker::* counter) {
  uint64_t sum = 0;
  for (const auto& worker : ledger.workers) sum += worker.*counter;
  return sum;
}

uint64_t sum_of(const ledger::Ledger& ledger, uint64_t ledger::Queue::* counter) {
  uint64_t sum = 0;
  for (const auto& port : ledger.ports)
    for (const auto& queue : port.queues) sum += queue.*counter;
  return sum;
}

uint64_t lost_before_consumers(const ledger::Ledger& ledger) {
  return sum_of(ledger, &ledger::Queue::missed) + sum_of(ledger, &ledger::Worker::no_buffer);
}

bool has_released(const Engine& engine, pid_t pid, uint64_t released) {
  return wait_until([&] {
    const auto consumers = ledger_of(engine).consumers;
    return std::ranges::any_of(consumers, [&](const ledger::Consumer& consumer) {
      return consumer.pid == static_cast<uint32_t>(pid) && consumer.total.released >= released;
    });
  });
}

bool has_attached(const Engine& engine, pid_t pid) { return has_released(engine, pid, 0); }

std::string not_come_back(const Engine& engine) {
  ledger::Ledger ledger;
  const bool back = wait_until([&] {
    ledger = ledger_of(engine);
    const auto& buffers = ledger.buffers;
    return ledger.consumers.empty() && buffers.referenced == 0 &&
           buffers.total == buffers.port + buffers.free;
  });
  if (back) return "";
  return std::to_string(ledger.consumers.size()) + " consumers are left, " +
         std::to_string(ledger.buffers.referenced) + " buffers referenced, " +
         std::to_string(ledger.buffers.free) + " free of " + std::to_string(ledger.buffers.total);
}

Belongings belongings_of(pid_t pid) {
  return {descriptors_of(pid), mappings_of(pid).size(), resident_kb(pid)};
}

std::string leaked(pid_t pid, const Belongings& before, uint64_t more_kb) {
#if defined(__SANITIZE_ADDRESS__)
  more_kb += 1 << 20;  // it keeps what is freed in quarantine, and looks for leaks itself
#endif
  Belongings now{};
  const bool same = wait_until([&] {
    now = belongings_of(pid);
    return now.descriptors <= before.descriptors && now.mappings <= before.mappings + kOfTheAllocator &&
           now.resident_kb <= before.resident_kb + more_kb;
  });
  if (same) return "";
  const auto change = [](const char* what, uint64_t then, uint64_t later) {
    return std::string(what) + " " + std::to_string(then) + " -> " + std::to_string(later);
  };
  return change("descriptors", before.descriptors, now.descriptors) +
         change(", mappings", before.mappings, now.mappings) +
         change(", kB", before.resident_kb, now.resident_kb);
}

}  // namespace ringcap::test

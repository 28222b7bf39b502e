// An engine whose queue stamps frames by the adapter's clock: what it tells consumers about time.
#include <gtest/gtest.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <thread>

#include "capture/base/fd.h"
#include "capture/engine/engine.h"
#include "capture/layout/view.h"

namespace ringcap::engine {
namespace {

constexpr uint64_t kSecond = 1'000'000'000;

uint64_t realtime_ns() {
  timespec now{};
  ::clock_gettime(CLOCK_REALTIME, &now);
  return static_cast<uint64_t>(now.tv_sec) * kSecond + static_cast<uint64_t>(now.tv_nsec);
}

// Gives one frame, stamped `kFrameAgeNs` ago, whenever it is told to.
class StampingQueue final : public ReceiveQueue {
 public:
  static constexpr uint64_t kFrameAgeNs = 1'000'000, kLagNs = 2'000'000;

  uint32_t descriptors() const override { return 1; }
  Result<void> arm(const Region& region, FreeBuffers& free) override {
    region_ = region;
    buffer_ = free.pop();
    return {};
  }
  void disarm(FreeBuffers& free) override { free.push(buffer_); }
  Burst receive(std::span<Frame> out, FreeBuffers& free) override {
    if (free.empty() || !wanted.exchange(false)) return {};
    const uint64_t now = realtime_ns();
    out[0] = {.timestamp_ns = now - kFrameAgeNs,
              .length = 60,
              .captured = 60,
              .flags = layout::kAdapterTime,
              .data = region_.buffer(buffer_),
              .buffer = buffer_};
    buffer_ = free.pop();
    stamped = now - kFrameAgeNs;
    return {.frames = 1};
  }
  uint32_t held() const override { return 1; }
  layout::Clock clock() const override { return layout::Clock::kAdapter; }
  uint64_t lag_ns() const override { return kLagNs; }
  QueueCounters counters() override { return {}; }
  int wait_fd() const override { return bell_.get(); }
  // The worker has woken, and has not looked at the queue yet.
  void disable_wake() override {
    uint64_t drained = 0;
    if (::read(bell_.get(), &drained, sizeof drained) < 0) return;  // it was not this queue
    if (const auto* worker = told.load())
      said_too_much += worker->complete_until_ns.load() > realtime_ns() - kLagNs / 2;
    ++rung;
  }
  void ring() const { ::eventfd_write(bell_.get(), 1); }

  std::atomic<const layout::WorkerEntry*> told = nullptr;
  std::atomic<uint32_t> rung = 0, said_too_much = 0;
  std::atomic<bool> wanted = false;
  std::atomic<uint64_t> stamped = 0;

 private:
  Fd bell_{::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
  Region region_;
  uint32_t buffer_ = 0;
};

class StampingPort final : public Port {
 public:
  StampingPort() { queues_.push_back(std::make_unique<StampingQueue>()); }
  StampingQueue& queue() { return static_cast<StampingQueue&>(*queues_[0]); }
  const std::string& address() const override { return address_; }
  std::string driver() const override { return "test"; }
  uint32_t mtu() const override { return 1500; }
  uint32_t buffer_need() const override { return 2048; }
  std::span<const std::unique_ptr<ReceiveQueue>> receive_queues() const override { return queues_; }
  Result<void> start() override { return {}; }
  void stop() override {}

 private:
  std::string address_ = "test:";
  std::vector<std::unique_ptr<ReceiveQueue>> queues_;
};

class AdapterTime : public testing::Test {
 protected:
  explicit AdapterTime(Poll poll = Poll::kBusy) : poll_(poll) {}
  void SetUp() override {
    char folder[] = "/tmp/ringcap-adapter-time-XXXXXX";
    ASSERT_NE(::mkdtemp(folder), nullptr);
    folder_ = folder;
    ::setenv("RINGCAP_RUN_DIR", folder, 1);
    auto port = std::make_unique<StampingPort>();
    queue_ = &port->queue();
    std::vector<std::unique_ptr<Port>> ports;
    ports.push_back(std::move(port));
    EngineOptions options;
    options.name = "adapter-time";
    options.arena = {.kind = layout::MemoryKind::kPlain, .bytes = 8 << 20, .engine = options.name};
    options.ring_slots = 64;
    options.poll = poll_;
    options.listen = false;
    auto engine = Engine::create(options, std::move(ports));
    ASSERT_TRUE(engine) << engine.error().message();
    engine_ = std::move(*engine);
    thread_ = std::thread([this] { EXPECT_TRUE(engine_->run()); });
  }
  void TearDown() override {
    if (engine_) engine_->request_stop();
    if (thread_.joinable()) thread_.join();
    engine_.reset();
    std::filesystem::remove_all(folder_);
  }
  const layout::WorkerEntry& worker() {
    const auto& header = engine_->header();
    return layout::entry<layout::WorkerEntry>(header, header.workers, 0);
  }
  uint64_t complete_until() { return worker().complete_until_ns.load(); }
  static bool eventually(const std::function<bool()>& holds) {
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    while (!holds()) {
      if (std::chrono::steady_clock::now() > end) return false;
      std::this_thread::yield();
    }
    return true;
  }

  Poll poll_;
  std::string folder_;
  StampingQueue* queue_ = nullptr;
  std::unique_ptr<Engine> engine_;
  std::thread thread_;
};

TEST_F(AdapterTime, is_what_the_engine_says_its_clock_is) {
  EXPECT_EQ(engine_->header().clock, static_cast<uint32_t>(layout::Clock::kAdapter));
  const auto& header = engine_->header();
  const auto& source = layout::entry<layout::SourceEntry>(header, header.sources, 0);
  EXPECT_EQ(source.clock, static_cast<uint32_t>(layout::Clock::kAdapter));
}

// A consumer that merges several workers by time waits for what is said here.
TEST_F(AdapterTime, an_empty_queue_is_complete_until_now_but_for_what_is_on_its_way) {
  for (int round = 0; round < 3; ++round) {
    const uint64_t start = realtime_ns();
    ASSERT_TRUE(eventually([&] { return complete_until() > start; }));
    const uint64_t until = complete_until();  // first: the clock goes on
    // The engine's clock is worked out from the processor's counter, and may be ahead by a moment.
    EXPECT_LE(until, realtime_ns() - StampingQueue::kLagNs + StampingQueue::kLagNs / 2);
    queue_->wanted = true;
    ASSERT_TRUE(eventually([&] { return !queue_->wanted; }));
  }
  const uint64_t stamped = queue_->stamped;
  ASSERT_TRUE(eventually([&] { return complete_until() > stamped; }));
}

class AdapterTimeAsleep : public AdapterTime {
 protected:
  AdapterTimeAsleep() : AdapterTime(Poll::kSleep) {}
};

// What woke it is stamped already, and not handed out yet: a consumer that merges must wait for it.
TEST_F(AdapterTimeAsleep, a_worker_that_wakes_is_complete_but_for_what_is_on_its_way) {
  queue_->told = &worker();
  for (uint32_t times = 1; times <= 10; ++times) {
    ASSERT_TRUE(eventually([&] { return complete_until() == layout::kAsleep; }));
    queue_->ring();
    ASSERT_TRUE(eventually([&] { return queue_->rung >= times; }));
  }
  EXPECT_EQ(queue_->said_too_much, 0U);
}

}  // namespace
}  // namespace ringcap::engine

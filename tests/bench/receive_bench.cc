// What a driver's receive loop costs where the device is as fast as memory (fed_device.h): ns a frame, of 64
// bytes. Only the driver's side is timed, 512 frames at a time.
//
//   receive_ringcap     bursts of 32 taken and refilled, their buffers pushed back
//   hand_over_ringcap   a worker's rounds: received, parsed, hashed, stamped, handed to a consumer's ring and
//                       collected from it, refilled
//   receive_dpdk        bursts of 32 by DPDK's driver for the same kind of descriptor, freed in bulk
#include <benchmark/benchmark.h>

#include <chrono>

#include "tests/nic/fed_device.h"
#include "tests/unit/capture/engine/one_worker.h"

namespace ringcap::bench {
namespace {

using namespace nic;  // NOLINT

constexpr uint32_t kAtOnce = 512, kBurst = 32, kBuffers = 4096;

template <class Work>
void time_fed(benchmark::State& state, FedDevice& device, const Work& take) {
  uint64_t frames = 0;
  for (auto _ : state) {
    device.feed(kAtOnce);
    const auto before = std::chrono::steady_clock::now();
    const uint32_t taken = take();
    const auto after = std::chrono::steady_clock::now();
    if (taken != kAtOnce) return state.SkipWithError("frames are missing");
    frames += taken;
    state.SetIterationTime(std::chrono::duration<double>(after - before).count());
  }
  state.SetItemsProcessed(static_cast<int64_t>(frames));
}

template <class Device>
void receive_ringcap(benchmark::State& state) {
  const memory::Arena arena =
      memory::Arena::create({.bytes = uint64_t{kBuffers} * 2048, .engine = "receive-bench"}).value();
  Device device;
  const std::unique_ptr<ReceiveQueue> queue = device.take_queue();
  FreeBuffers free(kBuffers);
  for (uint32_t i = 0; i < kBuffers; ++i) free.push(i);
  device.set_arena(arena.data());
  queue->arm({.base = arena.data(), .buffer_bytes = 2048, .count = kBuffers}, free).value();
  device.start();
  Frame out[kBurst];
  queue->receive(out, free);  // virtio goes over to its ring
  time_fed(state, device, [&] {
    uint32_t taken = 0;
    while (const uint32_t got = queue->receive(out, free).frames) {
      uint32_t* room = free.room();
      for (uint32_t i = 0; i < got; ++i) room[i] = out[i].buffer;
      free.grow(got);
      taken += got;
    }
    return taken;
  });
}

// A port with the one queue of a device.
class FedPort final : public Port {
 public:
  explicit FedPort(FedDevice& device) : device_(device) { queues_.push_back(device.take_queue()); }
  const std::string& address() const override { return address_; }
  std::string driver() const override { return "fed"; }
  uint32_t mtu() const override { return 1500; }
  uint32_t buffer_need() const override { return 2048; }
  std::span<const std::unique_ptr<ReceiveQueue>> receive_queues() const override { return queues_; }
  Result<void> prepare(const PortNeeds& needs) override {
    write_frames(needs);
    device_.set_arena(needs.arena);
    return {};
  }
  Result<void> start() override {
    device_.start();
    return {};
  }
  void stop() override {}

 private:
  // A UDP frame wherever one may begin.
  static void write_frames(const PortNeeds& needs) {
    constexpr uint8_t kFrame[42] = {2, 0,  0,  0, 0, 1,  2, 0, 0, 0,  0, 2, 8, 0, 0x45, 0, 0, 50, 0,  0, 0,
                                    0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, 0, 1,    0, 2, 0,  30, 0, 0};
    for (uint64_t at = 0; at + 64 <= needs.arena_bytes; at += 64)
      std::memcpy(needs.arena + at, kFrame, sizeof kFrame);
  }

  FedDevice& device_;
  std::string address_ = "fed:0";
  std::vector<std::unique_ptr<ReceiveQueue>> queues_;
};

template <class Device>
void hand_over_ringcap(benchmark::State& state) {
  Device device;
  test::OneWorker engine(std::make_unique<FedPort>(device), uint64_t{kBuffers} * 2048, engine::Poll::kBusy,
                         layout::MemoryKind::kMemfd);
  test::Attached consumer = engine.attach(1024);
  engine.rounds(4);
  time_fed(state, device, [&] {
    uint32_t taken = 0;
    while (const uint32_t got = engine.round()) {
      taken += got;
      benchmark::DoNotOptimize(consumer.drain());
    }
    return taken;
  });
}

#define RINGCAP_FORMAT(device, name)                                                  \
  BENCHMARK(receive_ringcap<device>)->Name("receive_ringcap/" name)->UseManualTime(); \
  BENCHMARK(hand_over_ringcap<device>)->Name("hand_over_ringcap/" name)->UseManualTime()

RINGCAP_FORMAT(FedIntel<intel::LegacyReceive>, "legacy");
RINGCAP_FORMAT(FedIntel<intel::ExtendedReceive>, "extended and advanced");
RINGCAP_FORMAT(FedVirtio<virtio::SplitRing>, "virtio split");
RINGCAP_FORMAT(FedVirtio<virtio::PackedRing>, "virtio packed");
RINGCAP_FORMAT(FedVmxnet3, "vmxnet3");

}  // namespace
}  // namespace ringcap::bench

BENCHMARK_MAIN();

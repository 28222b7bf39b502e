// Timestamps of the NIC's, on the chips that have one for every frame: only their models have run it.
#include <algorithm>
#include <ctime>
#include <memory>
#include <vector>

#include "driver/igb/registers.h"
#include "driver/ixgbe/registers.h"
#include "tests/nic/igb_model.h"
#include "tests/nic/ixgbe_model.h"
#include "tests/nic/nic_test.h"

namespace ringcap::nic {
namespace {

using Bytes = std::vector<uint8_t>;

constexpr uint64_t kMs = 1'000'000;
// Between the two clocks, as the driver knows them: microseconds, unless the machine stands still just then.
constexpr uint64_t kApartNs = 20 * kMs;
const Bytes kGood = make_frame(1, 100);

uint64_t realtime_ns() {
  timespec now{};
  ::clock_gettime(CLOCK_REALTIME, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
}

// A chip with a clock, whatever its family.
struct Stamping {
  std::string name;
  std::shared_ptr<Chip> (*make)(size_t kind);
  size_t kind;
  ChipClock& (*clock)(Chip& chip);
  uint64_t wrap_ns;
};

std::vector<Stamping> stamping_chips() {
  std::vector<Stamping> chips;
  for (size_t i = 0; i < igb_kinds().size(); ++i) {
    const IgbKind& kind = igb_kinds()[i];
    if (!kind.stamps) continue;
    chips.push_back(
        {kind.name,
         [](size_t k) -> std::shared_ptr<Chip> { return std::make_shared<IgbChip>(igb_kinds()[k]); }, i,
         [](Chip& chip) -> ChipClock& { return dynamic_cast<IgbChip&>(chip).clock; },
         kind.seconds ? (uint64_t{1} << 32) * 1'000'000'000 : uint64_t{1} << 40});
  }
  for (size_t i = 0; i < ixgbe_kinds().size(); ++i) {
    const IxgbeKind& kind = ixgbe_kinds()[i];
    if (!kind.stamps) continue;
    chips.push_back(
        {kind.name,
         [](size_t k) -> std::shared_ptr<Chip> { return std::make_shared<IxgbeChip>(ixgbe_kinds()[k]); }, i,
         [](Chip& chip) -> ChipClock& { return dynamic_cast<IxgbeChip&>(chip).clock; },
         (uint64_t{1} << 32) * 1'000'000'000});
  }
  return chips;
}

class Timestamps : public testing::TestWithParam<Stamping> {
 protected:
  static constexpr uint32_t kBuffers = 128;

  void TearDown() override {
    nic_.reset();
    if (chip_) {
      EXPECT_EQ(chip_->complaints, std::vector<std::string>());
    }
  }
  void run(pci::NicOptions options = {}) {
    options.descriptors = 64;
    options.adapter_time = true;
    chip_ = GetParam().make(GetParam().kind);
    auto function = std::make_unique<ModelFunction>(chip_);
    function->interrupt = pci::Interrupt::kMsix;
    auto port = open_nic(std::move(function), options);
    ASSERT_TRUE(port) << port.error().message();
    memory_.resize(options.queues * kBuffers * (options.mtu > 1500 ? 16384 : 2048));
    nic_ = std::make_unique<OpenPort>(std::move(*port), memory_.data(), memory_.size(), kBuffers);
    ASSERT_NO_FATAL_FAILURE(nic_->arm_and_start());
  }
  ChipClock& clock() { return GetParam().clock(*chip_); }
  // One frame from the wire to us; its bytes and its descriptor.
  std::pair<Frame, Bytes> pass(const Bytes& frame, const WriteBack& how = {}, uint32_t queue = 0) {
    EXPECT_TRUE(chip_->deliver(frame, how, queue));
    std::vector<Frame> out(4);
    EXPECT_EQ(nic_->queue(queue).receive(out, nic_->free(queue)).frames, 1u);
    const auto* data = reinterpret_cast<const uint8_t*>(out[0].data);
    nic_->give_back(out[0], queue);
    return {out[0], data == nullptr ? Bytes() : Bytes(data, data + out[0].captured)};
  }
  // A frame whose stamp is the time at which it was on the wire.
  void expect_stamped(const Bytes& frame, uint32_t queue = 0) {
    const uint64_t before = realtime_ns();
    EXPECT_TRUE(chip_->deliver(frame, {}, queue));
    const uint64_t after = realtime_ns();
    std::vector<Frame> out(1);
    ASSERT_EQ(nic_->queue(queue).receive(out, nic_->free(queue)).frames, 1u);
    nic_->give_back(out[0], queue);
    ASSERT_GE(out[0].timestamp_ns, before - kApartNs);
    ASSERT_LE(out[0].timestamp_ns, after + kApartNs);
    ASSERT_GE(out[0].timestamp_ns, last_ns_);
    last_ns_ = out[0].timestamp_ns;
    ASSERT_EQ(out[0].flags, layout::kAdapterTime);
    ASSERT_EQ(out[0].captured, frame.size());
    ASSERT_EQ(out[0].length, frame.size());
    ASSERT_EQ(std::memcmp(out[0].data, frame.data(), frame.size()), 0);
  }

  std::shared_ptr<Chip> chip_;
  std::vector<std::byte> memory_;
  std::unique_ptr<OpenPort> nic_;
  uint64_t last_ns_ = 0;
};

INSTANTIATE_TEST_SUITE_P(Chips, Timestamps, testing::ValuesIn(stamping_chips()),
                         [](const auto& each) { return each.param.name; });

TEST_P(Timestamps, of_frames_of_all_lengths_are_when_they_were_on_the_wire) {
  run({.queues = 2});
  EXPECT_EQ(nic_->queue().clock(), layout::Clock::kAdapter);
  for (uint32_t i = 0; i < 1463; ++i) ASSERT_NO_FATAL_FAILURE(expect_stamped(make_frame(i, 60 + i), 0)) << i;
  last_ns_ = 0;
  for (uint32_t i = 0; i < 200; ++i) ASSERT_NO_FATAL_FAILURE(expect_stamped(make_frame(i, 60 + i), 1)) << i;
  EXPECT_EQ(nic_->port().counters().received, 1663u);
}

TEST_P(Timestamps, of_frames_of_9_000_bytes_leave_them_in_one_piece) {
  run({.mtu = 9000});
  for (uint32_t i = 0; i < 100; ++i) ASSERT_NO_FATAL_FAILURE(expect_stamped(make_frame(i, 9014 - i))) << i;
}

TEST_P(Timestamps, go_on_while_the_nics_clock_begins_anew) {
  run();
  ASSERT_NO_FATAL_FAILURE(expect_stamped(kGood));
  clock().set(GetParam().wrap_ns - 2 * kMs);
  nic_->port().counters();  // as the control thread does, several times a second
  bool wrapped = false;
  ASSERT_TRUE(eventually([&] {
    expect_stamped(kGood);
    const bool enough = wrapped && clock().now() > kMs;
    wrapped = clock().now() < GetParam().wrap_ns / 2;
    return enough || HasFailure();
  }));
  nic_->port().counters();
  ASSERT_NO_FATAL_FAILURE(expect_stamped(kGood));
}

TEST_P(Timestamps, are_right_after_a_stop_and_after_a_pcie_error) {
  run({.queues = 2});
  ASSERT_NO_FATAL_FAILURE(expect_stamped(kGood));
  const uint64_t before = realtime_ns();
  ASSERT_TRUE(chip_->deliver(kGood));  // stamped before the reset, taken after it
  const uint64_t after = realtime_ns();
  chip_->pending.error = true;
  nic_->port().handle_event();
  std::vector<Frame> out(1);
  ASSERT_EQ(nic_->queue().receive(out, nic_->free()).frames, 1u);
  EXPECT_GE(out[0].timestamp_ns, before - kApartNs);
  EXPECT_LE(out[0].timestamp_ns, after + kApartNs);
  nic_->give_back(out[0]);
  ASSERT_NO_FATAL_FAILURE(expect_stamped(kGood));
  nic_->port().stop();
  nic_->disarm();
  ASSERT_NO_FATAL_FAILURE(nic_->arm_and_start());
  ASSERT_NO_FATAL_FAILURE(expect_stamped(kGood));
}

TEST_P(Timestamps, that_cannot_be_are_counted_as_broken_with_their_frames) {
  run();
  for (int32_t length : {1, 8, 2049, 65535}) {
    ASSERT_TRUE(chip_->deliver(kGood, {.length = length}));
    std::vector<Frame> out(4);
    const Burst burst = nic_->queue().receive(out, nic_->free());
    EXPECT_EQ(burst.broken, 1u) << length;
    EXPECT_EQ(burst.frames, 0u) << length;
  }
  EXPECT_EQ(chip_->armed(), 63u);
  ASSERT_NO_FATAL_FAILURE(expect_stamped(kGood));
}

TEST_P(Timestamps, of_bad_frames_are_flagged_beside_what_is_wrong_with_them) {
  run({.bad = true});
  const bool ten_gigabit = dynamic_cast<IxgbeChip*>(chip_.get()) != nullptr;
  const auto [bad, bad_bytes] = pass(kGood, {.errors = ten_gigabit ? 1u << 29 : 1u << 24});
  EXPECT_EQ(bad.flags, layout::kBadCrc | layout::kAdapterTime);
  EXPECT_EQ(bad_bytes, kGood);
  const auto [runt, runt_bytes] = pass(Bytes(30));
  EXPECT_EQ(runt.flags, layout::kBadLength | layout::kAdapterTime);
  EXPECT_EQ(runt_bytes, Bytes(30));
  const auto [good, good_bytes] = pass(kGood);
  EXPECT_EQ(good.flags, layout::kAdapterTime);
  EXPECT_EQ(good_bytes, kGood);
}

TEST_P(Timestamps, without_them_frames_start_where_they_always_did) {
  run();
  nic_.reset();
  chip_ = GetParam().make(GetParam().kind);
  auto port = open_nic(std::make_unique<ModelFunction>(chip_), {.descriptors = 64});
  ASSERT_TRUE(port) << port.error().message();
  nic_ = std::make_unique<OpenPort>(std::move(*port), memory_.data(), memory_.size(), kBuffers);
  ASSERT_NO_FATAL_FAILURE(nic_->arm_and_start());
  EXPECT_EQ(nic_->queue().clock(), layout::Clock::kHost);
  const auto [frame, bytes] = pass(kGood);
  EXPECT_EQ(frame.flags, 0u);
  EXPECT_EQ(bytes, kGood);
}

TEST(TimestampsOfIgb, that_a_frame_has_not_are_the_hosts_and_it_says_so) {
  const auto chip = std::make_shared<IgbChip>(igb_kinds()[1]);
  auto port = open_nic(std::make_unique<ModelFunction>(chip), {.descriptors = 64, .adapter_time = true});
  ASSERT_TRUE(port) << port.error().message();
  std::vector<std::byte> memory(128 * 2048);
  OpenPort nic(std::move(*port), memory.data(), memory.size(), 128);
  ASSERT_NO_FATAL_FAILURE(nic.arm_and_start());
  for (const bool without : {false, true, false}) {
    chip->forgets_stamps = without;
    const uint64_t before = realtime_ns();
    ASSERT_TRUE(chip->deliver(kGood));
    std::vector<Frame> out(1);
    ASSERT_EQ(nic.queue().receive(out, nic.free()).frames, 1u);
    EXPECT_EQ(out[0].flags, without ? 0 : layout::kAdapterTime);
    EXPECT_GE(out[0].timestamp_ns, before - kApartNs);
    EXPECT_LE(out[0].timestamp_ns, realtime_ns() + kApartNs);
    EXPECT_EQ(out[0].captured, kGood.size());
    EXPECT_EQ(std::memcmp(out[0].data, kGood.data(), kGood.size()), 0);
    nic.give_back(out[0]);
  }
  EXPECT_EQ(chip->complaints, std::vector<std::string>());
}

TEST(TimestampsOfOthers, are_refused_by_name) {
  const auto refused = [](const std::shared_ptr<Chip>& chip, const char* words) {
    const auto port = open_nic(std::make_unique<ModelFunction>(chip), {.adapter_time = true});
    ASSERT_FALSE(port) << words;
    EXPECT_EQ(port.error().code, Code::kUsage);
    EXPECT_NE(port.error().text.find(words), std::string::npos) << port.error().text;
    EXPECT_NE(port.error().mend.find("timestamps=host"), std::string::npos) << port.error().mend;
  };
  refused(std::make_shared<Chip>(), "82574L (e1000e) has no timestamp for every frame");
  refused(std::make_shared<IgbChip>(igb_kinds()[0]), "82576 (igb) has no timestamp for every frame");
  refused(std::make_shared<IxgbeChip>(ixgbe_kinds()[0]), "82599 (ixgbe) has no timestamp for every frame");
  refused(std::make_shared<IxgbeChip>(ixgbe_kinds()[1]), "X540 (ixgbe) has no timestamp for every frame");
}

TEST(TimestampsOfOthers, those_that_have_them_are_said_to_and_no_others) {
  for (const NicDriver& driver : nic_drivers()) {
    bool has = false;
    for (const IgbKind& kind : igb_kinds()) has |= kind.stamps && kind.device == driver.device;
    for (const IxgbeKind& kind : ixgbe_kinds()) has |= kind.stamps && kind.device == driver.device;
    const bool modelled =
        std::ranges::any_of(igb_kinds(), [&](auto& k) { return k.device == driver.device; }) ||
        std::ranges::any_of(ixgbe_kinds(), [&](auto& k) { return k.device == driver.device; });
    if (modelled) {
      EXPECT_EQ(driver.stamps, has) << driver.name;
    }
  }
}

}  // namespace
}  // namespace ringcap::nic

// The self-test of a NIC against QEMU's NICs.
#include <map>

#include "driver/selftest/selftest.h"
#include "tests/nic/nic_in_qemu.h"

namespace ringcap::nic {
namespace {

using selftest::Check;
using selftest::Outcome;

// By id; what went wrong is in the text.
std::map<std::string, Check> by_id(const Result<selftest::Report>& report) {
  std::map<std::string, Check> found;
  if (!report) ADD_FAILURE() << report.error().message();
  for (const Check& check : report.value_or(selftest::Report{}).checks) found[check.id] = check;
  return found;
}

class SelfTestInQemu : public testing::TestWithParam<const char*> {
 protected:
  static constexpr uint64_t kArenaAt = 32 << 20;

  void start(pci::Interrupt best) {
    machine_ = std::make_shared<Machine>(GetParam());
    settings_.open = [this, best]() -> Result<std::unique_ptr<pci::Function>> {
      return std::make_unique<QtestFunction>(machine_, best);
    };
    settings_.arena = machine_->memory() + kArenaAt;
    settings_.arena_bytes = selftest::kLeastArena;
    settings_.link_wait_ms = 60'000;
  }

  std::shared_ptr<Machine> machine_;
  selftest::Settings settings_;
};

class SelfTestOfIntelInQemu : public SelfTestInQemu {};
INSTANTIATE_TEST_SUITE_P(Nics, SelfTestOfIntelInQemu, testing::Values("e1000", "e1000e", "igb"));

TEST_P(SelfTestOfIntelInQemu, passes_in_every_part_and_sends_nothing_to_the_wire) {
  start(std::string(GetParam()) == "e1000" ? pci::Interrupt::kIntx : pci::Interrupt::kMsix);
  const auto checks = by_id(selftest::run(settings_));
  for (const char* id : {"reset", "registers", "loopback", "patterns", "jumbo", "arena", "counters", "queues",
                         "interrupts", "link"}) {
    ASSERT_TRUE(checks.contains(id)) << id;
    const bool one_queue = std::string(id) == "queues" && std::string(GetParam()) == "e1000";
    EXPECT_EQ(checks.at(id).outcome, one_queue ? Outcome::kNotPossible : Outcome::kPassed)
        << id << ": " << checks.at(id).text;
  }
  EXPECT_FALSE(machine_->receive(milliseconds(0)));
  EXPECT_EQ(machine_->complaints(), std::vector<std::string>());
}

TEST_P(SelfTestOfIntelInQemu, that_is_stopped_in_the_middle_leaves_the_nic_to_the_next) {
  start(pci::Interrupt::kIntx);
  uint32_t asked = 0;
  settings_.stopped = [&] { return ++asked > 200; };
  const auto report = selftest::run(settings_);
  ASSERT_TRUE(report);
  EXPECT_LT(report->checks.size(), 10u);
  // Not in loopback any more, and receiving.
  auto function = std::make_unique<QtestFunction>(machine_, pci::Interrupt::kIntx);
  auto port = open_nic(std::move(function), {.descriptors = 64});
  ASSERT_TRUE(port) << port.error().message();
  OpenPort nic(std::move(*port), settings_.arena, settings_.arena_bytes, 128);
  nic.arm_and_start();
  ASSERT_TRUE(eventually([&] { return nic.port().link().up; }));
  std::vector<Frame> taken;
  ASSERT_TRUE(eventually([&] { return machine_->send(make_frame(1, 100)); }));
  EXPECT_TRUE(eventually([&] {
    nic.take(taken);
    return !taken.empty();
  }));
  EXPECT_EQ(taken[0], make_frame(1, 100));
}

class SelfTestOfVirtioInQemu : public SelfTestInQemu {};
INSTANTIATE_TEST_SUITE_P(Nics, SelfTestOfVirtioInQemu,
                         testing::Values("virtio-net-pci,disable-legacy=on,iommu_platform=on", "vmxnet3"),
                         [](const auto& each) {
                           return each.param == std::string("vmxnet3") ? "vmxnet3" : "modern";
                         });

TEST_P(SelfTestOfVirtioInQemu, says_plainly_what_it_cannot_try_and_why) {
  start(pci::Interrupt::kMsix);
  const auto checks = by_id(selftest::run(settings_));
  for (const char* id : {"reset", "registers", "link"})
    EXPECT_EQ(checks.at(id).outcome, Outcome::kPassed) << checks.at(id).text;
  for (const char* id : {"loopback", "patterns", "jumbo", "arena", "counters"}) {
    EXPECT_EQ(checks.at(id).outcome, Outcome::kNotPossible) << checks.at(id).text;
    EXPECT_NE(checks.at(id).text.find("no loopback"), std::string::npos) << checks.at(id).text;
  }
  for (const char* id : {"queues", "interrupts"})
    EXPECT_EQ(checks.at(id).outcome, Outcome::kNotPossible) << checks.at(id).text;
}

}  // namespace
}  // namespace ringcap::nic

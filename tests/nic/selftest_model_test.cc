// The self-test of a NIC against an 82574L that has a fault.
#include "driver/e1000e/registers.h"
#include "driver/selftest/selftest.h"
#include "tests/nic/model.h"
#include "tests/nic/nic_test.h"

namespace ringcap::nic {
namespace {

namespace reg = e1000e;
using selftest::Check;
using selftest::Outcome;

// What it sends comes back to it, counted, unless it is told otherwise.
class LoopingChip final : public Chip {
 public:
  uint32_t flip_every = 0, lose_every = 0, miscount_every = 0;  // frames; 0: never
  uint32_t forgetful = ~0u;                                     // a register that keeps nothing
  // What receives, where there are two queues: 0 the one that RSS should choose, by the last bit of the
  // source address; 1 always the first; 2 now one, now the other.
  uint32_t spreads = 0;

  void write(uint32_t offset, uint32_t value) override {
    Chip::write(offset, offset == forgetful ? 0 : value);
    for (; looped_ < sent.size(); ++looped_) loop(sent[looped_]);
  }
  uint32_t read(uint32_t offset) override {
    if (removed || (offset != kRal && offset != kRah)) return Chip::read(offset);
    return offset == kRal ? 0x0012'1b00u : 0x8000'0100u;  // 00:1b:12:00:00:01
  }

 private:
  static constexpr uint32_t kRal = 0x5400, kRah = 0x5404;

  void loop(std::vector<uint8_t> frame) {
    if (!(registers[reg::CTRL] & reg::ctrl::FRCSPD)) return;  // in the MAC or in the PHY: both force it
    const uint64_t number = ++frames_;
    if (is_due(number, flip_every)) frame[frame.size() / 2] ^= 0x10;
    count(reg::GPTC, is_due(number, miscount_every) ? 2 : 1);
    if (is_due(number, lose_every) || !deliver(frame, {}, queue_of(frame, number))) return;
    count(reg::GPRC, 1);
    count(reg::GORCL, static_cast<uint32_t>(frame.size() + 4));
  }
  uint32_t queue_of(const std::vector<uint8_t>& frame, uint64_t number) const {
    const bool several = registers.contains(reg::MRQC) && registers.at(reg::MRQC) != 0;
    if (!several || spreads == 1) return 0;
    return static_cast<uint32_t>(spreads == 0 ? frame[29] : number / 600) % 2;
  }
  // Not among the first, by which the test sees that anything comes back.
  static bool is_due(uint64_t number, uint32_t every) {
    return every != 0 && number > 100 && number % every == 0;
  }

  size_t looped_ = 0;
  uint64_t frames_ = 0;
};

class SelfTestOfModel : public testing::Test {
 protected:
  Check run(const std::string& id) {
    std::vector<std::byte> arena(selftest::kLeastArena);
    selftest::Settings settings;
    settings.open = [this]() -> Result<std::unique_ptr<pci::Function>> {
      chip_->removed = chip_->released = false;
      chip_->windows.clear();
      return std::make_unique<ModelFunction>(chip_);
    };
    settings.arena = arena.data();
    settings.arena_bytes = arena.size();
    settings.link_wait_ms = 0;
    Check found;
    // No further than that part: what is asked of the model is this.
    bool done = false;
    settings.stopped = [&] { return done; };
    settings.tell = [&](const Check& check) {
      if (check.id == id) found = check, done = true;
    };
    const auto report = selftest::run(settings);
    EXPECT_TRUE(report) << report.error().message();
    return found;
  }
  void fails(const std::string& id, const std::string& words) {
    const Check check = run(id);
    EXPECT_EQ(check.outcome, Outcome::kFailed) << check.id << ": " << check.text;
    EXPECT_NE(check.text.find(words), std::string::npos) << check.text;
  }

  std::shared_ptr<LoopingChip> chip_ = std::make_shared<LoopingChip>();
};

TEST_F(SelfTestOfModel, passes_where_there_is_no_fault) {
  const Check check = run("counters");
  EXPECT_EQ(check.outcome, Outcome::kPassed) << check.text;
  EXPECT_EQ(chip_->complaints, std::vector<std::string>());
}

TEST_F(SelfTestOfModel, finds_a_byte_that_comes_back_wrong) {
  chip_->flip_every = 1000;
  fails("patterns", "came back with byte ");
}

TEST_F(SelfTestOfModel, finds_a_frame_that_does_not_come_back) {
  chip_->lose_every = 1000;
  fails("patterns", "did not come back");
}

TEST_F(SelfTestOfModel, finds_a_count_that_is_wrong) {
  chip_->miscount_every = 1000;
  fails("counters", "the NIC counted ");
}

TEST_F(SelfTestOfModel, finds_a_register_that_does_not_keep_its_value) {
  chip_->forgetful = reg::MTA;
  fails("registers", "register 0x05200 was written ");
}

TEST_F(SelfTestOfModel, has_flows_come_back_through_every_queue) {
  const Check check = run("queues");
  EXPECT_EQ(check.outcome, Outcome::kPassed) << check.text;
  EXPECT_NE(check.text.find("through 2 receive queues, each flow in one and in order: "), std::string::npos)
      << check.text;
}

TEST_F(SelfTestOfModel, finds_a_queue_that_nothing_comes_through) {
  chip_->spreads = 1;
  fails("queues", "512, 0 flows");
}

TEST_F(SelfTestOfModel, finds_a_flow_that_changes_its_queue) {
  chip_->spreads = 2;
  fails("queues", "came through receive queue ");
}

TEST_F(SelfTestOfModel, finds_that_the_kernel_gives_no_interrupt) {
  fails("interrupts", "the kernel gives no interrupt");
}

TEST(SelfTest, of_a_nic_that_cannot_be_opened_is_an_error_and_no_report) {
  selftest::Settings settings;
  settings.open = []() -> Result<std::unique_ptr<pci::Function>> {
    return fail(Code::kSystem, "0000:03:00.0 is bound to igb, not to vfio-pci", "ringcap bind 0000:03:00.0");
  };
  const auto report = selftest::run(settings);
  ASSERT_FALSE(report);
  EXPECT_EQ(report.error().mend, "ringcap bind 0000:03:00.0");
}

}  // namespace
}  // namespace ringcap::nic

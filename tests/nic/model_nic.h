// The driver of a family of NICs against chips of it in the process (igb_model.h, ixgbe_model.h): how a test
// opens one, and what is asked of every family in the same words, several queues and all. The chips are the
// families' own.
#pragma once

#include <gtest/gtest.h>
#include <sys/eventfd.h>

#include <functional>
#include <memory>
#include <vector>

#include "tests/nic/model.h"
#include "tests/nic/nic_test.h"

namespace ringcap::nic {

template <class ChipOfFamily, class Kind, class Test>
class ModelNic : public Test {
 protected:
  using Bytes = std::vector<uint8_t>;
  static constexpr uint32_t kBuffers = 128;

  void TearDown() override {
    nic_.reset();
    if (chip_) {
      EXPECT_EQ(chip_->complaints, std::vector<std::string>());
    }
  }
  Result<std::unique_ptr<Port>> open(const Kind& kind, const pci::NicOptions& options) {
    chip_ = std::make_shared<ChipOfFamily>(kind);
    if (fault_) fault_(*chip_);
    auto function = std::make_unique<ModelFunction>(chip_);
    function->interrupt = interrupt_;
    return open_nic(std::move(function), options);
  }
  void make(const Kind& kind, pci::NicOptions options) {
    options.descriptors = 64;
    auto port = open(kind, options);
    ASSERT_TRUE(port) << port.error().message();
    memory_.resize(options.queues * kBuffers * (options.mtu > 1500 ? 16384 : 2048));
    nic_ = std::make_unique<OpenPort>(std::move(*port), memory_.data(), memory_.size(), kBuffers);
  }
  void run(const Kind& kind, const pci::NicOptions& options = {}) {
    ASSERT_NO_FATAL_FAILURE(make(kind, options));
    ASSERT_NO_FATAL_FAILURE(nic_->arm_and_start());
  }
  Burst take(uint32_t queue = 0) { return nic_->take(frames_, 64, queue); }
  QueueCounters counters() { return nic_->port().counters(); }

  // ---- what is asked of every family

  void frame_in_several_descriptors_counts_once_as_broken(const Kind& kind) {
    run(kind, {.bad = true});
    chip_->deliver(Bytes(2048), {.end_of_packet = false});
    chip_->deliver(Bytes(100));
    chip_->deliver(make_frame(1, 100));
    const Burst burst = take();
    EXPECT_EQ(burst.broken, 1u);
    EXPECT_EQ(frames_, std::vector<Bytes>{make_frame(1, 100)});
  }

  void length_that_no_buffer_holds_is_broken(const Kind& kind) {
    run(kind, {.queues = 2});
    for (int i = 0; i < 300; ++i) {
      ASSERT_TRUE(chip_->deliver(Bytes(60), {.length = i % 2 == 0 ? 2049 : 65535}, 1));
      EXPECT_EQ(take(1).broken, 1u);
    }
    EXPECT_EQ(chip_->armed(1), 63u);
  }

  void queue_that_does_not_switch_on_is_an_error(const Kind& kind) {
    fault_ = [](ChipOfFamily& chip) { chip.stuck_queue = 2; };
    ASSERT_NO_FATAL_FAILURE(make(kind, {.queues = 4}));
    const auto started = nic_->try_to_start();
    ASSERT_FALSE(started);
    EXPECT_NE(started.error().message().find("receive queue 2 does not start"), std::string::npos)
        << started.error().message();
    EXPECT_FALSE(chip_->bus_master);
  }

  void device_that_is_pulled_out_is_noticed(const Kind& kind) {
    run(kind, {.queues = 4});
    for (uint32_t queue = 0; queue < 4; ++queue) chip_->deliver(make_frame(1, 100), {}, queue);
    EXPECT_EQ(counters().received, 4u);
    chip_->removed = true;
    EXPECT_EQ(counters().received, 4u);
    EXPECT_EQ(nic_->queue(1).counters().missed, 0u);
    EXPECT_FALSE(nic_->port().link().present);
    EXPECT_TRUE(chip_->released);
    for (uint32_t queue = 0; queue < 4; ++queue) {
      EXPECT_EQ(take(queue).frames, 1u);  // what had arrived is still there
      EXPECT_EQ(take(queue).frames, 0u);
    }
    nic_->port().stop();
    nic_->disarm();
    for (uint32_t queue = 0; queue < 4; ++queue) EXPECT_EQ(nic_->free(queue).size(), kBuffers);
    EXPECT_FALSE(nic_->port().start());
  }

  void request_to_give_the_device_back_is_met_at_once(const Kind& kind) {
    run(kind, {.queues = 4});
    chip_->deliver(make_frame(1, 100), {}, 3);
    chip_->pending.removal = true;
    ::eventfd_write(chip_->events.get(), 1);
    nic_->port().handle_event();
    EXPECT_TRUE(chip_->released);
    EXPECT_FALSE(chip_->bus_master);
    EXPECT_EQ(take(3).frames, 1u);
    EXPECT_EQ(counters().received, 1u);  // read before it went
  }

  void pcie_error_is_answered_by_a_reset(const Kind& kind) {
    run(kind, {.queues = 4});
    std::vector<std::vector<Bytes>> sent(4), taken(4);
    const auto more = [&](uint32_t queue, uint32_t count) {
      for (uint32_t i = 0; i < count; ++i) {
        sent[queue].push_back(make_frame(static_cast<uint32_t>(sent[queue].size()), 100));
        ASSERT_TRUE(chip_->deliver(sent[queue].back(), {}, queue));
      }
    };
    for (uint32_t queue = 0; queue < 4; ++queue) {
      more(queue, 50);
      nic_->take(taken[queue], 64, queue);
      more(queue, 10 * queue);  // done, not taken yet
    }
    const uint32_t resets = chip_->resets;
    chip_->pending.error = true;
    nic_->port().handle_event();
    EXPECT_GT(chip_->resets, resets);
    EXPECT_TRUE(nic_->port().link().present);
    for (uint32_t queue = 0; queue < 4; ++queue) {
      for (int round = 0; round < 10; ++round) {
        more(queue, 20);
        nic_->take(taken[queue], 64, queue);
      }
      EXPECT_TRUE(taken[queue] == sent[queue]) << "queue " << queue;
      EXPECT_EQ(chip_->armed(queue), 63u);
    }
  }

  std::function<void(ChipOfFamily&)> fault_;  // from before it is opened
  pci::Interrupt interrupt_ = pci::Interrupt::kMsix;
  std::shared_ptr<ChipOfFamily> chip_;
  std::vector<std::byte> memory_;
  std::unique_ptr<OpenPort> nic_;
  std::vector<Bytes> frames_;
};

}  // namespace ringcap::nic

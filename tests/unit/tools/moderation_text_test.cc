#include "tools/moderation_text.h"

#include <gtest/gtest.h>

namespace ringcap::tools {
namespace {

ledger::Port port_with(std::vector<std::pair<std::string, uint64_t>> statistics) {
  statistics.insert(statistics.begin(), {"rx_packets", 7});
  ledger::Port port;
  port.statistics = std::move(statistics);
  return port;
}

TEST(ModerationText, is_one_time_where_all_queues_have_the_same) {
  EXPECT_EQ(moderation_text(port_with({{"rx_queue_0_moderation_us", 50}, {"rx_queue_1_moderation_us", 50}})),
            "at least 50 us apart");
}

TEST(ModerationText, is_a_time_for_each_queue_where_they_differ) {
  EXPECT_EQ(moderation_text(port_with({{"rx_queue_0_moderation_us", 10}, {"rx_queue_1_moderation_us", 250}})),
            "at least 10, 250 us apart, queue by queue");
}

TEST(ModerationText, says_that_nothing_keeps_them_apart_by_time_or_by_level) {
  EXPECT_EQ(moderation_text(port_with({{"rx_queue_0_moderation_us", 0}})), "as they come");
  EXPECT_EQ(moderation_text(port_with({{"rx_queue_0_moderation_level", 0}})), "as they come");
}

TEST(ModerationText, says_that_the_device_chooses_where_it_knows_no_times) {
  EXPECT_EQ(moderation_text(port_with({{"rx_queue_0_moderation_level", 8}})),
            "as far apart as the device chooses (level 8)");
}

TEST(ModerationText, is_empty_for_a_port_without_interrupts_of_its_own) {
  EXPECT_EQ(moderation_text(port_with({})), "");
}

}  // namespace
}  // namespace ringcap::tools

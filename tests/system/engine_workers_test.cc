// Several workers: nothing is lost between them, and merged frames come in order of time.
#include <gtest/gtest.h>

#include "capture/pcapfile/reader.h"
#include "tests/system/harness_consumers.h"

namespace ringcap::test {
namespace {

std::string gen_port(int queues, const std::string& more) {
  return "gen:queues=" + std::to_string(queues) + "," + more;
}

class Workers : public ::testing::TestWithParam<int> {};

TEST_P(Workers, lose_nothing_and_a_merging_consumer_sees_time_go_forward) {
  const TestDir dir;
  const int queues = GetParam();
  Engine engine({gen_port(queues, "count=20000,full=wait"), "--memory", "plain", "--wait-consumers", "2"});
  auto merging = start_followers(1, {.engine = engine.name(), .ring_frames = 512, .flags = RINGCAP_MERGE});
  auto direct = start_followers(1, {.engine = engine.name(), .ring_frames = 512});
  for (Consumer* consumer : {&merging[0], &direct[0]}) {
    EXPECT_EQ(consumer->wait(), 0);
    const Progress& progress = consumer->progress();
    EXPECT_EQ(progress.result, RINGCAP_END) << progress.text;
    EXPECT_EQ(progress.frames, 20'000);
    // Each queue has a sequence of its own: none has a hole.
    EXPECT_EQ(progress.unexplained + progress.backwards + progress.lost + progress.dropped, 0);
  }
  EXPECT_EQ(merging[0].progress().time_went_back, 0);
  EXPECT_EQ(engine.imbalance(), "");
  EXPECT_EQ(ledger_of(engine).workers.size(), queues);
  EXPECT_EQ(not_come_back(engine), "");
}

TEST_P(Workers, that_sleep_between_frames_are_merged_in_order_of_time_too) {
  const TestDir dir;
  const int queues = GetParam();
  Engine engine({gen_port(queues, "count=600,rate=1000,full=wait"), "--memory", "plain", "--poll", "sleep",
                 "--wait-consumers", "1"});
  auto merging = start_followers(1, {.engine = engine.name(), .flags = RINGCAP_MERGE});
  EXPECT_EQ(merging[0].wait(), 0);
  EXPECT_EQ(merging[0].progress().result, RINGCAP_END);
  EXPECT_EQ(merging[0].progress().frames, 600);
  EXPECT_EQ(merging[0].progress().time_went_back, 0);
  EXPECT_EQ(engine.imbalance(), "");
}

TEST_P(Workers, are_written_to_a_capture_file_in_order_of_time_without_a_loss) {
  const TestDir dir;
  const auto file = dir.file("merged.pcap");
  const Outcome outcome = ringcap({"capture", gen_port(GetParam(), "count=30000,full=wait"), "--memory",
                                   "plain", "--arena", "64M", "--ring", "1024", "-w", file.string()});
  EXPECT_EQ(outcome.status, 0) << outcome.err;
  auto reader = pcapfile::Reader::open(file.string());
  ASSERT_TRUE(reader) << reader.error().message();
  uint64_t frames = 0, last_ns = 0, went_back = 0;
  pcapfile::Record record;
  while (reader->next(record) == pcapfile::Reader::Status::kRecord) {
    if (record.timestamp_ns < last_ns) ++went_back;
    last_ns = record.timestamp_ns;
    ++frames;
  }
  EXPECT_EQ(frames, 30'000);
  EXPECT_EQ(went_back, 0);
}

INSTANTIATE_TEST_SUITE_P(OneTwoFour, Workers, ::testing::Values(1, 2, 4));

}  // namespace
}  // namespace ringcap::test

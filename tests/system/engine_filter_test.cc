// Filters: the same frames wherever they are evaluated, and the ledger says where.
#include <gtest/gtest.h>

#include "tests/system/harness_consumers.h"

namespace ringcap::test {
namespace {

constexpr uint64_t kAllFrames = 12'000;
const std::string kPort = "gen:count=12000,mix=all,flows=600,full=wait";

// Frames that match `filter` in a capture of their own, and where the engine said it is evaluated.
struct Filtered {
  std::string frames;
  layout::FilterPlace place = layout::FilterPlace::kNone;
  uint64_t not_matched = 0;
};

Filtered capture_with(const std::vector<std::string>& filter) {
  Engine engine({kPort, "--memory", "plain", "--wait-consumers", "2"});
  std::vector<std::string> words{"capture", engine.name(), "--count-only", "--consumer-ring", "1024"};
  words.insert(words.end(), filter.begin(), filter.end());
  Process capture = start_ringcap(words);
  Filtered result;
  if (!wait_until([&] { return ledger_of(engine).consumers.size() == 1 || !capture.is_running(); }) ||
      !capture.is_running())
    throw std::runtime_error("the capture did not attach: " + capture.err());
  result.place = ledger_of(engine).consumers[0].filter;
  auto starter = start_followers(1, {.engine = engine.name(), .from_start = false});  // sees them all, too
  EXPECT_EQ(capture.wait(), 0) << capture.err();
  EXPECT_EQ(starter[0].wait(), 0);
  EXPECT_EQ(starter[0].progress().frames, kAllFrames);
  EXPECT_EQ(engine.imbalance(), "");
  EXPECT_EQ(not_come_back(engine), "");
  result.frames = capture.out();
  result.not_matched = ledger_of(engine).departed_total.not_matched;
  return result;
}

// The same meaning as `udp and ip`, but longer than what an engine evaluates for a consumer.
std::string long_filter() {
  std::string text = "udp and ip and not (port 1";
  for (int port = 2; port < 160; ++port)
    text += " or port " + std::to_string(port);  // gen: uses none of them
  return text + ")";
}

TEST(EngineFilter, gives_the_same_frames_in_the_engine_and_in_the_library) {
  const TestDir dir;
  const Filtered in_engine = capture_with({"udp", "and", "ip"});
  const Filtered in_library = capture_with({long_filter()});
  EXPECT_EQ(in_engine.place, layout::FilterPlace::kEngine);
  EXPECT_EQ(in_library.place, layout::FilterPlace::kLibrary);
  // mix=all: a third each of IPv4, IPv6 and VLAN, in turn.
  EXPECT_EQ(in_engine.frames, "4000\n");
  EXPECT_EQ(in_library.frames, "4000\n");
  EXPECT_EQ(in_engine.not_matched, 8000);
}

TEST(EngineFilter, of_nothing_gives_every_frame_and_says_so) {
  const TestDir dir;
  const Filtered all = capture_with({});
  EXPECT_EQ(all.place, layout::FilterPlace::kNone);
  EXPECT_EQ(all.frames, "12000\n");
  EXPECT_EQ(all.not_matched, 0);
}

TEST(EngineFilter, that_matches_nothing_gives_no_frame_and_loses_none) {
  const TestDir dir;
  const Filtered none = capture_with({"tcp", "port", "1"});
  EXPECT_EQ(none.frames, "0\n");
  EXPECT_EQ(none.not_matched, kAllFrames);
}

TEST(EngineFilter, of_its_own_counts_what_it_drops_as_filtered_for_everybody) {
  const TestDir dir;
  Engine engine({kPort, "--memory", "plain", "--wait-consumers", "2", "--filter", "ip6"});
  auto consumers = start_followers(2, {.engine = engine.name(), .from_start = false});
  for (Consumer& consumer : consumers) {
    EXPECT_EQ(consumer.wait(), 0);
    EXPECT_EQ(consumer.progress().frames, kAllFrames / 3);
    EXPECT_EQ(consumer.progress().result, RINGCAP_END);
  }
  EXPECT_EQ(engine.imbalance(), "");
  const auto stat = ledger_of(engine);
  EXPECT_EQ(sum_of(stat, &ledger::Worker::taken), kAllFrames);
  EXPECT_EQ(sum_of(stat, &ledger::Worker::filtered), kAllFrames * 2 / 3);
  EXPECT_EQ(sum_of(stat, &ledger::Worker::considered), kAllFrames / 3);
}

TEST(EngineFilter, that_does_not_compile_is_refused_with_status_2_before_anything_starts) {
  const TestDir dir;
  const Outcome up = ringcap(
      {"up", "gen:", "--memory", "plain", "--arena", "16M", "--name", "f", "--filter", "tcp prot 80"});
  EXPECT_EQ(up.status, 2);
  EXPECT_NE(up.err.find("tcp prot 80"), std::string::npos) << up.err;
  Engine engine({"gen:rate=1000", "--memory", "plain"});
  const Outcome capture = ringcap({"capture", engine.name(), "--count-only", "host", "no", "such", "thing"});
  EXPECT_EQ(capture.status, 2) << capture.err;
  EXPECT_EQ(not_come_back(engine), "");
}

TEST(EngineFilter, statistics_of_the_library_balance_wherever_the_filter_is) {
  const TestDir dir;
  // ldh [12]; jeq 0x86dd; ret all; ret 0: once as it is, once behind 300 loads that change nothing.
  std::vector<ringcap_instruction> program{
      {0x28, 0, 0, 12}, {0x15, 0, 1, 0x86dd}, {0x06, 0, 0, 0xffff}, {0x06, 0, 0, 0}};
  for (const size_t padding : {0, 300}) {
    program.insert(program.begin(), padding, {0x28, 0, 0, 12});
    Engine engine({kPort, "--memory", "plain", "--wait-consumers", "1"});
    ringcap_options options = RINGCAP_OPTIONS_INIT;
    options.filter = program.data();
    options.filter_length = static_cast<uint32_t>(program.size());
    options.ring_frames = 1024;
    const Attachment attachment(engine.name(), options);
    ringcap_burst burst;
    uint64_t frames = 0;
    while (ringcap_take(attachment.get(), 0, static_cast<int>(kPatience.count()), &burst) > 0) {
      frames += burst.count;
      ringcap_give_back(attachment.get(), &burst);
    }
    EXPECT_EQ(frames, kAllFrames / 3);
    EXPECT_TRUE(wait_until([&] { return attachment.counters().in_ring == 0; }));
    const ringcap_counters counters = attachment.counters();
    EXPECT_EQ(counters.considered, kAllFrames);
    EXPECT_EQ(counters.not_matched, kAllFrames * 2 / 3) << "padding " << padding;
    EXPECT_EQ(counters.offered, kAllFrames / 3);
    EXPECT_EQ(counters.published, kAllFrames / 3);
    EXPECT_EQ(counters.released, kAllFrames / 3);
    EXPECT_EQ(counters.dropped, 0);
  }
}

}  // namespace
}  // namespace ringcap::test

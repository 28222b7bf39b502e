// How runs end: sources that end, signals, counts, and the exit status that says whether frames were lost.
#include <gtest/gtest.h>

#include <csignal>

#include "tests/system/harness_consumers.h"

namespace ringcap::test {
namespace {

TEST(EngineEnd, consumers_that_were_waited_for_get_every_frame_and_then_the_end) {
  const TestDir dir;
  Engine engine({"gen:count=20000,full=wait", "--memory", "plain", "--wait-consumers", "3", "--until-end"});
  auto consumers = start_followers(3, {.engine = engine.name()});
  for (Consumer& consumer : consumers) {
    EXPECT_EQ(consumer.wait(), 0);
    EXPECT_EQ(consumer.progress().result, RINGCAP_END) << consumer.progress().text;
    EXPECT_EQ(consumer.progress().frames, 20'000);
    EXPECT_EQ(consumer.progress().unexplained + consumer.progress().backwards + consumer.progress().lost, 0);
  }
  EXPECT_EQ(engine.process().wait(), 0) << engine.process().err();
}

TEST(EngineEnd, who_attaches_after_the_end_gets_the_end) {
  const TestDir dir;
  Engine engine({"gen:count=10", "--memory", "plain"});
  ASSERT_TRUE(wait_until([&] { return sum_of(ledger_of(engine), &ledger::Queue::taken) == 10; }));
  const Attachment late(engine.name());
  ringcap_burst burst;
  EXPECT_EQ(ringcap_take(late.get(), 0, static_cast<int>(kPatience.count()), &burst), RINGCAP_END);
  EXPECT_EQ(engine.down(), 0);
}

TEST(EngineEnd, by_ringcap_down_is_status_0_and_tells_the_consumers) {
  const TestDir dir;
  Engine engine({"gen:rate=1000,full=wait", "--memory", "plain"});
  auto consumers = start_followers(1, {.engine = engine.name(), .from_start = false});
  ASSERT_TRUE(took(consumers[0], 10));
  EXPECT_EQ(engine.down(), 0);
  EXPECT_EQ(consumers[0].wait(), 0);
  EXPECT_EQ(consumers[0].progress().result, RINGCAP_E_GONE);
  EXPECT_NE(std::string(consumers[0].progress().text).find("has ended"), std::string::npos);
  EXPECT_FALSE(std::filesystem::exists(dir.run_dir() / (engine.name() + ".sock")));
}

TEST(EngineEnd, by_sigint_and_sigterm_is_status_0) {
  const TestDir dir;
  for (const int number : {SIGINT, SIGTERM}) {
    Engine engine({"gen:rate=1000,full=wait", "--memory", "plain"});
    engine.process().signal(number);
    EXPECT_EQ(engine.process().wait(), 0) << engine.process().err();
  }
}

// A capture of an engine that runs elsewhere, started and seen to be attached.
Process start_capture(const Engine& engine, std::vector<std::string> more) {
  std::vector<std::string> words{"capture", engine.name(), "--count-only"};
  words.insert(words.end(), more.begin(), more.end());
  Process process = start_ringcap(words);
  if (!has_attached(engine, process.pid()))
    throw std::runtime_error("the capture did not attach: " + process.err());
  return process;
}

TEST(CaptureEnd, by_sigint_and_sigterm_is_status_0_and_says_how_many_frames_there_were) {
  const TestDir dir;
  Engine engine({"gen:rate=1000,full=wait", "--memory", "plain"});
  for (const int number : {SIGINT, SIGTERM}) {
    Process capture = start_capture(engine, {});
    ASSERT_TRUE(has_released(engine, capture.pid(), 101));
    capture.signal(number);
    EXPECT_EQ(capture.wait(), 0) << capture.err();
    EXPECT_GT(std::stoul(capture.out()), 100);
  }
}

TEST(CaptureEnd, after_a_given_number_of_frames_is_exact) {
  const TestDir dir;
  Engine engine({"gen:rate=20000,full=wait", "--memory", "plain"});
  for (const std::string count : {"1", "511", "512", "513", "3000"}) {
    const auto file = dir.file(count + ".pcap");
    const Outcome outcome = ringcap({"capture", engine.name(), "-c", count, "-w", file.string()});
    EXPECT_EQ(outcome.status, 0) << outcome.err;
    EXPECT_NE(outcome.err.find(count + " frames captured"), std::string::npos) << outcome.err;
    EXPECT_EQ(std::filesystem::file_size(file), 24 + std::stoul(count) * (16 + 64));
  }
}

TEST(CaptureEnd, of_a_source_that_ends_is_status_0_with_every_frame) {
  const TestDir dir;
  const Outcome outcome = ringcap({"capture", "gen:count=30000,full=wait", "--memory", "plain", "--arena",
                                   "16M", "--ring", "1024", "--count-only"});
  EXPECT_EQ(outcome.status, 0) << outcome.err;
  EXPECT_EQ(outcome.out, "30000\n");
}

TEST(CaptureEnd, with_frames_lost_is_status_3_and_says_how_many) {
  const TestDir dir;
  // Frames come as fast as they can, the reader is asleep until they have all come: 128 fit its ring.
  Engine engine({"gen:count=5000", "--memory", "plain", "--wait-consumers", "2"});
  Process capture = start_capture(engine, {"--consumer-ring", "128"});
  capture.signal(SIGSTOP);
  const Attachment starts_it(engine.name());
  ASSERT_TRUE(wait_until([&] { return sum_of(ledger_of(engine), &ledger::Queue::taken) == 5000; }));
  capture.signal(SIGCONT);
  EXPECT_EQ(capture.wait(), 3) << capture.err();
  EXPECT_EQ(capture.out(), "128\n");
  EXPECT_NE(capture.err().find("4872 frames lost because our ring was full"), std::string::npos)
      << capture.err();
}

TEST(CaptureEnd, because_the_engine_ended_is_status_4_and_keeps_what_was_captured) {
  const TestDir dir;
  for (const bool killed : {false, true}) {
    Engine engine({"gen:rate=2000,full=wait", "--memory", "plain"});
    const auto file = dir.file(engine.name() + ".pcap");
    Process capture = start_ringcap({"capture", engine.name(), "-w", file.string()});
    ASSERT_TRUE(has_released(engine, capture.pid(), 101)) << capture.err();
    if (killed)
      engine.process().kill();
    else
      EXPECT_EQ(engine.down(), 0);
    EXPECT_EQ(capture.wait(), 4) << capture.err();
    EXPECT_NE(capture.err().find("engine " + engine.name() + " has ended"), std::string::npos)
        << capture.err();
    const uint64_t bytes = std::filesystem::file_size(file);
    EXPECT_GE(bytes, 24 + 100 * 80);
    EXPECT_EQ((bytes - 24) % 80, 0);  // whole frames
  }
}

TEST(CaptureEnd, of_an_engine_that_does_not_exist_is_status_6_and_names_what_there_is) {
  const TestDir dir;
  const Outcome outcome = ringcap({"capture", "no-such-engine", "--count-only"});
  EXPECT_EQ(outcome.status, 6);
  EXPECT_NE(outcome.err.find("neither a running engine nor an interface"), std::string::npos) << outcome.err;
  ringcap_t* handle = nullptr;
  EXPECT_EQ(ringcap_attach("no-such-engine", nullptr, &handle, nullptr), RINGCAP_E_NOT_FOUND);
}

TEST(CaptureEnd, waits_for_an_engine_that_appears_later) {
  const TestDir dir;
  const std::string name = unique_name();
  Process capture = start_ringcap({"capture", name, "--wait", "30s", "--count-only", "-c", "100"});
  Process engine = start_ringcap({"up", "gen:rate=5000", "--name", name, "--memory", "plain", "--arena",
                                  "16M", "--ring", "1024", "--wait-consumers", "1"});
  EXPECT_EQ(capture.wait(), 0) << capture.err() << engine.err();
  EXPECT_EQ(capture.out(), "100\n");
}

}  // namespace
}  // namespace ringcap::test

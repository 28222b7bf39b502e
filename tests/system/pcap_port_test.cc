// The `pcap:` port in the real program: what a file gives through an engine and `ringcap capture -w`, whole,
// divided among workers, paced, repeated, to a slow consumer, from a pipe; and what is said of files that are
// cut, damaged, of another kind or not there.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <csignal>
#include <cstring>

#include "capture/pcapfile/writer.h"
#include "tests/system/harness_consumers.h"
#include "tests/unit/capture/pcapfile/captures.h"

namespace ringcap::test {
namespace {

using pcapfile::test::content;
using pcapfile::test::Expected;
using pcapfile::test::expected_frame;
using pcapfile::test::expected_frames;
using Clock = std::chrono::steady_clock;

std::string sample(const std::string& name) { return pcapfile::test::capture(name); }

struct Read {
  std::vector<Expected> frames;
  uint32_t link_type = 0;
};
Read read_capture(const std::filesystem::path& path) {
  auto reader = pcapfile::Reader::open(path.string());
  if (!reader) throw std::runtime_error(reader.error().message());
  pcapfile::Reader::Status last;
  Read read{pcapfile::test::read_all(*reader, last), reader->link_type()};
  if (last != pcapfile::Reader::Status::kEnd) throw std::runtime_error(reader->error().message());
  return read;
}

std::vector<Expected> in_microseconds(std::vector<Expected> frames) {
  for (Expected& frame : frames) frame.timestamp_ns -= frame.timestamp_ns % 1000;
  return frames;
}

// `ringcap capture` with an engine of its own: the whole file, as fast as possible, into `out`.
Outcome copy(const std::string& port, const std::filesystem::path& out, std::vector<std::string> more = {},
             const ProcessOptions& options = {}) {
  std::vector<std::string> words{"capture", port, "--memory", "plain", "--arena", "32M", "-w", out.string()};
  words.insert(words.end(), more.begin(), more.end());
  return ringcap(words, options);
}

// The same by two processes: an engine that ends with its source, and a consumer of it.
Outcome replay(const std::string& port, const std::filesystem::path& out) {
  Engine engine({port, "--memory", "plain", "--wait-consumers", "1", "--until-end"});
  Outcome outcome = ringcap({"capture", engine.name(), "-w", out.string()});
  EXPECT_EQ(engine.process().wait(), 0) << engine.process().err();
  return outcome;
}

constexpr uint64_t kFirstNs = 1'700'000'000'000'000'000;

// A pcap file: frame i is of `flows` UDP flows in turn (odd rounds go back), 60 to 1,514 bytes long, and has
// its number behind the headers. Frames come eight at the same time, the next eight `step_ns` later.
void write_flows(const std::filesystem::path& path, uint32_t frames, uint32_t flows, uint64_t step_ns) {
  auto writer = pcapfile::Writer::create(path.string());
  if (!writer) throw std::runtime_error(writer.error().message());
  std::vector<uint8_t> frame(1514);
  for (uint32_t i = 0; i < frames; ++i) {
    const size_t bytes = 60 + i * 37 % 1455;
    const auto payload = static_cast<uint16_t>(bytes - 34);
    const std::initializer_list<uint8_t> headers = {2, 0, 0,    0, 0, 1, 2, 0, 0, 0, 0,  2,
                                                    8, 0, 0x45, 0, 0, 0, 0, 0, 0, 0, 64, 17};
    std::copy(headers.begin(), headers.end(), frame.begin());
    const auto both = [&](size_t at, uint32_t value) {
      frame[at] = static_cast<uint8_t>(value >> 8);
      frame[at + 1] = static_cast<uint8_t>(value);
    };
    both(16, payload + 20u);
    const uint32_t flow = i % flows;
    const uint8_t ends[2][6] = {{10, 0, 0, static_cast<uint8_t>(flow), 4, static_cast<uint8_t>(flow >> 2)},
                                {10, 1, 0, 1, 0, 53}};
    const bool back = i / flows % 2 == 1;
    std::memcpy(&frame[26], ends[back], 4);
    std::memcpy(&frame[30], ends[!back], 4);
    std::memcpy(&frame[34], ends[back] + 4, 2);
    std::memcpy(&frame[36], ends[!back] + 4, 2);
    both(38, payload);
    both(40, 0);
    std::memcpy(&frame[42], &i, sizeof(i));
    (*writer)->append(kFirstNs + i / 8 * step_ns, static_cast<uint32_t>(bytes),
                      std::as_bytes(std::span(frame).first(bytes)));
    (*writer)->flush_references();
  }
  if (auto closed = (*writer)->close(); !closed) throw std::runtime_error(closed.error().message());
}

uint32_t number_of(const Expected& frame) {
  uint32_t number;
  std::memcpy(&number, frame.data.data() + 42, sizeof(number));
  return number;
}

// ---- files that are whole ------------------------------------------------------------------------

TEST(PcapReplay, of_a_file_that_ringcap_wrote_is_byte_for_byte_that_file) {
  const TestDir dir;
  const auto made = dir.file("made.pcap"), replayed = dir.file("replayed.pcap"),
             copied = dir.file("copied.pcap");
  const std::string gen = "gen:count=20000,full=wait,size=imix,mix=all";
  ASSERT_EQ(copy(gen, made).status, 0);
  EXPECT_EQ(read_capture(made).frames.size(), 20'000);
  const Outcome outcome = replay("pcap:" + made.string() + ",speed=max", replayed);
  EXPECT_EQ(outcome.status, 0) << outcome.err;
  EXPECT_NE(outcome.err.find("20000 frames captured"), std::string::npos) << outcome.err;
  EXPECT_NE(outcome.err.find("timestamps by the file clock"), std::string::npos) << outcome.err;
  EXPECT_TRUE(content(replayed) == content(made));
  EXPECT_EQ(copy("pcap:" + replayed.string() + ",speed=max", copied).status, 0);
  EXPECT_TRUE(content(copied) == content(made));
}

TEST(PcapReplay, of_every_byte_order_resolution_and_format_gives_the_same_frames) {
  const TestDir dir;
  for (const char* name : {"nano_little.pcap", "nano_big.pcap", "little.pcapng", "big.pcapng"}) {
    const auto out = dir.file(std::string(name) + ".out");
    const Outcome outcome = replay("pcap:" + sample(name) + ",speed=max", out);
    EXPECT_EQ(outcome.status, 0) << name << ": " << outcome.err;
    EXPECT_EQ(read_capture(out).frames, expected_frames()) << name;
  }
  const auto first_out = dir.file("many.out");
  EXPECT_EQ(replay("pcap:" + sample("many.pcapng") + ",speed=max", first_out).status, 0);
  std::vector<Expected> frames = expected_frames();
  frames[0] = in_microseconds({frames[0]})[0];  // its interface counts microseconds
  EXPECT_EQ(read_capture(first_out).frames, frames);
  for (const char* name : {"micro_little.pcap", "micro_big.pcap"}) {
    const auto out = dir.file(std::string(name) + ".out");
    EXPECT_EQ(replay("pcap:" + sample(name) + ",speed=max", out).status, 0) << name;
    EXPECT_EQ(read_capture(out).frames, in_microseconds(expected_frames())) << name;
  }
}

TEST(PcapReplay, can_be_written_in_microseconds_for_old_readers) {
  const TestDir dir;
  const auto out = dir.file("micro.pcap");
  EXPECT_EQ(copy("pcap:" + sample("nano_big.pcap") + ",speed=max", out, {"--micro"}).status, 0);
  EXPECT_EQ(read_capture(out).frames, in_microseconds(expected_frames()));
  EXPECT_EQ(content(out).substr(0, 4), "\xd4\xc3\xb2\xa1");
}

TEST(PcapReplay, of_another_link_type_keeps_it_and_filters_by_it) {
  const TestDir dir;
  const auto in = dir.file("raw.pcap"), out = dir.file("out.pcap"), some = dir.file("some.pcap");
  auto writer = pcapfile::Writer::create(in.string(), {.link_type = 101});  // raw IP
  ASSERT_TRUE(writer);
  uint8_t packet[40] = {0x45, 0, 0, 40, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2};
  for (uint8_t i = 0; i < 10; ++i) {
    packet[9] = i % 2 == 0 ? 17 : 6;  // UDP, TCP
    (*writer)->append(kFirstNs + i, 40, std::as_bytes(std::span(packet)));
  }
  ASSERT_TRUE((*writer)->close());
  const std::string port = "pcap:" + in.string() + ",speed=max";
  EXPECT_EQ(replay(port, out).status, 0);
  EXPECT_TRUE(content(out) == content(in));
  EXPECT_EQ(copy(port, some, {"udp"}).status, 0);
  EXPECT_EQ(read_capture(some).link_type, 101);
  EXPECT_EQ(read_capture(some).frames.size(), 5);
  EXPECT_EQ(copy(port + ",queues=2", dir.file("divided.pcap")).status, 0);
  EXPECT_TRUE(content(dir.file("divided.pcap")) == content(in)) << "what is no Ethernet is the first queue's";
}

TEST(PcapReplay, of_another_link_type_refuses_a_filter_that_would_mean_something_else) {
  const TestDir dir;
  const auto in = dir.file("raw.pcap");
  auto writer = pcapfile::Writer::create(in.string(), {.link_type = 101});
  ASSERT_TRUE(writer && (*writer)->close());
  const std::string port = "pcap:" + in.string() + ",speed=max";
  const Outcome whole = ringcap({"up", port, "--memory", "plain", "--name", "raw", "--filter", "udp"});
  EXPECT_EQ(whole.status, 2);
  EXPECT_NE(whole.err.find("not Ethernet (link type 101)"), std::string::npos) << whole.err;
  Engine engine({port, "--memory", "plain"});
  const Outcome one = ringcap({"capture", engine.name(), "--count-only", "udp"});
  EXPECT_EQ(one.status, 2);
  EXPECT_NE(one.err.find("not Ethernet (link type 101)"), std::string::npos) << one.err;
  EXPECT_EQ(engine.down(), 0);
}

// ---- queues --------------------------------------------------------------------------------------

class PcapQueues : public ::testing::TestWithParam<int> {};

TEST_P(PcapQueues, give_every_frame_once_in_order_of_time_and_each_flow_in_its_order) {
  constexpr uint32_t kFrames = 20'000, kFlows = 50;
  const TestDir dir;
  const auto in = dir.file("in.pcap"), out = dir.file("out.pcap");
  write_flows(in, kFrames, kFlows, 1000);
  const std::string port = "pcap:" + in.string() + ",speed=max,queues=" + std::to_string(GetParam());
  const Outcome outcome = replay(port, out);
  ASSERT_EQ(outcome.status, 0) << outcome.err;
  const std::vector<Expected> sent = read_capture(in).frames, taken = read_capture(out).frames;
  ASSERT_EQ(taken.size(), sent.size());
  std::vector<int64_t> last_of_flow(kFlows, -1);
  std::vector<bool> seen(kFrames);
  uint64_t last_ns = 0, wrong = 0;
  for (const Expected& frame : taken) {
    const uint32_t number = number_of(frame);
    ASSERT_LT(number, kFrames);
    int64_t& before = last_of_flow[number % kFlows];
    const bool right =
        !seen[number] && frame == sent[number] && frame.timestamp_ns >= last_ns && before < number;
    wrong += !right;
    seen[number] = true;
    before = number;
    last_ns = frame.timestamp_ns;
  }
  EXPECT_EQ(wrong, 0);
}

TEST_P(PcapQueues, share_the_flows_and_their_sums_balance) {
  const TestDir dir;
  const auto in = dir.file("in.pcap");
  const auto queues = static_cast<size_t>(GetParam());
  write_flows(in, 5000, 200, 1000);
  Engine engine({"pcap:" + in.string() + ",speed=max,queues=" + std::to_string(queues), "--memory", "plain",
                 "--wait-consumers", "1"});
  const Outcome outcome = ringcap({"capture", engine.name(), "--count-only"});
  EXPECT_EQ(outcome.out, "5000\n") << outcome.err;
  const ledger::Ledger ledger = ledger_of(engine);
  ASSERT_EQ(ledger.workers.size(), queues);
  for (const ledger::Worker& worker : ledger.workers) EXPECT_GT(worker.considered, 0);
  EXPECT_EQ(sum_of(ledger, &ledger::Worker::considered), 5000);
  EXPECT_EQ(engine.imbalance(), "");
  EXPECT_EQ(not_come_back(engine), "");
}

INSTANTIATE_TEST_SUITE_P(OneTwoFour, PcapQueues, ::testing::Values(1, 2, 4));

// ---- speed, loop, full ----------------------------------------------------------------------------

// Takes the frames of an engine one by one, and sees that none comes before it is due by `speed`.
void expect_paced(const std::string& file, const std::string& speed, double factor) {
  const auto begin = Clock::now();  // nothing can have been played before this
  Engine engine({"pcap:" + file + ",speed=" + speed, "--memory", "plain", "--wait-consumers", "1"});
  const Attachment consumer(engine.name());
  uint64_t frames = 0;
  for (;;) {
    ringcap_burst burst;
    const int result = ringcap_take(consumer.get(), 1, static_cast<int>(kPatience.count()), &burst);
    if (result == RINGCAP_END) break;
    ASSERT_EQ(result, 1);
    const std::chrono::duration<double, std::nano> after = Clock::now() - begin;
    ASSERT_EQ(burst.count, 1);
    EXPECT_GE(after.count() * factor, static_cast<double>(burst.frames[0].timestamp_ns - kFirstNs));
    ringcap_give_back(consumer.get(), &burst);
    ++frames;
  }
  EXPECT_EQ(frames, 80);
}

TEST(PcapSpeed, keeps_the_recorded_time_between_frames) {
  const TestDir dir;
  write_flows(dir.file("in.pcap"), 80, 4, 50'000'000);  // 450 ms
  expect_paced(dir.file("in.pcap").string(), "1", 1);
  expect_paced(dir.file("in.pcap").string(), "0.5", 0.5);
}

TEST(PcapSpeed, of_a_factor_divides_the_time_between_frames) {
  const TestDir dir;
  write_flows(dir.file("in.pcap"), 80, 4, 3600'000'000'000);   // 9 hours
  expect_paced(dir.file("in.pcap").string(), "36000", 36000);  // 900 ms
}

TEST(PcapSpeed, of_max_does_not_wait) {
  const TestDir dir;
  write_flows(dir.file("in.pcap"), 80, 4, 3600'000'000'000);
  const Outcome outcome = copy("pcap:" + dir.file("in.pcap").string() + ",speed=max", dir.file("out.pcap"));
  EXPECT_EQ(outcome.status, 0) << outcome.err;
  EXPECT_TRUE(content(dir.file("out.pcap")) == content(dir.file("in.pcap")));
}

TEST(PcapLoop, plays_the_file_so_often_and_time_runs_on) {
  const TestDir dir;
  const auto in = dir.file("in.pcap"), out = dir.file("out.pcap");
  write_flows(in, 100, 4, 1000);
  for (const std::string queues : {"1", "2"}) {
    const Outcome outcome =
        copy("pcap:" + in.string() + ",speed=max,loop=3,queues=" + queues, out, {"--force"});
    EXPECT_EQ(outcome.status, 0) << outcome.err;
    const std::vector<Expected> once = read_capture(in).frames, taken = read_capture(out).frames;
    ASSERT_EQ(taken.size(), 300);
    std::vector<int> times(100);
    uint64_t last_ns = 0;
    for (const Expected& frame : taken) {
      ++times[number_of(frame)];
      EXPECT_EQ(frame.data, once[number_of(frame)].data);
      EXPECT_GE(frame.timestamp_ns, last_ns);
      last_ns = frame.timestamp_ns;
    }
    EXPECT_EQ(times, std::vector<int>(100, 3));
  }
}

TEST(PcapLoop, of_0_goes_on_until_the_capture_has_enough) {
  const TestDir dir;
  const auto out = dir.file("out.pcap");
  const Outcome outcome =
      copy("pcap:" + sample("little.pcapng") + ",speed=max,loop=0", out, {"-c", "12345", "--ring", "1024"});
  EXPECT_EQ(outcome.status, 0) << outcome.err;
  EXPECT_EQ(read_capture(out).frames.size(), 12'345);
}

// An engine on a file of 5,000 frames whose only consumer is stopped before it starts, its ring full.
struct Stalled {
  explicit Stalled(const TestDir& dir, const std::string& full)
      : engine({in(dir) + ",speed=max,full=" + full, "--memory", "plain", "--wait-consumers", "2"}),
        capture(
            start_ringcap({"capture", engine.name(), "--consumer-ring", "128", "-w", dir.file("out.pcap")})) {
    if (!has_attached(engine, capture.pid())) throw std::runtime_error(capture.err());
    capture.signal(SIGSTOP);
    const Attachment starts_it(engine.name());
    // The second consumer takes nothing either, and leaves.
    if (!wait_until([&] { return sum_of(ledger_of(engine), &ledger::Queue::taken) >= 128; }))
      throw std::runtime_error("the file is not being played");
  }
  static std::string in(const TestDir& dir) {
    write_flows(dir.file("in.pcap"), 5000, 7, 1000);
    return "pcap:" + dir.file("in.pcap").string();
  }

  Engine engine;
  Process capture;
};

TEST(PcapFull, waits_for_a_slow_consumer_and_loses_nothing) {
  const TestDir dir;
  Stalled stalled(dir, "wait");
  EXPECT_LT(sum_of(ledger_of(stalled.engine), &ledger::Queue::taken), 5000);
  stalled.capture.signal(SIGCONT);
  EXPECT_EQ(stalled.capture.wait(), 0) << stalled.capture.err();
  EXPECT_TRUE(content(dir.file("out.pcap")) == content(dir.file("in.pcap")));
  EXPECT_EQ(stalled.engine.imbalance(), "");
}

TEST(PcapFull, told_to_drop_does_so_and_every_frame_is_accounted_for) {
  const TestDir dir;
  Stalled stalled(dir, "drop");
  ASSERT_TRUE(wait_until([&] { return sum_of(ledger_of(stalled.engine), &ledger::Queue::taken) == 5000; }));
  stalled.capture.signal(SIGCONT);
  EXPECT_EQ(stalled.capture.wait(), 3) << stalled.capture.err();
  EXPECT_EQ(read_capture(dir.file("out.pcap")).frames.size(), 128);
  EXPECT_NE(stalled.capture.err().find("4872 frames lost because our ring was full"), std::string::npos)
      << stalled.capture.err();
  EXPECT_EQ(stalled.engine.imbalance(), "");
}

// ---- pipes ---------------------------------------------------------------------------------------

TEST(PcapPipe, on_standard_input_is_played_to_standard_output) {
  const TestDir dir;
  write_flows(dir.file("in.pcap"), 5000, 7, 1000);
  const std::string command = "cat " + dir.file("in.pcap").string() +
                              " | " RINGCAP_PROGRAM
                              " capture pcap:-,speed=max --memory plain --arena 32M -q -w - | cat > " +
                              dir.file("out.pcap").string();
  const Outcome outcome = run({"/bin/bash", "-o", "pipefail", "-c", command});
  EXPECT_EQ(outcome.status, 0) << outcome.err;
  EXPECT_TRUE(content(dir.file("out.pcap")) == content(dir.file("in.pcap")));
}

TEST(PcapPipe, gives_frames_while_its_writer_is_still_writing) {
  const TestDir dir;
  const auto pipe = dir.file("pipe");
  ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
  Fd writer(::open(pipe.c_str(), O_RDWR | O_CLOEXEC));
  const std::string bytes = content(sample("nano_little.pcap"));
  constexpr size_t kHeaderAndTwoFrames = 24 + 16 + 60 + 16 + 61;
  const auto write = [&](size_t from, size_t count) {
    return ::write(writer.get(), bytes.data() + from, count) == static_cast<ssize_t>(count);
  };
  ASSERT_TRUE(write(0, kHeaderAndTwoFrames + 7));
  Engine engine({"pcap:" + pipe.string() + ",speed=max", "--memory", "plain", "--wait-consumers", "1",
                 "--poll", "sleep"});
  Process capture = start_ringcap({"capture", engine.name(), "-w", dir.file("out.pcap")});
  EXPECT_TRUE(has_released(engine, capture.pid(), 2)) << capture.err();
  ASSERT_TRUE(write(kHeaderAndTwoFrames + 7, bytes.size() - kHeaderAndTwoFrames - 7));
  writer.reset();
  EXPECT_EQ(capture.wait(), 0) << capture.err();
  EXPECT_EQ(read_capture(dir.file("out.pcap")).frames, expected_frames());
}

// ---- files that are cut, damaged, of another kind, or not there ------------------------------------

TEST(PcapDamaged, file_that_is_cut_gives_what_comes_before_and_says_which_file_and_byte) {
  const TestDir dir;
  const auto cut = dir.file("cut.pcap"), out = dir.file("out.pcap");
  write_file(cut, content(sample("nano_little.pcap")).substr(0, 200));
  const std::string said = cut.string() + " is cut at byte 200";
  const Outcome alone = copy("pcap:" + cut.string() + ",speed=max", out);
  EXPECT_NE(alone.err.find(said), std::string::npos) << alone.err;
  EXPECT_EQ(alone.status, 1);
  EXPECT_EQ(read_capture(out).frames, (std::vector{expected_frame(0), expected_frame(1)}));

  for (const std::string queues : {"1", "4"}) {
    Engine engine({"pcap:" + cut.string() + ",speed=max,queues=" + queues, "--memory", "plain",
                   "--wait-consumers", "1", "--until-end"});
    EXPECT_EQ(ringcap({"capture", engine.name(), "--count-only"}).out, "2\n");
    EXPECT_EQ(engine.process().wait(), 1);
    EXPECT_NE(engine.process().err().find(said), std::string::npos) << engine.process().err();
  }
}

TEST(PcapDamaged, file_gives_the_frames_before_the_damage_and_says_where_it_is) {
  const TestDir dir;
  const std::pair<const char*, const char*> cases[] = {
      {"huge_frame.pcap", "is damaged at byte 100: it has a frame with 4294967280 bytes captured"},
      {"huge_frame.pcapng", "it has a frame with 4294967280 bytes captured"},
      {"huge_block.pcapng", "is cut at byte"},
      {"huge_unknown_block.pcapng", "is cut at byte"},
      {"tiny_block.pcapng", "with the length 8"},
      {"no_interface.pcapng", "a frame of interface 7"},
      {"mixed.pcapng", "has 101 (raw IP), those before it 1 (Ethernet)"},
  };
  for (const auto& [name, said] : cases) {
    const auto out = dir.file(std::string(name) + ".out");
    const Outcome outcome = copy("pcap:" + sample(name) + ",speed=max", out);
    EXPECT_EQ(outcome.status, 1) << name;
    EXPECT_NE(outcome.err.find(sample(name)), std::string::npos) << outcome.err;
    EXPECT_NE(outcome.err.find(said), std::string::npos) << name << ": " << outcome.err;
    EXPECT_EQ(read_capture(out).frames, std::vector{expected_frame(0)}) << name;
  }
}

}  // namespace
}  // namespace ringcap::test

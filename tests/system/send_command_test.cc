// ringcap send: real frames out of real interfaces, and through running engines.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <csignal>
#include <cstring>
#include <nlohmann/json.hpp>

#include "capture/pcapfile/reader.h"
#include "tests/system/harness.h"

namespace ringcap::test {
namespace {

using nlohmann::json;

std::vector<std::string> frames_in(const std::string& file) {
  auto reader = pcapfile::Reader::open(file);
  if (!reader) throw std::runtime_error(reader.error().message());
  std::vector<std::string> frames;
  pcapfile::Record record;
  while (reader->next(record) == pcapfile::Reader::Status::kRecord)
    frames.emplace_back(reinterpret_cast<const char*>(record.data), record.captured);
  return frames;
}

// A veth pair, a file of frames, and an engine that captures the far end.
class SendCommand : public testing::Test {
 protected:
  SendCommand() {
    host_.add_veth("near", "far");
    const Outcome made = ringcap({"capture", "gen:size=imix,flows=50,rate=20k,full=wait", "--memory", "plain",
                                  "--arena", "32M", "-c", "2000", "-w", file_});
    if (made.status != 0) throw std::runtime_error(made.err);
  }
  Engine far_engine() {
    return Engine({"packet:far,outgoing=0", "--memory", "plain", "--user", ""}, {.network = &host_});
  }
  Process capture(const Engine& engine, size_t count) {
    Process process = start_ringcap({"capture", engine.name(), "-w", arrived_, "-c", std::to_string(count)});
    if (!wait_until([&] { return !engine.stat()["consumers"].empty(); }))
      throw std::runtime_error(process.err());
    return process;
  }
  Outcome send(std::vector<std::string> words) {
    words.insert(words.begin(), "send");
    return ringcap(words, {.network = &host_});
  }

  TestDir dir_;
  Namespace host_;
  const std::string file_ = dir_.file("frames.pcap"), arrived_ = dir_.file("arrived.pcap");
};

TEST_F(SendCommand, sends_every_frame_byte_for_byte_in_order) {
  Engine engine = far_engine();
  Process consumer = capture(engine, 2000);
  const Outcome sent = send({"packet:near", file_, "--rate", "20k"});
  EXPECT_EQ(sent.status, 0) << sent.err;
  EXPECT_NE(sent.out.find("2000 of 2000 frames sent to packet:near"), std::string::npos) << sent.out;
  EXPECT_EQ(consumer.wait(), 0) << consumer.err();
  EXPECT_EQ(frames_in(arrived_), frames_in(file_));
}

TEST_F(SendCommand, sends_through_a_running_engine_whose_consumers_lose_nothing) {
  Engine far = far_engine();
  Engine near({"packet:near", "--memory", "plain", "--user", "", "--send-group", "root"},
              {.network = &host_});
  Process consumer = capture(far, 2000);
  const Outcome sent = send({near.name(), file_, "--rate", "20k", "--json"});
  EXPECT_EQ(sent.status, 0) << sent.err;
  const json result = json::parse(sent.out);
  EXPECT_EQ(result["sent"], 2000);
  EXPECT_EQ(result["refused"], 0);
  EXPECT_GT(result["pacing_error_ns"]["p99"], 0);
  EXPECT_EQ(consumer.wait(), 0) << consumer.err();
  EXPECT_EQ(frames_in(arrived_), frames_in(file_));
  EXPECT_EQ(near.imbalance(), "");
}

TEST_F(SendCommand, plays_a_file_several_times_at_the_rate_that_is_asked_for) {
  const Outcome sent = send({"packet:near", file_, "--rate", "20k", "--loop", "3", "--json"});
  EXPECT_EQ(sent.status, 0) << sent.err;
  const json result = json::parse(sent.out);
  EXPECT_EQ(result["sent"], 6000);
  EXPECT_LT(result["frames_per_second"], 20'200);  // never faster than asked for
}

TEST_F(SendCommand, bits_a_second_count_the_frames_bytes) {
  const Outcome sent = send({"packet:near", file_, "--rate", "100Mbps", "--json"});
  EXPECT_EQ(sent.status, 0) << sent.err;
  EXPECT_LT(json::parse(sent.out)["bits_per_second"], 102e6);
}

TEST_F(SendCommand, an_engine_that_lets_nobody_send_names_the_option) {
  Engine near({"packet:near", "--memory", "plain", "--user", ""}, {.network = &host_});
  const Outcome refused = send({near.name(), file_});
  EXPECT_EQ(refused.status, 5);
  EXPECT_NE(refused.err.find("--send-group"), std::string::npos) << refused.err;
}

TEST_F(SendCommand, who_is_not_in_the_group_is_refused_by_the_name_of_the_option) {
  Engine near(
      {"packet:near", "--memory", "plain", "--user", "", "--group", "nogroup", "--send-group", "daemon"},
      {.network = &host_});
  std::filesystem::permissions(dir_.path(),
                               std::filesystem::perms::others_exec | std::filesystem::perms::others_read,
                               std::filesystem::perm_options::add);
  std::filesystem::permissions(dir_.run_dir(), std::filesystem::perms::others_exec,
                               std::filesystem::perm_options::add);
  std::filesystem::permissions(file_, std::filesystem::perms::others_read,
                               std::filesystem::perm_options::add);
  const Outcome refused = ringcap({"send", near.name(), file_}, {.network = &host_, .uid = 65534});
  EXPECT_EQ(refused.status, 5);
  EXPECT_NE(refused.err.find("--send-group (daemon)"), std::string::npos) << refused.err;
}

TEST_F(SendCommand, an_interface_that_is_down_refuses_and_the_status_says_so) {
  host_.ip({"link", "set", "dev", "near", "down"});
  const Outcome sent = send({"packet:near", file_, "--flat-out"});
  EXPECT_EQ(sent.status, 3) << sent.err;
  EXPECT_NE(sent.out.find("2000 frames were refused"), std::string::npos) << sent.out;
}

TEST_F(SendCommand, a_signal_ends_it_with_what_was_sent_so_far) {
  Process process =
      start_ringcap({"send", "packet:near", file_, "--loop", "0", "--rate", "1000"}, {.network = &host_});
  Engine engine = far_engine();
  EXPECT_TRUE(wait_until([&] { return engine.stat()["ports"][0]["queues"][0]["taken"] > 10; }));
  process.signal(SIGINT);
  EXPECT_EQ(process.wait(), 0) << process.err();
  EXPECT_NE(process.out().find("pacing: late by"), std::string::npos) << process.out();
}

TEST_F(SendCommand, an_interface_that_is_deleted_ends_it_with_an_error) {
  Engine engine = far_engine();
  Process process =
      start_ringcap({"send", "packet:near", file_, "--loop", "0", "--rate", "1000"}, {.network = &host_});
  ASSERT_TRUE(wait_until([&] { return engine.stat()["ports"][0]["queues"][0]["taken"] > 10; }));
  host_.ip({"link", "del", "dev", "near"});
  EXPECT_EQ(process.wait(), 4);
  EXPECT_NE(process.err().find("packet:near is gone"), std::string::npos) << process.err();
  EXPECT_NE(process.out().find("frames were refused"), std::string::npos) << process.out();
}

TEST_F(SendCommand, an_engines_port_whose_interface_is_deleted_ends_it_with_an_error) {
  Engine engine({"packet:near", "--memory", "plain", "--user", "", "--send-group", "root"},
                {.network = &host_});
  Process process = start_ringcap({"send", engine.name(), file_, "--loop", "0", "--rate", "1000"});
  const auto senders = [&] { return engine.stat()["senders"]; };
  ASSERT_TRUE(wait_until([&] { return senders().size() == 1 && senders()[0]["sent"] > 10; }));
  host_.ip({"link", "del", "dev", "near"});
  EXPECT_EQ(process.wait(), 4);
  EXPECT_NE(process.err().find("the port of engine " + engine.name() + " is gone"), std::string::npos)
      << process.err();
  EXPECT_EQ(engine.imbalance(), "");
}

TEST_F(SendCommand, a_signal_ends_it_while_a_pipe_says_nothing_and_what_came_before_was_sent) {
  Engine engine = far_engine();
  const std::string pipe = dir_.file("pipe");
  ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
  const Fd writing(::open(pipe.c_str(), O_RDWR | O_CLOEXEC));
  Process process = start_ringcap({"send", "packet:near", pipe, "--flat-out"}, {.network = &host_});
  const std::string all = read_file(file_);
  // The file's header, and three frames of it: each has a header of 16 bytes, its length in the third word.
  size_t end = 24;
  for (int i = 0; i < 3; ++i) {
    uint32_t captured = 0;
    std::memcpy(&captured, all.data() + end + 8, sizeof captured);
    end += 16 + captured;
  }
  ASSERT_EQ(::write(writing.get(), all.data(), end), static_cast<ssize_t>(end));
  EXPECT_TRUE(wait_until([&] { return engine.stat()["ports"][0]["queues"][0]["taken"] == 3; }));
  process.signal(SIGINT);
  EXPECT_EQ(process.wait(), 0) << process.err();
  EXPECT_NE(process.out().find("3 of 3 frames sent"), std::string::npos) << process.out();
}

TEST_F(SendCommand, frames_that_cannot_be_sent_are_counted_and_are_in_no_rate) {
  const auto frame = [](size_t bytes) {
    std::string text(bytes, 'x');
    const auto length = static_cast<uint32_t>(bytes);
    std::string header(16, '\0');
    for (const size_t at : {8, 12}) std::memcpy(header.data() + at, &length, sizeof length);
    return header + text;
  };
  const std::string odd = dir_.file("odd.pcap");
  write_file(odd, read_file(file_).substr(0, 24) + frame(0) + frame(13) + frame(14) + frame(1514) +
                      frame(1515) + frame(60'000));
  const Outcome sent = send({"packet:near", odd, "--json"});
  EXPECT_EQ(sent.status, 3) << sent.err;
  const json result = json::parse(sent.out);
  EXPECT_EQ(result["asked"], 6);
  EXPECT_EQ(result["sent"], 2);
  EXPECT_EQ(result["refused"], 4);
  EXPECT_EQ(result["bytes"], 1528);
}

TEST_F(SendCommand, a_file_that_is_cut_is_sent_up_to_there_and_what_is_missing_is_said) {
  const std::string cut = dir_.file("cut.pcap"), whole = read_file(file_);
  write_file(cut, whole.substr(0, whole.size() - 1));
  const Outcome sent = send({"packet:near", cut, "--flat-out"});
  EXPECT_EQ(sent.status, 2);
  EXPECT_NE(sent.err.find("is cut at byte"), std::string::npos) << sent.err;
  EXPECT_NE(sent.out.find("1999 of 1999 frames sent"), std::string::npos) << sent.out;
}

TEST_F(SendCommand, what_makes_no_sense_is_refused) {
  EXPECT_EQ(send({"packet:near", dir_.file("none.pcap")}).status, 6);
  EXPECT_EQ(send({"packet:near", file_, "--rate", "fast"}).status, 2);
  EXPECT_EQ(send({"packet:near", file_, "--rate", "0"}).status, 2);
  EXPECT_EQ(send({"packet:near", file_, "--rate", "1k", "--flat-out"}).status, 2);
  EXPECT_EQ(send({"packet:near", file_, "--speed", "0"}).status, 2);
  EXPECT_EQ(send({"gen:", file_}).status, 2);
  EXPECT_EQ(send({"nobody", file_}).status, 6);
}

}  // namespace
}  // namespace ringcap::test

#include "driver/pcap/port.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cstring>
#include <ctime>
#include <map>
#include <set>

#include "capture/pcapfile/writer.h"
#include "driver/pcap/timeline.h"
#include "tests/unit/capture/pcapfile/captures.h"

namespace ringcap::pcap {
namespace {

using pcapfile::test::capture;
using pcapfile::test::Expected;
using pcapfile::test::expected_frames;
using pcapfile::test::Folder;

struct Given {
  Expected frame;
  uint16_t flags;
  bool operator==(const Given&) const = default;
};

// What a worker has for one queue: a region of buffers, all of them free.
class Worker {
 public:
  explicit Worker(ReceiveQueue& queue, uint32_t buffers = 512, uint32_t buffer_bytes = 2048)
      : queue_(queue), memory_(size_t{buffers} * buffer_bytes), free_(buffers) {
    for (uint32_t i = 0; i < buffers; ++i) free_.push(i);
    EXPECT_TRUE(queue.arm({.base = memory_.data(), .buffer_bytes = buffer_bytes, .count = buffers}, free_));
  }

  // One receive(); the buffers of its frames stay away from `free` until give_back().
  Burst receive(uint32_t most = 256) {
    std::vector<Frame> frames(most);
    const Burst burst = queue_.receive(frames, free_);
    for (uint32_t i = 0; i < burst.frames; ++i) {
      const Frame& frame = frames[i];
      EXPECT_TRUE(held_.insert(frame.buffer).second) << "buffer " << frame.buffer << " given twice";
      given.push_back(
          {{frame.timestamp_ns, frame.length, {frame.data, frame.data + frame.captured}}, frame.flags});
    }
    EXPECT_EQ(burst.copied, burst.frames);
    return burst;
  }
  void give_back() {
    for (const uint32_t buffer : held_) free_.push(buffer);
    held_.clear();
  }
  // Until the queue has ended.
  void receive_all() {
    for (int rounds = 0; !queue_.ended(); ++rounds) {
      ASSERT_LT(rounds, 10'000'000);
      receive();
      give_back();
    }
  }

  std::vector<Given> given;

 private:
  ReceiveQueue& queue_;
  std::vector<std::byte> memory_;
  FreeBuffers free_;
  std::set<uint32_t> held_;
};

std::unique_ptr<Port> open(const std::string& path, const PcapOptions& options) {
  Result<std::unique_ptr<Port>> port = open_pcap_port(path, options);
  if (port) return std::move(*port);
  ADD_FAILURE() << port.error().message();
  return nullptr;
}

ReceiveQueue& queue(const std::unique_ptr<Port>& port, uint32_t number = 0) {
  return *port->receive_queues()[number];
}

// Everything that a port with these options gives.
std::vector<Given> play(const std::string& path, const PcapOptions& options) {
  const std::unique_ptr<Port> port = open(path, options);
  if (!port) return {};
  Worker worker(queue(port));
  EXPECT_TRUE(port->start());
  worker.receive_all();
  EXPECT_EQ(port->problem(), "");
  return std::move(worker.given);
}

std::vector<Given> as_given(std::vector<Expected> frames) {
  std::vector<Given> given;
  for (Expected& frame : frames) {
    const bool cut = frame.data.size() < frame.length;
    given.push_back(
        {std::move(frame), static_cast<uint16_t>(layout::kCopied | (cut ? layout::kTruncated : 0))});
  }
  return given;
}

uint64_t now_ns() {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
}

// `flows` UDP flows in turn, each frame of odd number going back; 1 ms apart. The identification says which.
void write_flows(const std::string& path, uint32_t frames, uint32_t flows) {
  auto writer = pcapfile::Writer::create(path, {.reference_bytes = 0});
  ASSERT_TRUE(writer);
  for (uint32_t i = 0; i < frames; ++i) {
    uint8_t frame[60] = {2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0, 0x45, 0, 0, 46, 0, 0, 0, 0, 64, 17};
    const uint32_t flow = i % flows;
    const uint8_t ends[2][6] = {{10, 0, 0, static_cast<uint8_t>(flow), 4, static_cast<uint8_t>(flow >> 2)},
                                {10, 1, 0, 1, 0, 53}};
    const bool back = i / flows % 2 == 1;
    std::memcpy(frame + 26, ends[back], 4);
    std::memcpy(frame + 30, ends[!back], 4);
    std::memcpy(frame + 34, ends[back] + 4, 2);
    std::memcpy(frame + 36, ends[!back] + 4, 2);
    std::memcpy(frame + 42, &i, sizeof(i));
    std::memcpy(frame + 46, &flow, sizeof(flow));
    ASSERT_TRUE((*writer)->append(1'700'000'000'000'000'000 + i * uint64_t{1'000'000}, 60,
                                  std::as_bytes(std::span(frame))));
  }
  ASSERT_TRUE((*writer)->close());
}

uint32_t number_at(const Expected& frame, size_t offset) {
  uint32_t number;
  std::memcpy(&number, frame.data.data() + offset, sizeof(number));
  return number;
}

TEST(PcapPort, every_frame_of_a_file_is_given_once_and_as_it_is) {
  for (const char* name : {"nano_little.pcap", "big.pcapng"})
    EXPECT_EQ(play(capture(name), {.speed = 0}), as_given(expected_frames())) << name;
}

TEST(PcapPort, it_says_what_it_is) {
  const std::unique_ptr<Port> port = open(capture("nano_big.pcap"), {.mtu = 9000});
  ASSERT_TRUE(port);
  EXPECT_EQ(port->address(), "pcap:" + capture("nano_big.pcap"));
  EXPECT_EQ(port->driver(), "file");
  EXPECT_EQ(port->link_type(), 1u);
  EXPECT_EQ(port->mtu(), 9000u);
  EXPECT_EQ(port->buffer_need(), 9022u);
  EXPECT_EQ(queue(port).clock(), layout::Clock::kFile);
  EXPECT_TRUE(queue(port).waits_for_takers());
  EXPECT_FALSE(queue(port).ended());
}

TEST(PcapPort, nothing_comes_before_it_is_started_nor_while_it_is_stopped) {
  const std::unique_ptr<Port> port = open(capture("nano_little.pcap"), {.speed = 0});
  ASSERT_TRUE(port);
  Worker worker(queue(port));
  EXPECT_EQ(worker.receive().frames, 0u);
  EXPECT_NE(queue(port).next_due_ns(), 0u);
  ASSERT_TRUE(port->start());
  EXPECT_EQ(worker.receive(2).frames, 2u);
  port->stop();
  EXPECT_EQ(worker.receive().frames, 0u);
  EXPECT_FALSE(queue(port).ended());
  ASSERT_TRUE(port->start());
  worker.receive_all();
  EXPECT_EQ(worker.given, as_given(expected_frames()));
}

TEST(PcapPort, what_is_longer_than_a_buffer_is_cut_and_flagged) {
  Folder folder;
  const std::string path = folder.file("long.pcap");
  auto writer = pcapfile::Writer::create(path);
  ASSERT_TRUE(writer);
  std::vector<std::byte> bytes(5000);
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::byte>(i);
  for (const size_t size : {2047, 2048, 2049, 5000}) {
    ASSERT_TRUE((*writer)->append(size, static_cast<uint32_t>(size), std::span(bytes).first(size)));
    ASSERT_TRUE((*writer)->flush_references());
  }
  ASSERT_TRUE((*writer)->close());
  const std::vector<Given> given = play(path, {.speed = 0});
  ASSERT_EQ(given.size(), 4u);
  const size_t captured[] = {2047, 2048, 2048, 2048};
  for (size_t i = 0; i < 4; ++i) {
    EXPECT_EQ(given[i].frame.data,
              std::vector(bytes.begin(), bytes.begin() + static_cast<ptrdiff_t>(captured[i])));
    EXPECT_EQ(given[i].frame.length, given[i].frame.timestamp_ns);
    EXPECT_EQ((given[i].flags & layout::kTruncated) != 0, i >= 2);
  }
}

TEST(PcapPort, without_a_free_buffer_a_file_waits_and_loses_nothing) {
  const std::unique_ptr<Port> port = open(capture("nano_little.pcap"), {.speed = 0});
  ASSERT_TRUE(port);
  Worker worker(queue(port), 2);
  ASSERT_TRUE(port->start());
  Burst burst = worker.receive();
  EXPECT_EQ(burst.frames, 2u);
  EXPECT_EQ(burst.no_buffer, 0u);
  burst = worker.receive();
  EXPECT_EQ(burst.frames + burst.no_buffer, 0u);
  EXPECT_EQ(queue(port).counters().received, 2u);
  worker.give_back();
  worker.receive_all();
  EXPECT_EQ(worker.given, as_given(expected_frames()));
  EXPECT_EQ(queue(port).counters().received, 5u);
}

TEST(PcapPort, told_to_drop_it_loses_what_no_buffer_is_free_for_and_counts_it) {
  const std::unique_ptr<Port> port = open(capture("nano_little.pcap"), {.speed = 0, .full_waits = false});
  ASSERT_TRUE(port);
  EXPECT_FALSE(queue(port).waits_for_takers());
  Worker worker(queue(port), 2);
  ASSERT_TRUE(port->start());
  const Burst burst = worker.receive();
  EXPECT_EQ(burst.frames, 2u);
  EXPECT_EQ(burst.no_buffer, 3u);
  const QueueCounters counters = queue(port).counters();
  EXPECT_EQ(counters.received, 5u);
  EXPECT_EQ(counters.missed, 0u);
  EXPECT_EQ(counters.bad, 0u);
}

TEST(PcapPort, a_file_played_again_runs_on_in_time) {
  const std::vector<Given> given = play(capture("nano_little.pcap"), {.speed = 0, .loop = 3});
  const std::vector<Expected> once = expected_frames();
  ASSERT_EQ(given.size(), 15u);
  // Frames are one step apart, and so are the passes.
  const uint64_t step_ns = once[1].timestamp_ns - once[0].timestamp_ns;
  for (size_t i = 0; i < given.size(); ++i) {
    EXPECT_EQ(given[i].frame.timestamp_ns, once[0].timestamp_ns + i * step_ns);
    EXPECT_EQ(given[i].frame.data, once[i % 5].data);
  }
}

TEST(PcapPort, loop_0_never_ends_but_for_a_file_without_frames) {
  const std::unique_ptr<Port> port = open(capture("nano_little.pcap"), {.speed = 0, .loop = 0});
  ASSERT_TRUE(port);
  Worker worker(queue(port));
  ASSERT_TRUE(port->start());
  while (worker.given.size() < 10'000) {
    ASSERT_EQ(worker.receive().frames, 256u);
    worker.give_back();
  }
  EXPECT_FALSE(queue(port).ended());

  Folder folder;
  const std::string path = folder.file("none.pcap");
  ASSERT_TRUE((*pcapfile::Writer::create(path))->close());
  EXPECT_EQ(play(path, {.speed = 0, .loop = 0}).size(), 0u);
}

TEST(PcapPort, queues_divide_the_flows_and_both_directions_stay_together) {
  Folder folder;
  const std::string path = folder.file("flows.pcap");
  constexpr uint32_t kFrames = 4000, kFlows = 100;
  write_flows(path, kFrames, kFlows);
  for (const uint32_t queues : {2u, 4u}) {
    const std::unique_ptr<Port> port = open(path, {.speed = 0, .queues = queues});
    ASSERT_TRUE(port);
    ASSERT_EQ(port->receive_queues().size(), queues);
    ASSERT_TRUE(port->start());
    std::map<uint32_t, uint32_t> queue_of_flow;
    std::set<uint32_t> seen;
    for (uint32_t number = 0; number < queues; ++number) {
      Worker worker(queue(port, number));
      worker.receive_all();
      EXPECT_GT(worker.given.size(), kFrames / queues / 2) << "queue " << number << " of " << queues;
      for (const Given& given : worker.given) {
        EXPECT_TRUE(seen.insert(number_at(given.frame, 42)).second);
        EXPECT_EQ(queue_of_flow.emplace(number_at(given.frame, 46), number).first->second, number);
      }
    }
    EXPECT_EQ(seen.size(), kFrames);
  }
}

TEST(PcapPort, at_recorded_speed_frames_come_when_they_are_due) {
  Folder folder;
  const std::string path = folder.file("flows.pcap");
  write_flows(path, 61, 1);  // 60 ms
  for (const double speed : {1.0, 4.0}) {
    const std::unique_ptr<Port> port = open(path, {.speed = speed});
    ASSERT_TRUE(port);
    Worker worker(queue(port));
    const uint64_t before_ns = now_ns();
    ASSERT_TRUE(port->start());
    while (!queue(port).ended()) {
      worker.receive();
      worker.give_back();
      const auto age_ns = static_cast<double>(now_ns() - before_ns);
      ASSERT_LE(static_cast<double>(worker.given.size()), age_ns * speed / 1e6 + 1) << "frames came early";
      if (!worker.given.empty() && worker.given.size() < 61) {
        const uint64_t due_ns = queue(port).next_due_ns() - before_ns;
        ASSERT_GE(static_cast<double>(due_ns) * speed, static_cast<double>(worker.given.size()) * 1e6);
      }
    }
    EXPECT_EQ(worker.given.size(), 61u);
  }
}

TEST(PcapPort, a_cut_file_gives_what_comes_before_and_then_says_why_it_ended) {
  Folder folder;
  const std::string path = folder.file("cut.pcap");
  std::ofstream(path, std::ios::binary)
      << pcapfile::test::content(capture("nano_little.pcap")).substr(0, 200);
  const std::unique_ptr<Port> port = open(path, {.speed = 0, .loop = 0});
  ASSERT_TRUE(port);
  Worker worker(queue(port));
  ASSERT_TRUE(port->start());
  worker.receive_all();
  EXPECT_EQ(worker.given.size(), 2u);
  EXPECT_NE(port->problem().find(path + " is cut at byte 200"), std::string::npos) << port->problem();
}

TEST(PcapPort, a_pipe_gives_frames_as_they_come) {
  Folder folder;
  const std::string path = folder.file("pipe");
  ASSERT_EQ(::mkfifo(path.c_str(), 0600), 0);
  Fd out(::open(path.c_str(), O_RDWR | O_CLOEXEC));
  const std::string bytes = pcapfile::test::content(capture("nano_little.pcap"));
  ASSERT_EQ(::write(out.get(), bytes.data(), 150), 150);
  const std::unique_ptr<Port> port = open(path, {.speed = 0});
  ASSERT_TRUE(port);
  Worker worker(queue(port));
  EXPECT_EQ(queue(port).wait_fd(), -1) << "it would only wake a worker that has not started";
  ASSERT_TRUE(port->start());
  EXPECT_EQ(worker.receive().frames, 1u);
  EXPECT_EQ(worker.receive().frames, 0u);
  EXPECT_GE(queue(port).wait_fd(), 0);
  EXPECT_FALSE(queue(port).ended());
  ASSERT_EQ(::write(out.get(), bytes.data() + 150, bytes.size() - 150),
            static_cast<ssize_t>(bytes.size() - 150));
  out.reset();
  worker.receive_all();
  EXPECT_EQ(worker.given, as_given(expected_frames()));
  EXPECT_EQ(queue(port).wait_fd(), -1) << "the end of a pipe stays readable";
}

TEST(PcapPort, a_pipe_cannot_be_looped_or_divided) {
  Folder folder;
  const std::string path = folder.file("pipe");
  ASSERT_EQ(::mkfifo(path.c_str(), 0600), 0);
  const Fd out(::open(path.c_str(), O_RDWR | O_CLOEXEC));
  const std::string bytes = pcapfile::test::content(capture("nano_little.pcap"));
  for (const PcapOptions& options : {PcapOptions{.loop = 2}, PcapOptions{.queues = 2}}) {
    ASSERT_EQ(::write(out.get(), bytes.data(), bytes.size()), static_cast<ssize_t>(bytes.size()));
    const auto port = open_pcap_port(path, options);
    ASSERT_FALSE(port);
    EXPECT_NE(port.error().text.find("is a pipe"), std::string::npos) << port.error().text;
  }
}

TEST(PcapPort, what_cannot_be_opened_is_an_error) {
  EXPECT_EQ(open_pcap_port("/nowhere/at/all.pcap", {}).error().code, Code::kNotFound);
  EXPECT_EQ(open_pcap_port(capture("modified.pcap"), {}).error().code, Code::kUsage);
  EXPECT_EQ(open_pcap_port(capture("big.pcapng"), {.queues = 65}).error().code, Code::kUsage);
  EXPECT_EQ(open_pcap_port(capture("big.pcapng"), {.mtu = 16384}).error().code, Code::kUsage);
}

TEST(PcapTimeline, a_pass_begins_one_average_interval_after_the_one_before) {
  Timeline timeline(1);
  EXPECT_EQ(timeline.stamp(1000), 1000u);
  EXPECT_EQ(timeline.stamp(1500), 1500u);
  EXPECT_EQ(timeline.stamp(1400), 1400u);
  ASSERT_TRUE(timeline.begin_pass());
  EXPECT_EQ(timeline.stamp(1000), 1750u);
  EXPECT_EQ(timeline.stamp(1500), 2250u);
}

TEST(PcapTimeline, frames_of_one_moment_still_move_on) {
  Timeline timeline(1);
  EXPECT_EQ(timeline.stamp(7), 7u);
  ASSERT_TRUE(timeline.begin_pass());
  EXPECT_EQ(timeline.stamp(7), 8u);
}

TEST(PcapTimeline, speed_divides_the_time_between_frames) {
  Timeline timeline(2);
  timeline.stamp(1000);
  EXPECT_EQ(timeline.due_after_ns(1000), 0u);
  EXPECT_EQ(timeline.due_after_ns(1500), 250u);
  EXPECT_EQ(timeline.due_after_ns(900), 0u);
  EXPECT_LT(Timeline(1e-6).due_after_ns(~uint64_t{0}), ~uint64_t{0} / 2);
}

}  // namespace
}  // namespace ringcap::pcap

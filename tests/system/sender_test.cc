// Sending through an engine: a C program over the shared library (send_probe.c), and libringcap's functions
// in this process. What arrives at the far end of a veth pair, who may, what happens to senders and engines
// that are killed, rates, full rings.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <nlohmann/json.hpp>

#include "capture/layout/view.h"
#include "harness_consumers.h"
#include "wire_end.h"

namespace ringcap::test {
namespace {

constexpr uid_t kNobody = 65534;

// As send_probe.c makes it.
Bytes probe_frame(uint64_t number, size_t length = 60) {
  Bytes frame(length);
  for (size_t i = 0; i < length; ++i) frame[i] = static_cast<std::byte>(number + i * 7);
  frame[0] = frame[6] = std::byte{2};
  frame[12] = std::byte{0x88};
  frame[13] = std::byte{0xb5};
  if (length >= kNumberAt + sizeof number) std::memcpy(frame.data() + kNumberAt, &number, sizeof number);
  return frame;
}

std::vector<Bytes> probe_frames(uint64_t first, size_t count, size_t length = 60) {
  std::vector<Bytes> frames;
  for (size_t i = 0; i < count; ++i) frames.push_back(probe_frame(first + i, length));
  return frames;
}

// A sender in this process.
class Sending {
 public:
  explicit Sending(const std::string& engine) {
    ringcap_error error{};
    if (ringcap_sender_open(engine.c_str(), nullptr, &sender_, &error) != RINGCAP_OK)
      throw std::runtime_error(error.text);
  }
  ~Sending() { ringcap_sender_close(sender_); }
  Sending(const Sending&) = delete;

  ringcap_sender_t* get() const { return sender_; }
  int send(const std::vector<Bytes>& frames, int timeout_ms) const {
    std::vector<ringcap_frame> all;
    all.reserve(frames.size());
    for (const Bytes& frame : frames) all.push_back({frame.data(), static_cast<uint32_t>(frame.size())});
    return ringcap_send(sender_, all.data(), static_cast<uint32_t>(all.size()), timeout_ms);
  }
  ringcap_send_counters counters() const {
    ringcap_send_counters c{};
    ringcap_send_stats(sender_, &c);
    return c;
  }

 private:
  ringcap_sender_t* sender_ = nullptr;
};

class Senders : public testing::Test {
 protected:
  Senders() {
    lab_.add_veth("near", "far");
    far_.emplace(lab_, "far");
  }

  Engine up(std::vector<std::string> options = {"--send-group", "nogroup"}) {
    options.insert(options.begin(), "packet:near,outgoing=0");
    return Engine(std::move(options), {.network = &lab_});
  }
  static Process start_probe(const Engine& engine, std::vector<std::string> arguments,
                             const ProcessOptions& options = {}) {
    arguments.insert(arguments.begin(), {SEND_PROBE, engine.name()});
    return Process(arguments, options);
  }
  static Outcome probe(const Engine& engine, std::vector<std::string> arguments,
                       const ProcessOptions& options = {}) {
    Process process = start_probe(engine, std::move(arguments), options);
    const int status = process.wait();
    return {status, process.out(), process.err()};
  }
  // near has no carrier: the port takes nothing until unstick().
  void stick() { lab_.ip({"link", "set", "far", "down"}); }
  void unstick() { lab_.ip({"link", "set", "far", "up"}); }

  TestDir dir_;
  Namespace lab_;
  std::optional<WireEnd> far_;
};

TEST_F(Senders, send_frames_of_all_lengths_byte_for_byte_and_in_order) {
  Engine engine = up();
  uint64_t first = 0;
  for (const size_t length : {14, 26, 60, 61, 1000, 1513, 1514}) {
    const auto outcome =
        probe(engine, {"-n", "500", "-l", std::to_string(length), "-f", std::to_string(first)});
    EXPECT_EQ(outcome.status, 0) << outcome.err;
    EXPECT_EQ(outcome.out, "asked 500 sent 500 refused 0 dropped 0 pending 0\n");
    EXPECT_EQ(difference(far_->take(500), probe_frames(first, 500, length)), "") << length;
    first += 500;
  }
  EXPECT_EQ(engine.imbalance(), "");
  EXPECT_EQ(engine.down(), 0);
}

TEST_F(Senders, send_more_than_their_memory_holds_without_loss) {
  Engine engine = up();
  const auto outcome = probe(engine, {"-n", "20000"});
  EXPECT_EQ(outcome.out, "asked 20000 sent 20000 refused 0 dropped 0 pending 0\n") << outcome.err;
  EXPECT_EQ(difference(far_->take(20'000), probe_frames(0, 20'000)), "");
}

TEST_F(Senders, send_over_the_connection_of_a_consumer_as_often_as_it_likes) {
  Engine engine = up();
  const auto outcome = probe(engine, {"-o", "-n", "10", "-r", "100"});
  EXPECT_EQ(outcome.status, 0) << outcome.err;
  EXPECT_EQ(far_->take(1000).size(), 1000u);
  EXPECT_TRUE(wait_until([&] { return ledger_of(engine).senders.empty(); }));
}

// A program that forks with a sender open, and a child that ends in the ordinary way.
TEST_F(Senders, go_on_when_a_child_that_was_forked_closes_its_copy) {
  Engine engine = up();
  const Attachment consumer(engine.name());
  ringcap_sender_t* sender = nullptr;
  ringcap_error error{};
  ASSERT_EQ(ringcap_sender_of(consumer.get(), nullptr, &sender, &error), RINGCAP_OK) << error.text;
  const pid_t child = ::fork();
  if (child == 0) {
    ringcap_sender_close(sender);
    ::_exit(0);
  }
  int status = -1;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  const auto frames = probe_frames(0, 2000);
  for (const Bytes& frame : frames) {
    const ringcap_frame one{frame.data(), static_cast<uint32_t>(frame.size())};
    ASSERT_EQ(ringcap_send(sender, &one, 1, 10'000), 1) << ringcap_sender_error(sender)->text;
  }
  EXPECT_EQ(difference(far_->take(2000), frames), "");
  ringcap_sender_close(sender);
}

TEST_F(Senders, are_told_which_ports_there_are) {
  Engine engine = up();
  EXPECT_EQ(probe(engine, {"-p", "packet:near"}).status, 0);
  EXPECT_EQ(probe(engine, {"-p", "0"}).status, 0);
  const auto unknown = probe(engine, {"-p", "packet:other"});
  EXPECT_EQ(unknown.status, -RINGCAP_E_NOT_FOUND);
  EXPECT_NE(unknown.err.find("packet:near"), std::string::npos) << unknown.err;
  const auto beyond = probe(engine, {"-p", "7"});
  EXPECT_EQ(beyond.status, -RINGCAP_E_USAGE);
  EXPECT_NE(beyond.err.find("no port 7"), std::string::npos) << beyond.err;
}

TEST_F(Senders, on_a_port_that_cannot_send_are_refused_in_words) {
  Engine engine({"gen:rate=10", "--send-group", "nogroup"});
  const auto refused = probe(engine, {});
  EXPECT_EQ(refused.status, -RINGCAP_E_USAGE);
  EXPECT_NE(refused.err.find("no port that can send"), std::string::npos) << refused.err;
}

// ---- who may -------------------------------------------------------------------------------------

TEST_F(Senders, of_an_engine_without_a_send_group_are_refused_by_the_name_of_the_option) {
  Engine engine = up({});
  for (const std::vector<std::string>& way : {std::vector<std::string>{}, {"-o"}}) {
    const auto refused = probe(engine, way);
    EXPECT_EQ(refused.status, -RINGCAP_E_PERMISSION);
    EXPECT_NE(refused.err.find("lets nobody send"), std::string::npos) << refused.err;
    EXPECT_NE(refused.err.find("--send-group"), std::string::npos) << refused.err;
  }
}

TEST_F(Senders, that_are_not_in_the_group_are_refused_and_those_in_it_may) {
  Engine closed = up({"--group", "nogroup", "--send-group", "daemon"});
  const auto refused = probe(closed, {}, {.uid = kNobody});
  EXPECT_EQ(refused.status, -RINGCAP_E_PERMISSION) << refused.err;
  EXPECT_NE(refused.err.find("uid 65534 may not send"), std::string::npos) << refused.err;
  EXPECT_NE(refused.err.find("--send-group (daemon)"), std::string::npos) << refused.err;
  EXPECT_EQ(probe(closed, {}).status, 0) << "root may always";
  EXPECT_EQ(closed.down(), 0);
  Engine open = up({"--group", "nogroup", "--send-group", "nogroup"});
  EXPECT_EQ(probe(open, {"-n", "3"}, {.uid = kNobody}).out, "asked 3 sent 3 refused 0 dropped 0 pending 0\n");
}

TEST_F(Senders, that_are_refused_and_stay_silent_keep_no_place) {
  Engine engine = up({});
  const size_t before = descriptors_of(engine.process().pid());
  message::Hello hello;
  hello.role = message::Role::kSender;
  std::vector<std::unique_ptr<RawClient>> clients;
  for (int i = 0; i < 300; ++i) {
    clients.push_back(std::make_unique<RawClient>(engine.name()));
    clients.back()->say(hello);
  }
  for (const auto& client : clients) client->hear();
  EXPECT_GT(descriptors_of(engine.process().pid()), before + 200);
  EXPECT_LE(descriptors_of(engine.process().pid()), before + 257) << "as many as may be silent";
  EXPECT_TRUE(wait_until([&] { return descriptors_of(engine.process().pid()) <= before; }))
      << "five seconds without a grant";
}

// ---- many, and those that die --------------------------------------------------------------------

TEST_F(Senders, that_are_64_send_at_once_and_the_next_one_is_refused) {
  Engine engine = up();
  std::vector<std::unique_ptr<Sending>> all;
  for (int i = 0; i < 64; ++i) all.push_back(std::make_unique<Sending>(engine.name()));
  const auto refused = probe(engine, {});
  EXPECT_EQ(refused.status, -RINGCAP_ERROR);
  EXPECT_NE(refused.err.find("64 senders already"), std::string::npos) << refused.err;
  for (uint64_t i = 0; i < all.size(); ++i) EXPECT_EQ(all[i]->send(probe_frames(i << 32, 100), 10'000), 100);
  std::map<uint64_t, std::vector<uint64_t>> numbers;
  for (const Bytes& frame : far_->take(6400)) numbers[number_of(frame) >> 32].push_back(number_of(frame));
  EXPECT_EQ(numbers.size(), 64u);
  for (const auto& [sender, sent] : numbers) {
    EXPECT_EQ(sent.size(), 100u) << sender;
    EXPECT_TRUE(std::ranges::is_sorted(sent)) << sender;
  }
  EXPECT_EQ(engine.stat().at("senders").size(), 64u);
  all.pop_back();
  EXPECT_TRUE(wait_until([&] { return probe(engine, {}).status == 0; }));
  all.clear();
  EXPECT_TRUE(wait_until([&] { return ledger_of(engine).senders.empty(); }));
  EXPECT_EQ(engine.imbalance(), "");
}

TEST_F(Senders, that_are_killed_have_sent_what_they_queued) {
  Engine engine = up();
  for (int i = 0; i < 5; ++i) {
    Process process = start_probe(engine, {"-n", "500", "-w"});
    ASSERT_TRUE(wait_until([&] { return process.out() == "queued\n"; }));
    process.kill();
    EXPECT_EQ(difference(far_->take(500), probe_frames(0, 500)), "");
  }
  EXPECT_TRUE(wait_until([&] { return ledger_of(engine).senders.empty(); }));
}

TEST_F(Senders, that_are_killed_while_the_port_is_stuck_are_given_up_and_their_places_are_free) {
  Engine engine = up();
  stick();
  Process process = start_probe(engine, {"-n", "500", "-w"});
  ASSERT_TRUE(wait_until([&] { return process.out() == "queued\n"; }));
  process.kill();
  EXPECT_TRUE(wait_until([&] { return ledger_of(engine).senders.empty(); }));
  unstick();
  EXPECT_EQ(probe(engine, {"-n", "50", "-f", "1000"}).status, 0);
  EXPECT_EQ(engine.imbalance(), "");
}

TEST_F(Senders, come_and_go_hundreds_of_times_and_leave_nothing_behind) {
  Engine engine = up();
  {
    Sending one(engine.name());
  }
  ASSERT_TRUE(wait_until([&] { return ledger_of(engine).senders.empty(); }));
  const auto before = belongings_of(engine.process().pid());
  for (uint64_t i = 0; i < 300; ++i) {
    const Sending one(engine.name());
    EXPECT_EQ(one.send({probe_frame(i)}, 1000), 1);
  }
  EXPECT_TRUE(wait_until([&] { return ledger_of(engine).senders.empty(); }));
  EXPECT_EQ(leaked(engine.process().pid(), before), "");
  EXPECT_EQ(far_->take(300).size(), 300u);
}

TEST_F(Senders, are_told_when_the_engine_is_killed_while_they_send) {
  for (const char* timeout : {"-1", "0", "100"}) {
    Engine engine = up();
    Process process = start_probe(engine, {"-e", "-t", timeout});
    ASSERT_TRUE(wait_until([&] {
      const auto l = ledger_of(engine);
      return !l.senders.empty() && l.senders[0].sent > 1000;
    }));
    engine.process().kill();
    EXPECT_EQ(process.wait(), -RINGCAP_E_GONE);
    EXPECT_NE(process.err().find("has ended"), std::string::npos) << process.err();
  }
}

TEST_F(Senders, that_wait_for_a_stuck_port_are_told_when_the_engine_ends_or_is_killed) {
  for (const bool killed : {true, false}) {
    Engine engine = up();
    stick();
    const Sending sender(engine.name());
    while (sender.send(probe_frames(0, 64), 50) == 64) {
    }
    // The engine may only have been slow: what it has room for after all is queued, and the next one waits.
    std::thread end([&] {
      if (killed)
        engine.process().kill();
      else
        engine.process().signal(SIGTERM);
    });
    int sent = 0;
    while ((sent = sender.send(probe_frames(0, 64), -1)) > 0) {
    }
    EXPECT_EQ(sent, RINGCAP_E_GONE);
    EXPECT_EQ(ringcap_send_flush(sender.get(), -1), RINGCAP_E_GONE);
    EXPECT_NE(std::string(ringcap_sender_error(sender.get())->text).find("has ended"), std::string::npos);
    end.join();
    unstick();
  }
}

// ---- full, too long, limited ---------------------------------------------------------------------

TEST_F(Senders, with_a_full_ring_queue_what_fits_and_wait_as_long_as_they_are_told) {
  Engine engine = up();
  stick();
  const Sending sender(engine.name());
  uint64_t queued = 0;
  ASSERT_TRUE(wait_until([&] {
    const int now = sender.send(probe_frames(queued, 64), 0);
    queued += static_cast<uint64_t>(now);
    return now < 64 && sender.send({probe_frame(queued)}, 100) == 0;
  }));
  // An engine that was only slow takes some after all: then once more.
  const auto full_after = [&](int timeout_ms) {
    std::chrono::steady_clock::duration took{};
    EXPECT_TRUE(wait_until([&] {
      const auto start = std::chrono::steady_clock::now();
      const int now = sender.send(probe_frames(queued, 1000), timeout_ms);
      took = std::chrono::steady_clock::now() - start;
      queued += static_cast<uint64_t>(std::max(now, 0));
      return now == 0;
    }));
    return took;
  };
  EXPECT_LT(full_after(0), std::chrono::seconds(10));
  EXPECT_GE(full_after(300), std::chrono::milliseconds(300));
  EXPECT_EQ(ringcap_send_flush(sender.get(), 50), 1);
  std::thread later([this] { unstick(); });
  EXPECT_EQ(sender.send(probe_frames(queued, 1000), -1), 1000);
  later.join();
  EXPECT_EQ(ringcap_send_flush(sender.get(), 20'000), RINGCAP_OK);
  EXPECT_EQ(difference(far_->take(queued + 1000), probe_frames(0, queued + 1000)), "");
  EXPECT_EQ(sender.counters().sent, queued + 1000);
  EXPECT_EQ(engine.imbalance(), "");
}

TEST_F(Senders, are_told_of_a_length_that_cannot_be_sent_and_those_before_it_leave) {
  Engine engine = up();
  const Sending sender(engine.name());
  for (const size_t bad : {size_t{0}, size_t{13}, size_t{2049}, size_t{100'000}}) {
    auto frames = probe_frames(0, 3);
    frames.insert(frames.begin() + 2, Bytes(bad));
    EXPECT_EQ(sender.send(frames, 1000), RINGCAP_E_USAGE);
    EXPECT_NE(std::string(ringcap_sender_error(sender.get())->text).find(std::to_string(bad) + " bytes"),
              std::string::npos);
    EXPECT_EQ(difference(far_->take(2), probe_frames(0, 2)), "");
  }
  EXPECT_EQ(sender.counters().refused, 0u) << "they never left the process";
}

TEST_F(Senders, see_frames_beyond_the_mtu_counted_as_dropped) {
  Engine engine = up();
  const auto outcome = probe(engine, {"-n", "10", "-l", "1900"});
  EXPECT_EQ(outcome.out, "asked 10 sent 0 refused 0 dropped 10 pending 0\n") << outcome.err;
  EXPECT_EQ(probe(engine, {"-n", "10"}).out, "asked 10 sent 10 refused 0 dropped 0 pending 0\n");
}

TEST_F(Senders, with_a_rate_send_no_faster_and_lose_nothing) {
  Engine engine = up({"--send-group", "nogroup", "--send-rate", "1000"});
  const Sending sender(engine.name());
  const auto start = std::chrono::steady_clock::now();
  EXPECT_EQ(sender.send(probe_frames(0, 532), -1), 532);
  EXPECT_EQ(ringcap_send_flush(sender.get(), 20'000), RINGCAP_OK);
  EXPECT_GE(std::chrono::steady_clock::now() - start, std::chrono::milliseconds(495)) << "32 at once";
  EXPECT_EQ(difference(far_->take(532), probe_frames(0, 532)), "");
  EXPECT_GT(sender.counters().limited, 0u);
  EXPECT_EQ(sender.counters().dropped, 0u);
}

TEST_F(Senders, are_in_the_table_and_in_the_json) {
  Engine engine = up();
  const Sending sender(engine.name());
  EXPECT_EQ(sender.send(probe_frames(0, 20), 1000), 20);
  ASSERT_EQ(ringcap_send_flush(sender.get(), 10'000), RINGCAP_OK);
  const nlohmann::json line = engine.stat().at("senders").at(0);
  EXPECT_EQ(line.at("pid"), ::getpid());
  EXPECT_EQ(line.at("port"), "packet:near");
  EXPECT_EQ(line.at("asked"), 20);
  EXPECT_EQ(line.at("sent"), 20);
  EXPECT_EQ(line.at("bytes"), 1200);
  EXPECT_NE(ringcap({"stat", engine.name()}).out.find("asked 20 = sent 20 + refused 0"), std::string::npos);
}

// ---- hostile ones --------------------------------------------------------------------------------

// What libringcap would never write: a client of the protocol, and its memory.
class Hostile {
 public:
  explicit Hostile(const Engine& engine) : client_(engine.name()) {
    message::Hello hello;
    hello.role = message::Role::kSender;
    client_.say(hello);
    client_.hear();
    client_.say(message::encode(message::SendOpen{}));
    const auto answer = client_.hear();
    granted_ = message::parse_send_granted(answer.bytes).value();
    bytes_ = layout::send_bytes(granted_.slots, granted_.slot_bytes);
    memory_ = Mapping::map(answer.fds[0].get(), bytes_, Mapping::Access::kReadWrite, "memory").value();
    memory_fd_ = ::fcntl(answer.fds[0].get(), F_DUPFD_CLOEXEC, 3);
    bell_ = ::fcntl(answer.fds[1].get(), F_DUPFD_CLOEXEC, 3);
  }
  ~Hostile() {
    ::close(memory_fd_);
    ::close(bell_);
  }
  const Mapping& memory() const { return memory_; }
  size_t bytes() const { return bytes_; }
  int memory_fd() const { return memory_fd_; }
  const message::SendGranted& granted() const { return granted_; }
  void produce(uint64_t count) {
    memory_.at<layout::SendLine>(0)->produced.store(count);
    ring();
  }
  void ring() {
    const uint64_t one = 1;
    [[maybe_unused]] const auto written = ::write(bell_, &one, sizeof one);
  }

 private:
  RawClient client_;
  message::SendGranted granted_;
  Mapping memory_;
  size_t bytes_ = 0;
  int memory_fd_ = -1, bell_ = -1;
};

ledger::Sender line_of(const Engine& engine, uint64_t id) {
  for (const auto& sender : ledger_of(engine).senders)
    if (sender.id == id) return sender;
  return {};
}

TEST_F(Senders, whose_ring_is_garbage_have_every_bad_request_refused_and_counted_and_disturb_nobody) {
  Engine engine = up();
  const Sending honest(engine.name());
  Hostile hostile(engine);
  std::mt19937_64 random(9);
  const uint64_t slots = hostile.granted().slots;
  uint64_t asked = 0;
  for (int round = 0; round < 20; ++round) {
    for (size_t at = sizeof(layout::SendLine); at + 8 <= layout::send_frames_offset(hostile.granted().slots);
         at += 8)
      *hostile.memory().at<uint64_t>(at) = random() | uint64_t{1} << 63;  // no length is that long
    asked += slots;
    hostile.produce(layout::kFirstPosition + asked);
    EXPECT_EQ(honest.send(probe_frames(static_cast<uint64_t>(round) * 10, 10), 10'000), 10);
    ASSERT_TRUE(wait_until([&] { return line_of(engine, hostile.granted().id).asked == asked; }));
  }
  EXPECT_EQ(line_of(engine, hostile.granted().id).refused, asked);
  EXPECT_EQ(difference(far_->take(200), probe_frames(0, 200)), "");
  EXPECT_EQ(far_->rest().size(), 0u);
  EXPECT_EQ(engine.imbalance(), "");
}

TEST_F(Senders, whose_memory_changes_all_the_time_disturb_nobody) {
  Engine engine = up();
  const Sending honest(engine.name());
  Hostile hostile(engine);
  std::atomic<bool> stop{false};
  std::thread writer([&] {
    std::mt19937_64 random(10);
    for (uint64_t asked = 0; !stop;) {
      for (size_t at = sizeof(layout::SendLine); at + 8 <= hostile.bytes(); at += 8 * (1 + random() % 64))
        *hostile.memory().at<volatile uint64_t>(at) = random() & random() & random();
      const uint64_t consumed = line_of(engine, hostile.granted().id).asked;
      asked = std::min(asked + random() % 64, consumed + hostile.granted().slots);
      hostile.produce(layout::kFirstPosition + asked);
    }
  });
  for (uint64_t i = 0; i < 50; ++i) EXPECT_EQ(honest.send(probe_frames(i * 100, 100), 10'000), 100);
  EXPECT_TRUE(wait_until([&] { return line_of(engine, hostile.granted().id).refused > 100; }));
  stop = true;
  writer.join();
  EXPECT_EQ(ringcap_send_flush(honest.get(), 10'000), RINGCAP_OK);
  EXPECT_EQ(honest.counters().sent, 5000u);
  EXPECT_TRUE(engine.process().is_running());
  EXPECT_EQ(engine.imbalance(), "");
}

TEST_F(Senders, whose_count_lies_are_thrown_out_and_the_log_names_them) {
  Engine engine = up();
  Hostile hostile(engine);
  hostile.produce(layout::kFirstPosition - 1);
  EXPECT_TRUE(wait_until([&] { return ledger_of(engine).senders.empty(); }));
  EXPECT_TRUE(wait_until([&] {
    return engine.process().err().find("its count of requests made no sense") != std::string::npos;
  }));
  EXPECT_EQ(probe(engine, {}).status, 0);
}

TEST_F(Senders, cannot_resize_their_memory_and_a_hole_in_it_sends_zeros_or_nothing) {
  Engine engine = up();
  Hostile hostile(engine);
  EXPECT_NE(::ftruncate(hostile.memory_fd(), 4096), 0);
  EXPECT_NE(::ftruncate(hostile.memory_fd(), static_cast<off_t>(hostile.bytes() * 2)), 0);
  EXPECT_EQ(::fallocate(hostile.memory_fd(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0,
                        static_cast<off_t>(hostile.bytes())),
            0);
  hostile.ring();  // the count is 0 now: it makes no sense
  EXPECT_TRUE(wait_until([&] { return ledger_of(engine).senders.empty(); }));
  EXPECT_EQ(probe(engine, {"-n", "10"}).status, 0);
  EXPECT_TRUE(engine.process().is_running());
}

}  // namespace
}  // namespace ringcap::test

// Clusters with real processes: a thousand changes of membership under load, members that are killed, and
// filters that are replaced while frames flow.
#include <gtest/gtest.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>
#include <random>
#include <set>

#include "driver/gen/frames.h"
#include "libcap/client/client.h"
#include "tests/system/harness_consumers.h"

namespace ringcap::test {
namespace {

// How often each frame was taken: written by all members, one byte a frame, by queue and sequence number.
class Board {
 public:
  // More frames than come while a test may run: 50,000 a second and queue, for five minutes.
  static constexpr size_t kQueues = 2, kFrames = size_t{16} << 20;
  Board()
      : bytes_(
            static_cast<std::atomic<uint8_t>*>(::mmap(nullptr, kQueues * kFrames, PROT_READ | PROT_WRITE,
                                                      MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0))) {}
  ~Board() { ::munmap(bytes_, kQueues * kFrames); }
  Board(const Board&) = delete;
  Board& operator=(const Board&) = delete;

  void mark(const ringcap_burst& burst) {
    for (uint32_t i = 0; i < burst.count; ++i) {
      uint64_t sequence;
      std::memcpy(&sequence, burst.arena + RINGCAP_OFFSET(&burst.frames[i]) + gen::kSequenceOffset,
                  sizeof sequence);
      if (sequence < kFrames) bytes_[burst.frames[i].source * kFrames + sequence].fetch_add(1);
    }
  }
  uint64_t marked(uint8_t times) const {
    return static_cast<uint64_t>(std::count_if(bytes_, bytes_ + kQueues * kFrames,
                                               [&](const auto& byte) { return byte.load() == times; }));
  }
  uint64_t marked_twice() const {
    return static_cast<uint64_t>(
        std::count_if(bytes_, bytes_ + kQueues * kFrames, [](const auto& byte) { return byte.load() > 1; }));
  }

 private:
  std::atomic<uint8_t>* bytes_;
};

Consumer::Body member_of(const std::string& name, Board& board) {
  return [name, &board](Progress& progress) {
    ringcap_options options = RINGCAP_OPTIONS_INIT;
    options.ring_frames = 512;
    options.flags = RINGCAP_ALLOW_SMALLER;
    ringcap_t* handle = nullptr;
    ringcap_error error{};
    progress.result = ringcap_attach(name.c_str(), &options, &handle, &error);
    if (progress.result != RINGCAP_OK) return progress.take_over(error);
    progress.attached = true;
    while (!progress.stop) {
      ringcap_burst burst;
      const int count = ringcap_take(handle, 256, 50, &burst);
      if (count < 0) break;
      board.mark(burst);
      progress.frames += burst.count;
      ringcap_give_back(handle, &burst);
    }
    ringcap_detach(handle);
  };
}

// The only cluster of an engine, as its state says.
class Watch {
 public:
  explicit Watch(const std::string& engine) : state_(client::observe(engine).value()) {}
  ledger::Ledger ledger() const { return ledger::read(*state_.at<const layout::Header>(0)); }
  ledger::Cluster cluster() const { return ledger().clusters.at(0); }
  // The place of a member in the consumers' table; -1: it is not there.
  int place(const std::string& member) const {
    for (const auto& consumer : ledger().consumers)
      if (consumer.member == member && consumer.state == layout::ConsumerState::kAttached)
        return static_cast<int>(consumer.slot);
    return -1;
  }

 private:
  Mapping state_;
};

// Slots that moved although neither who had them nor who has them is `concerned`.
size_t moved_without(const ledger::Cluster& before, const ledger::Cluster& after, int concerned) {
  size_t moved = 0;
  for (size_t slot = 0; slot < after.consumers.size(); ++slot)
    moved += before.consumers[slot] != after.consumers[slot] && before.consumers[slot] != concerned &&
             after.consumers[slot] != concerned;
  return moved;
}

TEST(EngineCluster, a_thousand_changes_under_load_deliver_no_frame_twice_and_lose_none_uncounted) {
  const TestDir dir;
  const auto seed = std::random_device{}();
  SCOPED_TRACE(seed);
  std::mt19937 random(seed);
  Board board;
  Engine engine({"gen:mix=ipv4,flows=2000,queues=2,rate=100k", "--memory", "plain", "--cluster", "ids"});
  const Watch watch(engine.name());
  std::map<std::string, Consumer> members;
  int killed = 0;
  for (int change = 0; change < 1000; ++change) {
    const std::string name = "m" + std::to_string(random() % 8);
    const auto before = watch.cluster();
    int place = watch.place(name);
    if (const auto found = members.find(name); found != members.end()) {
      if (random() % 2 == 0) {
        found->second.kill();
        ++killed;
      } else {
        EXPECT_EQ(found->second.stop(), 0);
      }
      members.erase(found);
      ASSERT_TRUE(wait_until([&] { return watch.place(name) < 0; })) << name;
    } else {
      members.emplace(name, Consumer(member_of(engine.name() + "@ids/" + name, board)));
      ASSERT_TRUE(wait_until([&] { return members.at(name).progress().attached.load(); }))
          << members.at(name).progress().text;
      place = watch.place(name);
    }
    ASSERT_EQ(moved_without(before, watch.cluster(), place), 0u) << change << " " << name;
  }
  EXPECT_GT(killed, 100);
  for (auto& [name, member] : members) EXPECT_EQ(member.stop(), 0);
  members.clear();
  EXPECT_EQ(engine.imbalance(), "");
  engine.down();  // 0, or 3 where the generator missed frames: these were nobody's
  const auto ledger = watch.ledger();
  const auto cluster = watch.cluster();
  const auto& all = ledger.departed_total;
  EXPECT_EQ(board.marked_twice(), 0u);
  EXPECT_EQ(cluster.total.offered, all.considered + cluster.total.unassigned);
  EXPECT_EQ(all.considered, all.published + all.dropped);
  const uint64_t marked = board.marked(1);
  EXPECT_GT(marked, 10'000u);
  // A member may have read what it was killed before it gave back.
  EXPECT_GE(marked, all.released);
  EXPECT_LE(marked, all.released + all.reclaimed);
}

// Takes `count` frames and hands each to `visit`.
void take_frames(ringcap_t* handle, uint64_t count,
                 const std::function<void(const ringcap_descriptor&, const uint8_t*)>& visit) {
  for (uint64_t taken = 0; taken < count;) {
    ringcap_burst burst;
    const int got = ringcap_take(handle, 64, 10'000, &burst);
    ASSERT_GT(got, 0) << ringcap_last_error(handle)->text;
    for (uint32_t i = 0; i < burst.count; ++i)
      visit(burst.frames[i], burst.arena + RINGCAP_OFFSET(&burst.frames[i]));
    taken += burst.count;
    ASSERT_EQ(ringcap_give_back(handle, &burst), RINGCAP_OK);
  }
}

constexpr ringcap_instruction kEverything[] = {{0x06, 0, 0, 0xffff}};
constexpr ringcap_instruction kIpv6[] = {
    {0x28, 0, 0, 12}, {0x15, 0, 1, 0x86dd}, {0x06, 0, 0, 0xffff}, {0x06, 0, 0, 0}};
constexpr ringcap_instruction kNotIpv6[] = {
    {0x28, 0, 0, 12}, {0x15, 1, 0, 0x86dd}, {0x06, 0, 0, 0xffff}, {0x06, 0, 0, 0}};

bool is_ipv6(const uint8_t* frame) { return frame[12] == 0x86 && frame[13] == 0xdd; }

TEST(EngineFilter, is_replaced_200_times_while_frames_flow_without_losing_one) {
  const TestDir dir;
  Engine engine({"gen:mix=ipv4,flows=100,full=wait", "--memory", "plain"});
  const Attachment consumer(engine.name());
  std::optional<uint64_t> next;
  uint64_t gaps = 0;
  const auto visit = [&](const ringcap_descriptor&, const uint8_t* frame) {
    uint64_t sequence;
    std::memcpy(&sequence, frame + gen::kSequenceOffset, sizeof sequence);
    gaps += next && sequence != *next;
    next = sequence + 1;
  };
  for (int change = 0; change < 200; ++change) {
    ASSERT_EQ(ringcap_set_filter(consumer.get(), change % 2 == 0 ? kEverything : nullptr, 1), RINGCAP_OK);
    take_frames(consumer.get(), 500, visit);
  }
  EXPECT_EQ(gaps, 0u);
  EXPECT_EQ(engine.imbalance(), "");
}

TEST(EngineFilter, that_was_replaced_holds_for_what_lay_in_the_ring_already) {
  const TestDir dir;
  Engine engine({"gen:mix=all,flows=99,full=wait", "--memory", "plain"});
  const Attachment consumer(engine.name());
  uint64_t wrong = 0;
  for (int change = 0; change < 50; ++change) {
    const bool six = change % 2 == 0;
    ASSERT_EQ(ringcap_set_filter(consumer.get(), six ? kIpv6 : kNotIpv6, 4), RINGCAP_OK);
    take_frames(consumer.get(), 200,
                [&](const ringcap_descriptor&, const uint8_t* frame) { wrong += is_ipv6(frame) != six; });
  }
  EXPECT_EQ(wrong, 0u);
  EXPECT_EQ(engine.imbalance(), "");
}

TEST(EngineFilter, that_is_replaced_while_a_burst_is_held_leaves_the_burst_valid) {
  const TestDir dir;
  Engine engine({"gen:mix=all,flows=99,full=wait", "--memory", "plain"});
  const Attachment consumer(engine.name());
  ringcap_burst held;
  ASSERT_GT(ringcap_take(consumer.get(), 64, 10'000, &held), 0);
  const std::vector<uint8_t> before(held.arena + RINGCAP_OFFSET(&held.frames[0]),
                                    held.arena + RINGCAP_OFFSET(&held.frames[0]) + 60);
  ASSERT_EQ(ringcap_set_filter(consumer.get(), kIpv6, 4), RINGCAP_OK);
  ringcap_burst later;
  for (int i = 0; i < 20; ++i) ringcap_take(consumer.get(), 64, 0, &later);
  const std::vector<uint8_t> after(held.arena + RINGCAP_OFFSET(&held.frames[0]),
                                   held.arena + RINGCAP_OFFSET(&held.frames[0]) + 60);
  EXPECT_EQ(before, after);
  EXPECT_EQ(ringcap_give_back(consumer.get(), &held), RINGCAP_OK);
}

TEST(EngineFilter, that_is_not_valid_is_refused_and_the_old_one_stays) {
  const TestDir dir;
  Engine engine({"gen:mix=all,flows=99,full=wait", "--memory", "plain"});
  const Attachment consumer(engine.name());
  ASSERT_EQ(ringcap_set_filter(consumer.get(), kIpv6, 4), RINGCAP_OK);
  constexpr ringcap_instruction kBackwards[] = {{0x05, 0, 0, 0xffffffff}};
  EXPECT_EQ(ringcap_set_filter(consumer.get(), kBackwards, 1), RINGCAP_E_FILTER);
  uint64_t wrong = 0;
  take_frames(consumer.get(), 500,
              [&](const ringcap_descriptor&, const uint8_t* frame) { wrong += !is_ipv6(frame); });
  EXPECT_EQ(wrong, 0u);
}

TEST(EngineFilter, of_engine_and_cluster_are_replaced_by_their_operator) {
  const TestDir dir;
  Engine engine({"gen:mix=all,flows=99,full=wait", "--memory", "plain", "--cluster", "ids"});
  ringcap_options options = RINGCAP_OPTIONS_INIT;
  const Attachment member(engine.name() + "@ids", options);
  const auto program = [](const auto& filter) {
    const auto* first = reinterpret_cast<const filter::Instruction*>(std::begin(filter));
    return std::vector<filter::Instruction>(first, first + std::size(filter));
  };
  ASSERT_TRUE(client::replace_filter(engine.name(), "ids", program(kIpv6)));
  const uint32_t ring = ringcap_ring_frames(member.get());
  take_frames(member.get(), ring, [](const auto&, const auto*) {});  // what was published before
  uint64_t wrong = 0;
  const auto not_six = [&](const ringcap_descriptor&, const uint8_t* frame) { wrong += !is_ipv6(frame); };
  take_frames(member.get(), 500, not_six);
  EXPECT_EQ(wrong, 0u);
  ASSERT_TRUE(client::replace_filter(engine.name(), "", program(kNotIpv6)));
  ASSERT_TRUE(client::replace_filter(engine.name(), "ids", {}));
  take_frames(member.get(), ring, [](const auto&, const auto*) {});
  take_frames(member.get(), 500,
              [&](const ringcap_descriptor&, const uint8_t* frame) { wrong += is_ipv6(frame); });
  EXPECT_EQ(wrong, 0u);
  const auto missing = client::replace_filter(engine.name(), "other", {});
  ASSERT_FALSE(missing);
  EXPECT_NE(missing.error().message().find("ids"), std::string::npos);
  EXPECT_EQ(engine.imbalance(), "");
}

TEST(EngineFilter, of_a_running_engine_is_replaced_by_ringcap_filter) {
  const TestDir dir;
  Engine engine({"gen:mix=all,flows=99,rate=20k", "--memory", "plain"});
  EXPECT_EQ(ringcap({"filter", "--set", engine.name(), "ip6"}).status, 0);
  const auto filtered = [&] { return sum_of(ledger_of(engine), &ledger::Worker::filtered); };
  EXPECT_TRUE(wait_until([&] { return filtered() > 100; }));
  EXPECT_EQ(ringcap({"filter", "--set", engine.name()}).status, 0);
  const uint64_t had = filtered();
  const uint64_t taken = sum_of(ledger_of(engine), &ledger::Worker::taken);
  EXPECT_TRUE(wait_until([&] { return sum_of(ledger_of(engine), &ledger::Worker::taken) > taken + 200; }));
  EXPECT_EQ(filtered(), had);
  EXPECT_EQ(ringcap({"filter", "--set", engine.name(), "nonsense"}).status, 2);
  const auto missing = ringcap({"filter", "--set", engine.name() + "@nix", "ip"});
  EXPECT_EQ(missing.status, 6) << missing.err;
  EXPECT_EQ(engine.imbalance(), "");
}

TEST(EngineCluster, that_was_declared_shows_its_members_and_their_load) {
  const TestDir dir;
  Engine engine({"gen:mix=ipv4,flows=1000,rate=100k", "--memory", "plain", "--cluster",
                 "ids,kind=flow4,level=outer,stall=move,stall_ms=500,filter=ip and udp or tcp"});
  Board board;
  std::vector<Consumer> members;
  for (int i = 0; i < 4; ++i) members.emplace_back(member_of(engine.name() + "@ids", board));
  ASSERT_TRUE(wait_until([&] {
    const auto stat = engine.stat();
    const auto& list = stat["clusters"][0]["members"];
    return list.size() == 4 &&
           std::ranges::all_of(list, [](const auto& m) { return m["load"].template get<uint64_t>() > 2000; });
  }));
  const auto cluster = engine.stat()["clusters"][0];
  EXPECT_EQ(cluster["kind"], "flow4");
  EXPECT_EQ(cluster["level"], "outer");
  for (const auto& member : cluster["members"]) EXPECT_EQ(member["slots"], 1024);
  EXPECT_LT(cluster["imbalance"].get<double>(), 1.3);
  const auto shown = ringcap({"stat", "--cluster", "ids", engine.name()});
  EXPECT_EQ(shown.status, 0) << shown.err;
  EXPECT_NE(shown.out.find("imbalance"), std::string::npos) << shown.out;
  EXPECT_NE(shown.out.find("largest flows"), std::string::npos) << shown.out;
  for (auto& member : members) EXPECT_EQ(member.stop(), 0);
  const auto none = ringcap({"stat", "--cluster", "nix", engine.name()});
  EXPECT_EQ(none.status, 6);
  EXPECT_NE(none.err.find("ids"), std::string::npos) << none.err;
}

TEST(EngineCluster, a_member_that_stalls_loses_its_flows_to_the_others_until_it_reads_again) {
  const TestDir dir;
  Engine engine(
      {"gen:mix=ipv4,flows=1000,rate=50k", "--memory", "plain", "--cluster", "ids,stall=move,stall_ms=200"});
  Board board;
  const Watch watch(engine.name());
  Consumer reads(member_of(engine.name() + "@ids/reads", board));
  Consumer stalls(member_of(engine.name() + "@ids/stalls", board));
  ASSERT_TRUE(wait_until([&] { return reads.progress().frames > 100 && stalls.progress().frames > 100; }));
  stalls.signal(SIGSTOP);
  EXPECT_TRUE(wait_until([&] { return watch.cluster().stalled == 1; }));
  EXPECT_EQ(watch.cluster().slots_of(static_cast<uint32_t>(watch.place("reads"))), layout::kClusterSlots);
  stalls.signal(SIGCONT);
  EXPECT_TRUE(wait_until([&] { return watch.cluster().stalled == 0; }));
  EXPECT_EQ(watch.cluster().slots_of(static_cast<uint32_t>(watch.place("stalls"))),
            layout::kClusterSlots / 2);
  EXPECT_EQ(engine.imbalance(), "");
}

TEST(EngineCluster, is_captured_by_two_programs_whose_files_together_hold_every_frame_once) {
  const TestDir dir;
  Engine engine(
      {"gen:mix=all,flows=300,count=20000,full=wait", "--memory", "plain", "--wait-consumers", "2"});
  const std::string a = dir.file("a.pcap"), b = dir.file("b.pcap");
  Process first = start_ringcap({"capture", engine.name() + "@pool", "-w", a});
  Process second = start_ringcap({"capture", engine.name() + "@pool", "-w", b});
  EXPECT_EQ(first.wait(), 0) << first.err();
  EXPECT_EQ(second.wait(), 0) << second.err();
  EXPECT_NE(first.err().find("frames captured"), std::string::npos);
  const auto ledger = engine.stat();
  EXPECT_EQ(ledger["departed"]["total"]["released"], 20000);
  EXPECT_EQ(ledger["clusters"][0]["unassigned"], 0);
}

TEST(EngineCluster, detaches_a_member_that_writes_nonsense_and_the_others_take_over) {
  const TestDir dir;
  Engine engine({"gen:mix=ipv4,flows=500,rate=20k", "--memory", "plain", "--cluster", "ids"});
  Board board;
  Consumer honest(member_of(engine.name() + "@ids/honest", board));
  ASSERT_TRUE(wait_until([&] { return honest.progress().attached.load(); }));
  const Watch watch(engine.name());
  for (int i = 0; i < 20; ++i) {
    RawClient hostile(engine.name());
    message::Hello hello = asking(128, "hostile");
    hello.cluster = "ids";
    hostile.attach(hello);
    ASSERT_TRUE(wait_until([&] { return hostile.head() > layout::kFirstPosition; }));
    hostile.control().cursor = ~uint64_t{0};
    EXPECT_EQ(hostile.hear_error().code, Code::kGone);
  }
  ASSERT_TRUE(wait_until([&] { return watch.ledger().departed == 20; }));
  EXPECT_EQ(watch.cluster().slots_of(static_cast<uint32_t>(watch.place("honest"))), layout::kClusterSlots);
  const uint64_t had = honest.progress().frames;
  EXPECT_TRUE(wait_until([&] { return honest.progress().frames > had + 100; }));
  EXPECT_EQ(honest.stop(), 0);
  EXPECT_EQ(board.marked_twice(), 0u);
  EXPECT_EQ(engine.imbalance(), "");
  EXPECT_TRUE(engine.process().is_running());
}

TEST(EngineCluster, divides_a_recorded_file_as_ringcap_balance_says) {
  const TestDir dir;
  const std::string key = "000102030405060708090a0b0c0d0e0f";
  const std::string file = dir.file("trace.pcap");
  ASSERT_EQ(
      ringcap({"capture", "gen:mix=all,flows=900,count=9000,full=wait", "--memory", "plain", "-w", file})
          .status,
      0);
  const auto said = ringcap({"balance", file, "--kind", "flow5", "--members", "3", "--key", key, "--json"});
  ASSERT_EQ(said.status, 0) << said.err;
  std::multiset<uint64_t> expected, got;
  const auto balance = nlohmann::json::parse(said.out);
  for (const auto& member : balance["members"]) expected.insert(member["frames"].get<uint64_t>());
  Engine engine(
      {"pcap:" + file + ",speed=max", "--memory", "plain", "--wait-consumers", "3", "--hash-key", key});
  std::vector<Process> members;
  for (int i = 0; i < 3; ++i) {
    members.push_back(start_ringcap({"capture", engine.name() + "@pool", "--count-only"}));
    ASSERT_TRUE(wait_until([&] { return ledger_of(engine).consumers.size() == members.size() || i == 2; }));
  }
  for (auto& member : members) {
    EXPECT_EQ(member.wait(), 0) << member.err();
    got.insert(std::stoull(member.out()));
  }
  EXPECT_EQ(got, expected);
}

TEST(EngineCluster, of_another_kind_is_refused_with_both_named) {
  const TestDir dir;
  Engine engine({"gen:rate=1000", "--memory", "plain", "--cluster", "ids,kind=flow5"});
  const auto refused =
      ringcap({"capture", engine.name() + "@ids", "--kind", "flow2", "--count-only", "-c", "1"});
  EXPECT_EQ(refused.status, 2);
  EXPECT_NE(refused.err.find("flow5"), std::string::npos) << refused.err;
  EXPECT_NE(refused.err.find("flow2"), std::string::npos) << refused.err;
}

}  // namespace
}  // namespace ringcap::test

// Clusters, a round at a time: who gets which frame, and what moves when members come, go and stall.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <random>
#include <set>

#include "driver/gen/frames.h"
#include "tests/unit/capture/engine/one_worker.h"

namespace ringcap {
namespace {

using cluster::Kind;
using test::Attached;
using test::OneWorker;

const std::string kGen = "gen:mix=ipv4,flows=500";

struct Seen {
  uint64_t sequence;
  uint32_t hash;
};

// Takes and gives back all that a consumer has.
std::vector<Seen> take_all(OneWorker& one, Attached& consumer) {
  std::vector<Seen> seen;
  client::Ring& ring = consumer.ring();
  for (; ring.next != ring.head(); ++ring.next) {
    const auto& d = *ring.at(ring.next);
    Seen frame{0, d.hash};
    std::memcpy(&frame.sequence, one.frame(d) + gen::kSequenceOffset, sizeof frame.sequence);
    seen.push_back(frame);
  }
  ring.give_back(ring.next);
  return seen;
}

ledger::Cluster cluster_of(OneWorker& one, const std::string& name) {
  const auto ledger = one.ledger();
  const auto found = std::ranges::find(ledger.clusters, name, &ledger::Cluster::name);
  EXPECT_NE(found, ledger.clusters.end());
  return *found;
}

TEST(Cluster, members_get_each_frame_once_and_each_flow_whole) {
  OneWorker one(kGen);
  std::vector<Attached> members;
  for (int i = 0; i < 4; ++i) members.push_back(one.attach(256, {}, "ids"));
  one.round();
  std::map<uint64_t, size_t> frames;
  std::map<uint32_t, std::set<size_t>> flows;
  const uint64_t before = one.counts().considered;
  for (int round = 0; round < 200; ++round) {
    one.round();
    for (size_t m = 0; m < members.size(); ++m)
      for (const Seen& seen : take_all(one, members[m])) {
        ++frames[seen.sequence];
        flows[seen.hash].insert(m);
      }
  }
  EXPECT_EQ(flows.size(), 500u);
  for (const auto& [hash, owners] : flows) EXPECT_EQ(owners.size(), 1u);
  for (const auto& [sequence, times] : frames) EXPECT_EQ(times, 1u);
  const auto cluster = cluster_of(one, "ids");
  EXPECT_EQ(cluster.total.considered, one.counts().considered);
  EXPECT_GE(frames.size(), one.counts().considered - before);
  EXPECT_EQ(cluster.total.unassigned, 0u);
  EXPECT_EQ(one.unbalanced().size(), 0u);
}

TEST(Cluster, any_number_of_clusters_and_single_consumers_get_the_same_frames) {
  OneWorker one(kGen, uint64_t{32} << 20);
  std::vector<Attached> all;
  all.push_back(one.attach(1024));
  for (const char* cluster : {"a", "b"})
    for (int i = 0; i < 2; ++i) all.push_back(one.attach(1024, {}, cluster));
  one.rounds(1);
  for (auto& consumer : all) take_all(one, consumer);
  one.rounds(10);
  std::vector<uint64_t> counts;
  counts.reserve(all.size());
  for (auto& consumer : all) counts.push_back(take_all(one, consumer).size());
  EXPECT_EQ(counts[0], 640u);
  EXPECT_EQ(counts[1] + counts[2], 640u);
  EXPECT_EQ(counts[3] + counts[4], 640u);
  EXPECT_EQ(one.unbalanced().size(), 0u);
  one.rounds(8);
  EXPECT_EQ(one.counts().copied, 0u);
}

TEST(Cluster, without_members_counts_its_frames_as_unassigned) {
  OneWorker one(kGen);
  const Attached member = one.attach(256, {}, "ids");
  one.rounds(2);
  one.leave(member);
  one.rounds(10);
  const auto cluster = cluster_of(one, "ids");
  EXPECT_GE(cluster.total.unassigned, 9u * 64);
  EXPECT_EQ(cluster.total.offered, cluster.total.departed + cluster.total.unassigned);
  EXPECT_EQ(one.unbalanced().size(), 0u);
}

TEST(Cluster, a_member_that_leaves_gives_up_its_flows_and_no_other_flow_moves) {
  OneWorker one(kGen);
  std::vector<Attached> members;
  for (int i = 0; i < 4; ++i) members.push_back(one.attach(256, {}, "ids", "m" + std::to_string(i)));
  std::map<uint32_t, size_t> owner;
  const auto run = [&](const std::function<void(uint32_t, size_t)>& visit) {
    for (int round = 0; round < 40; ++round) {
      one.round();
      for (size_t m = 0; m < members.size(); ++m)
        for (const Seen& seen : take_all(one, members[m])) visit(seen.hash, m);
    }
  };
  one.round();
  run([&](uint32_t hash, size_t m) { owner[hash] = m; });
  one.leave(members[1]);
  one.rounds(20);
  for (auto& member : members) take_all(one, member);
  std::set<size_t> heirs;
  run([&](uint32_t hash, size_t m) {
    if (owner[hash] == 1)
      heirs.insert(m);
    else
      EXPECT_EQ(owner[hash], m);
  });
  EXPECT_EQ(heirs, (std::set<size_t>{0, 2, 3}));
  members[1] = one.attach(256, {}, "ids", "m1");
  one.rounds(2);
  for (auto& member : members) take_all(one, member);
  run([&](uint32_t hash, size_t m) { EXPECT_EQ(owner[hash], m); });
  EXPECT_EQ(one.unbalanced().size(), 0u);
}

TEST(Cluster, what_a_departed_member_had_not_read_is_counted) {
  OneWorker one(kGen);
  const Attached reader = one.attach(256, {}, "ids");
  const Attached dies = one.attach(256, {}, "ids");
  one.rounds(6);
  const auto had = one.taker(dies).in_ring;
  EXPECT_GT(had, 0u);
  one.leave(dies);
  one.rounds(3);
  const auto ledger = one.ledger();
  EXPECT_EQ(ledger.departed_total.reclaimed, had);
  EXPECT_EQ(one.unbalanced().size(), 0u);
}

TEST(Cluster, of_kind_robin_gives_the_members_equal_numbers_of_frames) {
  OneWorker one(kGen, uint64_t{32} << 20);
  std::vector<Attached> members;
  for (int i = 0; i < 3; ++i) members.push_back(one.attach(1024, {}, "ids", {}, Kind::kRobin));
  one.rounds(1);
  for (auto& member : members) take_all(one, member);
  one.rounds(12);
  for (auto& member : members) EXPECT_EQ(take_all(one, member).size(), 12u * 64 / 3);
}

TEST(Cluster, of_kind_ends_gives_a_frame_to_both_ends_members) {
  OneWorker one(kGen, uint64_t{32} << 20);
  std::vector<Attached> members;
  for (int i = 0; i < 4; ++i) members.push_back(one.attach(1024, {}, "ids", {}, Kind::kEnds));
  one.rounds(12);
  const auto cluster = cluster_of(one, "ids");
  EXPECT_GT(cluster.total.twice, cluster.total.considered / 2);
  EXPECT_EQ(cluster.total.offered, cluster.total.considered + cluster.total.twice);
  std::map<uint64_t, int> times;
  for (auto& member : members)
    for (const Seen& seen : take_all(one, member)) ++times[seen.sequence];
  uint64_t twice = 0;
  for (const auto& [sequence, n] : times) twice += n == 2;
  EXPECT_EQ(twice, cluster.total.twice);
  EXPECT_EQ(one.unbalanced().size(), 0u);
}

TEST(Cluster, of_kind_queue_gives_a_queue_to_one_member) {
  OneWorker one(kGen);
  Attached a = one.attach(1024, {}, "ids", {}, Kind::kQueue);
  Attached b = one.attach(1024, {}, "ids", {}, Kind::kQueue);
  one.rounds(3);
  EXPECT_EQ(take_all(one, a).size(), 3u * 64);
  EXPECT_EQ(take_all(one, b).size(), 0u);
}

// BPF: the 16 bits at offset 12 are IPv4's EtherType, and that frame's flow hash is not looked at.
std::vector<filter::Instruction> length_at_least(uint32_t bytes) {
  return {{0x80, 0, 0, 0}, {0x35, 0, 1, bytes}, {0x06, 0, 0, 0xffff}, {0x06, 0, 0, 0}};
}

TEST(Cluster, filters_of_cluster_and_member_both_count_what_they_refuse) {
  OneWorker one("gen:mix=ipv4,flows=500,size=imix");
  Attached picky = one.attach(1024, length_at_least(500), "ids", "picky");
  Attached other = one.attach(1024, {}, "ids", "other");
  const auto program = filter::validate(length_at_least(100));
  one.consumers().clusters().set_filter("ids", std::make_shared<filter::Program>(*program), 0).value();
  one.publish_again();
  one.rounds(12);
  const auto cluster = cluster_of(one, "ids");
  EXPECT_EQ(cluster.total.not_matched, cluster.total.considered * 7 / 12);
  EXPECT_EQ(cluster.total.offered, cluster.total.considered - cluster.total.not_matched);
  const auto taker = one.taker(picky);
  EXPECT_EQ(taker.not_matched, 0u);
  EXPECT_EQ(taker.considered + one.taker(other).considered, cluster.total.offered);
  EXPECT_EQ(one.unbalanced().size(), 0u);
}

TEST(Cluster, equal_filters_are_one_in_the_plan) {
  OneWorker one(kGen);
  std::vector<Attached> consumers;
  for (int i = 0; i < 16; ++i) consumers.push_back(one.attach(128, length_at_least(60)));
  consumers.push_back(one.attach(128, length_at_least(61), "ids"));
  engine::Plan plan;
  one.consumers().fill(plan);
  EXPECT_EQ(plan.filters.size(), 2u);
}

TEST(Cluster, names_members_by_program_and_lowest_free_number) {
  OneWorker one(kGen);
  const Attached a = one.attach(128, {}, "ids");
  const Attached b = one.attach(128, {}, "ids");
  one.round();
  one.leave(a);
  one.rounds(3);
  const Attached c = one.attach(128, {}, "ids");
  one.round();
  std::set<std::string> names;
  for (const auto& consumer : one.ledger().consumers) names.insert(consumer.member);
  EXPECT_EQ(names, (std::set<std::string>{"test-0", "test-1"}));
}

TEST(Cluster, refuses_another_kind_with_both_named) {
  OneWorker one(kGen);
  const Attached a = one.attach(128, {}, "ids");
  const auto refused =
      one.consumers().clusters().join({.cluster = "ids", .member = "", .program = "x", .kind = Kind::kFlow2});
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().text.find("flow5"), std::string::npos) << refused.error().text;
  EXPECT_NE(refused.error().text.find("flow2"), std::string::npos);
}

TEST(Cluster, belongs_to_the_user_that_made_it) {
  OneWorker one(kGen);
  auto& clusters = one.consumers().clusters();
  const auto join = [&](uint32_t uid) {
    return clusters.join(
        {.cluster = "mine", .member = "", .program = "x", .kind = {}, .level = {}, .uid = uid});
  };
  ASSERT_TRUE(join(1000));
  EXPECT_TRUE(join(1000));
  EXPECT_TRUE(join(0));
  const auto refused = join(1001);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Code::kPermission);
}

TEST(Cluster, refuses_a_member_name_that_is_taken) {
  OneWorker one(kGen);
  auto& clusters = one.consumers().clusters();
  ASSERT_TRUE(clusters.join({.cluster = "ids", .member = "one", .program = "x"}));
  const auto refused = clusters.join({.cluster = "ids", .member = "one", .program = "x"});
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().text.find("one"), std::string::npos);
}

TEST(Cluster, with_stall_move_gives_a_silent_members_slots_to_the_others_until_it_reads_again) {
  OneWorker one(kGen);
  auto& clusters = one.consumers().clusters();
  clusters
      .declare({.name = "ids",
                .kind = Kind::kFlow5,
                .level = cluster::Level::kInner,
                .filter = {},
                .stall = layout::Stall::kMove,
                .stall_ms = 100},
               0)
      .value();
  Attached reads = one.attach(256, {}, "ids", "reads");
  Attached stalls = one.attach(256, {}, "ids", "stalls");
  uint64_t now_ns = 1;
  const auto pass_ms = [&](uint64_t ms) {
    one.rounds(2);
    take_all(one, reads);
    now_ns += ms * 1'000'000;
    const bool changed = clusters.check_stalls(now_ns);
    if (changed) one.publish_again();
    return changed;
  };
  EXPECT_FALSE(pass_ms(1));
  EXPECT_FALSE(pass_ms(60));
  EXPECT_TRUE(pass_ms(60));
  one.round();
  auto cluster = cluster_of(one, "ids");
  EXPECT_EQ(cluster.stalled, 1u);
  EXPECT_EQ(cluster.slots_of(reads.slot), cluster::kSlots);
  EXPECT_EQ(cluster.slots_of(stalls.slot), 0u);
  const uint64_t had = one.taker(stalls).considered;
  EXPECT_FALSE(pass_ms(1000));
  EXPECT_EQ(one.taker(stalls).considered, had);
  EXPECT_GT(one.taker(stalls).in_ring, 0u);
  take_all(one, stalls);
  EXPECT_TRUE(pass_ms(1));
  one.rounds(2);
  cluster = cluster_of(one, "ids");
  EXPECT_EQ(cluster.stalled, 0u);
  EXPECT_EQ(cluster.slots_of(stalls.slot), cluster::kSlots / 2);
  EXPECT_GT(one.taker(stalls).considered, had);
  EXPECT_EQ(one.unbalanced().size(), 0u);
}

TEST(Cluster, with_all_members_silent_leaves_the_last_ones_slots) {
  OneWorker one(kGen);
  auto& clusters = one.consumers().clusters();
  clusters
      .declare({.name = "ids",
                .kind = Kind::kFlow5,
                .level = cluster::Level::kInner,
                .filter = {},
                .stall = layout::Stall::kMove,
                .stall_ms = 100},
               0)
      .value();
  const Attached a = one.attach(256, {}, "ids", "a");
  const Attached b = one.attach(256, {}, "ids", "b");
  one.rounds(3);
  clusters.check_stalls(1);
  clusters.check_stalls(1'000'000'000);
  clusters.check_stalls(2'000'000'000);
  one.publish_again();
  one.rounds(2);
  const auto cluster = cluster_of(one, "ids");
  EXPECT_EQ(cluster.stalled, 1u);
  EXPECT_EQ(cluster.slots_of(a.slot) + cluster.slots_of(b.slot), cluster::kSlots);
}

TEST(Cluster, shows_its_largest_flows) {
  OneWorker one("gen:mix=ipv4,flows=20");
  Attached member = one.attach(256, {}, "ids");
  for (int round = 0; round < 4100; ++round) {
    one.round();
    take_all(one, member);
  }
  const auto cluster = cluster_of(one, "ids");
  EXPECT_EQ(cluster.flows.size(), 20u);
  uint64_t frames = 0;
  for (const auto& flow : cluster.flows) {
    EXPECT_EQ(flow.flow.version, 4);
    EXPECT_EQ(flow.error, 0u);
    EXPECT_NEAR(static_cast<double>(flow.frames), 4096.0 * 64 / 20, 4096.0 * 64 / 20 * 0.3);
    frames += flow.frames;
  }
  EXPECT_NEAR(static_cast<double>(frames), 4096.0 * 64, 4096.0 * 64 * 0.4);
}

// What the issue asks for of a thousand changes under load, without processes: the same with them, and with
// SIGKILL, is tests/system/engine_cluster_test.cc.
TEST(Cluster, random_changes_deliver_no_frame_twice_and_lose_none_uncounted) {
  const auto seed = std::random_device{}();
  SCOPED_TRACE(seed);
  std::mt19937 random(seed);
  OneWorker one(kGen, uint64_t{32} << 20);
  std::map<std::string, Attached> members;
  std::set<uint64_t> seen;
  uint64_t twice = 0, taken = 0;
  for (int change = 0; change < 1000; ++change) {
    const std::string name = "m" + std::to_string(random() % 12);
    if (const auto found = members.find(name); found != members.end()) {
      if (random() % 2 == 0) {  // what it has not read is lost with it
        for (const Seen& frame : take_all(one, found->second))
          twice += !seen.insert(frame.sequence).second, ++taken;
      }
      one.leave(found->second);
      members.erase(found);
    } else {
      members.emplace(name, one.attach(256, {}, "ids", name));
    }
    one.rounds(1 + static_cast<uint32_t>(random() % 4));
    for (const auto& event : one.events())
      if (event.kind == engine::EventKind::kGone) one.consumers().let_go(event.id);
    one.consumers().free_gone(one.worker().plan_seen());
    for (auto& [n, member] : members)
      if (random() % 4 != 0)
        for (const Seen& frame : take_all(one, member)) twice += !seen.insert(frame.sequence).second, ++taken;
    ASSERT_EQ(one.unbalanced().size(), 0u) << change << ": " << one.unbalanced().front().sum;
  }
  for (auto& [n, member] : members)
    for (const Seen& frame : take_all(one, member)) twice += !seen.insert(frame.sequence).second, ++taken;
  one.rounds(64);
  EXPECT_EQ(twice, 0u);
  const auto ledger = one.ledger();
  const auto cluster = cluster_of(one, "ids");
  ledger::Taker all = ledger.departed_total;
  for (const auto& consumer : ledger.consumers) all.add(consumer.total);
  EXPECT_EQ(cluster.total.offered, all.considered + cluster.total.unassigned);
  EXPECT_EQ(all.considered, all.published + all.dropped);
  EXPECT_EQ(all.published, all.released + all.in_ring + all.reclaimed + all.reclaiming);
  EXPECT_EQ(all.released, taken);
}

}  // namespace
}  // namespace ringcap

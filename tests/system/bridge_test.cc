// ringcap bridge between two veth pairs, and between one and a TAP: what goes in at one far end comes out at
// the other, while a consumer captures; what happens to destinations that are down, gone or stuck.
#include <gtest/gtest.h>

#include <csignal>
#include <nlohmann/json.hpp>

#include "harness_consumers.h"
#include "wire_end.h"

namespace ringcap::test {
namespace {

constexpr size_t kWindow = 64;  // frames that are on their way at once: nothing on the way is that small

class Bridge : public testing::Test {
 protected:
  Bridge() {
    lab_.add_veth("near1", "far1");
    lab_.add_veth("near2", "far2");
    far1_.emplace(lab_, "far1");
    far2_.emplace(lab_, "far2");
  }

  Engine up(std::vector<std::string> words = {}) {
    words.insert(words.begin(), {"packet:near1", "packet:near2"});
    return Engine(std::move(words), {.network = &lab_}, "bridge");
  }

  // What came out at `to`, of frames that went in at `from`, a window at a time.
  static std::vector<Bytes> carry(WireEnd& from, WireEnd& to, const std::vector<Bytes>& frames) {
    std::vector<Bytes> out;
    for (size_t at = 0; at < frames.size(); at += kWindow) {
      const size_t count = std::min(kWindow, frames.size() - at);
      for (size_t i = at; i < at + count; ++i) from.send(frames[i]);
      auto got = to.take(count);
      const bool all = got.size() == count;
      out.insert(out.end(), std::make_move_iterator(got.begin()), std::make_move_iterator(got.end()));
      if (!all) break;
    }
    return out;
  }

  TestDir dir_;
  Namespace lab_;
  std::optional<WireEnd> far1_, far2_;
};

ledger::Forwarder forwarder_of(const Engine& engine, uint32_t from) {
  for (const auto& f : ledger_of(engine).forwarders)
    if (f.from == from) return f;
  throw std::runtime_error("no such forwarder");
}

// Waits until everything that a forwarder was given is done with. "" then.
std::string not_at_rest(const Engine& engine) {
  ledger::Forwarder f;
  const bool rests = wait_until([&] {
    for (const uint32_t from : {0u, 1u}) {
      f = forwarder_of(engine, from);
      if (f.pending != 0 || f.total.in_ring != 0 || f.total.published != f.sent + f.refused ||
          f.total.released != f.sent + f.refused)
        return false;
    }
    return true;
  });
  if (rests) return engine.imbalance();
  return "from " + std::to_string(f.from) + ": published " + std::to_string(f.total.published) +
         ", released " + std::to_string(f.total.released) + ", sent " + std::to_string(f.sent) +
         ", refused " + std::to_string(f.refused) + ", pending " + std::to_string(f.pending);
}

// What comes before the frame of this number, which is taken, too: the kernel hands frames over when it gets
// to it.
std::vector<Bytes> take_before(WireEnd& end, uint64_t number) {
  std::vector<Bytes> before;
  for (auto got = end.take(1); !got.empty() && number_of(got[0]) != number; got = end.take(1))
    before.push_back(std::move(got[0]));
  return before;
}

// Takes everything that comes, by the port it was received on.
std::map<uint32_t, std::vector<Bytes>> take_all(const Attachment& consumer, size_t count) {
  std::map<uint32_t, std::vector<Bytes>> frames;
  ringcap_burst burst;
  for (size_t taken = 0; taken < count; taken += burst.count) {
    if (ringcap_take(consumer.get(), 0, 10'000, &burst) <= 0) break;
    for (uint32_t i = 0; i < burst.count; ++i) {
      const auto* data = reinterpret_cast<const std::byte*>(burst.arena) + RINGCAP_OFFSET(&burst.frames[i]);
      frames[burst.frames[i].source].emplace_back(data, data + burst.frames[i].captured);
    }
    ringcap_give_back(consumer.get(), &burst);
  }
  return frames;
}

TEST_F(Bridge, carries_frames_of_all_lengths_byte_for_byte_both_ways_while_a_consumer_sees_each_once) {
  Engine engine = up();
  ringcap_options options = RINGCAP_OPTIONS_INIT;
  options.ring_frames = 4096;  // it looks when all have come
  const Attachment consumer(engine.name(), options);
  const auto there = numbered_frames(0, 2000), back = numbered_frames(10'000, 2000);
  EXPECT_EQ(difference(carry(*far1_, *far2_, there), there), "");
  EXPECT_EQ(difference(carry(*far2_, *far1_, back), back), "");
  const auto seen = take_all(consumer, there.size() + back.size());
  ASSERT_EQ(seen.size(), 2u);
  EXPECT_EQ(difference(seen.at(0), there), "");
  EXPECT_EQ(difference(seen.at(1), back), "");
  ringcap_burst burst;
  EXPECT_EQ(ringcap_take(consumer.get(), 0, 0, &burst), 0) << "a frame was seen twice";
  EXPECT_EQ(not_at_rest(engine), "");
  EXPECT_EQ(forwarder_of(engine, 0).sent, 2000u);
  EXPECT_EQ(forwarder_of(engine, 1).sent, 2000u);
  EXPECT_EQ(far1_->rest().size() + far2_->rest().size(), 0u);
  EXPECT_EQ(engine.down(), 0);
}

TEST_F(Bridge, says_in_its_json_what_became_of_every_frame) {
  Engine engine = up();
  const auto frames = numbered_frames(0, 300);
  carry(*far1_, *far2_, frames);
  ASSERT_EQ(not_at_rest(engine), "");
  const nlohmann::json table = engine.stat();
  ASSERT_EQ(table.at("forwarders").size(), 2u);
  const nlohmann::json there = table["forwarders"][0];
  EXPECT_EQ(there.at("from"), "packet:near1");
  EXPECT_EQ(there.at("to"), "packet:near2");
  for (const char* word : {"considered", "offered", "published", "released", "taken", "sent"})
    EXPECT_EQ(there.at(word), 300) << word;
  for (const char* word : {"dropped", "refused", "pending", "not_matched"})
    EXPECT_EQ(there.at(word), 0) << word;
  uint64_t bytes = 0;
  for (const Bytes& frame : frames) bytes += frame.size();
  EXPECT_EQ(there.at("bytes"), bytes);
  EXPECT_EQ(table.at("verdict"), "balanced");
  EXPECT_NE(ringcap({"stat", engine.name()}).out.find("taken 300 = sent 300"), std::string::npos);
}

TEST_F(Bridge, with_a_filter_carries_what_matches_and_consumers_see_everything) {
  Engine engine = up({"ether", "proto", "0x88b5"});
  const Attachment consumer(engine.name());
  std::mt19937 random(3);
  std::vector<Bytes> all, matching;
  for (uint64_t number = 0; number < 600; ++number) {
    all.push_back(numbered(random, number, 26 + number));
    if (number % 3 == 0) all.back()[13] = std::byte{0xb6};
    if (number % 3 != 0) matching.push_back(all.back());
  }
  for (size_t at = 0; at < all.size(); at += kWindow)
    for (size_t i = at; i < std::min(all.size(), at + kWindow); ++i) far1_->send(all[i]);
  EXPECT_EQ(difference(far2_->take(matching.size()), matching), "");
  EXPECT_EQ(difference(take_all(consumer, all.size())[0], all), "");
  EXPECT_EQ(not_at_rest(engine), "");
  EXPECT_EQ(forwarder_of(engine, 0).total.not_matched, 200u);
  EXPECT_EQ(far2_->rest().size(), 0u);
}

TEST_F(Bridge, never_sends_on_what_the_host_sends_through_its_ports) {
  Engine engine = up();
  const auto own = numbered_frames(0, 50), marks = numbered_frames(1000, 2);
  WireEnd near1(lab_, "near1");
  near1.send(own);
  EXPECT_EQ(difference(far1_->take(own.size()), own), "");
  far1_->send(marks[0]);
  EXPECT_EQ(difference(far2_->take(1), {marks[0]}), "") << "the host's frames came first";
  far2_->send(marks[1]);
  EXPECT_EQ(difference(far1_->take(1), {marks[1]}), "");
  EXPECT_EQ(not_at_rest(engine), "");
  EXPECT_EQ(forwarder_of(engine, 0).sent + forwarder_of(engine, 1).sent, 2u);
}

TEST_F(Bridge, of_a_port_with_itself_is_refused) {
  const auto outcome = ringcap({"bridge", "packet:near1", "packet:near1"}, {.network = &lab_});
  EXPECT_EQ(outcome.status, 2);
  EXPECT_NE(outcome.err.find("never goes back to the port that it came from"), std::string::npos)
      << outcome.err;
}

TEST_F(Bridge, to_a_port_that_cannot_send_is_refused) {
  const auto outcome = ringcap({"bridge", "packet:near1", "gen:", "--memory", "plain"}, {.network = &lab_});
  EXPECT_EQ(outcome.status, 2);
  EXPECT_NE(outcome.err.find("cannot send"), std::string::npos) << outcome.err;
}

TEST_F(Bridge, refuses_what_is_for_an_interface_that_is_down_and_goes_on_when_it_is_up) {
  Engine engine = up();
  const auto first = numbered_frames(0, 100), lost = numbered_frames(1000, 100),
             last = numbered_frames(2000, 100);
  EXPECT_EQ(difference(carry(*far1_, *far2_, first), first), "");
  lab_.ip({"link", "set", "near2", "down"});
  far1_->send(lost);
  EXPECT_TRUE(wait_until([&] { return forwarder_of(engine, 0).refused == 100; }));
  lab_.ip({"link", "set", "near2", "up"});
  const auto out = carry(*far1_, *far2_, last);
  EXPECT_EQ(difference(out, last), "");
  // The kernel takes up to a second until far2 sends again: its queueing discipline waits for the carrier.
  const auto mark = numbered_frames(2900, 1);
  EXPECT_TRUE(wait_until([&] {
    far2_->send(mark);
    return !far1_->take(1, std::chrono::milliseconds(50)).empty();
  }));
  far2_->send(numbered_frames(2950, 1));
  for (const Bytes& each : take_before(*far1_, 2950)) EXPECT_EQ(number_of(each), 2900u);
  EXPECT_EQ(not_at_rest(engine), "");
  const auto back = numbered_frames(3000, 100);
  EXPECT_EQ(difference(carry(*far2_, *far1_, back), back), "");
  EXPECT_EQ(not_at_rest(engine), "");
}

TEST_F(Bridge, outlives_an_interface_that_is_deleted_and_says_what_it_refused) {
  Engine engine = up();
  const Attachment consumer(engine.name());
  const auto first = numbered_frames(0, 100), lost = numbered_frames(1000, 100);
  EXPECT_EQ(difference(carry(*far1_, *far2_, first), first), "");
  far2_.reset();
  lab_.ip({"link", "delete", "near2"});
  far1_->send(lost);
  EXPECT_TRUE(wait_until([&] { return forwarder_of(engine, 0).refused == 100; }));
  EXPECT_EQ(take_all(consumer, 200)[0].size(), 200u);
  EXPECT_EQ(not_at_rest(engine), "");
  EXPECT_TRUE(engine.process().is_running());
  EXPECT_EQ(engine.down(), 0);
}

TEST_F(Bridge, that_is_killed_leaves_the_ports_to_the_next_one) {
  {
    Engine engine = up();
    const auto frames = numbered_frames(0, 100);
    EXPECT_EQ(difference(carry(*far1_, *far2_, frames), frames), "");
    engine.process().kill();
  }
  far1_->send(numbered_frames(500, 10));
  Engine engine = up();
  const auto frames = numbered_frames(1000, 100);
  EXPECT_EQ(difference(carry(*far1_, *far2_, frames), frames), "") << "what came in between is gone";
  EXPECT_EQ(not_at_rest(engine), "");
}

TEST_F(Bridge, to_a_port_that_is_stuck_costs_a_consumer_nothing) {
  Engine engine = up();
  const Attachment consumer(engine.name());
  lab_.ip({"link", "set", "far2", "down"});  // near2 is up and has no carrier: the kernel takes nothing
  const auto frames = numbered_frames(0, 12'800, 200);
  size_t seen = 0;
  for (size_t at = 0; at < frames.size(); at += kWindow) {
    for (size_t i = at; i < at + kWindow; ++i) far1_->send(frames[i]);
    const auto got = take_all(consumer, kWindow);
    ASSERT_EQ(difference(got.at(0), {frames.begin() + static_cast<ptrdiff_t>(at),
                                     frames.begin() + static_cast<ptrdiff_t>(at + kWindow)}),
              "");
    seen += kWindow;
  }
  EXPECT_EQ(consumer.counters().dropped, 0u);
  EXPECT_EQ(seen, frames.size());
  const auto stuck = forwarder_of(engine, 0);
  EXPECT_GT(stuck.total.dropped, 0u) << "its ring was to fill";
  EXPECT_EQ(engine.imbalance(), "");
  // What was in its ring leaves when the link is there again, in order, and then what comes.
  lab_.ip({"link", "set", "far2", "up"});
  EXPECT_EQ(not_at_rest(engine), "");
  far1_->send(numbered_frames(50'000, 1));
  const auto kept = take_before(*far2_, 50'000);
  EXPECT_GT(kept.size(), 100u);
  EXPECT_TRUE(std::ranges::is_sorted(kept, {}, number_of));
  const auto last = numbered_frames(100'000, 100);
  EXPECT_EQ(difference(carry(*far1_, *far2_, last), last), "");
}

TEST_F(Bridge, under_traffic_ends_at_once) {
  Engine engine = up();
  std::atomic<bool> stop{false};
  std::thread traffic([&] {
    const auto frames = numbered_frames(0, 100, 200);
    while (!stop) far1_->send(frames);
  });
  EXPECT_TRUE(wait_until([&] { return forwarder_of(engine, 0).sent > 1000; }));
  EXPECT_LT(engine.down(), 4);
  stop = true;
  traffic.join();
}

TEST_F(Bridge, joins_an_interface_and_a_tap_both_ways) {
  Engine engine({"packet:near1", "tap:lab0"}, {.network = &lab_}, "bridge");
  lab_.ip({"link", "set", "lab0", "up"});
  WireEnd host(lab_, "lab0");
  const auto there = numbered_frames(0, 1000), back = numbered_frames(5000, 1000);
  EXPECT_EQ(difference(carry(*far1_, host, there), there), "");
  EXPECT_EQ(difference(carry(host, *far1_, back), back), "");
  EXPECT_EQ(not_at_rest(engine), "");
  EXPECT_EQ(engine.down(), 0);
}

TEST_F(Bridge, to_a_tap_that_is_deleted_goes_on_capturing) {
  Engine engine({"packet:near1", "tap:lab0"}, {.network = &lab_}, "bridge");
  lab_.ip({"link", "set", "lab0", "up"});
  const Attachment consumer(engine.name());
  lab_.ip({"link", "delete", "lab0"});
  const auto frames = numbered_frames(0, 200);
  far1_->send(frames);
  EXPECT_EQ(difference(take_all(consumer, 200)[0], frames), "");
  EXPECT_TRUE(wait_until([&] { return forwarder_of(engine, 0).refused == 200; }));
  EXPECT_EQ(not_at_rest(engine), "");
}

}  // namespace
}  // namespace ringcap::test

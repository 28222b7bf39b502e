// Sender: requests read once and checked one by one, counts that lie, the rate, and the end.
#include <gtest/gtest.h>

#include <array>
#include <limits>
#include <thread>

#include "send_memory.h"

namespace ringcap {
namespace {

using test::numbered_frame;
using test::SendMemory;

constexpr uint64_t kSecond = 1'000'000'000;
constexpr uint64_t kNow = 1000 * kSecond;

// Takes everything that waits; the lengths, 0 for what was refused.
std::vector<uint32_t> take_all(SendMemory& memory, uint64_t now_ns = kNow) {
  std::vector<uint32_t> lengths;
  std::array<std::byte, 2048> to;
  for (uint32_t count = memory.sender().waiting(1000, now_ns); count > 0; --count)
    lengths.push_back(memory.sender().take(to));
  memory.sender().write();
  return lengths;
}

void expect_balance(const SendMemory& memory) {
  const auto c = memory.counts();
  EXPECT_EQ(c.asked, c.refused + c.sent + c.dropped + c.pending);
}

TEST(Sender, gives_what_was_asked_for_byte_for_byte_and_in_order) {
  SendMemory memory;
  std::array<std::byte, 2048> to;
  for (uint64_t number = 0; number < 200; ++number) {
    const auto frame = numbered_frame(number, 14 + number * 10);
    memory.queue(frame);
    memory.publish();
    ASSERT_EQ(memory.sender().waiting(64, kNow), 1u);
    ASSERT_EQ(memory.sender().take(to), frame.size());
    EXPECT_TRUE(std::equal(frame.begin(), frame.end(), to.begin())) << number;
    memory.sender().sent(frame.size());
    memory.sender().write();
    EXPECT_EQ(memory.room(), memory.slots());
  }
  EXPECT_EQ(memory.counts().sent, 200u);
  EXPECT_EQ(memory.counts().bytes, 200u * 14 + 199u * 200 / 2 * 10);
  expect_balance(memory);
}

TEST(Sender, reads_no_more_than_it_is_asked_to_and_frees_slots_as_it_goes) {
  SendMemory memory;
  for (uint32_t i = 0; i < memory.slots(); ++i) memory.queue(numbered_frame(i));
  memory.publish();
  EXPECT_EQ(memory.room(), 0u);
  EXPECT_EQ(memory.sender().waiting(10, kNow), 10u);
  std::array<std::byte, 2048> to;
  for (int i = 0; i < 10; ++i) EXPECT_EQ(memory.sender().take(to), 60u);
  EXPECT_EQ(memory.room(), 0u) << "said before it was written";
  memory.sender().write();
  EXPECT_EQ(memory.room(), 10u);
  EXPECT_EQ(memory.counts().pending, 10u);
  expect_balance(memory);
}

struct BadRequest {
  const char* name;
  uint32_t offset, length;
};

class SenderRefuses : public testing::TestWithParam<BadRequest> {};

constexpr uint32_t kMost = std::numeric_limits<uint32_t>::max();
constexpr uint32_t kArea = 64 * 2048;

INSTANTIATE_TEST_SUITE_P(Requests, SenderRefuses,
                         testing::Values(BadRequest{"no_bytes", 0, 0},
                                         BadRequest{"less_than_a_header", 0, 13},
                                         BadRequest{"more_than_a_slot", 0, 2049},
                                         BadRequest{"4_gib", 0, kMost},
                                         BadRequest{"beyond_the_area", kArea, 60},
                                         BadRequest{"over_the_areas_end", kArea - 59, 60},
                                         BadRequest{"one_byte_over_the_areas_end", kArea - 2047, 2048},
                                         BadRequest{"an_offset_that_wraps", kMost, 60},
                                         BadRequest{"an_offset_that_wraps_to_the_start", kMost - 59, 60},
                                         BadRequest{"both_at_their_most", kMost, kMost},
                                         BadRequest{"a_sum_that_wraps_to_a_frame", kMost - 2047, 2048}),
                         [](const auto& each) { return each.param.name; });

TEST_P(SenderRefuses, it_alone_and_counts_it) {
  SendMemory memory;
  memory.queue(numbered_frame(1));
  memory.ask(GetParam().offset, GetParam().length);
  memory.queue(numbered_frame(2));
  memory.publish();
  EXPECT_EQ(take_all(memory), (std::vector<uint32_t>{60, 0, 60}));
  EXPECT_FALSE(memory.sender().misbehaved());
  EXPECT_EQ(memory.counts().asked, 3u);
  EXPECT_EQ(memory.counts().refused, 1u);
  EXPECT_EQ(memory.counts().pending, 2u);
  EXPECT_EQ(memory.room(), memory.slots());
  expect_balance(memory);
}

TEST(Sender, takes_what_lies_anywhere_in_the_area_up_to_its_last_byte) {
  SendMemory memory;
  memory.ask(memory.area() - 14, 14);
  memory.ask(memory.area() - 2048, 2048);
  memory.ask(1, 2048);
  memory.ask(1, 2048);  // the same bytes twice are the sender's business
  memory.publish();
  EXPECT_EQ(take_all(memory), (std::vector<uint32_t>{14, 2048, 2048, 2048}));
}

TEST(Sender, refuses_what_is_longer_than_a_buffer_of_the_forwarder) {
  SendMemory memory(64, 4096);
  memory.ask(0, 4096);
  memory.publish();
  EXPECT_EQ(take_all(memory), std::vector<uint32_t>{0});
  EXPECT_EQ(memory.counts().refused, 1u);
}

struct Lie {
  const char* name;
  uint64_t count;
};

class SenderMisbehaves : public testing::TestWithParam<Lie> {};

INSTANTIATE_TEST_SUITE_P(Counts, SenderMisbehaves,
                         testing::Values(Lie{"one_more_than_fits", layout::kFirstPosition + 2 + 65},
                                         Lie{"far_ahead", layout::kFirstPosition + (uint64_t{1} << 40)},
                                         Lie{"one_back", layout::kFirstPosition + 1}, Lie{"zero", 0},
                                         Lie{"at_its_most", std::numeric_limits<uint64_t>::max()}),
                         [](const auto& each) { return each.param.name; });

TEST_P(SenderMisbehaves, when_its_count_makes_no_sense_and_is_over_when_the_port_is_done) {
  SendMemory memory;
  memory.queue(numbered_frame(1));
  memory.queue(numbered_frame(2));
  memory.publish();
  ASSERT_EQ(take_all(memory).size(), 2u);
  memory.produce(GetParam().count);
  EXPECT_TRUE(memory.sender().asks());
  EXPECT_EQ(memory.sender().waiting(64, kNow), 0u);
  EXPECT_TRUE(memory.sender().misbehaved());
  EXPECT_FALSE(memory.sender().asks()) << "nothing that it says is looked at";
  EXPECT_FALSE(memory.sender().finished(kNow)) << "two are still on their way";
  memory.sender().sent(60);
  memory.sender().dropped();
  EXPECT_TRUE(memory.sender().finished(kNow));
  memory.produce(layout::kFirstPosition + 3);
  EXPECT_EQ(memory.sender().waiting(64, kNow), 0u) << "it does not come back by mending its count";
  memory.sender().write();
  EXPECT_EQ(memory.counts().asked, 2u);
  expect_balance(memory);
}

TEST(Sender, uses_the_request_that_it_checked_however_the_memory_changes) {
  SendMemory memory;
  std::atomic<bool> stop{false};
  std::thread liar([&] {
    for (uint32_t i = 0; !stop; ++i)
      for (uint64_t slot = 0; slot < memory.slots(); ++slot)
        memory.put_request(slot, i % 3 == 0 ? kMost - 59 : 0, i % 2 == 0 ? 60 : kMost);
  });
  // No frame's bytes may lie outside of `to`: the guard behind it stays as it is.
  struct {
    std::array<std::byte, 2048> to;
    std::array<std::byte, 4096> guard{};
  } place;
  uint64_t taken = 0, refused = 0;
  for (int round = 0; round < 2000; ++round) {
    memory.produce(layout::kFirstPosition + (taken + refused) + memory.slots());
    const uint32_t count = memory.sender().waiting(64, kNow);
    ASSERT_EQ(count, memory.slots());
    for (uint32_t i = 0; i < count; ++i) {
      const uint32_t length = memory.sender().take(place.to);
      ASSERT_TRUE(length == 0 || length == 60) << length;
      ++(length == 0 ? refused : taken);
    }
  }
  stop = true;
  liar.join();
  memory.sender().write();
  EXPECT_EQ(memory.counts().refused, refused);
  EXPECT_EQ(memory.counts().asked, taken + refused);
  EXPECT_EQ(place.guard, decltype(place.guard){});
}

// ---- the rate ------------------------------------------------------------------------------------

// How many it may send from kNow on, asked every `step_ns` for `time_ns`, always asking for more.
uint64_t sends(SendMemory& memory, uint64_t time_ns, uint64_t step_ns) {
  uint64_t total = 0;
  for (uint64_t at = 0; at <= time_ns; at += step_ns) {
    for (size_t count = 1; count != 0; total += count) {
      while (memory.room() != 0) memory.queue(numbered_frame(total));
      memory.publish();
      count = take_all(memory, kNow + at).size();
    }
  }
  return total;
}

TEST(Sender, at_a_rate_sends_that_many_a_second_however_often_it_is_asked) {
  for (const uint64_t rate : {uint64_t{1}, uint64_t{7}, uint64_t{1000}, uint64_t{100'000}}) {
    for (const uint64_t step_ns : {uint64_t{100'000}, uint64_t{3'333'333}}) {
      SendMemory memory(64, 2048, rate);
      const uint64_t burst = std::min(rate, std::max<uint64_t>(32, rate / 100));
      const uint64_t total = sends(memory, 3 * kSecond, step_ns);
      EXPECT_GE(total + 1, 3 * rate) << rate << " every " << step_ns;
      EXPECT_LE(total, 3 * rate + burst + 1) << rate << " every " << step_ns;
      EXPECT_GT(memory.counts().limited, 0u);
    }
  }
}

TEST(Sender, that_was_quiet_for_long_saved_no_more_than_a_burst) {
  SendMemory memory(64, 2048, 1000);
  EXPECT_EQ(sends(memory, 0, 1), 32u);
  while (memory.room() != 0) memory.queue(numbered_frame(1));
  memory.publish();
  EXPECT_EQ(take_all(memory, kNow + 1000 * kSecond).size(), 32u);
}

TEST(Sender, says_when_its_credit_allows_the_next_frame) {
  SendMemory memory(64, 2048, 1000);
  EXPECT_EQ(memory.sender().next_credit_ns(), 0u);
  sends(memory, 0, 1);
  const uint64_t next = memory.sender().next_credit_ns();
  EXPECT_GT(next, kNow);
  EXPECT_LE(next, kNow + kSecond / 1000 + 1);
  EXPECT_EQ(memory.sender().waiting(64, next - 2), 0u);
  EXPECT_EQ(memory.sender().waiting(64, next), 1u);
}

TEST(Sender, counts_once_that_it_was_limited_as_long_as_it_waits_for_the_same_frame) {
  SendMemory memory(64, 2048, 1000);
  sends(memory, 0, 1);
  const uint64_t before = memory.counts().limited;
  for (int i = 0; i < 100; ++i) EXPECT_EQ(memory.sender().waiting(64, kNow + 1), 0u);
  memory.sender().write();
  EXPECT_LE(memory.counts().limited, before + 1);
}

TEST(Sender, without_a_rate_is_never_limited) {
  SendMemory memory;
  for (int round = 0; round < 100; ++round) {
    while (memory.room() != 0) memory.queue(numbered_frame(1));
    memory.publish();
    EXPECT_EQ(take_all(memory).size(), memory.slots());
  }
  EXPECT_EQ(memory.counts().limited, 0u);
  EXPECT_EQ(memory.sender().next_credit_ns(), 0u);
}

// ---- the end -------------------------------------------------------------------------------------

TEST(Sender, that_closes_is_finished_when_all_that_it_asked_for_is_done) {
  SendMemory memory;
  for (int i = 0; i < 3; ++i) memory.queue(numbered_frame(1));
  memory.publish();
  EXPECT_FALSE(memory.sender().finished(kNow));
  memory.sender().close();
  EXPECT_FALSE(memory.sender().finished(kNow)) << "three are not read yet";
  ASSERT_EQ(take_all(memory).size(), 3u);
  EXPECT_FALSE(memory.sender().finished(kNow)) << "three are on their way";
  memory.sender().sent(60);
  memory.sender().sent(60);
  memory.sender().dropped();
  EXPECT_TRUE(memory.sender().finished(kNow));
  expect_balance(memory);
}

TEST(Sender, that_closes_and_cannot_send_is_given_up_after_a_second_and_the_rest_is_dropped) {
  SendMemory memory;
  for (int i = 0; i < 5; ++i) memory.queue(numbered_frame(1));
  memory.publish();
  std::array<std::byte, 2048> to;
  ASSERT_EQ(memory.sender().waiting(2, kNow), 2u);
  memory.sender().take(to);
  memory.sender().take(to);
  memory.sender().close();
  EXPECT_FALSE(memory.sender().finished(kNow));
  EXPECT_FALSE(memory.sender().finished(kNow + kSecond));
  EXPECT_TRUE(memory.sender().finished(kNow + kSecond + 1));
  memory.sender().drop_pending();
  memory.sender().write();
  EXPECT_EQ(memory.counts().asked, 5u);
  EXPECT_EQ(memory.counts().dropped, 5u);
  EXPECT_EQ(memory.counts().pending, 0u);
  expect_balance(memory);
}

TEST(Sender, that_closes_with_a_lie_in_its_count_drops_nothing_that_it_never_asked_for) {
  SendMemory memory;
  memory.sender().close();
  memory.produce(layout::kFirstPosition + 1'000'000);
  EXPECT_FALSE(memory.sender().finished(kNow));
  EXPECT_TRUE(memory.sender().finished(kNow + kSecond + 1));
  memory.sender().write();
  EXPECT_EQ(memory.counts().asked, 0u);
}

}  // namespace
}  // namespace ringcap

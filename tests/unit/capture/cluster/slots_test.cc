#include "capture/cluster/slots.h"

#include <gtest/gtest.h>

#include <map>
#include <random>
#include <set>

namespace ringcap::cluster {
namespace {

std::vector<uint8_t> copy(const Slots& slots) { return {slots.table().begin(), slots.table().end()}; }

// Slots whose server changed, by who served them before or after; a slot of none of `concerned` must not be
// there.
void expect_moved_only(const std::vector<uint8_t>& before, const Slots& after, std::set<uint8_t> concerned) {
  for (uint32_t slot = 0; slot < after.count(); ++slot)
    if (before[slot] != after.table()[slot]) {
      EXPECT_TRUE(concerned.contains(before[slot]) || concerned.contains(after.table()[slot])) << slot;
    }
}

TEST(Slots, without_members_are_served_by_nobody) {
  const Slots slots;
  EXPECT_EQ(slots.served_by(kNobody), kSlots);
}

TEST(Slots, belong_to_the_first_member_all) {
  Slots slots;
  const uint8_t a = slots.join("a");
  EXPECT_EQ(slots.served_by(a), kSlots);
  EXPECT_EQ(slots.served_by(kNobody), 0u);
}

TEST(Slots, are_shared_evenly_however_many_join) {
  Slots slots;
  for (uint32_t n = 1; n <= kMaxMembers; ++n) {
    const uint8_t number = slots.join("m" + std::to_string(n));
    ASSERT_NE(number, kNobody);
    EXPECT_EQ(slots.served_by(number), kSlots / n) << n;
  }
  EXPECT_EQ(slots.join("one too many"), kNobody);
  EXPECT_EQ(slots.members(), kMaxMembers);
}

TEST(Slots, of_a_newcomer_come_from_the_others_in_equal_parts_and_nothing_else_moves) {
  Slots slots;
  for (const char* name : {"a", "b", "c"}) slots.join(name);
  const auto before = copy(slots);
  const uint8_t d = slots.join("d");
  expect_moved_only(before, slots, {d});
  EXPECT_EQ(slots.served_by(d), 1024u);
  for (uint8_t n = 0; n < 4; ++n) EXPECT_EQ(slots.served_by(n), 1024u) << int{n};
}

TEST(Slots, of_one_that_leaves_are_shared_by_the_others_and_nothing_else_moves) {
  Slots slots;
  for (const char* name : {"a", "b", "c", "d"}) slots.join(name);
  const auto before = copy(slots);
  slots.leave(1);
  expect_moved_only(before, slots, {1});
  EXPECT_EQ(slots.served_by(1), 0u);
  for (const uint8_t n : {uint8_t{0}, uint8_t{2}, uint8_t{3}}) EXPECT_NEAR(slots.served_by(n), 1365, 1);
}

TEST(Slots, of_one_that_comes_back_under_its_name_are_its_own_again) {
  Slots slots;
  for (const char* name : {"a", "b", "c", "d"}) slots.join(name);
  const auto before = copy(slots);
  slots.leave(2);
  EXPECT_NE(copy(slots), before);
  EXPECT_EQ(slots.join("c"), 2);
  EXPECT_EQ(copy(slots), before);
}

TEST(Slots, of_a_pool_that_restarts_one_by_one_end_where_they_were) {
  Slots slots;
  for (const char* name : {"a", "b", "c", "d"}) slots.join(name);
  const auto before = copy(slots);
  for (const uint8_t n : {uint8_t{0}, uint8_t{1}, uint8_t{2}, uint8_t{3}}) {
    slots.leave(n);
    slots.join(std::string(1, static_cast<char>('a' + n)));
  }
  EXPECT_EQ(copy(slots), before);
}

TEST(Slots, of_a_pool_that_ends_and_starts_again_in_another_order_end_where_they_were) {
  Slots slots;
  std::map<std::string, std::set<uint32_t>> before;
  std::map<std::string, uint8_t> numbers;
  const auto sets = [&] {
    std::map<std::string, std::set<uint32_t>> all;
    for (const auto& [name, number] : numbers)
      for (uint32_t slot = 0; slot < kSlots; ++slot)
        if (slots.table()[slot] == number) all[name].insert(slot);
    return all;
  };
  for (const char* name : {"a", "b", "c", "d"}) numbers[name] = slots.join(name);
  before = sets();
  for (const auto& [name, number] : numbers) slots.leave(number);
  EXPECT_EQ(slots.served_by(kNobody), kSlots);
  for (const char* name : {"d", "b", "a", "c"}) numbers[name] = slots.join(name);
  EXPECT_EQ(sets(), before);
}

TEST(Slots, that_are_on_loan_go_to_a_newcomer_first) {
  Slots slots;
  for (const char* name : {"a", "b", "c", "d"}) slots.join(name);
  const auto before = copy(slots);
  slots.leave(3);
  const uint8_t e = slots.join("e");
  EXPECT_EQ(slots.served_by(e), 1024u);
  uint32_t taken_from_d = 0;
  for (uint32_t slot = 0; slot < kSlots; ++slot)
    taken_from_d += slots.table()[slot] == e && before[slot] == 3;
  EXPECT_EQ(taken_from_d, 1024u);
}

TEST(Slots, that_are_fewer_than_members_leave_some_without) {
  Slots slots(4);
  for (int i = 0; i < 6; ++i) slots.join(std::to_string(i));
  EXPECT_EQ(slots.members(), 6u);
  EXPECT_EQ(slots.served_by(kNobody), 0u);
  uint32_t served = 0;
  for (uint8_t n = 0; n < 6; ++n) served += slots.served_by(n);
  EXPECT_EQ(served, 4u);
}

TEST(Slots, move_only_with_the_member_concerned_through_ten_thousand_random_changes) {
  const auto seed = std::random_device{}();
  SCOPED_TRACE(seed);
  std::mt19937 random(seed);
  Slots slots;
  std::map<std::string, uint8_t> members;
  for (int change = 0; change < 10'000; ++change) {
    const std::string name = "m" + std::to_string(random() % 40);
    const auto before = copy(slots);
    uint8_t number;
    if (const auto found = members.find(name); found != members.end()) {
      number = found->second;
      slots.leave(number);
      members.erase(found);
    } else {
      number = slots.join(name);
      members[name] = number;
      ASSERT_GE(slots.served_by(number), kSlots / members.size());
    }
    expect_moved_only(before, slots, {number});
    ASSERT_EQ(slots.served_by(kNobody), members.empty() ? kSlots : 0u);
    ASSERT_FALSE(testing::Test::HasFailure());
  }
}

TEST(Slots, forget_the_name_that_left_first_when_there_are_too_many) {
  Slots slots;
  slots.join("stays");
  for (size_t i = 0; i < kMaxNames + 10; ++i) slots.leave(slots.join("n" + std::to_string(i)));
  EXPECT_EQ(slots.served_by(0), kSlots);
  EXPECT_EQ(slots.members(), 1u);
}

}  // namespace
}  // namespace ringcap::cluster

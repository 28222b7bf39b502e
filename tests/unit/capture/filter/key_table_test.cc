#include "capture/filter/key_table.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <set>

namespace ringcap::filter {
namespace {

std::vector<uint32_t> addresses(size_t count, uint32_t step) {
  std::vector<uint32_t> keys;
  for (uint32_t i = 0; i < count; ++i) keys.push_back(0x0a000001 + i * step);
  return keys;
}

TEST(KeyTable, has_its_keys_and_no_other_number) {
  std::mt19937 random(7);
  for (const size_t count : {1U, 2U, 3U, 5U, 16U, 50U, 100U, 128U}) {
    std::set<uint32_t> keys;
    while (keys.size() < count) keys.insert(static_cast<uint32_t>(random()));
    const auto table = make_key_table(std::vector(keys.begin(), keys.end()));
    ASSERT_TRUE(table) << count;
    for (const uint32_t key : keys) EXPECT_TRUE(table->has(key));
    for (int i = 0; i < 10000; ++i) {
      const auto number = static_cast<uint32_t>(random());
      EXPECT_EQ(table->has(number), keys.contains(number));
    }
    EXPECT_EQ(table->has(0), keys.contains(0));
  }
}

TEST(KeyTable, is_found_for_addresses_in_a_row_and_in_either_byte_order) {
  for (const uint32_t step : {1U, 256U, 65536U, 1U << 24, 257U}) {
    std::vector<uint32_t> keys = addresses(128, step);
    EXPECT_TRUE(make_key_table(keys)) << step;
    for (uint32_t& key : keys) key = __builtin_bswap32(key);
    EXPECT_TRUE(make_key_table(keys)) << step;
  }
}

TEST(KeyTable, is_not_made_of_too_many_keys_or_none) {
  EXPECT_FALSE(make_key_table({}));
  EXPECT_FALSE(make_key_table(addresses(KeyTable::kMaxKeys + 1, 1)));
}

TEST(KeyTable, gives_up_where_keys_want_the_same_place_whatever_the_multiplier) {
  const std::vector<uint32_t> twice{5, 6, 5};  // equal keys stand for keys that no multiplier parts
  EXPECT_FALSE(make_key_table(twice));
}

}  // namespace
}  // namespace ringcap::filter

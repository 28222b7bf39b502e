// KeyTable: whether a number is one of many, in one look: a table with room for each of the numbers where
// its hash says, found by trying multipliers. For filters with a long row of `jeq` (fifty hosts or-ed).
// Compiler only.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

namespace ringcap::filter {

struct KeyTable {
  static constexpr size_t kMaxKeys = 128;
  static constexpr uint32_t kMaxBits = 12;

  uint32_t multiplier = 0;
  uint32_t shift = 0;
  std::vector<uint32_t> slots;  // a slot without a key of its own holds any of the keys

  uint32_t slot_of(uint32_t number) const { return (number * multiplier) >> shift; }
  bool has(uint32_t number) const { return slots[slot_of(number)] == number; }
};

// Of 1 to kMaxKeys keys, all different. Gives up after a fixed number of tries (a client may choose the
// keys); with such a number of keys at random it practically never does.
std::optional<KeyTable> make_key_table(std::span<const uint32_t> keys);

}  // namespace ringcap::filter

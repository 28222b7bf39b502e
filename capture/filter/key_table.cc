#include "capture/filter/key_table.h"

#include <algorithm>
#include <bit>

namespace ringcap::filter {
namespace {

constexpr int kTriesPerSize = 2000;

// Fills the slots, unless two keys want the same.
bool fill(KeyTable& table, std::span<const uint32_t> keys, std::vector<bool>& used) {
  std::fill(used.begin(), used.end(), false);
  for (const uint32_t key : keys) {
    const uint32_t slot = table.slot_of(key);
    if (used[slot]) return false;
    used[slot] = true;
    table.slots[slot] = key;
  }
  return true;
}

}  // namespace

std::optional<KeyTable> make_key_table(std::span<const uint32_t> keys) {
  if (keys.empty() || keys.size() > KeyTable::kMaxKeys) return {};
  uint32_t random = 0x9e3779b9;
  const auto first_bits = static_cast<uint32_t>(std::bit_width(keys.size()));
  for (uint32_t bits = std::max(first_bits, 1U); bits <= KeyTable::kMaxBits; ++bits) {
    KeyTable table{.multiplier = 0, .shift = 32 - bits, .slots = std::vector<uint32_t>(size_t{1} << bits)};
    std::vector<bool> used(table.slots.size());
    for (int attempt = 0; attempt < kTriesPerSize; ++attempt) {
      random = random * 1664525 + 1013904223;
      table.multiplier = random | 1;
      if (!fill(table, keys, used)) continue;
      for (size_t slot = 0; slot < used.size(); ++slot)
        if (!used[slot]) table.slots[slot] = keys.front();
      return table;
    }
  }
  return {};
}

}  // namespace ringcap::filter

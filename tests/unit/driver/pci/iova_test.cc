#include "driver/pci/iova.h"

#include <gtest/gtest.h>

#include <random>
#include <vector>

#include "driver/pci/address.h"

namespace ringcap::pci {
namespace {

using Range = IovaSpace::Range;

constexpr uint64_t kMiB = 1 << 20, kGiB = 1 << 30;
// As Linux 6.12 reports them for an Intel IOMMU of 39 and of 48 bits.
const std::vector<Range> k39Bits{{0, 0xfedf'ffff}, {0xfef0'0000, 0x7f'ffff'ffff}};
const std::vector<Range> k48Bits{{0, 0xfedf'ffff}, {0xfef0'0000, 0xffff'ffff'ffff}};

uint64_t number(const Result<Iova>& iova) { return iova ? static_cast<uint64_t>(*iova) : 0; }

TEST(IovaSpace, never_gives_zero_nor_the_interrupt_window) {
  const std::vector<Range> everything{{0, ~uint64_t{0}}};
  IovaSpace space(everything);
  while (true) {
    const uint64_t at = number(space.allocate(0, 64 * kMiB));
    ASSERT_NE(at, 0u);
    EXPECT_TRUE(at + 64 * kMiB <= 0xfee0'0000 || at > 0xfeef'ffff) << std::hex << at;
    if (at >= 4 * kGiB) break;
  }
}

TEST(IovaSpace, keeps_the_place_within_a_large_page) {
  IovaSpace space(k39Bits);
  for (uint64_t address : {0x7f12'3456'7000u, 0x7f00'0020'0000u, 0x5555'0000'1000u}) {
    EXPECT_EQ(number(space.allocate(address, 3 * kMiB)) % (2 * kMiB), address % (2 * kMiB));
  }
}

TEST(IovaSpace, fills_what_lies_below_4_gib_first_and_crosses_nothing) {
  IovaSpace space(k48Bits);
  uint64_t below = 0;
  for (int i = 0; i < 5; ++i) {
    const uint64_t at = number(space.allocate(0, kGiB));
    ASSERT_NE(at, 0u);
    EXPECT_TRUE(at + kGiB <= 4 * kGiB || at >= 4 * kGiB);
    below += at < 4 * kGiB;
  }
  EXPECT_EQ(below, 3u);
}

TEST(IovaSpace, stays_within_39_bits_and_says_when_it_is_full) {
  IovaSpace space(k39Bits);
  EXPECT_FALSE(space.allocate(0, 512 * kGiB));
  while (const auto iova = space.allocate(0, 16 * kGiB)) {
    EXPECT_LE(static_cast<uint64_t>(*iova) + 16 * kGiB - 1, 0x7f'ffff'ffffu);
  }
  const auto full = space.allocate(0, 16 * kGiB);
  ASSERT_FALSE(full);
  EXPECT_NE(full.error().text.find("IOMMU"), std::string::npos);
  EXPECT_FALSE(space.allocate(0, 0));
}

TEST(IovaSpace, allocations_never_overlap_and_all_room_comes_back) {
  const unsigned seed = std::random_device{}();
  SCOPED_TRACE(seed);
  std::mt19937_64 random(seed);
  IovaSpace space(k39Bits);
  const uint64_t before = space.free_bytes();
  std::vector<Range> held;
  for (int i = 0; i < 2000; ++i) {
    if (held.empty() || random() % 3) {
      const uint64_t bytes = 4096 * (1 + random() % 5000);
      const uint64_t at = number(space.allocate(4096 * (random() % 100000), bytes));
      ASSERT_NE(at, 0u);
      for (const Range& other : held) ASSERT_TRUE(at > other.last || at + bytes - 1 < other.first);
      held.push_back({at, at + bytes - 1});
    } else {
      std::swap(held[random() % held.size()], held.back());
      space.release(Iova{held.back().first}, held.back().last - held.back().first + 1);
      held.pop_back();
    }
  }
  for (const Range& range : held) space.release(Iova{range.first}, range.last - range.first + 1);
  EXPECT_EQ(space.free_bytes(), before);
  EXPECT_NE(number(space.allocate(0, 3 * kGiB)), 0u);  // in one piece again
}

TEST(PciAddress, is_written_as_sysfs_writes_it) {
  EXPECT_EQ(normal_address("3:0.1"), "0000:03:00.1");
  EXPECT_EQ(normal_address("0000:03:00.0"), "0000:03:00.0");
  EXPECT_EQ(normal_address("10000:E1:1f.7"), "10000:e1:1f.7");
  for (const char* bad :
       {"", "eth0", "03:00", "03:20.0", "03:00.8", "03:00.", ":03:00.0", "100:0.0", "0:0:0:0.0", "3:0.0.0"}) {
    EXPECT_FALSE(normal_address(bad)) << bad;
  }
}

}  // namespace
}  // namespace ringcap::pci

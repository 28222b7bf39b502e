// The driver's RSS: hash against Microsoft's own numbers, key, table, and what it does to directions.
#include "driver/intel/rss.h"

#include <gtest/gtest.h>

#include <map>
#include <set>

#include "driver/intel/registers.h"

namespace ringcap::intel {

using namespace pci;  // NOLINT: what of RSS is no NIC's alone
namespace {

// "Verifying the RSS Hash Calculation", Microsoft's Windows driver documentation.
constexpr RssKey kMicrosoft = {0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67,
                               0x25, 0x3d, 0x43, 0xa3, 0x8f, 0xb0, 0xd0, 0xca, 0x2b, 0xcb,
                               0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3, 0x80, 0x30,
                               0xf2, 0x0c, 0x6a, 0x42, 0xb7, 0x3b, 0xbe, 0xac, 0x01, 0xfa};

// The usual symmetric key.
RssKey repeated() {
  RssKey key;
  for (size_t i = 0; i < key.size(); ++i) key[i] = i % 2 == 0 ? 0x6d : 0x5a;
  return key;
}

// The registers as a driver leaves them.
class Written final : public pci::Bar {
 public:
  uint32_t read32(uint32_t offset) override { return words[offset]; }
  void write32(uint32_t offset, uint32_t value) override { words[offset] = value; }
  uint64_t bytes() const override { return 128 << 10; }
  std::map<uint32_t, uint32_t> words;
};

TEST(Rss, hash_is_what_microsoft_says_for_its_own_flows) {
  const uint8_t first[] = {66, 9, 149, 187, 161, 142, 100, 80, 2794 >> 8, 2794 & 255, 1766 >> 8, 1766 & 255};
  EXPECT_EQ(toeplitz(kMicrosoft, first), 0x51ccc178u);
  EXPECT_EQ(toeplitz(kMicrosoft, std::span(first).first(8)), 0x323e8fc2u);
  const uint8_t second[] = {199, 92, 111, 2, 65, 69, 140, 83, 14230 >> 8, 14230 & 255, 4739 >> 8, 4739 & 255};
  EXPECT_EQ(toeplitz(kMicrosoft, second), 0xc626b0eau);
  EXPECT_EQ(toeplitz(kMicrosoft, std::span(second).first(8)), 0xd718262au);
}

TEST(Rss, hash_is_what_microsoft_says_for_ipv6) {
  const uint8_t flow[] = {0x3f, 0xfe, 0x25, 0x01, 0x02, 0x00,      0x1f,       0xff,      0,
                          0,    0,    0,    0,    0,    0,         7,          0x3f,      0xfe,
                          0x25, 0x01, 2,    0,    0,    3,         0,          0,         0,
                          0,    0,    0,    0,    1,    2794 >> 8, 2794 & 255, 1766 >> 8, 1766 & 255};
  EXPECT_EQ(toeplitz(kMicrosoft, flow), 0x40207d3du);
  EXPECT_EQ(toeplitz(kMicrosoft, std::span(flow).first(32)), 0x2cc18cd5u);
}

TEST(Rss, keys_differ_from_start_to_start_in_all_their_parts) {
  const RssKey one = random_rss_key(), other = random_rss_key();
  int same = 0;
  for (size_t i = 0; i < one.size(); ++i) same += one[i] == other[i];
  EXPECT_LT(same, 10);
}

TEST(Rss, table_and_key_are_written_as_the_chips_want_them) {
  Written written;
  program_rss(Registers(&written), kMicrosoft, 3, 0);
  EXPECT_EQ(written.words[RSSRK], 0xda565a6du);
  EXPECT_EQ(written.words[RSSRK + 36], 0xfa01acbeu);
  EXPECT_EQ(written.words[RETA], 0x00020100u);
  EXPECT_EQ(written.words[RETA + 4], 0x01000201u);
  EXPECT_EQ(written.words.size(), 10u + 32u);
  Written shifted;
  program_rss(Registers(&shifted), kMicrosoft, 2, 7);
  EXPECT_EQ(shifted.words[RETA], 0x80008000u);
}

TEST(Rss, every_queue_gets_its_share_of_the_table) {
  for (uint32_t queues = 1; queues <= 16; ++queues) {
    std::vector<uint32_t> share(queues);
    for (uint32_t hash = 0; hash < 128; ++hash) ++share[rss_queue(hash, queues)];
    for (const uint32_t entries : share) EXPECT_NEAR(entries, 128.0 / queues, 1.0) << queues;
  }
}

TEST(Rss, full_key_separates_the_directions_of_the_flows_that_chance_separates) {
  EXPECT_EQ(separated_percent(kMicrosoft, 1), 0u);
  EXPECT_NEAR(separated_percent(kMicrosoft, 2), 50, 3);
  EXPECT_NEAR(separated_percent(kMicrosoft, 4), 75, 3);
  EXPECT_NE(rss_remark(kMicrosoft, 4).find("7"), std::string::npos);
}

// Why the driver does not use it: it keeps directions together, and puts structured networks into one queue.
TEST(Rss, repeated_key_keeps_directions_together_and_pairs_of_hosts_in_one_queue) {
  EXPECT_EQ(separated_percent(repeated(), 2), 0u);
  std::set<uint32_t> paired, spread;            // entries of the table
  for (uint8_t host = 1; host < 250; ++host) {  // client 10.0.0.n talks to server 10.0.1.n
    const uint8_t flow[] = {10, 0, 0, host, 10, 0, 1, host};
    paired.insert(toeplitz(repeated(), flow) % 128);
    spread.insert(toeplitz(kMicrosoft, flow) % 128);
  }
  EXPECT_EQ(paired.size(), 1u);
  EXPECT_GT(spread.size(), 16u);
}

}  // namespace
}  // namespace ringcap::intel

// The copy out of the kernel's block: exact in what it copies, and it stays within what it may touch.
#include "driver/packet/copy.h"

#include <gtest/gtest.h>

#include <vector>

namespace ringcap::packet {
namespace {

using Bytes = std::vector<std::byte>;

Bytes counting(size_t bytes) {
  Bytes data(bytes);
  for (size_t i = 0; i < bytes; ++i) data[i] = static_cast<std::byte>(i * 7 + 1);
  return data;
}

// Vectors of the exact size: the address sanitizer sees a byte too far.
TEST(PacketCopy, every_length_is_copied_with_no_byte_to_spare) {
  for (uint32_t bytes = 0; bytes <= 700; ++bytes) {
    const Bytes from = counting(bytes);
    Bytes to(bytes);
    copy_bytes(to.data(), from.data(), bytes, bytes, bytes);
    ASSERT_TRUE(to == from) << bytes;
  }
}

TEST(PacketCopy, every_length_is_copied_with_room_around_it) {
  for (uint32_t bytes = 0; bytes <= 700; ++bytes) {
    const Bytes from = counting(1024);
    Bytes to(1024 + 1);
    to.back() = std::byte{0xee};
    copy_bytes(to.data(), from.data(), bytes, 1024, 1024);
    ASSERT_TRUE(std::equal(from.begin(), from.begin() + bytes, to.begin())) << bytes;
    ASSERT_EQ(to.back(), std::byte{0xee});
  }
}

TEST(PacketCopy, a_tag_goes_behind_the_addresses) {
  const Bytes from = counting(60);
  Bytes to(64);
  ASSERT_EQ(copy_with_tag(to.data(), from.data(), 60, 0x88a8, 0xa123, 64), 64u);
  Bytes expected(from.begin(), from.begin() + 12);
  for (const int byte : {0x88, 0xa8, 0xa1, 0x23}) expected.push_back(static_cast<std::byte>(byte));
  expected.insert(expected.end(), from.begin() + 12, from.end());
  EXPECT_TRUE(to == expected);
}

TEST(PacketCopy, a_tag_that_makes_a_frame_too_long_for_the_buffer_cuts_its_end) {
  const Bytes from = counting(2048);
  Bytes to(2048);
  EXPECT_EQ(copy_with_tag(to.data(), from.data(), 2048, 0x8100, 1, 2048), 2048u);
  EXPECT_TRUE(std::equal(from.begin() + 12, from.begin() + 2044, to.begin() + 16));
}

TEST(PacketCopy, a_frame_of_two_addresses_and_nothing_else_gets_its_tag) {
  const Bytes from = counting(12);
  Bytes to(16);
  EXPECT_EQ(copy_with_tag(to.data(), from.data(), 12, 0x8100, 5, 16), 16u);
  EXPECT_EQ(to[15], std::byte{5});
}

}  // namespace
}  // namespace ringcap::packet

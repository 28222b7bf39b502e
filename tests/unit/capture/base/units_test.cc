#include "capture/base/units.h"

#include <gtest/gtest.h>

namespace ringcap {
namespace {

TEST(Units, counts_are_in_thousands) {
  EXPECT_EQ(parse_count("0").value(), 0u);
  EXPECT_EQ(parse_count("17").value(), 17u);
  EXPECT_EQ(parse_count("10k").value(), 10'000u);
  EXPECT_EQ(parse_count("1.5M").value(), 1'500'000u);
  EXPECT_EQ(parse_count("2G").value(), 2'000'000'000u);
  EXPECT_EQ(parse_count("18446744073709551615").value(), ~uint64_t{0});
}

TEST(Units, bytes_are_in_1024) {
  EXPECT_EQ(parse_bytes("17").value(), 17u);
  EXPECT_EQ(parse_bytes("4K").value(), 4096u);
  EXPECT_EQ(parse_bytes("4k").value(), 4096u);
  EXPECT_EQ(parse_bytes("256M").value(), 256u << 20);
  EXPECT_EQ(parse_bytes("0.125K").value(), 128u);
  EXPECT_EQ(parse_bytes("1.5G").value(), uint64_t{3} << 29);
}

TEST(Units, durations_are_in_nanoseconds) {
  EXPECT_EQ(parse_duration_ns("250us").value(), 250'000u);
  EXPECT_EQ(parse_duration_ns("1.5s").value(), 1'500'000'000u);
  EXPECT_EQ(parse_duration_ns("20ms").value(), 20'000'000u);
  EXPECT_EQ(parse_duration_ns("3").value(), 3'000'000'000u);
  EXPECT_EQ(parse_duration_ns("3", 1'000'000).value(), 3'000'000u);
  EXPECT_EQ(parse_duration_ns("0", 0).value(), 0u);
  EXPECT_FALSE(parse_duration_ns("3", 0));
}

TEST(Units, what_is_no_number_is_refused) {
  for (const char* text :
       {"", "k", "-1", "+1", "1 k", "10kk", "1.k", ".5k", "1..5k", "1.5.5k", "0x10", "1e3", "10K",
        "18446744073709551616", "18446744073709551615k", "1.5", "1.0001k", "1.12345678901k"}) {
    EXPECT_FALSE(parse_count(text)) << text;
  }
  EXPECT_FALSE(parse_bytes("0.3K"));
  EXPECT_FALSE(parse_bytes("16777216T"));
  EXPECT_FALSE(parse_duration_ns("1m"));
}

TEST(Units, the_error_names_the_text_and_the_units) {
  const Error error = parse_count("12q").error();
  EXPECT_EQ(error.code, Code::kUsage);
  EXPECT_NE(error.text.find("'12q'"), std::string::npos) << error.text;
  EXPECT_NE(error.text.find("k, M, G"), std::string::npos) << error.text;
}

TEST(Units, bytes_are_shown_with_the_largest_unit) {
  EXPECT_EQ(format_bytes(17), "17 bytes");
  EXPECT_EQ(format_bytes(2048), "2 KiB");
  EXPECT_EQ(format_bytes(256u << 20), "256 MiB");
  EXPECT_EQ(format_bytes(uint64_t{3} << 29), "1.5 GiB");
}

}  // namespace
}  // namespace ringcap

#include "libcap/filter/ringcap_filter.h"

#include <gtest/gtest.h>
#include <pcap/pcap.h>

#include <array>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "capture/filter/program.h"
#include "libcap/filter/live_words.h"
#include "tests/unit/capture/filter/filter_test_data.h"

namespace ringcap {
namespace {

using Instructions = std::vector<ringcap_filter_instruction>;

struct Compiled {
  int result;
  Instructions program;
  std::string error;
};

Compiled compile(const char* expression, int link_type = 1, uint32_t snaplen = 262144, size_t room = 4096) {
  Compiled compiled{0, Instructions(room), ""};
  std::array<char, 256> error{'x'};
  size_t count = room;
  compiled.result = ringcap_filter_compile(expression, link_type, snaplen, 1, compiled.program.data(), &count,
                                           error.data(), error.size());
  compiled.program.resize(compiled.result == RINGCAP_FILTER_OK ? count : 0);
  compiled.error = error.data();
  return compiled;
}

bool same(const Instructions& program, const std::vector<filter::Instruction>& other) {
  return program.size() == other.size() &&
         std::memcmp(program.data(), other.data(), program.size() * sizeof(filter::Instruction)) == 0;
}

TEST(FilterCompiler, gives_what_libpcap_compiles) {
  for (const std::string& expression : test::expressions()) {
    const Compiled compiled = compile(expression.c_str());
    EXPECT_EQ(compiled.result, RINGCAP_FILTER_OK) << expression << ": " << compiled.error;
    EXPECT_EQ(compiled.error, "");
    EXPECT_TRUE(same(compiled.program, test::compile(expression))) << expression;
  }
}

// libpcap up to 1.10 takes the words themselves, too, so that both can be compared; later ones the offsets
// only.
TEST(FilterCompiler, words_that_libpcap_keeps_for_live_captures_compile_to_the_same_code) {
  for (const char* expression : {"inbound", "outbound", "not inbound", "!outbound and udp port 7",
                                 "ifindex 7", "not ifindex 0x10 or ip", "(inbound or vlan) and tcp",
                                 "ip and(outbound)", "ip host 10.0.0.1 and inbound and ifindex 3"}) {
    const auto other = without_live_words(expression, "not a live capture, 'x' not supported on DLT_EN10MB");
    ASSERT_TRUE(other) << expression;
    const Compiled compiled = compile(expression);
    EXPECT_EQ(compiled.result, RINGCAP_FILTER_OK) << expression << ": " << compiled.error;
    EXPECT_TRUE(same(compiled.program, test::compile(*other))) << expression << "\n" << *other;
  }
}

TEST(FilterCompiler, only_whole_words_are_live_words_and_only_if_libpcap_says_so) {
  constexpr const char* kSays = "not a live capture, 'inbound' not supported";
  for (const char* expression :
       {"host inbound.example", "host \\inbound", "tcp port 80", "", "host my-outbound"})
    EXPECT_EQ(without_live_words(expression, kSays), expression);
  EXPECT_FALSE(without_live_words("inbound", "syntax error"));
  EXPECT_EQ(compile("inbound inbound").result, RINGCAP_FILTER_E_EXPRESSION);
}

TEST(FilterCompiler, an_empty_expression_matches_everything_up_to_the_snap_length) {
  const Compiled compiled = compile("", 1, 96);
  ASSERT_EQ(compiled.program.size(), 1U);
  EXPECT_EQ(compiled.program[0].code, BPF_RET | BPF_K);
  EXPECT_EQ(compiled.program[0].k, 96U);
}

TEST(FilterCompiler, an_expression_that_is_wrong_is_refused_in_libpcaps_words) {
  const Compiled compiled = compile("tcp port eighty and");
  EXPECT_EQ(compiled.result, RINGCAP_FILTER_E_EXPRESSION);
  EXPECT_NE(compiled.error, "");
}

TEST(FilterCompiler, says_how_much_room_a_program_needs) {
  const size_t needed = compile("tcp port 80").program.size();
  size_t count = 0;
  EXPECT_EQ(ringcap_filter_compile("tcp port 80", 1, 65535, 1, nullptr, &count, nullptr, 0),
            RINGCAP_FILTER_E_SPACE);
  EXPECT_EQ(count, needed);
  EXPECT_EQ(compile("tcp port 80", 1, 65535, needed - 1).result, RINGCAP_FILTER_E_SPACE);
  EXPECT_EQ(compile("tcp port 80", 1, 65535, needed).result, RINGCAP_FILTER_OK);
}

TEST(FilterCompiler, an_error_is_cut_to_its_room) {
  std::array<char, 8> error{};
  size_t count = 0;
  EXPECT_NE(ringcap_filter_compile("no such primitive", 1, 65535, 1, nullptr, &count, error.data(), 5), 0);
  EXPECT_EQ(std::strlen(error.data()), 4U);
}

TEST(FilterCompiler, arguments_that_make_no_sense_are_refused) {
  size_t count = 1;
  EXPECT_EQ(compile(nullptr).result, RINGCAP_FILTER_E_USAGE);
  EXPECT_EQ(compile("ip", -1).result, RINGCAP_FILTER_E_USAGE);
  EXPECT_EQ(compile("ip", 1, 0).result, RINGCAP_FILTER_E_USAGE);
  EXPECT_EQ(compile("ip", 1, 0x80000000).result, RINGCAP_FILTER_E_USAGE);
  EXPECT_EQ(ringcap_filter_compile("ip", 1, 1, 1, nullptr, &count, nullptr, 0), RINGCAP_FILTER_E_USAGE);
  EXPECT_EQ(ringcap_filter_compile("ip", 1, 1, 1, nullptr, nullptr, nullptr, 0), RINGCAP_FILTER_E_USAGE);
}

TEST(FilterCompiler, link_types_of_files_are_understood) {
  const Compiled raw = compile("ip", 101);  // LINKTYPE_RAW: begins with the IP header
  ASSERT_EQ(raw.result, RINGCAP_FILTER_OK) << raw.error;
  EXPECT_EQ(raw.program[0].code, BPF_LD | BPF_B | BPF_ABS);
  EXPECT_EQ(raw.program[0].k, 0U);
  EXPECT_EQ(compile("ip", 60000).result, RINGCAP_FILTER_E_EXPRESSION);
}

TEST(FilterCompiler, threads_may_compile_at_once) {
  const Compiled expected = compile("vlan 10 and tcp port 80");
  std::array<int, 4> wrong{};
  std::vector<std::thread> threads;
  for (int& count : wrong)
    threads.emplace_back([&] {
      for (int i = 0; i < 200; ++i) {
        const Compiled compiled = compile("vlan 10 and tcp port 80");
        count += compiled.program.size() != expected.program.size() ||
                 std::memcmp(compiled.program.data(), expected.program.data(),
                             expected.program.size() * sizeof expected.program[0]) != 0;
      }
    });
  for (std::thread& thread : threads) thread.join();
  for (const int count : wrong) EXPECT_EQ(count, 0);
}

}  // namespace
}  // namespace ringcap

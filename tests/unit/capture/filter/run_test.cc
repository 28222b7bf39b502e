// The interpreter against libpcap's bpf_filter(), which is the truth.
#include <gtest/gtest.h>

#include "capture/filter/program.h"
#include "tests/unit/capture/filter/filter_test_data.h"
#include "tests/unit/capture/filter/libpcap_verdict.h"

namespace ringcap::filter {
namespace {

using test::Bytes;
using test::compile;

uint32_t theirs(std::span<const Instruction> program, const Bytes& frame, uint32_t length_on_wire) {
  return test::libpcap_verdict(program, frame.data(), length_on_wire, static_cast<uint32_t>(frame.size()));
}

uint32_t ours(const Program& program, const Bytes& frame, uint32_t length_on_wire) {
  return run(program, frame.data(), length_on_wire, static_cast<uint32_t>(frame.size()));
}

// Runs `expression` over `frames` in both interpreters; returns how many frames match.
size_t expect_same(const std::string& expression, bool optimize, const std::vector<Bytes>& frames) {
  const std::vector<Instruction> program = compile(expression, optimize);
  const auto valid = validate(program);
  if (!valid) ADD_FAILURE() << expression << ": " << valid.error().text;
  if (!valid) return 0;
  size_t matched = 0;
  for (const Bytes& frame : frames) {
    const auto length = static_cast<uint32_t>(frame.size() + frame.size() % 3 * 40);  // cut frames too
    const uint32_t result = ours(*valid, frame, length);
    EXPECT_EQ(result, theirs(program, frame, length)) << expression;
    matched += result != 0;
  }
  return matched;
}

TEST(FilterRun, agrees_with_libpcap_on_every_expression_and_frame) {
  std::mt19937 random(1);
  const std::vector<Bytes> frames = test::frames(random, 60, 200);
  size_t expressions_with_both = 0;
  const std::vector<std::string> expressions = test::expressions();
  ASSERT_GE(expressions.size(), 200U);
  for (const std::string& expression : expressions) {
    const size_t matched = expect_same(expression, true, frames);
    expect_same(expression, false, frames);  // may match fewer cut frames: the optimizer drops loads
    expressions_with_both += matched != 0 && matched != frames.size();
  }
  EXPECT_GT(expressions_with_both, 130U) << "most expressions ought to match some frames and not others";
}

// A program begins with these, because libpcap 1.10 does not clear the memory words and we do.
std::vector<Instruction> clear_memory() {
  std::vector<Instruction> program;
  for (uint32_t word = 0; word < kMemoryWords; ++word) program.push_back({BPF_ST, 0, 0, word});
  return program;
}

TEST(FilterRun, agrees_with_libpcap_on_random_programs) {
  std::mt19937 random(2);
  const std::vector<Bytes> frames = test::frames(random, 1, 10);
  size_t ran = 0;
  for (int n = 0; n < 100000; ++n) {
    std::vector<Instruction> program = clear_memory();
    for (const Instruction& i : test::random_program(random, 2 + random() % 30, true)) program.push_back(i);
    const auto valid = validate(program);
    if (!valid) continue;
    ++ran;
    const Bytes& frame = frames[random() % frames.size()];
    const auto length = static_cast<uint32_t>(random() % 2000);
    ASSERT_EQ(ours(*valid, frame, length), theirs(program, frame, length)) << "program " << n << "\n"
                                                                           << valid->dump();
  }
  EXPECT_GT(ran, 20000U);
}

// What one load yields of a frame of 8 bytes 0, 1, ... 7, with x loaded first.
uint32_t load(int code, uint32_t x, uint32_t k, size_t captured = 8) {
  const std::vector<Instruction> program{
      {BPF_LDX | BPF_IMM, 0, 0, x}, {static_cast<uint16_t>(code), 0, 0, k}, {BPF_RET | BPF_A, 0, 0, 0}};
  Bytes frame(captured);
  for (size_t i = 0; i < captured; ++i) frame[i] = static_cast<std::byte>(i);
  const uint32_t result = ours(*validate(program), frame, 100);
  EXPECT_EQ(result, theirs(program, frame, 100));
  return result;
}

TEST(FilterRun, loads_reach_up_to_the_last_captured_byte_and_not_beyond) {
  EXPECT_EQ(load(BPF_LD | BPF_W | BPF_ABS, 0, 4), 0x04050607U);
  EXPECT_EQ(load(BPF_LD | BPF_W | BPF_ABS, 0, 5), 0U);
  EXPECT_EQ(load(BPF_LD | BPF_H | BPF_ABS, 0, 6), 0x0607U);
  EXPECT_EQ(load(BPF_LD | BPF_H | BPF_ABS, 0, 7), 0U);
  EXPECT_EQ(load(BPF_LD | BPF_B | BPF_ABS, 0, 7), 7U);
  EXPECT_EQ(load(BPF_LD | BPF_B | BPF_ABS, 0, 8), 0U);
  EXPECT_EQ(load(BPF_LD | BPF_W | BPF_IND, 2, 2), 0x04050607U);
  EXPECT_EQ(load(BPF_LD | BPF_W | BPF_IND, 2, 3), 0U);
  EXPECT_EQ(load(BPF_LD | BPF_H | BPF_IND, 5, 1), 0x0607U);
  EXPECT_EQ(load(BPF_LD | BPF_B | BPF_IND, 7, 0), 7U);
  EXPECT_EQ(load(BPF_LD | BPF_B | BPF_IND, 7, 1), 0U);
}

TEST(FilterRun, offsets_do_not_wrap_around) {
  for (const int code : {BPF_LD | BPF_W | BPF_IND, BPF_LD | BPF_H | BPF_IND, BPF_LD | BPF_B | BPF_IND}) {
    EXPECT_EQ(load(code, 0xffffffff, 2), 0U);
    EXPECT_EQ(load(code, 2, 0xffffffff), 0U);
    EXPECT_EQ(load(code, 0x80000000, 0x80000001), 0U);
  }
  EXPECT_EQ(load(BPF_LD | BPF_W | BPF_ABS, 0, 0x7fffffff), 0U);
}

TEST(FilterRun, an_empty_frame_can_be_filtered) {
  EXPECT_EQ(load(BPF_LD | BPF_B | BPF_ABS, 0, 0, 0), 0U);
  EXPECT_EQ(load(BPF_LD | BPF_W | BPF_LEN, 0, 0, 0), 100U);
}

TEST(FilterRun, division_by_a_register_that_is_zero_refuses_the_frame) {
  for (const int code : {BPF_ALU | BPF_DIV | BPF_X, BPF_ALU | BPF_MOD | BPF_X}) {
    const auto program = validate(std::vector<Instruction>{
        {BPF_LD | BPF_IMM, 0, 0, 5}, {static_cast<uint16_t>(code), 0, 0, 0}, {BPF_RET | BPF_K, 0, 0, 9}});
    EXPECT_EQ(ours(*program, Bytes(60), 60), 0U);
  }
}

TEST(FilterRun, memory_is_zero_at_the_start) {
  for (uint32_t word = 0; word < kMemoryWords; ++word) {
    const auto program =
        validate(std::vector<Instruction>{{BPF_LD | BPF_MEM, 0, 0, word}, {BPF_RET | BPF_A, 0, 0, 0}});
    EXPECT_EQ(ours(*program, Bytes(60), 60), 0U);
  }
}

TEST(FilterRun, the_longest_program_runs_to_its_end) {
  std::vector<Instruction> program(kMaxInstructions, Instruction{BPF_ALU | BPF_ADD | BPF_K, 0, 0, 1});
  program.back() = {BPF_RET | BPF_A, 0, 0, 0};
  EXPECT_EQ(ours(*validate(program), Bytes(60), 60), kMaxInstructions - 1);
}

TEST(FilterRun, vlan_filters_read_the_tag_in_the_frame) {
  const Bytes tagged = test::FrameBuilder().ethernet().vlan(10).ipv4().tcp(1, 2).bytes();
  const Bytes plain = test::FrameBuilder().ethernet().ipv4().tcp(1, 2).bytes();
  EXPECT_NE(ours(*validate(compile("vlan 10 and tcp")), tagged, 60), 0U);
  EXPECT_EQ(ours(*validate(compile("vlan 11 and tcp")), tagged, 60), 0U);
  EXPECT_EQ(ours(*validate(compile("vlan")), plain, 60), 0U);
  EXPECT_EQ(ours(*validate(compile("tcp")), tagged, 60), 0U);
}

}  // namespace
}  // namespace ringcap::filter

#include "capture/filter/program.h"

#include <gtest/gtest.h>

#include "tests/unit/capture/filter/filter_test_data.h"

namespace ringcap::filter {
namespace {

using test::as_bpf;
using test::compile;
using test::expressions;

constexpr Instruction kAccept{BPF_RET | BPF_K, 0, 0, 65535};
constexpr Instruction kRefuse{BPF_RET | BPF_K, 0, 0, 0};

// The text of the error that `program` is refused with; "" if it is not.
std::string refusal(const std::vector<Instruction>& program) {
  const auto result = validate(program);
  if (result) return "";
  EXPECT_EQ(result.error().code, Code::kFilter);
  return result.error().text;
}

// One instruction, then `ret`.
std::string refusal_of(int code, uint32_t k, uint8_t jt = 0, uint8_t jf = 0) {
  return refusal({{static_cast<uint16_t>(code), jt, jf, k}, kAccept});
}

TEST(FilterProgram, everything_that_libpcap_compiles_is_valid) {
  for (const std::string& expression : expressions())
    for (const bool optimize : {false, true})
      EXPECT_EQ(refusal(compile(expression, optimize)), "") << expression;
}

TEST(FilterProgram, an_empty_program_is_refused) {
  EXPECT_PRED_FORMAT2(testing::IsSubstring, "empty", refusal({}));
}

TEST(FilterProgram, at_most_4096_instructions_are_valid) {
  EXPECT_EQ(refusal(std::vector(4096, kAccept)), "");
  EXPECT_PRED_FORMAT2(testing::IsSubstring, "4097 instructions; at most 4096",
                      refusal(std::vector(4097, kAccept)));
}

TEST(FilterProgram, an_error_names_the_instruction_and_the_reason) {
  EXPECT_EQ(
      refusal({{BPF_LD | BPF_IMM, 0, 0, 7}, {BPF_ST, 0, 0, 16}, kAccept}),
      "the filter program's instruction 1 (st       M[16]) is not valid: there are 16 memory words, 0 to 15");
}

TEST(FilterProgram, memory_words_beyond_15_are_refused) {
  for (const int code : {BPF_ST, BPF_STX, BPF_LD | BPF_MEM, BPF_LDX | BPF_MEM}) {
    EXPECT_EQ(refusal_of(code, 15), "");
    EXPECT_PRED_FORMAT2(testing::IsSubstring, "memory words", refusal_of(code, 16));
    EXPECT_PRED_FORMAT2(testing::IsSubstring, "memory words", refusal_of(code, 0xffffffff));
  }
}

TEST(FilterProgram, division_by_a_constant_zero_is_refused) {
  EXPECT_PRED_FORMAT2(testing::IsSubstring, "divides by zero", refusal_of(BPF_ALU | BPF_DIV | BPF_K, 0));
  EXPECT_PRED_FORMAT2(testing::IsSubstring, "divides by zero", refusal_of(BPF_ALU | BPF_MOD | BPF_K, 0));
  EXPECT_EQ(refusal_of(BPF_ALU | BPF_DIV | BPF_X, 0), "");
}

TEST(FilterProgram, shifts_by_more_than_31_are_refused) {
  EXPECT_EQ(refusal_of(BPF_ALU | BPF_LSH | BPF_K, 31), "");
  EXPECT_PRED_FORMAT2(testing::IsSubstring, "31 bits", refusal_of(BPF_ALU | BPF_LSH | BPF_K, 32));
  EXPECT_PRED_FORMAT2(testing::IsSubstring, "31 bits", refusal_of(BPF_ALU | BPF_RSH | BPF_K, 32));
}

TEST(FilterProgram, ancillary_loads_of_the_kernel_are_refused_and_named) {
  constexpr uint32_t kVlanTag = 0U - 0x1000 + 44;  // SKF_AD_OFF + SKF_AD_VLAN_TAG
  EXPECT_PRED_FORMAT2(testing::IsSubstring, "ancillary", refusal_of(BPF_LD | BPF_B | BPF_ABS, kVlanTag));
  EXPECT_PRED_FORMAT2(testing::IsSubstring, "ancillary", refusal_of(BPF_LD | BPF_H | BPF_ABS, 0x80000000));
  EXPECT_PRED_FORMAT2(testing::IsSubstring, "ancillary", refusal_of(BPF_LD | BPF_W | BPF_ABS, 0U - 0x100000));
  EXPECT_EQ(refusal_of(BPF_LD | BPF_W | BPF_ABS, 0x7fffffff), "");
}

TEST(FilterProgram, jumps_beyond_the_last_instruction_are_refused) {
  EXPECT_EQ(refusal_of(BPF_JMP | BPF_JEQ | BPF_K, 1, 0, 0), "");
  EXPECT_PRED_FORMAT2(testing::IsSubstring, "jumps to instruction 2",
                      refusal_of(BPF_JMP | BPF_JEQ | BPF_K, 1, 1, 0));
  EXPECT_PRED_FORMAT2(testing::IsSubstring, "jumps to instruction 256",
                      refusal_of(BPF_JMP | BPF_JSET | BPF_X, 1, 0, 255));
  EXPECT_PRED_FORMAT2(testing::IsSubstring, "jumps to instruction 2", refusal_of(BPF_JMP | BPF_JA, 1));
  EXPECT_PRED_FORMAT2(testing::IsSubstring, "behind the last one", refusal_of(BPF_JMP | BPF_JA, 0x7fffffff));
}

TEST(FilterProgram, jumps_backwards_are_refused_and_protochain_is_named) {
  EXPECT_PRED_FORMAT2(testing::IsSubstring, "protochain", refusal_of(BPF_JMP | BPF_JA, 0xffffffff));
  EXPECT_PRED_FORMAT2(testing::IsSubstring, "protochain", refusal(compile("ip6 protochain 6", false)));
}

TEST(FilterProgram, a_program_that_does_not_end_in_a_return_is_refused) {
  EXPECT_PRED_FORMAT2(testing::IsSubstring, "`ret`", refusal({{BPF_LD | BPF_IMM, 0, 0, 1}}));
  EXPECT_PRED_FORMAT2(testing::IsSubstring, "instruction 1",
                      refusal({kAccept, {BPF_MISC | BPF_TAX, 0, 0, 0}}));
  EXPECT_EQ(refusal({{BPF_LD | BPF_IMM, 0, 0, 1}, {BPF_RET | BPF_A, 0, 0, 0}}), "");
}

TEST(FilterProgram, unknown_opcodes_are_refused) {
  size_t known = 0;
  for (uint32_t code = 0; code <= 0xffff; ++code) {
    const std::string text = refusal({{static_cast<uint16_t>(code), 0, 0, 1}, kAccept, kAccept});
    known += text.empty();
    if (text.empty()) continue;
    EXPECT_PRED_FORMAT2(testing::IsSubstring, "no such instruction", text);
  }
  EXPECT_EQ(known, 49U);  // those of <pcap/bpf.h>
}

TEST(FilterProgram, cost_is_the_number_of_instructions) {
  EXPECT_EQ(validate(compile("tcp port 80"))->cost(), compile("tcp port 80").size());
  EXPECT_EQ(validate(std::vector{kRefuse})->cost(), 1U);
}

TEST(FilterProgram, equal_programs_compare_equal) {
  EXPECT_EQ(*validate(compile("tcp port 80")), *validate(compile("tcp port 80")));
  EXPECT_NE(*validate(compile("tcp port 80")), *validate(compile("tcp port 81")));
}

// libpcap before 1.11 ends a line without an operand in blanks.
std::string without_blanks_at_the_end(std::string line) {
  line.erase(line.find_last_not_of(' ') + 1);
  return line;
}

TEST(FilterProgram, the_listing_is_that_of_tcpdump) {
  for (const std::string& expression : expressions()) {
    const std::vector<Instruction> program = compile(expression);
    std::string expected;
    for (size_t i = 0; i < program.size(); ++i)
      expected += without_blanks_at_the_end(bpf_image(as_bpf(program) + i, static_cast<int>(i))) + "\n";
    EXPECT_EQ(validate(program)->dump(), expected) << expression;
  }
}

// Why ours may refuse what bpf_validate() accepts, written again without the validator's help.
bool has_a_listed_reason(const std::vector<Instruction>& program) {
  for (const Instruction& i : program) {
    const bool negative = i.k > 0x7fffffff;
    const Opcode* opcode = find_opcode(i.code);
    if (opcode == nullptr) return true;
    if (negative && (i.code == (BPF_JMP | BPF_JA) || opcode->operand == Operand::kAbsolute)) return true;
    if (i.k > 31 && (i.code == (BPF_ALU | BPF_LSH | BPF_K) || i.code == (BPF_ALU | BPF_RSH | BPF_K)))
      return true;
  }
  return false;
}

TEST(FilterProgram, refuses_all_that_libpcap_refuses_and_more_for_listed_reasons_only) {
  std::mt19937 random(31);
  size_t both_accept = 0;
  size_t both_refuse = 0;
  for (int n = 0; n < 200000; ++n) {
    std::vector<Instruction> program = test::random_program(random, 1 + random() % 6, n % 3 != 0);
    if (n % 5 == 0) program[random() % program.size()].code = static_cast<uint16_t>(random());
    if (n % 7 == 0) program[random() % program.size()].k = test::random_constant(random);
    const bool theirs = bpf_validate(as_bpf(program), static_cast<int>(program.size())) != 0;
    const bool ours = validate(program).has_value();
    both_accept += ours && theirs;
    both_refuse += !ours && !theirs;
    ASSERT_TRUE(theirs || !ours) << "libpcap refuses, we do not, program " << n;
    ASSERT_TRUE(ours || !theirs || has_a_listed_reason(program)) << "refused without a reason, program " << n;
  }
  EXPECT_GT(both_accept, 10000U);
  EXPECT_GT(both_refuse, 10000U);
}

}  // namespace
}  // namespace ringcap::filter

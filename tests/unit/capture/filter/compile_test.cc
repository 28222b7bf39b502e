// Compiled filters against the interpreter and libpcap's bpf_filter(), which is the truth. Frames end where
// nothing can be read.
#include <gtest/gtest.h>

#include <filesystem>

#include "capture/filter/machine_code.h"
#include "capture/filter/program.h"
#include "capture/pcapfile/reader.h"
#include "tests/unit/capture/filter/filter_test_data.h"
#include "tests/unit/capture/filter/guarded_frame.h"
#include "tests/unit/capture/filter/libpcap_verdict.h"

namespace ringcap::filter {
namespace {

using test::Bytes;
using test::compile;
using test::GuardedFrame;

constexpr size_t kRoom = 1 << 16;

Program compiled(const std::vector<Instruction>& instructions) {
  auto program = validate(instructions);
  if (!program) throw std::runtime_error(program.error().message());
  if (auto made = program->compile(); !made) throw std::runtime_error(made.error().message());
  return std::move(*program);
}

uint32_t run_guarded(const Program& program, GuardedFrame& guard, std::span<const std::byte> frame,
                     uint32_t length_on_wire) {
  const auto captured = static_cast<uint32_t>(frame.size());
  const uint32_t verdict = run(program, guard.before_the_end(frame), length_on_wire, captured);
  EXPECT_EQ(verdict, run(program, guard.at_the_start(frame), length_on_wire, captured));
  return verdict;
}

// What compiled code, interpreter and libpcap all say.
uint32_t agreed(const Program& program, GuardedFrame& guard, std::span<const std::byte> frame,
                uint32_t length_on_wire) {
  const auto captured = static_cast<uint32_t>(frame.size());
  const uint32_t verdict = run_guarded(program, guard, frame, length_on_wire);
  EXPECT_EQ(verdict, interpret(program, frame.data(), length_on_wire, captured)) << program.dump();
  EXPECT_EQ(verdict, test::libpcap_verdict(program.instructions(), frame.data(), length_on_wire, captured))
      << program.dump();
  return verdict;
}

// As bpf_filter(), but without it where it leaves memory words as they were.
uint32_t agreed_without_libpcap(const Program& program, GuardedFrame& guard, std::span<const std::byte> frame,
                                uint32_t length_on_wire) {
  const uint32_t verdict = run_guarded(program, guard, frame, length_on_wire);
  EXPECT_EQ(verdict, interpret(program, frame.data(), length_on_wire, static_cast<uint32_t>(frame.size())))
      << program.dump();
  return verdict;
}

// All frames of the capture files in tests/data that can be read.
std::vector<Bytes> frames_of_files() {
  std::vector<Bytes> frames;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(RINGCAP_TEST_DATA)) {
    if (entry.path().extension() != ".pcap" && entry.path().extension() != ".pcapng") continue;
    auto reader = pcapfile::Reader::open(entry.path());
    if (!reader) continue;  // some are damaged
    pcapfile::Record record;
    while (reader->next(record) == pcapfile::Reader::Status::kRecord)
      if (record.captured <= 2048) frames.emplace_back(record.data, record.data + record.captured);
  }
  return frames;
}

TEST(FilterCompile, agrees_with_libpcap_on_every_expression_and_every_prefix_of_every_frame) {
  std::mt19937 random(3);
  const std::vector<Bytes> frames = test::frames(random, 1, 10);
  GuardedFrame guard(kRoom);
  for (const std::string& expression : test::expressions())
    for (const bool optimize : {false, true}) {
      const Program program = compiled(compile(expression, optimize));
      for (const Bytes& frame : frames)
        for (size_t captured = 0; captured <= std::min<size_t>(frame.size(), 130); ++captured)
          agreed(program, guard, std::span(frame).first(captured), static_cast<uint32_t>(frame.size()));
      ASSERT_FALSE(testing::Test::HasFailure()) << expression;
    }
}

TEST(FilterCompile, agrees_with_libpcap_on_every_frame_of_the_capture_files) {
  const std::vector<Bytes> frames = frames_of_files();
  ASSERT_GE(frames.size(), 100U);
  GuardedFrame guard(kRoom);
  for (const std::string& expression : test::expressions())
    for (const bool optimize : {false, true}) {
      const Program program = compiled(compile(expression, optimize));
      for (const Bytes& frame : frames) agreed(program, guard, frame, static_cast<uint32_t>(frame.size()));
      ASSERT_FALSE(testing::Test::HasFailure()) << expression;
    }
}

TEST(FilterCompile, agrees_with_libpcap_on_filters_for_other_link_types) {
  std::mt19937 random(4);
  const std::vector<Bytes> frames = test::frames(random, 4, 100);
  const auto others = test::other_link_types();
  ASSERT_GE(others.size(), 80U);
  GuardedFrame guard(kRoom);
  for (const auto& [link_type, expression] : others)
    for (const bool optimize : {false, true}) {
      const Program program = compiled(compile(expression, optimize, link_type));
      for (const Bytes& frame : frames)
        for (const size_t skip : {0, 12, 14})  // so that what follows looks like a header of that type
          if (skip <= frame.size())
            agreed(program, guard, std::span(frame).subspan(skip), static_cast<uint32_t>(frame.size()));
      ASSERT_FALSE(testing::Test::HasFailure()) << link_type << " " << expression;
    }
}

TEST(FilterCompile, agrees_with_the_interpreter_on_random_programs) {
  std::mt19937 random(5);
  const std::vector<Bytes> frames = test::frames(random, 1, 10);
  GuardedFrame guard(kRoom);
  size_t ran = 0;
  for (int n = 0; n < 60000 && !testing::Test::HasFailure(); ++n) {
    const auto instructions = test::random_program(random, 2 + random() % 30, true);
    if (!validate(instructions)) continue;
    ++ran;
    const Program program = compiled(instructions);
    for (int i = 0; i < 4; ++i)
      agreed_without_libpcap(program, guard, frames[random() % frames.size()],
                             static_cast<uint32_t>(random()) % 2000);
  }
  EXPECT_GT(ran, 10000U);
}

// Programs of loads and comparisons alone, as libpcap makes them, but with every shape of jumps.
TEST(FilterCompile, agrees_with_libpcap_on_random_decisions) {
  std::mt19937 random(6);
  const std::vector<Bytes> frames = test::frames(random, 2, 20);
  GuardedFrame guard(kRoom);
  for (int n = 0; n < 20000 && !testing::Test::HasFailure(); ++n) {
    const Program program = compiled(test::random_decisions(random, 4 + random() % 40));
    for (int i = 0; i < 8; ++i) {
      const Bytes& frame = frames[random() % frames.size()];
      agreed(program, guard, std::span(frame).first(random() % (frame.size() + 1)),
             static_cast<uint32_t>(frame.size()));
    }
  }
}

// --- hostile programs ---

// `code k` with A and X loaded, then `ret a`.
uint32_t calculate(uint16_t code, uint32_t a, uint32_t x, uint32_t k) {
  GuardedFrame guard(1);
  const Program program = compiled({{BPF_LD | BPF_IMM, 0, 0, a},
                                    {BPF_LDX | BPF_IMM, 0, 0, x},
                                    {code, 0, 0, k},
                                    {BPF_RET | BPF_A, 0, 0, 0}});
  // bpf_filter() shifts as C does where X is 32 and more, which is undefined there.
  return x >= 32 ? agreed_without_libpcap(program, guard, {}, 60) : agreed(program, guard, {}, 60);
}

TEST(FilterCompile, every_operation_gives_what_the_interpreter_gives) {
  const uint32_t numbers[] = {0,  1,  2,   3,          7,          31,         32,
                              33, 64, 100, 0x7fffffff, 0x80000000, 0xfffffffe, 0xffffffff};
  for (const int op :
       {BPF_ADD, BPF_SUB, BPF_MUL, BPF_DIV, BPF_MOD, BPF_AND, BPF_OR, BPF_XOR, BPF_LSH, BPF_RSH, BPF_NEG})
    for (const uint32_t a : numbers)
      for (const uint32_t other : numbers) {
        if (op != BPF_NEG) calculate(static_cast<uint16_t>(BPF_ALU | op | BPF_X), a, other, 0);
        const bool refused = ((op == BPF_DIV || op == BPF_MOD) && other == 0) ||
                             ((op == BPF_LSH || op == BPF_RSH) && other > 31);
        if (!refused) calculate(static_cast<uint16_t>(BPF_ALU | op | BPF_K), a, 1, other);
      }
}

TEST(FilterCompile, division_by_a_register_that_is_zero_refuses_the_frame) {
  EXPECT_EQ(calculate(BPF_ALU | BPF_DIV | BPF_X, 5, 0, 0), 0U);
  EXPECT_EQ(calculate(BPF_ALU | BPF_MOD | BPF_X, 5, 0, 0), 0U);
  EXPECT_EQ(calculate(BPF_ALU | BPF_DIV | BPF_X, 0xffffffff, 0xffffffff, 0), 1U);
}

TEST(FilterCompile, a_division_whose_result_nobody_wants_still_refuses_the_frame) {
  GuardedFrame guard(1);
  const Program program = compiled(
      {{BPF_ALU | BPF_DIV | BPF_X, 0, 0, 0}, {BPF_LD | BPF_IMM, 0, 0, 7}, {BPF_RET | BPF_A, 0, 0, 0}});
  EXPECT_EQ(agreed(program, guard, {}, 60), 0U);
}

TEST(FilterCompile, shifts_by_a_register_of_32_and_more_give_nothing) {
  EXPECT_EQ(calculate(BPF_ALU | BPF_LSH | BPF_X, 1, 32, 0), 0U);
  EXPECT_EQ(calculate(BPF_ALU | BPF_RSH | BPF_X, 0xffffffff, 33, 0), 0U);
  EXPECT_EQ(calculate(BPF_ALU | BPF_RSH | BPF_X, 0xffffffff, 0xffffffff, 0), 0U);
  EXPECT_EQ(calculate(BPF_ALU | BPF_LSH | BPF_X, 1, 31, 0), 0x80000000U);
}

TEST(FilterCompile, a_division_leaves_the_length_on_the_wire_alone) {
  GuardedFrame guard(1);
  const Program program = compiled({{BPF_LD | BPF_W | BPF_LEN, 0, 0, 0},
                                    {BPF_ALU | BPF_DIV | BPF_K, 0, 0, 7},
                                    {BPF_MISC | BPF_TAX, 0, 0, 0},
                                    {BPF_LD | BPF_W | BPF_LEN, 0, 0, 0},
                                    {BPF_ALU | BPF_MOD | BPF_X, 0, 0, 0},
                                    {BPF_RET | BPF_A, 0, 0, 0}});
  EXPECT_EQ(agreed(program, guard, {}, 1000), 1000U % 142U);
}

TEST(FilterCompile, no_load_reaches_beyond_the_captured_bytes) {
  Bytes frame(70);
  for (size_t i = 0; i < frame.size(); ++i) frame[i] = static_cast<std::byte>(i + 1);
  GuardedFrame guard(frame.size());
  const uint32_t offsets[] = {0,          1,          3,          65,         66,         67,
                              68,         69,         70,         71,         0x7ffffffc, 0x7fffffff,
                              0x80000000, 0xfffffff0, 0xfffffffc, 0xfffffffd, 0xfffffffe, 0xffffffff};
  for (const int size : {BPF_W, BPF_H, BPF_B})
    for (const uint32_t k : offsets)
      for (const uint32_t x : offsets) {
        const auto load = static_cast<uint16_t>(BPF_LD | size | BPF_IND);
        const auto absolute = static_cast<uint16_t>(BPF_LD | size | BPF_ABS);
        agreed(compiled({{BPF_LDX | BPF_IMM, 0, 0, x}, {load, 0, 0, k}, {BPF_RET | BPF_A, 0, 0, 0}}), guard,
               frame, 70);
        agreed(compiled({{BPF_LD | BPF_IMM, 0, 0, x},
                         {BPF_MISC | BPF_TAX, 0, 0, 0},
                         {load, 0, 0, k},
                         {BPF_RET | BPF_K, 0, 0, 1}}),
               guard, frame, 70);
        if (k < 0x80000000)
          agreed(compiled({{absolute, 0, 0, k}, {BPF_RET | BPF_A, 0, 0, 0}}), guard, frame, 70);
      }
}

TEST(FilterCompile, the_header_length_load_takes_any_offset) {
  const Bytes frame(20, std::byte{0x4f});
  GuardedFrame guard(frame.size());
  for (const uint32_t k : {0U, 19U, 20U, 0x7fffffffU, 0x80000000U, 0xffffffffU}) {
    const Program program = compiled(
        {{BPF_LDX | BPF_B | BPF_MSH, 0, 0, k}, {BPF_MISC | BPF_TXA, 0, 0, 0}, {BPF_RET | BPF_A, 0, 0, 0}});
    EXPECT_EQ(agreed(program, guard, frame, 20), k < 20 ? 60U : 0U);
  }
}

TEST(FilterCompile, registers_and_memory_are_zero_at_the_start) {
  GuardedFrame guard(1);
  const auto of = [&](std::vector<Instruction> instructions) {
    instructions.push_back({BPF_RET | BPF_A, 0, 0, 0});
    return agreed_without_libpcap(compiled(instructions), guard, {}, 60);
  };
  EXPECT_EQ(of({}), 0U);
  EXPECT_EQ(of({{BPF_MISC | BPF_TXA, 0, 0, 0}}), 0U);
  for (uint32_t word = 0; word < kMemoryWords; ++word) EXPECT_EQ(of({{BPF_LD | BPF_MEM, 0, 0, word}}), 0U);
}

TEST(FilterCompile, memory_words_keep_their_values) {
  GuardedFrame guard(1);
  std::vector<Instruction> instructions;
  for (uint32_t word = 0; word < kMemoryWords; ++word) {
    instructions.push_back({BPF_LD | BPF_IMM, 0, 0, 1U << word});
    instructions.push_back({BPF_ST, 0, 0, word});
  }
  instructions.push_back({BPF_LD | BPF_IMM, 0, 0, 0});
  for (uint32_t word = 0; word < kMemoryWords; ++word) {
    instructions.push_back({BPF_LDX | BPF_MEM, 0, 0, word});
    instructions.push_back({BPF_ALU | BPF_ADD | BPF_X, 0, 0, 0});
  }
  instructions.push_back({BPF_RET | BPF_A, 0, 0, 0});
  EXPECT_EQ(agreed(compiled(instructions), guard, {}, 60), 0xffffU);
}

TEST(FilterCompile, the_longest_program_compiles_and_runs_to_its_end) {
  GuardedFrame guard(1);
  std::vector<Instruction> program(kMaxInstructions, Instruction{BPF_ALU | BPF_MOD | BPF_X, 0, 0, 0});
  for (size_t i = 0; i < program.size(); i += 2) program[i] = {BPF_LDX | BPF_IMM, 0, 0, 0xffffffff};
  program[0] = {BPF_LD | BPF_IMM, 0, 0, 123};
  program[1] = {BPF_JMP | BPF_JA, 0, 0, 0};
  program.back() = {BPF_RET | BPF_A, 0, 0, 0};
  EXPECT_EQ(agreed(compiled(program), guard, {}, 60), 123U);
}

TEST(FilterCompile, jumps_reach_from_one_end_of_a_program_to_the_other) {
  GuardedFrame guard(1);
  std::vector<Instruction> program(kMaxInstructions, Instruction{BPF_RET | BPF_K, 0, 0, 5});
  program[0] = {BPF_JMP | BPF_JA, 0, 0, kMaxInstructions - 2};
  program.back().k = 9;
  EXPECT_EQ(agreed(compiled(program), guard, {}, 60), 9U);
  for (size_t i = 0; i + 256 < program.size(); ++i) program[i] = {BPF_JMP | BPF_JEQ | BPF_K, 255, 0, 0};
  EXPECT_EQ(agreed(compiled(program), guard, {}, 60), 5U);
}

// --- the longest filters that libpcap makes ---

std::string or_of(const std::string& primitive, int count) {
  std::string text;
  for (int i = 0; i < count; ++i)
    text += (i ? " or " : "") + primitive + " 172." + std::to_string(i % 250) + "." +
            std::to_string(i * 7 % 256) + "." + std::to_string(i % 200 + 1);
  return text;
}

TEST(FilterCompile, any_number_of_hosts_gives_the_same_frames) {
  GuardedFrame guard(128);
  for (const int hosts : {1, 2, 3, 4, 5, 8, 50, 127, 128, 129, 257}) {
    const auto instructions = compile(or_of("host", hosts));
    const Program program = compiled(instructions);
    size_t matched = 0;
    for (int i = 0; i < 300; ++i) {
      const auto byte = [](int value) { return static_cast<uint8_t>(value); };
      const test::Address4 listed{172, byte(i % 250), byte(i * 7 % 256), byte(i % 200 + 1)};
      const Bytes frame = (i % 2 ? test::FrameBuilder().ethernet().ipv4({.source = listed}).udp(1, 2)
                                 : test::FrameBuilder().ethernet().ipv4({.target = listed}).udp(1, 2))
                              .bytes();
      matched += agreed(program, guard, frame, 60) != 0;
    }
    EXPECT_EQ(matched, hosts) << instructions.size() << " instructions";
  }
}

// Without the optimizer: with it, libpcap takes minutes.
TEST(FilterCompile, the_longest_filters_that_libpcap_makes_and_we_allow_run) {
  GuardedFrame guard(128);
  for (const auto& [primitive, count] : {std::pair{"src host", 270}, std::pair{"dst host", 270}}) {
    const auto instructions = compile(or_of(primitive, count), false);
    ASSERT_GT(instructions.size(), 3900U);
    const Program program = compiled(instructions);
    for (int i = 0; i < 500; ++i) {
      const auto byte = [](int value) { return static_cast<uint8_t>(value); };
      const test::Address4 listed{172, byte(i % 250), byte(i * 7 % 256), byte(i % 200 + 1)};
      const Bytes frame =
          test::FrameBuilder().ethernet().ipv4({.source = listed, .target = listed}).udp(1, 2).bytes();
      EXPECT_EQ(agreed(program, guard, frame, 60) != 0, i < count);
    }
  }
}

// --- the program and its code ---

TEST(FilterCompile, copies_share_the_code_and_equal_programs_stay_equal) {
  const auto plain = validate(compile("tcp port 80"));
  const Program program = compiled(compile("tcp port 80"));
  const Program copy = program;
  EXPECT_EQ(copy.entry(), program.entry());
  EXPECT_EQ(*plain, program);
  EXPECT_EQ(plain->entry(), nullptr);
}

TEST(FilterCompile, code_outlives_the_program_that_it_was_made_for) {
  GuardedFrame guard(128);
  auto program = std::make_unique<Program>(compiled(compile("udp")));
  const Program copy = *program;
  program.reset();
  EXPECT_NE(agreed(copy, guard, test::FrameBuilder().ethernet().ipv4().udp(1, 2).bytes(), 60), 0U);
}

TEST(FilterCompile, code_is_as_short_as_its_loads_need) {
  const std::span<const uint8_t> code = compiled(compile("ip")).code()->bytes();
  EXPECT_LT(code.size(), 40U);
}

TEST(FilterCompile, every_mark_lies_in_the_code_and_names_an_instruction) {
  for (const std::string& expression : test::expressions()) {
    const Program program = compiled(compile(expression));
    uint32_t last = 0;
    for (const auto& mark : program.code()->marks()) {
      EXPECT_GE(mark.offset, last);
      EXPECT_LE(mark.offset, program.code()->bytes().size());
      EXPECT_LT(mark.instruction, static_cast<int32_t>(program.cost()));
      last = mark.offset;
    }
  }
}

}  // namespace
}  // namespace ringcap::filter

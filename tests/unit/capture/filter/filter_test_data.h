// What the filter tests share: the expressions of tests/data/filters, libpcap's compiler, frames to run
// programs on, and random programs.
#pragma once

#include <gtest/gtest.h>
#include <pcap/pcap.h>

#include <cstring>
#include <fstream>
#include <random>
#include <string>
#include <vector>

#include "capture/filter/opcodes.h"
#include "capture/filter/program.h"
#include "tests/unit/capture/frame/frame_builder.h"

namespace ringcap::test {

using filter::Instruction;
using Bytes = std::vector<std::byte>;

inline std::vector<std::string> lines_of(const std::string& name) {
  std::ifstream file(RINGCAP_TEST_DATA "/filters/" + name);
  std::vector<std::string> lines;
  for (std::string line; std::getline(file, line);)
    if (!line.empty() && line[0] != '#') lines.push_back(line);
  return lines;
}

// For Ethernet.
inline std::vector<std::string> expressions() { return lines_of("expressions.txt"); }

struct OtherExpression {
  int link_type;  // as libpcap's functions have it (DLT_)
  std::string text;
};
inline std::vector<OtherExpression> other_link_types() {
  std::vector<OtherExpression> all;
  for (const std::string& line : lines_of("link_types.txt"))
    all.push_back({std::stoi(line), line.substr(line.find(' ') + 1)});
  return all;
}

inline const bpf_insn* as_bpf(std::span<const Instruction> program) {
  return reinterpret_cast<const bpf_insn*>(program.data());
}

// By libpcap. Fails the test if the expression is not valid.
inline std::vector<Instruction> compile(const std::string& expression, bool optimize = true,
                                        int link_type = DLT_EN10MB) {
  pcap_t* handle = pcap_open_dead(link_type, 262144);
  bpf_program compiled{};
  std::vector<Instruction> program;
  if (pcap_compile(handle, &compiled, expression.c_str(), optimize, PCAP_NETMASK_UNKNOWN) != 0) {
    ADD_FAILURE() << expression << ": " << pcap_geterr(handle);
  } else {
    program.resize(compiled.bf_len);
    std::memcpy(program.data(), compiled.bf_insns, compiled.bf_len * sizeof(Instruction));
    pcap_freecode(&compiled);
  }
  pcap_close(handle);
  return program;
}

// Every kind of frame that the parser knows, then variants of them with a few bytes changed, cut at
// random, then bytes without sense.
inline std::vector<Bytes> frames(std::mt19937& random, int variants, int noise) {
  std::vector<Bytes> all;
  for (const FrameBuilder& builder : every_kind()) {
    all.push_back(builder.bytes());
    for (int i = 0; i < variants; ++i) {
      Bytes bytes = builder.bytes();
      for (uint32_t j = 0; j < random() % 4; ++j)
        bytes[random() % bytes.size()] = static_cast<std::byte>(random());
      if (random() % 4 == 0) bytes.resize(random() % bytes.size());
      all.push_back(bytes);
    }
  }
  for (int i = 0; i < noise; ++i) {
    Bytes bytes(random() % 130);
    for (std::byte& byte : bytes) byte = static_cast<std::byte>(random());
    all.push_back(bytes);
  }
  return all;
}

// Constants that programs may have use for: memory words, offsets in and beyond a frame, extremes.
inline uint32_t random_constant(std::mt19937& random) {
  switch (random() % 6) {
    case 0:
      return static_cast<uint32_t>(random()) % 16;
    case 1:
      return static_cast<uint32_t>(random()) % 64;
    case 2:
      return static_cast<uint32_t>(random()) % 300;
    case 3:
      return 0 - static_cast<uint32_t>(random()) % 70;
    case 4:
      return 0x7fffffff + static_cast<uint32_t>(random()) % 3;
    default:
      return static_cast<uint32_t>(random());
  }
}

// Known instructions in random order with random operands, `ret` last; hardly any of them valid, unless
// `tame`: then jumps and memory words are in range.
inline std::vector<Instruction> random_program(std::mt19937& random, size_t count, bool tame) {
  static const std::vector<uint16_t> codes = [] {
    std::vector<uint16_t> known;
    for (uint32_t code = 0; code < 0x100; ++code)
      if (filter::find_opcode(static_cast<uint16_t>(code)) != nullptr)
        known.push_back(static_cast<uint16_t>(code));
    return known;
  }();
  std::vector<Instruction> program(count);
  for (size_t i = 0; i < count; ++i) {
    const size_t left = count - 1 - i;
    Instruction& instruction = program[i];
    instruction = {codes[random() % codes.size()], static_cast<uint8_t>(random() % 4),
                   static_cast<uint8_t>(random() % 4), random_constant(random)};
    if (left == 0 || random() % 64 == 0) instruction.code = random() % 2 ? BPF_RET | BPF_A : BPF_RET | BPF_K;
    if (!tame) continue;
    const auto reach = static_cast<uint8_t>(std::min<size_t>(left, 255));
    if (reach != 0) instruction.jt = instruction.jt % reach, instruction.jf = instruction.jf % reach;
    if (instruction.code == (BPF_JMP | BPF_JA)) instruction.k %= reach;
    const filter::Operand operand = filter::find_opcode(instruction.code)->operand;
    if (operand == filter::Operand::kMemory) instruction.k %= filter::kMemoryWords;
    if (operand == filter::Operand::kAbsolute) instruction.k %= 128;
    if (BPF_CLASS(instruction.code) == BPF_ALU && random() % 2) instruction.k = instruction.k % 31 + 1;
  }
  return program;
}

// One of the instructions that libpcap's compiler makes for addresses, ports and flags.
inline Instruction random_decision(std::mt19937& random) {
  const auto pick = [&](std::initializer_list<uint32_t> of) { return *(of.begin() + random() % of.size()); };
  const uint32_t offset = pick({0, 6, 12, 14, 16, 20, 23, 26, 30, 34, 36, 38, 40, 54, 58, 61, 120});
  switch (random() % 8) {
    case 0:
      return {BPF_LD | BPF_W | BPF_ABS, 0, 0, offset};
    case 1:
      return {BPF_LD | BPF_H | BPF_ABS, 0, 0, offset};
    case 2:
      return {BPF_LD | BPF_B | BPF_ABS, 0, 0, offset};
    case 3:
      return {BPF_LDX | BPF_B | BPF_MSH, 0, 0, offset};
    case 4:
      return {static_cast<uint16_t>(BPF_LD | BPF_IND | pick({BPF_W, BPF_H, BPF_B})), 0, 0, offset};
    case 5:
      return {BPF_ALU | BPF_AND | BPF_K, 0, 0, pick({0xf0, 0xff, 0xfff, 0x1fff, 0xff000000, 0xffff0000})};
    case 6:
      return {static_cast<uint16_t>(random() % 2 ? BPF_MISC | BPF_TAX : BPF_MISC | BPF_TXA), 0, 0, 0};
    default:
      return {static_cast<uint16_t>(BPF_ALU | pick({BPF_ADD, BPF_SUB, BPF_RSH, BPF_LSH}) | BPF_K), 0, 0,
              pick({1, 2, 4, 14})};
  }
}

// A valid program of `count` instructions: such ones, and comparisons that jump anywhere forward, many of
// them to the same place, as those of or-ed primitives do.
inline std::vector<Instruction> random_decisions(std::mt19937& random, size_t count) {
  const uint32_t constants[] = {0,          1,          6,      17,         80,         0x0800,
                                0x86dd,     0x8100,     0x0806, 0x0a000001, 0x0a000000, 0xc0a80002,
                                0x20010db8, 0x12345678, 2,      60};
  std::vector<Instruction> program(count);
  uint8_t common = 0;  // distance from the program's end
  for (size_t i = 0; i + 2 < count; ++i) {
    program[i] = random_decision(random);
    if (random() % 2) continue;
    if (random() % 8 == 0) common = static_cast<uint8_t>(random() % 6);
    const size_t left = count - 2 - i;  // instructions behind the next
    const auto far = static_cast<uint8_t>(left - std::min<size_t>(left, common));
    const auto near = static_cast<uint8_t>(random() % 4 ? 0 : random() % (left + 1));
    const uint16_t op = random() % 4 ? BPF_JEQ : random() % 3 ? BPF_JSET : random() % 2 ? BPF_JGT : BPF_JGE;
    program[i] = {static_cast<uint16_t>(BPF_JMP | op | (random() % 16 ? BPF_K : BPF_X)), far, near,
                  constants[random() % std::size(constants)]};
    if (random() % 8 == 0) std::swap(program[i].jt, program[i].jf);
  }
  program[count - 2] = {static_cast<uint16_t>(random() % 4 ? BPF_RET | BPF_K : BPF_RET | BPF_A), 0, 0, 65535};
  program[count - 1] = {BPF_RET | BPF_K, 0, 0, static_cast<uint32_t>(random() % 2)};
  return program;
}

}  // namespace ringcap::test

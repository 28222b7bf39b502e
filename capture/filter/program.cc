#include "capture/filter/program.h"

#include <fmt/format.h>
#include <linux/filter.h>

#include <optional>

#include "capture/filter/opcodes.h"

namespace ringcap::filter {
namespace {

// What is wrong with one instruction, or nothing.
using Complaint = std::optional<std::string>;

bool is_division(uint16_t code) {
  return code == (BPF_ALU | BPF_DIV | BPF_K) || code == (BPF_ALU | BPF_MOD | BPF_K);
}
bool is_constant_shift(uint16_t code) {
  return code == (BPF_ALU | BPF_LSH | BPF_K) || code == (BPF_ALU | BPF_RSH | BPF_K);
}
bool is_negative(uint32_t k) { return static_cast<int32_t>(k) < 0; }

Complaint check_operand(const Opcode& opcode, const Instruction& instruction) {
  const uint32_t k = instruction.k;
  if (opcode.operand == Operand::kMemory && k >= kMemoryWords)
    return fmt::format("there are {} memory words, 0 to {}", kMemoryWords, kMemoryWords - 1);
  if (opcode.operand == Operand::kAbsolute && is_negative(k))
    return "it loads from a negative offset, which is the Linux kernel's ancillary data: a filter here sees "
           "the frame alone, as it was on the wire";
  if (is_division(instruction.code) && k == 0) return "it divides by zero";
  if (is_constant_shift(instruction.code) && k >= 32) return "it shifts by more than 31 bits";
  return {};
}

Complaint check_target(uint64_t target, size_t count) {
  if (target < count) return {};
  return fmt::format("it jumps to instruction {}, behind the last one, {}", target, count - 1);
}

Complaint check_jump(const Instruction& instruction, size_t index, size_t count) {
  if (BPF_CLASS(instruction.code) != BPF_JMP) return {};
  const uint64_t next = index + 1;
  if (instruction.code != (BPF_JMP | BPF_JA)) {
    if (Complaint complaint = check_target(next + instruction.jt, count)) return complaint;
    return check_target(next + instruction.jf, count);
  }
  if (is_negative(instruction.k)) return "it jumps backwards (the filter primitive `protochain` does that)";
  return check_target(next + instruction.k, count);
}

Complaint check(std::span<const Instruction> instructions, size_t index) {
  const Instruction& instruction = instructions[index];
  const Opcode* opcode = find_opcode(instruction.code);
  if (opcode == nullptr) return "there is no such instruction";
  if (Complaint complaint = check_operand(*opcode, instruction)) return complaint;
  if (Complaint complaint = check_jump(instruction, index, instructions.size())) return complaint;
  if (index + 1 == instructions.size() && BPF_CLASS(instruction.code) != BPF_RET)
    return "the program ends with it and not with `ret`";
  return {};
}

}  // namespace

std::string Program::dump() const {
  std::string text;
  for (size_t i = 0; i < instructions_.size(); ++i)
    text += fmt::format("({:03}) {}\n", i, describe(instructions_[i], i));
  return text;
}

Result<Program> validate(std::span<const Instruction> instructions) {
  if (instructions.empty()) return fail(Code::kFilter, "the filter program is empty");
  if (instructions.size() > kMaxInstructions)
    return fail(Code::kFilter,
                fmt::format("the filter program has {} instructions; at most {} are allowed",
                            instructions.size(), kMaxInstructions),
                "use a shorter filter, or several consumers with one each");
  for (size_t i = 0; i < instructions.size(); ++i)
    if (Complaint complaint = check(instructions, i))
      return fail(Code::kFilter, fmt::format("the filter program's instruction {} ({}) is not valid: {}", i,
                                             describe(instructions[i], i), *complaint));
  return Program(instructions);
}

}  // namespace ringcap::filter

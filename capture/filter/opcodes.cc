#include "capture/filter/opcodes.h"

#include <fmt/format.h>
#include <linux/filter.h>

#include <algorithm>
#include <iterator>

namespace ringcap::filter {
namespace {

constexpr Opcode kOpcodes[] = {
    {BPF_RET | BPF_K, "ret", Operand::kNumber},
    {BPF_RET | BPF_A, "ret", Operand::kNone},

    {BPF_LD | BPF_W | BPF_ABS, "ld", Operand::kAbsolute},
    {BPF_LD | BPF_H | BPF_ABS, "ldh", Operand::kAbsolute},
    {BPF_LD | BPF_B | BPF_ABS, "ldb", Operand::kAbsolute},
    {BPF_LD | BPF_W | BPF_IND, "ld", Operand::kIndirect},
    {BPF_LD | BPF_H | BPF_IND, "ldh", Operand::kIndirect},
    {BPF_LD | BPF_B | BPF_IND, "ldb", Operand::kIndirect},
    {BPF_LD | BPF_W | BPF_LEN, "ld", Operand::kLength},
    {BPF_LD | BPF_IMM, "ld", Operand::kHex},
    {BPF_LD | BPF_MEM, "ld", Operand::kMemory},

    {BPF_LDX | BPF_B | BPF_MSH, "ldxb", Operand::kHeader},
    {BPF_LDX | BPF_W | BPF_LEN, "ldx", Operand::kLength},
    {BPF_LDX | BPF_IMM, "ldx", Operand::kHex},
    {BPF_LDX | BPF_MEM, "ldx", Operand::kMemory},

    {BPF_ST, "st", Operand::kMemory},
    {BPF_STX, "stx", Operand::kMemory},

    {BPF_ALU | BPF_ADD | BPF_K, "add", Operand::kNumber},
    {BPF_ALU | BPF_SUB | BPF_K, "sub", Operand::kNumber},
    {BPF_ALU | BPF_MUL | BPF_K, "mul", Operand::kNumber},
    {BPF_ALU | BPF_DIV | BPF_K, "div", Operand::kNumber},
    {BPF_ALU | BPF_MOD | BPF_K, "mod", Operand::kNumber},
    {BPF_ALU | BPF_AND | BPF_K, "and", Operand::kHex},
    {BPF_ALU | BPF_OR | BPF_K, "or", Operand::kHex},
    {BPF_ALU | BPF_XOR | BPF_K, "xor", Operand::kHex},
    {BPF_ALU | BPF_LSH | BPF_K, "lsh", Operand::kNumber},
    {BPF_ALU | BPF_RSH | BPF_K, "rsh", Operand::kNumber},
    {BPF_ALU | BPF_ADD | BPF_X, "add", Operand::kX},
    {BPF_ALU | BPF_SUB | BPF_X, "sub", Operand::kX},
    {BPF_ALU | BPF_MUL | BPF_X, "mul", Operand::kX},
    {BPF_ALU | BPF_DIV | BPF_X, "div", Operand::kX},
    {BPF_ALU | BPF_MOD | BPF_X, "mod", Operand::kX},
    {BPF_ALU | BPF_AND | BPF_X, "and", Operand::kX},
    {BPF_ALU | BPF_OR | BPF_X, "or", Operand::kX},
    {BPF_ALU | BPF_XOR | BPF_X, "xor", Operand::kX},
    {BPF_ALU | BPF_LSH | BPF_X, "lsh", Operand::kX},
    {BPF_ALU | BPF_RSH | BPF_X, "rsh", Operand::kX},
    {BPF_ALU | BPF_NEG, "neg", Operand::kNone},

    {BPF_JMP | BPF_JA, "ja", Operand::kTarget},
    {BPF_JMP | BPF_JEQ | BPF_K, "jeq", Operand::kHex},
    {BPF_JMP | BPF_JGT | BPF_K, "jgt", Operand::kHex},
    {BPF_JMP | BPF_JGE | BPF_K, "jge", Operand::kHex},
    {BPF_JMP | BPF_JSET | BPF_K, "jset", Operand::kHex},
    {BPF_JMP | BPF_JEQ | BPF_X, "jeq", Operand::kX},
    {BPF_JMP | BPF_JGT | BPF_X, "jgt", Operand::kX},
    {BPF_JMP | BPF_JGE | BPF_X, "jge", Operand::kX},
    {BPF_JMP | BPF_JSET | BPF_X, "jset", Operand::kX},

    {BPF_MISC | BPF_TAX, "tax", Operand::kNone},
    {BPF_MISC | BPF_TXA, "txa", Operand::kNone},
};

std::string operand_text(Operand operand, uint32_t k, size_t index) {
  const auto number = static_cast<int32_t>(k);  // tcpdump prints offsets and constants signed
  switch (operand) {
    case Operand::kNone:
      return "";
    case Operand::kNumber:
      return fmt::format("#{}", number);
    case Operand::kHex:
      return fmt::format("#{:#x}", k);
    case Operand::kAbsolute:
      return fmt::format("[{}]", number);
    case Operand::kIndirect:
      return fmt::format("[x + {}]", number);
    case Operand::kHeader:
      return fmt::format("4*([{}]&0xf)", number);
    case Operand::kMemory:
      return fmt::format("M[{}]", number);
    case Operand::kLength:
      return "#pktlen";
    case Operand::kX:
      return "x";
    case Operand::kTarget:
      return fmt::format("{}", static_cast<int32_t>(static_cast<uint32_t>(index) + 1 + k));
  }
  return "";
}

}  // namespace

const Opcode* find_opcode(uint16_t code) {
  const auto* found = std::ranges::find(kOpcodes, code, &Opcode::code);
  return found == std::end(kOpcodes) ? nullptr : found;
}

std::string describe(const Instruction& instruction, size_t index) {
  const Opcode* opcode = find_opcode(instruction.code);
  if (opcode == nullptr) return fmt::format("unknown  {:#x}", instruction.code);
  const std::string operand = operand_text(opcode->operand, instruction.k, index);
  if (operand.empty()) return opcode->name;
  const bool two_ways = BPF_CLASS(instruction.code) == BPF_JMP && opcode->operand != Operand::kTarget;
  if (!two_ways) return fmt::format("{:<8} {}", opcode->name, operand);
  return fmt::format("{:<8} {:<16} jt {}\tjf {}", opcode->name, operand, index + 1 + instruction.jt,
                     index + 1 + instruction.jf);
}

}  // namespace ringcap::filter

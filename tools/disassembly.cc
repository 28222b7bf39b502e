#include "tools/disassembly.h"

#include <Zydis/Zydis.h>
#include <fmt/format.h>

#include <algorithm>

#include "capture/filter/machine_code.h"
#include "capture/filter/opcodes.h"

namespace ringcap::tools {
namespace {

using filter::MachineCode;

std::string title(const filter::Program& program, const MachineCode::Mark& mark) {
  if (mark.instruction == MachineCode::kEntry || mark.instruction == MachineCode::kTable) return "";
  if (mark.instruction == MachineCode::kReturn) return "; verdicts\n";
  const auto index = static_cast<size_t>(mark.instruction);
  return fmt::format("; ({:03}) {}\n", index, filter::describe(program.instructions()[index], index));
}

// One instruction at `offset`; moves it behind it.
std::string instruction_at(std::span<const uint8_t> bytes, size_t& offset) {
  ZydisDisassembledInstruction instruction;
  if (!ZYAN_SUCCESS(ZydisDisassembleIntel(ZYDIS_MACHINE_MODE_LONG_64, offset, bytes.data() + offset,
                                          bytes.size() - offset, &instruction)))
    return fmt::format("{:06x}  db 0x{:02x}\n", offset, bytes[offset++]);
  const size_t at = offset;
  offset += instruction.info.length;
  return fmt::format("{:06x}  {}\n", at, instruction.text);
}

std::string tables(const MachineCode& code, size_t offset) {
  const size_t bytes = code.bytes().size() - offset;
  return bytes == 0 ? "" : fmt::format("; {} bytes of constants\n", bytes);
}

}  // namespace

std::string disassemble(const filter::Program& program) {
  const MachineCode& code = *program.code();
  const auto& marks = code.marks();
  std::string text;
  size_t offset = 0;
  for (size_t i = 0; i < marks.size(); ++i) {
    if (marks[i].instruction == MachineCode::kTable) return text + tables(code, marks[i].offset);
    text += title(program, marks[i]);
    const size_t end = i + 1 < marks.size() ? marks[i + 1].offset : code.bytes().size();
    while (offset < end) text += instruction_at(code.bytes(), offset);
  }
  return text;
}

}  // namespace ringcap::tools

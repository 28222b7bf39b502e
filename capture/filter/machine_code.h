// Machine code of a filter, in memory of its own: written while it cannot be executed, then executable
// and never writable again. Made by Program::compile(), in the control thread; run by workers. A process
// that may not make memory executable (a service with MemoryDenyWriteExecute, SELinux without execmem)
// gets an error and no code.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "capture/base/error.h"
#include "capture/base/mapping.h"
#include "capture/filter/program.h"

namespace ringcap::filter {

class MachineCode {
 public:
  // Where something begins in the code, in bytes from its start.
  struct Mark {
    uint32_t offset;
    int32_t instruction;  // of the program; negative: one of the below
  };
  static constexpr int32_t kEntry = -1;   // what comes before the first instruction
  static constexpr int32_t kReturn = -2;  // the shared ends
  static constexpr int32_t kTable = -3;   // constants; no code from here on

  // Copies `bytes`, which must not depend on where they stand, into executable memory.
  static Result<std::shared_ptr<const MachineCode>> make(std::span<const uint8_t> bytes,
                                                         std::vector<Mark> marks);

  Entry entry() const;
  std::span<const uint8_t> bytes() const;
  // In the order of their offsets. Instructions that need no code of their own have none.
  const std::vector<Mark>& marks() const { return marks_; }

 private:
  MachineCode(Mapping memory, size_t size, std::vector<Mark> marks)
      : memory_(std::move(memory)), size_(size), marks_(std::move(marks)) {}

  Mapping memory_;
  size_t size_;
  std::vector<Mark> marks_;
};

// Machine code for a validated program, for this processor.
Result<std::shared_ptr<const MachineCode>> make_code(std::span<const Instruction> program);

// compile(); where that is refused, `say` gets one line about it, the first time in this process only.
void compile_or_say(Program& program, void (*say)(const std::string& text));

}  // namespace ringcap::filter

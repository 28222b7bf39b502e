// A compiled filter as a person reads it: assembler, under the filter's own instructions. Main thread.
#pragma once

#include <string>

#include "capture/filter/program.h"

namespace ringcap::tools {

// A line per instruction of the processor (offset, then Intel's syntax), and before them, as a comment, the
// line of `tcpdump -d` that they stand for. The program has been compiled.
std::string disassemble(const filter::Program& program);

}  // namespace ringcap::tools

// Flow: what the compiler has to know of a program before it writes code: its blocks, in the order of
// the program (jumps only go forward, so that a block comes after all that lead to it), how long a frame
// must be at each, and which values are still wanted. Compiler only, no state of its own.
//
// Lengths. A load beyond the frame's end refuses the frame, and nothing but the verdict leaves a program.
// So a frame may be refused at once where every way onward would refuse it later: `need` of a point is
// the least length with which any way from there can still accept. A check of it where a block begins
// (`cmp`, `jb`) stands for those of all loads that follow; what has been checked on all ways to a block
// (`known`) is not checked again. The same for loads relative to X, by the length behind X.
//
// Byte order. A value that is only compared with constants is left as the frame has it, and the constants
// are swapped instead: `wire`.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "capture/filter/program.h"

namespace ringcap::filter {

// Lengths that a frame must have: in all, and behind the place that X says.
struct Need {
  static constexpr uint64_t kNever = ~uint64_t{0};  // refused whatever its length
  uint64_t total = 0;
  uint64_t behind_x = 0;
};

// How A lies in its register: as a number, or as loaded from the frame.
enum class Form : uint8_t { kNumber, kWireHalf, kWireWord };

// The registers and memory words, as bits of a set.
using Values = uint32_t;
inline constexpr Values kA = 1U << kMemoryWords;
inline constexpr Values kX = 2U << kMemoryWords;
constexpr Values memory_word(uint32_t index) { return Values{1} << index; }

struct Block {
  uint32_t first = 0;  // instructions
  uint32_t last = 0;   // the jump or `ret` at its end, or the one before the next block
  uint32_t yes = 0;    // blocks that follow; the same for a block without a choice, no meaning after `ret`
  uint32_t no = 0;
  uint32_t ways_in = 0;  // edges that lead to it; 0: unreachable
  Need known;            // checked on every way to it
  Values wanted = 0;     // of what it is entered with
  Form form = Form::kNumber;
  bool number_wanted = false;  // it is entered from loads of different kinds
};

struct Flow {
  std::vector<Block> blocks;
  // By instruction:
  std::vector<Need> need;          // before it
  std::vector<Values> wanted;      // after it
  std::vector<Form> form;          // A after it
  std::vector<uint32_t> block_of;  // the block that begins there

  bool refuses(const Block& block) const { return need[block.first].total == Need::kNever; }
};

// Of a validated program.
Flow make_flow(std::span<const Instruction> program);

// What an instruction reads and writes.
Values reads(const Instruction& instruction);
Values writes(const Instruction& instruction);
// Nobody wants what it writes (the set `wanted` after it), and it cannot end the program: leave it out. A
// load can end the program, but `need` has seen to that.
bool idle(const Instruction& instruction, Values wanted);
bool returns(const Instruction& instruction);
bool jumps(const Instruction& instruction);
// Of a load from the frame: 1, 2 or 4; else 0.
uint32_t load_bytes(const Instruction& instruction);
// How many bytes are sure to be there behind X after an instruction that writes X, in a frame of `total`.
uint64_t known_behind_x(const Instruction& instruction, uint64_t total);

}  // namespace ringcap::filter

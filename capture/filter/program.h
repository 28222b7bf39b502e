// Filters: classic BPF programs, as libpcap's compiler makes them from a filter expression. They arrive
// from other processes, so a Program exists only after validate(). Lower half: the control thread (and
// the client library) validates and compiles, workers run. Once others can see it a Program does not
// change; any number of threads may run one.
//
// The language is libpcap's: the instructions of <pcap/bpf.h>, over the frame as it was on the wire
// (VLAN tags in the frame). The Linux kernel's additions, loads at negative offsets that read what the
// kernel knows beside the frame, do not exist here.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "capture/base/error.h"

namespace ringcap::filter {

// One instruction: the same bytes as libpcap's struct bpf_insn and the kernel's struct sock_filter.
struct Instruction {
  uint16_t code;
  uint8_t jt;
  uint8_t jf;
  uint32_t k;

  bool operator==(const Instruction&) const = default;
};
static_assert(sizeof(Instruction) == 8);

inline constexpr size_t kMaxInstructions = 4096;
inline constexpr uint32_t kMemoryWords = 16;

class MachineCode;

// What machine code for a program looks like from outside; lengths as run() has them.
using Entry = uint32_t (*)(const std::byte* frame, uint64_t captured, uint64_t length_on_wire);

// A validated program. Moves and copies freely (copies share the machine code); equal programs compare
// equal, compiled or not.
class Program {
 public:
  std::span<const Instruction> instructions() const { return instructions_; }
  // The most instructions that one run can execute. Jumps only go forward, so each runs at most once.
  uint32_t cost() const { return static_cast<uint32_t>(instructions_.size()); }
  // The listing that `tcpdump -d` prints, a line per instruction.
  std::string dump() const;

  // Makes machine code for it, which run() takes from then on: before other threads see the program.
  // Microseconds to a few milliseconds. kSystem where there can be none, and run() interprets: on other
  // processors than x86-64, and where the system refuses executable memory. Again: nothing happens.
  Result<void> compile();
  // nullptr before compile(), and where it failed.
  Entry entry() const { return entry_; }
  const MachineCode* code() const { return code_.get(); }

  bool operator==(const Program& other) const { return instructions_ == other.instructions_; }

 private:
  friend Result<Program> validate(std::span<const Instruction>);
  explicit Program(std::span<const Instruction> instructions)
      : instructions_(instructions.begin(), instructions.end()) {}

  std::vector<Instruction> instructions_;
  std::shared_ptr<const MachineCode> code_;
  Entry entry_ = nullptr;  // of code_
};

// A Program, or Code::kFilter with the index of the first bad instruction and what is wrong with it.
// Refused is everything that libpcap's bpf_validate() refuses, and besides:
//   - more than kMaxInstructions instructions
//   - jumps backwards, which libpcap makes for `ip protochain` and `ip6 protochain` alone
//   - opcodes that bpf_validate() lets through and bpf_filter() does not know
//   - absolute loads at negative offsets (the kernel's ancillary data), which match nothing in libpcap
//   - shifts by a constant of 32 and more, which are undefined
Result<Program> validate(std::span<const Instruction> instructions);

// What the program says of a frame: 0 to refuse it, else how many bytes of it are wanted. The same as
// libpcap's bpf_filter() for every program and frame: a load beyond `captured` and a division by zero
// refuse the frame. Memory words are zero at the start.
//   frame            `captured` readable bytes
//   length_on_wire   what the program's `len` yields
uint32_t interpret(const Program& program, const std::byte* frame, uint32_t length_on_wire,
                   uint32_t captured);

// The same, in machine code where the program has been compiled.
inline uint32_t run(const Program& program, const std::byte* frame, uint32_t length_on_wire,
                    uint32_t captured) {
  const Entry entry = program.entry();
  if (entry != nullptr) return entry(frame, captured, length_on_wire);
  return interpret(program, frame, length_on_wire, captured);
}

}  // namespace ringcap::filter

// The instructions of classic BPF, in one table: what the validator accepts and how the listing prints
// it. Used inside capture/filter only. Source: <pcap/bpf.h>, whose names <linux/filter.h> shares.
#pragma once

#include <cstdint>

#include "capture/filter/program.h"

namespace ringcap::filter {

// How an instruction's operand is written.
enum class Operand : uint8_t {
  kNone,      // ret, tax, txa, neg (without one)
  kNumber,    // #12
  kHex,       // #0x800
  kAbsolute,  // [12]
  kIndirect,  // [x + 14]
  kHeader,    // 4*([14]&0xf)
  kMemory,    // M[3]
  kLength,    // #pktlen
  kX,         // x
  kTarget,    // 17: where `ja` goes
};

struct Opcode {
  uint16_t code;
  const char* name;
  Operand operand;
};

// The opcode's entry; nullptr for what is no instruction.
const Opcode* find_opcode(uint16_t code);

// The instruction as the listing prints it: "jeq      #0x800           jt 2\tjf 5". `index`: its own.
std::string describe(const Instruction& instruction, size_t index);

}  // namespace ringcap::filter

// The BPF validator and interpreter on any program and frame. What we accept, libpcap accepts, and both
// interpreters say the same. Input: one byte n, n instructions of 8 bytes, 2 bytes of length on the wire,
// then the frame.
#include <pcap/pcap.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <vector>

#include "capture/filter/program.h"

namespace {

using ringcap::filter::Instruction;

void require(bool condition) {
  if (!condition) std::abort();
}

// libpcap 1.10 does not clear the memory words at the start, we do: programs here begin by clearing them.
std::vector<Instruction> clear_memory() {
  std::vector<Instruction> program;
  for (uint32_t word = 0; word < ringcap::filter::kMemoryWords; ++word)
    program.push_back({BPF_ST, 0, 0, word});
  return program;
}

void compare(const std::vector<Instruction>& program, const uint8_t* data, size_t size) {
  const auto valid = ringcap::filter::validate(program);
  const auto* theirs = reinterpret_cast<const bpf_insn*>(program.data());
  if (!valid) {
    require(!valid.error().text.empty());
    return;
  }
  require(bpf_validate(theirs, static_cast<int>(program.size())) != 0);
  require(!valid->dump().empty());
  uint16_t length_on_wire = 0;
  if (size < sizeof length_on_wire) return;
  std::memcpy(&length_on_wire, data, sizeof length_on_wire);
  const size_t captured = size - sizeof length_on_wire;
  // A copy of its own, so that the sanitizer sees the first byte read too many.
  const std::unique_ptr<std::byte[]> frame(new std::byte[captured]);
  std::memcpy(frame.get(), data + sizeof length_on_wire, captured);
  require(ringcap::filter::run(*valid, frame.get(), length_on_wire, static_cast<uint32_t>(captured)) ==
          bpf_filter(theirs, reinterpret_cast<const u_char*>(frame.get()), length_on_wire,
                     static_cast<u_int>(captured)));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0 || size > 65536) return 0;
  const size_t count = std::min<size_t>(data[0], (size - 1) / sizeof(Instruction));
  std::vector<Instruction> program = clear_memory();
  for (size_t i = 0; i < count; ++i) {
    Instruction instruction;
    std::memcpy(&instruction, data + 1 + i * sizeof instruction, sizeof instruction);
    program.push_back(instruction);
  }
  const size_t used = 1 + count * sizeof(Instruction);
  compare(program, data + used, size - used);
  return 0;
}

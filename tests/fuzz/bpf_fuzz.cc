// The BPF validator, compiler and interpreter on any program and frame. What we accept, libpcap accepts, and
// the compiled program and both interpreters say the same. Input: one byte n, n instructions of 8 bytes, 2
// bytes of length on the wire, then the frame.
#include <pcap/pcap.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <span>
#include <vector>

#include "capture/filter/program.h"
#include "tests/unit/capture/filter/guarded_frame.h"
#include "tests/unit/capture/filter/libpcap_verdict.h"

namespace {

using ringcap::filter::Instruction;

void require(bool condition) {
  if (!condition) std::abort();
}

// libpcap 1.10 does not clear the memory words at the start, we do: programs here begin by clearing them.
std::vector<Instruction> clear_memory() {
  std::vector<Instruction> program;
  program.reserve(ringcap::filter::kMemoryWords);
  for (uint32_t word = 0; word < ringcap::filter::kMemoryWords; ++word)
    program.push_back({BPF_ST, 0, 0, word});
  return program;
}

// As the compiled program says, which sees frames with nothing readable before and behind them.
uint32_t run_compiled(const ringcap::filter::Program& program, std::span<const std::byte> frame,
                      uint32_t length_on_wire) {
  static ringcap::test::GuardedFrame guard(1 << 16);
  const auto captured = static_cast<uint32_t>(frame.size());
  const uint32_t verdict =
      ringcap::filter::run(program, guard.before_the_end(frame), length_on_wire, captured);
  require(ringcap::filter::run(program, guard.at_the_start(frame), length_on_wire, captured) == verdict);
  return verdict;
}

void compare(const std::vector<Instruction>& program, bool clears_memory, std::span<const uint8_t> data) {
  auto valid = ringcap::filter::validate(program);
  const auto* theirs = reinterpret_cast<const bpf_insn*>(program.data());
  if (!valid) {
    require(!valid.error().text.empty());
    return;
  }
  require(bpf_validate(theirs, static_cast<int>(program.size())) != 0);
  require(!valid->dump().empty());
  uint16_t length_on_wire = 0;
  if (data.size() < sizeof length_on_wire) return;
  std::memcpy(&length_on_wire, data.data(), sizeof length_on_wire);
  // A copy of its own, so that the sanitizer sees the first byte read too many.
  const std::vector<uint8_t> copy(data.begin() + sizeof length_on_wire, data.end());
  const auto frame = std::as_bytes(std::span(copy));
  const auto captured = static_cast<uint32_t>(frame.size());
  const uint32_t verdict = ringcap::filter::interpret(*valid, frame.data(), length_on_wire, captured);
  if (clears_memory)
    require(verdict == ringcap::test::libpcap_verdict(program, copy.data(), length_on_wire, captured));
  if (valid->compile()) require(run_compiled(*valid, frame, length_on_wire) == verdict);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0 || size > 65536) return 0;
  const size_t count = std::min<size_t>(data[0], (size - 1) / sizeof(Instruction));
  std::vector<Instruction> program(count);
  if (count != 0) std::memcpy(program.data(), data + 1, count * sizeof(Instruction));
  const std::span frame(data + 1 + count * sizeof(Instruction), data + size);
  compare(program, false, frame);
  const std::vector<Instruction> clearing = clear_memory();
  program.insert(program.begin(), clearing.begin(), clearing.end());
  compare(program, true, frame);
  return 0;
}

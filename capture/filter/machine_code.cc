#include "capture/filter/machine_code.h"

#include <fmt/format.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <cstring>

namespace ringcap::filter {
namespace {

constexpr const char* kMend = "filters are interpreted instead, which takes several times as long a frame";

// Clang's sanitizer of function calls looks for a signature right before a function: there is a page there.
constexpr size_t kBytesBefore = 64;

// Private memory, writable and not executable.
Result<Mapping> writable(size_t bytes) {
  void* data = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (data == MAP_FAILED) return fail_system(fmt::format("cannot get {} bytes for a filter's code", bytes));
  return Mapping::adopt(data, bytes);
}

}  // namespace

Result<std::shared_ptr<const MachineCode>> MachineCode::make(std::span<const uint8_t> bytes,
                                                             std::vector<Mark> marks) {
  const auto page = static_cast<size_t>(::sysconf(_SC_PAGESIZE));
  auto memory = writable((kBytesBefore + bytes.size() + page - 1) / page * page);
  if (!memory) return std::unexpected(memory.error());
  std::memset(memory->data(), 0xcc, memory->bytes());  // int3: nothing to run around the code
  std::memcpy(memory->data() + kBytesBefore, bytes.data(), bytes.size());
  if (::mprotect(memory->data(), memory->bytes(), PROT_READ | PROT_EXEC) != 0)
    return fail_system("this system refuses executable memory for compiled filters", errno, kMend);
  return std::shared_ptr<const MachineCode>(
      new MachineCode(std::move(*memory), bytes.size(), std::move(marks)));
}

Entry MachineCode::entry() const { return reinterpret_cast<Entry>(memory_.data() + kBytesBefore); }

std::span<const uint8_t> MachineCode::bytes() const {
  return {reinterpret_cast<const uint8_t*>(memory_.data() + kBytesBefore), size_};
}

Result<void> Program::compile() {
  if (code_ != nullptr) return {};
  auto code = make_code(instructions_);
  if (!code) return std::unexpected(code.error());
  code_ = std::move(*code);
  entry_ = code_->entry();
  return {};
}

void compile_or_say(Program& program, void (*say)(const std::string& text)) {
  static std::atomic_flag said;
  auto compiled = program.compile();
  if (!compiled && !said.test_and_set(std::memory_order_relaxed)) say(compiled.error().message());
}

#ifndef __x86_64__
Result<std::shared_ptr<const MachineCode>> make_code(std::span<const Instruction>) {
  return fail(Code::kSystem, "filters are compiled for x86-64 only", kMend);
}
#endif

}  // namespace ringcap::filter

// The self-test of a NIC, behind `ringcap selftest`: what its driver relies on, tried one by one, with
// nothing going out on the wire. For whoever has a NIC that we do not.
//
// One thread, which has the NIC to itself, with all privileges. The port is opened anew for each part, as an
// engine would open it, and closed after it; whatever ends the test, the NIC is left reset.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "capture/base/error.h"
#include "driver/pci/function.h"

namespace ringcap::selftest {

enum class Outcome { kPassed, kFailed, kNotPossible };

struct Check {
  std::string id;  // "reset", "registers", "loopback", "patterns", "jumbo", "arena", "counters",
                   // "queues", "interrupts", "link": never changes its meaning
  Outcome outcome = Outcome::kPassed;
  std::string text;  // what was tried, and what came of it
};

struct Settings {
  // Opens the function; nobody else has it. Called for each part.
  std::function<Result<std::unique_ptr<pci::Function>>()> open;
  // Populated, page-aligned. At least kLeastArena, or some parts cannot be done.
  std::byte* arena = nullptr;
  uint64_t arena_bytes = 0;
  uint32_t link_wait_ms = 5'000;
  // Asked often: true ends the test.
  std::function<bool()> stopped = [] { return false; };
  // Each check as it is done.
  std::function<void(const Check&)> tell = [](const Check&) {};
};
inline constexpr uint64_t kLeastArena = uint64_t{4} << 20;

struct Report {
  std::vector<Check> checks;  // in order; fewer if it was stopped
  std::string mac;            // the NIC's own address, "00:1b:21:00:00:01"; "" where it was not found
};

// An error: it could not begin, as the NIC cannot be opened.
Result<Report> run(const Settings& settings);

}  // namespace ringcap::selftest

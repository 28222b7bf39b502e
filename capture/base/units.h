// The one parser of numbers with a unit: options, port addresses, configuration files. Any thread.
//
//   counts and rates   k, M, G = 1000, its square, its cube: "10k", "1.5M"
//   bytes              K, M, G = 1024, its square, its cube: "256M"; k is taken as K
//   durations          us, ms, s: "250us", "1.5s"; a bare number is what the caller says
//
// A fraction is allowed where the result is a whole number. Error (kUsage) names the text and the units.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "capture/base/error.h"

namespace ringcap {

Result<uint64_t> parse_count(std::string_view text);
Result<uint64_t> parse_bytes(std::string_view text);
// In nanoseconds. `bare_ns`: what a number without a unit counts; 0: a unit must be given (but for "0").
Result<uint64_t> parse_duration_ns(std::string_view text, uint64_t bare_ns = 1'000'000'000);

// "256 MiB", "1.5 GiB", "640 KiB", "17 bytes": for people.
std::string format_bytes(uint64_t bytes);

}  // namespace ringcap

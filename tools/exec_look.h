// How the kernel would start a program, looked at without running it: a child becomes the program, traced,
// and is killed before its first instruction. Called by `ringcap run` alone, which has one thread.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace ringcap::tools {

struct StartedAs {
  bool secure = false;  // AT_SECURE: the dynamic linker will not look at LD_LIBRARY_PATH and LD_PRELOAD
  std::string label;    // what /proc/PID/attr/current says: "tcpdump (enforce)", "unconfined"; "": nothing
};
// Nothing: it cannot be told (no tracing here, or a program that may not be read).
std::optional<StartedAs> look_at_start(const std::string& file);

// The AppArmor profile that a label names, where it is enforced; "": none is.
std::string enforced_profile(const std::string& label);

// What a profile lets a program do with a file, as AppArmor's own masks have it
// (security/apparmor/include/file.h).
inline constexpr uint32_t kMayWrite = 0x2, kMayRead = 0x4, kMayLock = 0x8000, kMayMapCode = 0x10000;
// Asks the kernel. Nothing: it does not say (securityfs is not mounted, or no such profile).
std::optional<bool> profile_allows(const std::string& profile, const std::string& path, uint32_t mask);
// What the kernel answers there: "allow 0x...\ndeny 0x...\n" and more. Nothing: it is no such answer.
std::optional<uint32_t> allowed_mask(const std::string& answer);

}  // namespace ringcap::tools

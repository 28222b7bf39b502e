// Which devices are ours: "ringcap:CONSUMED", and those that RINGCAP_PCAP_MAP gives to us. Any thread.
#pragma once

#include <optional>
#include <string>

namespace ringcap::shim {

inline constexpr char kDevicePrefix[] = "ringcap:";

// What a device's name stands for: CONSUMED (NAME[@CLUSTER[/MEMBER]], not checked), or nothing where it is
// not ours. RINGCAP_PCAP_MAP=eth0=ringcap:eth0[,FROM=TO...] is read each time (by secure_getenv).
std::optional<std::string> consumed_by(const char* device);
// The name begins with the prefix: it is no device of the system's.
bool is_own_name(const char* device);

}  // namespace ringcap::shim

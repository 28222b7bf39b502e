// Where the real libpcap is. Called once, when it is first needed.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace ringcap::shim {

// Absolute paths of files that may be libpcap, the best first: RINGCAP_PCAP_REAL alone where it is set; else
// what the dynamic linker's cache names, then the usual directories (where the system's name was diverted
// to the shim, libpcap still has its full version's name).
std::vector<std::string> real_candidates();

// A library, and not this shim (any copy of it).
bool is_real(const std::string& path);

// The paths that a cache file of glibc's dynamic linker (/etc/ld.so.cache) has for a library's name. Bytes
// that are no cache: none.
std::vector<std::string> cached_paths(std::string_view cache, std::string_view name);

}  // namespace ringcap::shim

// Where the real libpcap is. Called once, when it is first needed.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace ringcap::shim {

// Absolute paths of files that may be libpcap, the best first: RINGCAP_PCAP_REAL alone where it is set; else
// what the dynamic linker's cache names.
std::vector<std::string> known_candidates();
// Where that has none: those of the usual directories. Apart, since a profile of AppArmor's that lets a
// program load libraries need not let it list their directories.
std::vector<std::string> other_candidates();

// A library, and not this shim (any copy of it).
bool is_real(const std::string& path);

// The paths that a cache file of glibc's dynamic linker (/etc/ld.so.cache) has for a library's name. Bytes
// that are no cache: none.
std::vector<std::string> cached_paths(std::string_view cache, std::string_view name);

}  // namespace ringcap::shim

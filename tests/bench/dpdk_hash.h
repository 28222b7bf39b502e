// DPDK's hashes over addresses, ports and protocol of Ethernet/IPv4/TCP or UDP frames, after the checks that
// it takes to know that they are such. For hash_bench.cc, where libdpdk-dev is installed.
#pragma once

#include <cstddef>
#include <cstdint>

namespace ringcap::bench {

// 0 for other frames. Each frame is at least 64 bytes.
using PeerHash = void (*)(const std::byte* const* frames, size_t count, uint32_t* hashes);

void dpdk_crc32c(const std::byte* const* frames, size_t count, uint32_t* hashes);
// Needs GFNI and AVX-512 VBMI.
void dpdk_toeplitz(const std::byte* const* frames, size_t count, uint32_t* hashes);
bool dpdk_has_toeplitz();

}  // namespace ringcap::bench

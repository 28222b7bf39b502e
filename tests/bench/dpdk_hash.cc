#include "tests/bench/dpdk_hash.h"

#include <rte_hash_crc.h>
#include <rte_thash.h>

#include <array>
#include <cstring>

namespace ringcap::bench {
namespace {

struct Tuple {
  uint32_t addresses[2];
  uint32_t ports;
  uint32_t protocol;
};

template <typename T>
T load(const std::byte* at) {
  T value;
  std::memcpy(&value, at, sizeof value);
  return value;
}

// IPv4 without options and fragmentation, TCP or UDP.
bool read_tuple(const std::byte* frame, Tuple& tuple) {
  const uint32_t protocol = load<uint8_t>(frame + 23);
  if (load<uint16_t>(frame + 12) != 0x0008 || load<uint8_t>(frame + 14) != 0x45) return false;
  if ((load<uint16_t>(frame + 20) & 0xff3f) != 0 || (protocol != 6 && protocol != 17)) return false;
  tuple = {.addresses = {load<uint32_t>(frame + 26), load<uint32_t>(frame + 30)},
           .ports = load<uint32_t>(frame + 34),
           .protocol = protocol};
  return true;
}

template <typename Hash>
void hash_all(const std::byte* const* frames, size_t count, uint32_t* hashes, Hash hash) {
  for (size_t i = 0; i < count; ++i) {
    Tuple tuple;
    hashes[i] = read_tuple(frames[i], tuple) ? hash(tuple) : 0;
  }
}

// The matrices that its GFNI implementation multiplies by, of a symmetric key.
const uint64_t* matrices() {
  static const auto filled = [] {
    std::array<uint8_t, 40> key;
    for (size_t i = 0; i < key.size(); ++i) key[i] = i % 2 == 0 ? 0x6d : 0x5a;
    std::array<uint64_t, 40> out{};
    rte_thash_complete_matrix(out.data(), key.data(), key.size());
    return out;
  }();
  return filled.data();
}

}  // namespace

void dpdk_crc32c(const std::byte* const* frames, size_t count, uint32_t* hashes) {
  hash_all(frames, count, hashes, [](const Tuple& tuple) { return rte_hash_crc(&tuple, sizeof tuple, 0); });
}

void dpdk_toeplitz(const std::byte* const* frames, size_t count, uint32_t* hashes) {
  const uint64_t* const of_key = matrices();
  hash_all(frames, count, hashes, [of_key](const Tuple& tuple) {
    return rte_thash_gfni(of_key, reinterpret_cast<const uint8_t*>(&tuple), 12);
  });
}

// Not rte_thash_gfni_supported(): without its environment set up, DPDK keeps to 256 bits.
bool dpdk_has_toeplitz() { return __builtin_cpu_supports("gfni") && __builtin_cpu_supports("avx512vbmi"); }

}  // namespace ringcap::bench

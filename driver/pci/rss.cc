#include "driver/pci/rss.h"

#include <fmt/format.h>
#include <sys/random.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <random>

namespace ringcap::pci {
RssKey random_rss_key() {
  RssKey key;
  while (::getrandom(key.data(), key.size(), 0) != ssize_t{key.size()})
    if (errno != EINTR) std::abort();  // a kernel without getrandom, older than any that this runs on
  return key;
}

// For each bit of the input that is set, the 32 bits of the key that begin there.
uint32_t toeplitz(const RssKey& key, std::span<const uint8_t> input) {
  uint64_t window = 0;  // its upper 32 bits are the key's from the current bit on
  for (int i = 0; i < 8; ++i) window = window << 8 | key[static_cast<size_t>(i)];
  uint32_t hash = 0;
  for (size_t at = 0; at < input.size(); ++at) {
    for (int bit = 7; bit >= 0; --bit) {
      if (input[at] >> bit & 1) hash ^= static_cast<uint32_t>(window >> 32);
      window <<= 1;
    }
    if (at + 8 < key.size()) window |= key[at + 8];
  }
  return hash;
}

uint32_t separated_percent(const RssKey& key, uint32_t queues) {
  constexpr uint32_t kFlows = 10'000;
  std::mt19937 random(1);
  uint32_t separated = 0;
  for (uint32_t flow = 0; flow < kFlows; ++flow) {
    std::array<uint8_t, 12> there, back;
    for (uint8_t& byte : there) byte = static_cast<uint8_t>(random());
    std::rotate_copy(there.begin(), there.begin() + 4, there.begin() + 8, back.begin());
    std::rotate_copy(there.begin() + 8, there.begin() + 10, there.end(), back.begin() + 8);
    if (rss_queue(toeplitz(key, there), queues) != rss_queue(toeplitz(key, back), queues)) ++separated;
  }
  return (separated + kFlows / 200) / (kFlows / 100);
}

std::string rss_remark(const RssKey& key, uint32_t queues) {
  return fmt::format(
      "{} receive queues: of {} % of the flows the two directions come through different workers; clusters "
      "keep "
      "them together, but who needs their order has to merge by time (ringcap capture -w does)",
      queues, separated_percent(key, queues));
}

}  // namespace ringcap::pci

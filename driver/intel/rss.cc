#include "driver/intel/rss.h"

#include "driver/intel/registers.h"

namespace ringcap::intel {
namespace {

uint32_t word_at(std::span<const uint8_t> bytes) {  // little-endian
  return bytes[0] | uint32_t{bytes[1]} << 8 | uint32_t{bytes[2]} << 16 | uint32_t{bytes[3]} << 24;
}

}  // namespace

void program_rss(const Registers& registers, const pci::RssKey& key, uint32_t queues, unsigned shift) {
  for (uint32_t word = 0; word < key.size() / 4; ++word)
    registers.write(RSSRK + 4 * word, word_at(std::span(key).subspan(size_t{4} * word, 4)));
  for (uint32_t word = 0; word < pci::kRssTableEntries / 4; ++word) {
    uint32_t entries = 0;
    for (uint32_t i = 0; i < 4; ++i) entries |= pci::rss_queue(4 * word + i, queues) << shift << 8 * i;
    registers.write(RETA + 4 * word, entries);
  }
}

}  // namespace ringcap::intel

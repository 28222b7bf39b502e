#include "driver/intel/statistics.h"

#include <utility>

#include "driver/intel/registers.h"

namespace ringcap::intel {
namespace {

constexpr Counter kCommon[] = {
    {"rx_packets", GPRC},
    {"tx_packets", GPTC},
    {"rx_bytes", GORCL, true},
    {"tx_bytes", GOTCL, true},
    {"rx_broadcast", BPRC},
    {"tx_broadcast", BPTC},
    {"rx_multicast", MPRC},
    {"tx_multicast", MPTC},
    {"rx_missed_errors", MPC},
    {"rx_no_buffer_count", RNBC},
    {"rx_crc_errors", CRCERRS},
    {"rx_align_errors", ALGNERRC},
    {"rx_short_length_errors", RUC},
    {"rx_long_length_errors", ROC},
    {"rx_fragments", RFC},
    {"rx_jabbers", RJC},
    {"rx_flow_control_xon", XONRXC},
    {"rx_flow_control_xoff", XOFFRXC},
    {"tx_flow_control_xon", XONTXC},
    {"tx_flow_control_xoff", XOFFTXC},
};

uint64_t read(const Registers& registers, const Counter& counter) {
  const uint64_t low = registers.read(counter.offset);
  return counter.wide ? low | uint64_t{registers.read(counter.offset + 4)} << 32 : low;
}

}  // namespace

std::span<const Counter> common_counters() { return kCommon; }

Statistics::Statistics(std::span<const Counter> counters)
    : counters_(counters.begin(), counters.end()), kept_(counters_.size()) {
  for (const Counter& counter : counters_) all_.push_back({counter.name, 0});
}

// What was counted since the last look. A register that keeps its value may begin anew at a reset.
uint64_t Statistics::read_news(const Registers& registers, size_t counter) {
  const uint64_t first = read(registers, counters_[counter]);
  Kept& kept = kept_[counter];
  if (kept.keeps) {
    const uint64_t last = std::exchange(kept.last, first);
    return first >= last ? first - last : first;
  }
  if (!counters_[counter].may_keep || first == 0) return first;
  const uint64_t second = read(registers, counters_[counter]);
  if (second != first) return first + second;
  const uint64_t third = read(registers, counters_[counter]);
  if (third != first) return first + second + third;
  kept = {.keeps = true, .last = first};
  return first;
}

std::vector<uint64_t> Statistics::read_news(const Registers& registers) {
  std::vector<uint64_t> news;
  news.reserve(counters_.size());
  for (size_t i = 0; i < counters_.size(); ++i) news.push_back(read_news(registers, i));
  return news;
}

void Statistics::update(const Registers& registers) {
  const std::vector<uint64_t> news = read_news(registers);
  // Asked last: a device that answers now answered before.
  if (registers.read(STATUS) == kAbsent) return;
  for (size_t i = 0; i < news.size(); ++i) all_[i].value += news[i];
}

void Statistics::clear(const Registers& registers) { static_cast<void>(read_news(registers)); }

uint64_t Statistics::of(uint32_t offset) const {
  for (size_t i = 0; i < counters_.size(); ++i) {
    if (counters_[i].offset == offset) return all_[i].value;
  }
  return 0;
}

}  // namespace ringcap::intel

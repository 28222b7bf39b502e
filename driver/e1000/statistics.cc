#include "driver/e1000/statistics.h"

namespace ringcap::e1000 {
namespace {

constexpr uint32_t kBadRegisters[] = {CRCERRS, RUC, RFC, ROC, RJC};

}  // namespace

void Statistics::update(const Registers& registers) {
  const uint32_t good = registers.read(GPRC), missed = registers.read(MPC),
                 transmitted = registers.read(GPTC);
  uint64_t bad = 0;
  for (uint32_t offset : kBadRegisters) bad += registers.read(offset);
  // Asked last: a device that answers now answered before.
  if (registers.read(STATUS) == kAbsent) return;
  good_ += good;
  missed_ += missed;
  bad_ += bad;
  transmitted_ += transmitted;
}

void Statistics::clear(const Registers& registers) {
  for (uint32_t offset : {GPRC, MPC, GPTC}) static_cast<void>(registers.read(offset));
  for (uint32_t offset : kBadRegisters) static_cast<void>(registers.read(offset));
}

QueueCounters Statistics::counters() const {
  if (bad_delivered_) {
    return {.received = good_ + missed_ + bad_taken_.load(std::memory_order_relaxed),
            .missed = missed_,
            .bad = 0};
  }
  return {.received = good_ + missed_ + bad_, .missed = missed_, .bad = bad_};
}

}  // namespace ringcap::e1000

#include "capture/frame/fragments.h"

#include <algorithm>
#include <bit>

namespace ringcap {
namespace {

// Times are kept in units of 2^20 ns, about a millisecond, in 32 bits: they wrap after 52 days.
constexpr uint32_t kUnitBits = 20;

uint32_t time_of(uint64_t now_ns) { return static_cast<uint32_t>(now_ns >> kUnitBits); }

// Between two times, whichever is the later one: a file's clock may go backwards.
uint32_t apart(uint32_t one, uint32_t other) { return std::min(one - other, other - one); }

bool too_old(uint32_t then, uint32_t now) {
  return apart(then, now) > FragmentTable::kLifetimeNs >> kUnitBits;
}

uint64_t not_free(uint64_t id) { return id == 0 ? 1 : id; }

}  // namespace

FragmentTable::FragmentTable(uint32_t datagrams)
    : set_mask_(std::bit_ceil(std::max(datagrams, kWays)) / kWays - 1), entries_((set_mask_ + 1) * kWays) {
  static_assert(sizeof(Entry) == 64);
}

const Datagram* FragmentTable::find(uint64_t id, uint64_t now_ns) const {
  id = not_free(id);
  const Entry* const set = set_of(id);
  for (const Entry* entry = set; entry != set + kWays; ++entry)
    if (entry->id == id) return too_old(entry->time, time_of(now_ns)) ? nullptr : &entry->datagram;
  return nullptr;
}

void FragmentTable::remember(uint64_t id, const Datagram& datagram, uint64_t now_ns) {
  id = not_free(id);
  const uint32_t now = time_of(now_ns);
  Entry* const set = set_of(id);
  Entry* place = set;
  for (Entry* entry = set; entry != set + kWays; ++entry) {
    if (entry->id == id || entry->id == 0) {
      place = entry;  // ids are filled from the front: behind a free entry there is none
      break;
    }
    if (apart(entry->time, now) > apart(place->time, now)) place = entry;
  }
  *place = {.id = id, .time = now, .datagram = datagram};
}

}  // namespace ringcap

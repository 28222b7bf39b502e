// FragmentTable: remembers what a datagram's first fragment was hashed to, so that the later ones, which
// have no ports and (of a tunnel) no inner headers, go where it went. Nothing is reassembled or held back.
// One per worker, one thread; only frames that are fragments touch it.
//
// Bounded: room for a fixed number of datagrams, taken at construction, in sets of kWays; in a full set the
// oldest gives way. Aged: what was remembered more than kLifetime ago (by the frames' own timestamps) is
// forgotten, because identifications are used again.
//
// The rule for a later fragment whose first one is not remembered (it came before it, is lost, went to
// another worker, or is too old): its hash is that of its own IP header with ports 0, so that all of a
// datagram's fragments without the first still get one value. It is counted as unplaced.
#pragma once

#include <cstdint>
#include <vector>

#include "capture/frame/packet.h"

namespace ringcap {

// Of the packet that was fragmented, and of the innermost one in it (the same where it is no tunnel).
struct Datagram {
  PacketHashes self;
  PacketHashes innermost;
  uint16_t inner_vlan;  // the last VLAN tag's identifier, see Walk
};

class FragmentTable {
 public:
  static constexpr uint32_t kDatagrams = 4096;  // 256 KiB
  static constexpr uint32_t kWays = 4;
  static constexpr uint64_t kLifetimeNs = 2'000'000'000;

  // Room for `datagrams`, rounded up to a power of two.
  explicit FragmentTable(uint32_t datagrams = kDatagrams);

  void remember(uint64_t id, const Datagram& datagram, uint64_t now_ns);
  // Null: not remembered. Valid until the next call of remember().
  const Datagram* find(uint64_t id, uint64_t now_ns) const;

  void count_unplaced() { ++unplaced_; }
  // Later fragments that came without their first one, since the start.
  uint64_t unplaced() const { return unplaced_; }

 private:
  struct alignas(64) Entry {
    uint64_t id = 0;  // 0: free
    uint32_t time = 0;
    Datagram datagram{};
  };

  Entry* set_of(uint64_t id) { return &entries_[(id & set_mask_) * kWays]; }
  const Entry* set_of(uint64_t id) const { return &entries_[(id & set_mask_) * kWays]; }

  uint64_t set_mask_;
  std::vector<Entry> entries_;
  uint64_t unplaced_ = 0;
};

}  // namespace ringcap

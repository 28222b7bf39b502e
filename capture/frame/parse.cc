#include "capture/frame/parse.h"

#include "capture/frame/walk.h"

namespace ringcap {
namespace {

uint8_t half(uint32_t offset) { return offset <= 510 ? static_cast<uint8_t>(offset / 2) : uint8_t{0}; }

uint16_t flags_of(const Walk& walk) {
  uint32_t flags = 0;
  if (walk.outer.found()) flags |= layout::kHashValid;
  if (walk.tagged) flags |= layout::kVlan;
  if (walk.tunnel) flags |= layout::kTunnel;
  if (walk.outer.fragment) flags |= layout::kFragment;
  if (walk.outer.fragment && !walk.outer.later_fragment) flags |= layout::kFirstFragment;
  return static_cast<uint16_t>(flags);
}

// For the later fragments, which will come with nothing but their IP header.
void remember_first_fragments(const Walk& walk, const Datagram* known, uint64_t now_ns, const HashKey& key,
                              FragmentTable& fragments) {
  const PacketHashes innermost = known != nullptr ? known->innermost : hash_packet(walk.innermost(), key);
  const uint16_t inner_vlan = known != nullptr ? known->inner_vlan : walk.last_vlan;
  for (uint32_t i = 0; i < walk.first_fragments; ++i) {
    const Walk::FirstFragment& first = walk.firsts[i];
    fragments.remember(first.id, {first.self, innermost, inner_vlan}, now_ns);
  }
}

uint32_t hash_of(const Walk& walk, uint64_t now_ns, const HashKey& key, FragmentTable& fragments) {
  const Datagram* const known = find_datagram(walk, fragments, key, now_ns);
  const Packet& innermost = walk.innermost();
  const uint32_t hash = known != nullptr ? known->innermost.flow5 : hash_flow5(innermost, key);
  if (innermost.later_fragment && known == nullptr) fragments.count_unplaced();
  if (walk.first_fragments != 0) remember_first_fragments(walk, known, now_ns, key, fragments);
  return hash;
}

}  // namespace

void parse_other(Frame& frame, const HashKey& key, FragmentTable& fragments) {
  Walk walk;
  walk_frame(frame, key, walk);
  frame.flags |= flags_of(walk);
  frame.hash = walk.outer.found() ? hash_of(walk, frame.timestamp_ns, key, fragments) : 0;
  frame.l3_half = half(walk.outer.l3);
  frame.l4_half = half(walk.outer.l4);
  frame.inner_l3 = static_cast<uint16_t>(walk.inner.l3);
  frame.inner_l4 = static_cast<uint16_t>(walk.inner.l4);
}

}  // namespace ringcap

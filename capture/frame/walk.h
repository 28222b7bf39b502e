// The walk over all headers of a frame, tunnels included: the general way of the parser, and of a kind of
// balance that needs more than the frame's own hash. See parse.h for what it knows. One thread; changes
// nothing.
#pragma once

#include <cstdint>

#include "capture/frame/fragments.h"
#include "capture/frame/headers.h"
#include "capture/frame/packet.h"

namespace ringcap {

// First fragments that are remembered of one frame (fragments of a tunnel in fragments of a tunnel ...).
inline constexpr uint32_t kMaxFirstFragments = 4;

struct Walk {
  Packet outer;
  Packet inner;         // the innermost, where `tunnel`
  bool tunnel = false;  // there is a packet in a packet
  // VLAN identifiers: of the frame's first tag, and of the last one on the way to the innermost packet.
  // 0: no tag (or one that is for the priority only).
  uint16_t first_vlan = 0;
  uint16_t last_vlan = 0;
  bool tagged = false;  // the outer packet has a tag

  struct FirstFragment {
    uint64_t id;
    PacketHashes self;
  };
  uint32_t first_fragments = 0;
  FirstFragment firsts[kMaxFirstFragments];

  const Packet& innermost() const { return tunnel ? inner : outer; }
};

// outer.found() is false only for what is shorter than an Ethernet header.
void walk_frame(const Frame& frame, const HashKey& key, Walk& walk);

// What the table knows of the datagram whose later fragment the innermost packet is; null: nothing, or it is
// none.
inline const Datagram* find_datagram(const Walk& walk, const FragmentTable& fragments, const HashKey& key,
                                     uint64_t now_ns) {
  const Packet& packet = walk.innermost();
  return packet.later_fragment ? fragments.find(datagram_id(packet, key), now_ns) : nullptr;
}

}  // namespace ringcap

// The number by which a kind of balance chooses a frame's member. Called by the worker, for each cluster,
// with frames that parse_frame() has seen, and with the FragmentTable that it was given; by tools and tests.
// Changes nothing. docs/hash.md describes the values so that another program computes the same.
//
// A few nanoseconds for a frame without tunnel, fragments and IPv6 extension headers; a second walk over the
// headers (as long as parse_other() takes) for the others, but not for flow5 by the inner headers.
//
// 0 for frames without kHashValid: shorter than an Ethernet header, or not Ethernet.
#pragma once

#include <cstdint>
#include <utility>

#include "capture/cluster/kind.h"
#include "capture/frame/fragments.h"
#include "capture/frame/hash.h"
#include "capture/port/port.h"

namespace ringcap::cluster {

// Kinds but (flow5, inner), which is the frame's own hash.
uint32_t other_balance_hash(Kind kind, Level level, const Frame& frame, const HashKey& key,
                            const FragmentTable& fragments);

// The same by a walk over the headers, whatever the frame is. Tests compare the two.
uint32_t walked_balance_hash(Kind kind, Level level, const Frame& frame, const HashKey& key,
                             const FragmentTable& fragments);

// For the kinds with is_hashed().
inline uint32_t balance_hash(Kind kind, Level level, const Frame& frame, const HashKey& key,
                             const FragmentTable& fragments) {
  if (kind == Kind::kFlow5 && level == Level::kInner) return frame.hash;
  return other_balance_hash(kind, level, frame, key, fragments);
}

// For kind `ends`: of the source and of the destination, each by its address only, so that a host's frames
// have the same value in both directions. The table knows the inner addresses of a tunnel's later fragments.
std::pair<uint32_t, uint32_t> ends_hashes(Level level, const Frame& frame, const HashKey& key,
                                          const FragmentTable& fragments);

}  // namespace ringcap::cluster

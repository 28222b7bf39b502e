#include "capture/engine/flows.h"

#include <algorithm>
#include <cstring>

#include "capture/layout/view.h"

namespace ringcap::engine {
namespace {

using layout::TrackedFlow;

constexpr uint8_t kTcp = 6, kUdp = 17, kSctp = 132;

uint16_t be16(const std::byte* at) {
  uint16_t value;
  std::memcpy(&value, at, sizeof value);
  return __builtin_bswap16(value);
}

// Puts the two ends in order; true if the frame goes from a to b.
bool put_ends(TrackedFlow& flow, const std::byte* source, const std::byte* target, size_t bytes,
              uint16_t source_port, uint16_t target_port) {
  const int order = std::memcmp(source, target, bytes);
  const bool forward = order != 0 ? order < 0 : source_port <= target_port;
  std::memcpy(flow.a, forward ? source : target, bytes);
  std::memcpy(flow.b, forward ? target : source, bytes);
  flow.port_a = forward ? source_port : target_port;
  flow.port_b = forward ? target_port : source_port;
  return forward;
}

// What the frame's chosen headers say. The parser found them within the captured bytes.
bool describe(const Frame& frame, cluster::Level level, TrackedFlow& flow) {
  const bool inner =
      level == cluster::Level::kInner && (frame.flags & layout::kTunnel) != 0 && frame.inner_l3 != 0;
  const uint32_t l3 = inner ? frame.inner_l3 : frame.l3_half * 2u;
  const uint32_t l4 = inner ? frame.inner_l4 : frame.l4_half * 2u;
  const std::byte* ip = frame.data + l3;
  const uint32_t left = l3 != 0 && l3 < frame.captured ? frame.captured - l3 : 0;
  const unsigned version = left >= 20 ? std::to_integer<unsigned>(ip[0]) >> 4 : 0;
  if (version == 4) flow.protocol = std::to_integer<uint8_t>(ip[9]);
  if (version == 6 && left >= 40) flow.protocol = std::to_integer<uint8_t>(ip[6]);
  const bool ports = l4 != 0 && l4 + 4u <= frame.captured &&
                     (flow.protocol == kTcp || flow.protocol == kUdp || flow.protocol == kSctp);
  const uint16_t source_port = ports ? be16(frame.data + l4) : uint16_t{0};
  const uint16_t target_port = ports ? be16(frame.data + l4 + 2) : uint16_t{0};
  flow.version = static_cast<uint8_t>(version);
  if (version == 4) return put_ends(flow, ip + 12, ip + 16, 4, source_port, target_port);
  if (version == 6 && left >= 40) return put_ends(flow, ip + 8, ip + 24, 16, source_port, target_port);
  flow.version = 0;
  if (frame.captured < 14) return true;
  flow.type = be16(frame.data + 12);
  return put_ends(flow, frame.data + 6, frame.data, 6, 0, 0);
}

}  // namespace

void FlowTable::note(const Frame& frame, uint32_t hash, cluster::Level level) {
  changed_ = true;
  TrackedFlow seen{};
  const bool forward = describe(frame, level, seen);
  size_t place = layout::kTrackedFlows;
  for (size_t i = 0; i < layout::kTrackedFlows; ++i)
    if (hashes_[i] == hash && counts_[i] != 0) place = i;
  if (place == layout::kTrackedFlows) {
    place = static_cast<size_t>(std::ranges::min_element(counts_) - counts_.begin());
    seen.hash = hash;
    seen.inherited = counts_[place];
    hashes_[place] = hash;
    flows_[place] = seen;
  }
  TrackedFlow& flow = flows_[place];
  ++counts_[place];
  ++(forward ? flow.a_to_b : flow.b_to_a);
  flow.bytes += frame.length;
}

bool FlowTable::publish(layout::ClusterBlock& block) {
  if (!changed_) return false;
  for (uint32_t i = 0; i < layout::kTrackedFlows; ++i) {
    uint64_t words[layout::kTrackedFlowWords];
    std::memcpy(words, &flows_[i], sizeof words);
    std::atomic<uint64_t>* const to = layout::tracked_flow(block, i);
    for (size_t w = 0; w < layout::kTrackedFlowWords; ++w) to[w].store(words[w], std::memory_order_relaxed);
  }
  changed_ = false;
  return true;
}

}  // namespace ringcap::engine

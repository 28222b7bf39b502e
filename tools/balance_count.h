// BalanceCount: what the balance of a cluster would be for frames that come one after the other: load per
// member, largest flows, flows seen in one direction only, fragments without their first one. What
// `ringcap balance` shows. One thread; memory grows with the number of flows.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "capture/cluster/kind.h"
#include "capture/cluster/slots.h"
#include "capture/frame/fragments.h"
#include "capture/frame/hash.h"
#include "capture/port/port.h"

namespace ringcap::tools {

struct BalanceOptions {
  cluster::Kind kind = cluster::Kind::kFlow5;  // not kQueue
  cluster::Level level = cluster::Level::kInner;
  uint32_t members = 4;  // 1 to cluster::kMaxMembers
  HashKey key;
};

struct MemberLoad {
  uint64_t frames = 0;
  uint64_t bytes = 0;
  uint64_t flows = 0;  // that had a frame here
};

// A flow: by addresses, ports and protocol of the level's packet, whatever the kind of balance is.
struct FlowLoad {
  std::string text;  // "TCP 10.0.0.1:1000 - 10.0.0.2:80", as its first frame has it
  uint64_t frames = 0;
  uint64_t bytes = 0;
  std::vector<uint32_t> members;  // that got frames of it, in order of their first
  bool seen[2] = {};              // by direction, where source and destination differ
};

// The largest of the loads over their mean; 0 where there is nothing.
double imbalance(std::span<const MemberLoad> loads, uint64_t MemberLoad::* what);

class BalanceCount {
 public:
  explicit BalanceCount(const BalanceOptions& options);

  // An Ethernet frame with data, captured, length and timestamp_ns; `interface`: which port stands for it.
  void take(Frame frame, uint32_t interface);

  uint64_t frames() const { return frames_; }
  uint64_t bytes() const { return bytes_; }  // on the wire
  uint64_t flows() const { return flows_.size(); }
  uint64_t one_sided() const;
  uint64_t fragments() const { return fragments_; }
  uint64_t unplaced() const { return table_.unplaced(); }
  const std::vector<MemberLoad>& members() const { return members_; }
  // By bytes, the largest first.
  std::vector<const FlowLoad*> largest(size_t count) const;

 private:
  FlowLoad& flow_of(const Frame& frame);
  uint32_t member_of(uint32_t hash) const { return slots_.table()[cluster::slot_of(hash)]; }
  uint32_t member_of(const Frame& frame, uint32_t interface) const;
  void deliver(const Frame& frame, FlowLoad& flow, uint32_t member);

  const BalanceOptions options_;
  cluster::Slots slots_;  // member i is number i
  FragmentTable table_;
  FragmentTable second_table_;
  std::unordered_map<uint64_t, FlowLoad> flows_;
  std::vector<MemberLoad> members_;
  uint64_t frames_ = 0;
  uint64_t bytes_ = 0;
  uint64_t fragments_ = 0;
};

}  // namespace ringcap::tools

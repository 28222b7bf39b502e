// Gather: bursts put together out of several rings, in order of time, and of the frames that match a
// filter evaluated here. Copies descriptors (32 bytes a frame), never frames. One thread.
//
// Order: a frame goes out when no worker can still publish an earlier one (its ring has a later frame, or
// its complete_until_ns is later), or when it has waited `wait_ns`; what comes later than that is counted
// as late, and goes out where it comes.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <vector>

#include "capture/filter/program.h"
#include "capture/layout/layout.h"
#include "libcap/client/rings.h"

namespace ringcap::client {

// A filter that is evaluated here, by the way that a frame went. Without a program: every frame.
struct LocalFilter {
  std::optional<filter::Program> incoming, outgoing;

  bool wants(const layout::Descriptor& d, const std::byte* frame) const {
    const auto& program = (d.flags & layout::kOutgoing) != 0 ? outgoing : incoming;
    return !program || filter::run(*program, frame, d.length, d.captured) != 0;
  }
};

class Gather {
 public:
  struct Setup {
    const layout::Header* state = nullptr;
    const std::byte* arena = nullptr;
    std::optional<LocalFilter> filter;
    bool merge = false;
    uint64_t wait_ns = 10'000'000;
  };
  explicit Gather(Setup setup) : setup_(std::move(setup)) {}

  // Another filter for what is taken from now on. `until`: by ring, up to which position to evaluate it here
  // (what comes after that was filtered by the engine); empty: everything. Bursts that were taken from the
  // rings directly and not given back stay out: nothing before `out` (by ring) is given back without being
  // asked.
  void set_filter(std::optional<LocalFilter> filter, std::vector<uint64_t> until, std::vector<uint64_t> out);
  // Whether taking from the rings directly would now give the same.
  bool idle(const std::vector<Ring>& rings) const;

  // Up to `max` frames; `flush`: without waiting for anybody (the engine has ended). The descriptors stay
  // where they are until give_back(position).
  uint32_t take(std::vector<Ring>& rings, uint32_t max, bool flush, const layout::Descriptor*& frames,
                uint64_t& position);
  // Gives back the burst at `position` and all before it; false: there is none.
  bool give_back(std::vector<Ring>& rings, uint64_t position);
  // True while frames wait in a ring for a worker that lags: look again soon.
  bool holding() const { return holding_since_ns_ != 0; }
  uint64_t late() const { return late_; }
  uint64_t not_matched() const { return not_matched_; }

 private:
  struct Held {
    std::vector<layout::Descriptor> frames;
    std::vector<uint64_t> until;  // by ring
  };
  struct View {
    uint64_t head = 0;
    uint64_t complete_ns = 0;
  };

  void look(const std::vector<Ring>& rings);
  int earliest(const std::vector<Ring>& rings) const;
  bool may_go(const std::vector<Ring>& rings, uint64_t timestamp_ns) const;
  uint64_t patience_ns() const;
  bool wanted(const layout::Descriptor& d, size_t ring, uint64_t position);
  void give_back_unheld(std::vector<Ring>& rings) const;
  void publish_counts(std::vector<Ring>& rings) const;

  Setup setup_;
  std::vector<uint64_t> filter_until_;  // by ring; empty: for ever
  std::vector<uint64_t> out_;           // by ring; empty: nothing
  std::vector<View> views_;
  std::deque<std::unique_ptr<Held>> held_;
  std::vector<std::unique_ptr<Held>> spare_;
  uint64_t first_held_ = 0;  // position of held_.front()
  uint64_t last_ns_ = 0;
  uint64_t late_ = 0;
  uint64_t not_matched_ = 0;
  uint64_t holding_since_ns_ = 0;
};

}  // namespace ringcap::client

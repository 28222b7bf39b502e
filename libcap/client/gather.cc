#include "libcap/client/gather.h"

#include <algorithm>
#include <ctime>

#include "capture/layout/view.h"

namespace ringcap::client {
namespace {

// A worker's clock is fitted to the system's: it may be this much behind what we read.
constexpr uint64_t kClockMarginNs = 1'000'000;

uint64_t clock_ns(clockid_t clock) {
  timespec now{};
  ::clock_gettime(clock, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
}

}  // namespace

// Reads complete_until before the head: what the head shows then includes everything stamped before it.
// A worker that sleeps was complete when it fell asleep; what comes is stamped later than now.
void Gather::look(const std::vector<Ring>& rings) {
  views_.resize(rings.size());
  const uint64_t now = clock_ns(CLOCK_REALTIME);
  for (uint32_t i = 0; i < rings.size(); ++i) {
    const auto& worker = layout::entry<layout::WorkerEntry>(*setup_.state, setup_.state->workers, i);
    uint64_t complete = worker.complete_until_ns.load(std::memory_order_acquire);
    const bool file = setup_.state->clock == static_cast<uint32_t>(layout::Clock::kFile);
    if (complete == layout::kAsleep && !file) complete = now - worker.lag_ns - kClockMarginNs;
    views_[i] = {.head = rings[i].head(), .complete_ns = complete};
  }
}

// The ring whose next frame is the oldest; -1: all are empty.
int Gather::earliest(const std::vector<Ring>& rings) const {
  int best = -1;
  uint64_t best_ns = ~uint64_t{0};
  for (size_t i = 0; i < rings.size(); ++i) {
    if (rings[i].next == views_[i].head) continue;
    const uint64_t ns = rings[i].at(rings[i].next)->timestamp_ns;
    if (best >= 0 && ns >= best_ns) continue;
    best = static_cast<int>(i);
    best_ns = ns;
  }
  return best;
}

bool Gather::may_go(const std::vector<Ring>& rings, uint64_t timestamp_ns) const {
  for (size_t i = 0; i < rings.size(); ++i)
    if (rings[i].next == views_[i].head && views_[i].complete_ns < timestamp_ns) return false;
  return true;
}

// A worker that reads a file always gets on, however long it takes to find its next frame.
uint64_t Gather::patience_ns() const {
  const bool file = setup_.state->clock == static_cast<uint32_t>(layout::Clock::kFile);
  return file ? ~uint64_t{0} : setup_.wait_ns;
}

void Gather::set_filter(std::optional<LocalFilter> filter, std::vector<uint64_t> until,
                        std::vector<uint64_t> out) {
  setup_.filter = std::move(filter);
  filter_until_ = std::move(until);
  out_ = std::move(out);
}

bool Gather::idle(const std::vector<Ring>& rings) const {
  if (setup_.merge || !held_.empty()) return false;
  if (!setup_.filter) return true;
  if (filter_until_.empty()) return false;
  for (size_t i = 0; i < rings.size(); ++i)
    if (rings[i].next < filter_until_[i]) return false;
  return true;
}

bool Gather::wanted(const layout::Descriptor& d, size_t ring, uint64_t position) {
  if (!setup_.filter) return true;
  if (!filter_until_.empty() && position >= filter_until_[ring]) return true;
  if (setup_.filter->wants(d, setup_.arena + layout::frame_offset(d))) return true;
  ++not_matched_;
  return false;
}

void Gather::publish_counts(std::vector<Ring>& rings) const {
  rings.front().control->late.store(late_, std::memory_order_relaxed);
  rings.front().control->not_matched.store(not_matched_, std::memory_order_relaxed);
}

void Gather::give_back_unheld(std::vector<Ring>& rings) const {
  for (size_t i = 0; i < rings.size(); ++i)
    if (out_.empty() || rings[i].given >= out_[i]) rings[i].give_back(rings[i].next);
}

uint32_t Gather::take(std::vector<Ring>& rings, uint32_t max, bool flush, const layout::Descriptor*& frames,
                      uint64_t& position) {
  for (Ring& ring : rings) ring.catch_up();
  look(rings);
  std::unique_ptr<Held> burst = spare_.empty() ? std::make_unique<Held>() : std::move(spare_.back());
  if (!spare_.empty()) spare_.pop_back();
  burst->frames.clear();
  bool moved = false;
  for (int i = earliest(rings); i >= 0 && burst->frames.size() < max; i = earliest(rings)) {
    Ring& ring = rings[static_cast<size_t>(i)];
    const layout::Descriptor& d = *ring.at(ring.next);
    if (setup_.merge && !flush && !may_go(rings, d.timestamp_ns)) {
      const uint64_t now = clock_ns(CLOCK_MONOTONIC);
      if (holding_since_ns_ == 0) holding_since_ns_ = now;
      if (now - holding_since_ns_ < patience_ns()) break;
    }
    if (setup_.merge && d.timestamp_ns < last_ns_) ++late_;
    last_ns_ = std::max(last_ns_, d.timestamp_ns);
    if (wanted(d, static_cast<size_t>(i), ring.next)) burst->frames.push_back(d);
    ++ring.next;
    moved = true;
  }
  if (earliest(rings) < 0 || moved) holding_since_ns_ = 0;
  publish_counts(rings);
  if (burst->frames.empty()) {
    // Nothing to hold: what was filtered goes back at once, unless an older burst is still out.
    if (held_.empty()) give_back_unheld(rings);
    spare_.push_back(std::move(burst));
    return 0;
  }
  burst->until.clear();
  for (const Ring& ring : rings) burst->until.push_back(ring.next);
  frames = burst->frames.data();
  const auto count = static_cast<uint32_t>(burst->frames.size());
  position = first_held_ + held_.size();
  held_.push_back(std::move(burst));
  return count;
}

bool Gather::give_back(std::vector<Ring>& rings, uint64_t position) {
  if (position >= first_held_ + held_.size()) return false;
  while (!held_.empty() && first_held_ <= position) {
    for (size_t i = 0; i < rings.size(); ++i) rings[i].give_back(held_.front()->until[i]);
    spare_.push_back(std::move(held_.front()));
    held_.pop_front();
    ++first_held_;
  }
  return true;
}

}  // namespace ringcap::client

#include "libcap/client/rings.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <bit>

#include "capture/base/fence.h"

namespace ringcap::client {
namespace {

Result<void> check_size(int fd, uint64_t bytes, const char* what) {
  struct stat status{};
  if (::fstat(fd, &status) != 0) return fail_system(fmt::format("cannot look at the engine's {}", what));
  if (static_cast<uint64_t>(status.st_size) < bytes)
    return fail(Code::kVersion,
                fmt::format("the engine's {} has {} bytes, expected {}", what, status.st_size, bytes));
  return {};
}

}  // namespace

Result<Rings> Rings::map(const message::Attached& a, int rings_fd, int control_fd) {
  if (a.workers == 0 || a.workers > layout::kMaxWorkers || !std::has_single_bit(a.ring_slots) ||
      a.ring_slots < layout::kMinRingSlots || a.ring_slots > layout::kMaxRingSlots)
    return fail(Code::kVersion, "the engine granted rings of a size that makes no sense");
  if (auto ok = check_size(rings_fd, layout::rings_bytes(a.workers, a.ring_slots), "rings"); !ok)
    return std::unexpected(ok.error());
  if (auto ok = check_size(control_fd, layout::control_bytes(a.workers), "control area"); !ok)
    return std::unexpected(ok.error());
  Rings rings;
  auto lines =
      Mapping::map(rings_fd, layout::ring_lines_bytes(a.workers), Mapping::Access::kRead, "the rings");
  if (!lines) return std::unexpected(lines.error());
  auto control = Mapping::map(control_fd, layout::control_bytes(a.workers), Mapping::Access::kReadWrite,
                              "the control area");
  if (!control) return std::unexpected(control.error());
  rings.lines_ = std::move(*lines);
  rings.control_ = std::move(*control);
  for (uint32_t w = 0; w < a.workers; ++w) {
    Ring ring;
    auto slots = Mapping::map_twice(rings_fd, layout::ring_bytes(a.ring_slots),
                                    layout::ring_offset(a.workers, a.ring_slots, w), "a ring");
    if (!slots) return std::unexpected(slots.error());
    ring.slots_twice = std::move(*slots);
    ring.slots = ring.slots_twice.at<const layout::Descriptor>(0);
    ring.line = rings.lines_.at<const layout::RingLine>(0) + w;
    ring.control = rings.control_.at<layout::ControlLine>(0) + w;
    ring.mask = a.ring_slots - 1;
    rings.rings_.push_back(std::move(ring));
  }
  return rings;
}

bool Rings::any_ready(uint64_t frames) const {
  return std::ranges::any_of(rings_, [&](const Ring& ring) { return ring.head() - ring.next >= frames; });
}

bool Rings::prepare_sleep(uint64_t frames) {
  for (Ring& ring : rings_) ring.control->wake_at.store(ring.next + frames, std::memory_order_relaxed);
  full_fence();
  return !any_ready(frames);
}

}  // namespace ringcap::client

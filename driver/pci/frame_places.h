// What the receive loops of all NICs share: where the frames of a region's buffers begin, for us and for the
// device, and what is said of a frame. A copy of FramePlaces in a local variable keeps a loop out of its
// object's members.
#pragma once

#include <cstddef>
#include <cstdint>

#include "capture/port/port.h"

namespace ringcap::pci {

struct FramePlaces {
  std::byte* base = nullptr;  // of the first buffer's frame
  uint64_t device = 0;        // the same, as the device sees it
  uint32_t buffer_bytes = 0;
  // 2 KiB apart, all starts would fall into the same few cache sets; so they are spread over so many lines
  // more. 0, or 1 less than a power of two.
  uint32_t colours = 0;

  uint64_t offset(uint32_t buffer) const {
    return uint64_t{buffer} * buffer_bytes + 64 * uint64_t{buffer & colours};
  }
  std::byte* frame(uint32_t buffer) const { return base + offset(buffer); }
  uint64_t address(uint32_t buffer) const { return device + offset(buffer); }
  // Bytes of the longest frame that fits in any buffer, if the first one begins where its buffer does.
  uint32_t longest() const { return buffer_bytes - 64 * colours; }
};

// Of a frame that lies whole in its buffer. Its timestamp, and what parsing finds, come later.
inline void fill(Frame& frame, std::byte* data, uint32_t buffer, uint32_t length, uint16_t flags = 0) {
  frame.length = length;
  frame.hash = 0;
  frame.captured = static_cast<uint16_t>(length);
  frame.flags = flags;
  frame.l3_half = frame.l4_half = 0;
  frame.data = data;
  frame.buffer = buffer;
}

}  // namespace ringcap::pci

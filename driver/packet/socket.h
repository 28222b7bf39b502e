// PacketSocket: a TPACKET_V3 socket with its ring, bound to one interface. Opened by the control thread.
//
// It lets no frame in until accept(): it starts with a filter that refuses everything, so that frames
// that come between bind() and the fanout group, which would be seen once per socket, are not seen.
// Needs CAP_NET_RAW. Sources: packet(7), Documentation/networking/packet_mmap.rst of the kernel.
#pragma once

#include <cstdint>
#include <string>

#include "capture/base/error.h"
#include "capture/base/fd.h"
#include "capture/base/mapping.h"

namespace ringcap::packet {

// What a ring can hold is counted in bytes when frames come fast, and in blocks when they come slowly: a
// block with one frame in it is closed after kRetireMs all the same. So blocks are small enough to be many:
// 128 of them hold a trickle for 128 ms at least, while the machine does something else. Large enough, too:
// a block holds about 900 small frames, or the longest frame that the kernel makes of several.
inline constexpr uint32_t kBlockBytes = 128 << 10;
// Of all queues of a port: 70 ms of the smallest frames at the 3 million a second that the kernel can do.
inline constexpr uint32_t kPortRingBytes = 32 << 20;
// Of one queue at least, however many there are.
inline constexpr uint32_t kQueueRingBytes = 16 << 20;
inline constexpr uint32_t kMinimumBlocks = 32;
// A block that is not full is handed over after this time, so it is how late a frame may come. 1 ms is the
// least that the kernel takes; kernels before 6.18 round it up to a tick. What it costs is one timer
// interrupt a millisecond, which finds nothing to do on a quiet queue.
inline constexpr uint32_t kRetireMs = 1;

struct Statistics {
  uint32_t received = 0;  // frames for the socket, dropped ones included
  uint32_t dropped = 0;   // of those: the ring was full
};

class PacketSocket {
 public:
  struct Options {
    int interface_index = 0;
    std::string interface;  // for error messages
    uint32_t ring_bytes = kPortRingBytes;
    bool outgoing = true;
  };

  static Result<PacketSocket> open(const Options& options);

  // Makes this socket the first one of a new fanout group that spreads frames by their flow's hash, the
  // same for both directions; returns the group for join_group().
  Result<uint16_t> make_group();
  Result<void> join_group(uint16_t group);

  // Lets frames in, at most `bytes` bytes of each. May be called again with another length.
  Result<void> accept(uint32_t bytes);
  // Lets no more frames in.
  void refuse();

  // Since the last call.
  Statistics take_statistics();
  // Consumes the error that makes poll() return at once (the interface went down, or away).
  void clear_error();

  int fd() const { return fd_.get(); }
  const Mapping& ring() const { return ring_; }
  uint32_t blocks() const { return static_cast<uint32_t>(ring_.bytes() / kBlockBytes); }

 private:
  Result<void> make_ring(const Options& options);
  Result<void> bind_interface(const Options& options);
  Result<void> set_fanout(uint16_t group, uint16_t flags);

  Fd fd_;
  Mapping ring_;
  bool outgoing_ = true;
};

// The error of a packet socket that could not be opened, with what mends it.
std::unexpected<Error> socket_error(int number);

}  // namespace ringcap::packet

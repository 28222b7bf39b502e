// The generator: a port that makes its frames. It behaves as a NIC: its queue holds 1,024 armed buffers,
// writes the first 64 bytes of each frame as DMA would, and everything after that is the engine's
// ordinary path.
//
// A frame's headers are those of one of `flows` flows, in turn. Bytes 56 to 63 are the queue's sequence
// number, little-endian, from 0 on (IPv6: bytes 62 and 63 only, its low 16 bits: the headers end at 62).
// With more than one queue each has its own flows and its own sequence.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "capture/base/error.h"
#include "capture/port/port.h"
#include "driver/gen/frames.h"

namespace ringcap {

// The keys of a gen: address, see ringcap-ports(7).
struct GenOptions {
  std::string address = "gen:";  // as shown to people
  uint32_t queues = 1;
  uint32_t mtu = 1500;
  uint32_t size = 64;  // bytes of a frame without CRC, 60 to 16,000; 0: imix
  uint64_t count = 0;  // frames, all queues together; 0: no end
  uint64_t rate = 0;   // frames a second, all queues together; 0: as fast as possible
  uint64_t flows = 1000;
  gen::Mix mix = gen::Mix::kIpv4;
  gen::Write write = gen::Write::kHead;
  uint64_t seed = 1;
  bool waits = false;  // for takers that are full; else frames are dropped
};

Result<std::unique_ptr<Port>> open_gen_port(const GenOptions& options);

}  // namespace ringcap

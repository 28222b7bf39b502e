// The generator: a port that makes its frames. It behaves as a NIC: its queue holds 1,024 armed buffers,
// writes the first 64 bytes of each frame as DMA would, and everything after that is the engine's
// ordinary path.
//
// A frame's headers are those of one of `flows` flows, in turn. Bytes 56 to 63 are the queue's sequence
// number, little-endian, from 0 on (IPv6: bytes 62 and 63 only, its low 16 bits: the headers end at 62).
// With more than one queue each has its own flows and its own sequence.
#pragma once

#include <memory>

#include "capture/base/error.h"
#include "capture/port/port.h"
#include "driver/ports/address.h"

namespace ringcap {

// The keys of a gen: address (ringcap-ports(7)). kUsage where size does not fit the mtu's buffers.
Result<std::unique_ptr<Port>> open_gen_port(const PortAddress& address);

}  // namespace ringcap

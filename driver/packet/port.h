// `packet:INTERFACE`: captures a kernel interface through TPACKET_V3 sockets, one per queue, joined by a
// fanout group that spreads frames by their flow's hash (both directions of a flow to the same queue).
//
// The interface stays the kernel's: nothing is unbound, the host sees all its frames. It is promiscuous
// while the port is open. Differences to a NIC's port:
//   - frames are copied, once (driver/packet/queue.h); timestamps are the kernel's, in nanoseconds;
//   - queues hold no buffers (descriptors() is 0);
//   - on a loopback interface, which shows every frame going out and coming in, only the incoming one is
//     taken, as tcpdump does;
//   - an interface that goes down comes back by itself; one that is deleted does not (link().present).
// Fragments of one datagram share a queue, but not that of their flow's other frames: the kernel hashes
// fragments without ports.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "capture/port/port.h"

namespace ringcap {

struct PacketOptions {
  uint32_t queues = 1;   // 1 to 64
  uint32_t mtu = 1500;   // 68 to 16,362; longer frames are cut
  bool outgoing = true;  // frames that the host sends, too
};

// Errors: kNotFound (no such interface), kPermission (no CAP_NET_RAW), kUsage (options, or an interface
// whose frames have no link type), kSystem.
Result<std::unique_ptr<Port>> open_packet_port(const std::string& interface, const PacketOptions& options);

}  // namespace ringcap

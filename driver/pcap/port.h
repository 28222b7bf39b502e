// `pcap:FILE`: plays a pcap or pcapng file, or a pipe ("-": standard input), as if a NIC received it.
//
// Frames are copied, once, into the arena, with the file's timestamps. Queues hold no buffers (descriptors()
// is 0): a frame is read when there is a free buffer for it. A file loses nothing (`full=wait`): where takers
// are slow or buffers are out, it waits. What is longer than a buffer is cut and flagged.
//
// Each queue reads the whole file for itself and takes its own flows out of it (both directions of a flow go
// to one queue; frames that are no Ethernet all to the first). So queues share nothing, and N queues read N
// times; a pipe can have only one.
//
// A file that is damaged or cut gives everything before that, then ends; problem() says why.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "capture/base/error.h"
#include "capture/port/port.h"

namespace ringcap {

struct PcapOptions {
  double speed = 1;        // times the recorded one; 0: as fast as possible
  uint64_t loop = 1;       // how often the file is played, its time running on; 0: for ever
  bool full_waits = true;  // false: frames that come when there is no room are lost, as a NIC's
  uint32_t queues = 1;     // 1 to 64
  uint32_t mtu = 1500;     // 68 to 16,362: decides how large buffers are
};

// Errors: kNotFound (no such file), kPermission, kUsage (options; not a capture file), kSystem.
Result<std::unique_ptr<Port>> open_pcap_port(const std::string& path, const PcapOptions& options);

}  // namespace ringcap

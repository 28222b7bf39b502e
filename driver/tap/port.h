// `tap:NAME`: a TAP device, an interface whose other end is this port. What the host sends through it is
// received here, flagged outgoing; what is transmitted here is received by the host.
//
// The device is made when the port is opened and goes with it, unless somebody made it persistent before
// (`ip tuntap add`): then it is attached to, and stays. Everything is opened by open_tap_port(), with all
// privileges (CAP_NET_ADMIN); what the port does later needs none, so the engine may become another user.
// Differences to a NIC's port:
//   - frames are copied, once, by the kernel's read() (driver/tap/queue.h) and write()
//   (driver/tap/transmit.h);
//   - queues hold no buffers (descriptors() is 0); timestamps are the engine's;
//   - a new TAP is down: nothing comes, and what is transmitted is refused, until the host sets it up;
//   - no offload is offered, so the host completes checksums and segments before we see a frame;
//   - a TAP that is deleted (`ip link del`) does not come back (link().present).
// With several queues the kernel gives a flow to the queue on which its other direction was last
// transmitted, and spreads by hash what it does not know yet.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "capture/base/error.h"
#include "capture/port/port.h"

namespace ringcap {

struct TapOptions {
  std::string name = {};  // of the interface, 1 to 15 bytes
  uint32_t queues = 1;    // 1 to 64: receive and transmit queues
  uint32_t mtu = 1500;    // 68 to 16,362; set on the interface
  std::string mac = {};   // "02:00:00:00:00:01"; "": the kernel draws one (a persistent TAP keeps its own)
  bool up = false;        // set the interface up; otherwise it stays as it is
  int index =
      0;  // the interface's number, if it is free; 0: the kernel's choice (a persistent TAP keeps its own)
};

// Whether `text` is the link address of one station, which an interface can have.
bool is_station_mac(const std::string& text);

// The control thread calls what is declared here; see port.h for the rest.
class TapPort : public Port {
 public:
  // The interface's carrier, as the link of the NIC that it stands for: without it the host sends nothing.
  // A TAP has carrier once it is opened. Does nothing where the TAP is gone.
  virtual void set_link(bool up) = 0;
  // Of the interface, in the network namespace in which the port was opened.
  virtual int interface_index() const = 0;
  // Whether the TAP was there before and will stay.
  virtual bool persistent() const = 0;
};

// Errors: kPermission (no CAP_NET_ADMIN), kUsage (options; an interface of that name that is no TAP, is in
// use, or has not the queues), kNotFound (no /dev/net/tun), kSystem.
Result<std::unique_ptr<TapPort>> open_tap_port(const TapOptions& options);

}  // namespace ringcap

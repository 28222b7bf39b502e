// The TAP interface behind a `tap:` port: made or attached to, set up, watched. Control thread. The kernel is
// asked by index, in the network namespace in which the device was opened; renaming changes nothing. See
// Linux' Documentation/networking/tuntap.rst.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "capture/base/error.h"
#include "capture/base/fd.h"
#include "capture/port/port.h"
#include "driver/tap/port.h"

struct nl_sock;

namespace ringcap::tap {

class Device {
 public:
  static Result<Device> open(const TapOptions& options);

  // One a queue, non-blocking: a read is a frame that the host sends, a write one that it receives.
  std::span<const Fd> queues() const { return queues_; }
  bool persistent() const { return persistent_; }
  int index() const { return index_; }

  Link link() const;
  // Follows the NIC's link; an error (the device is gone) is of no interest.
  void set_carrier(bool up) const;
  // Frames that the host sent and the kernel dropped since the last forget_dropped(), because a queue was
  // full; of all queues. What cannot be asked any more is as of the last look.
  uint64_t dropped();
  void forget_dropped();

  // Readable when some interface changed; consume_events() then makes it unreadable.
  int event_fd() const { return events_.get(); }
  void consume_events() const;

 private:
  struct FreeSocket {
    void operator()(nl_sock* socket) const;
  };

  Result<void> attach(const TapOptions& options);
  int make(const TapOptions& options, short flags);
  Result<void> attach_existing(const TapOptions& options, short flags);
  Result<void> add_queue(const std::string& name, short flags);
  Result<void> open_sockets();
  Result<void> configure(const TapOptions& options);
  bool is_there() const;
  uint64_t all_dropped();

  std::vector<Fd> queues_;
  Fd control_;  // any socket, for ioctls
  Fd events_;
  std::unique_ptr<nl_sock, FreeSocket> netlink_;
  int index_ = 0;
  bool persistent_ = false;
  uint64_t dropped_ = 0;  // as of the last look
  uint64_t dropped_before_ = 0;
};

}  // namespace ringcap::tap

// A network interface as `packet:` needs to know it. Control thread. Everything is asked of the kernel
// anew, by index, in the network namespace in which the object was opened: an interface that is renamed
// stays the same, one that is deleted and made again does not.
#pragma once

#include <cstdint>
#include <string>

#include "capture/base/error.h"
#include "capture/base/fd.h"
#include "capture/port/port.h"

namespace ringcap::packet {

class Interface {
 public:
  // Errors: kNotFound, with the interfaces that there are; kUsage for one whose frames have no link type.
  static Result<Interface> open(const std::string& name);

  int index() const { return index_; }
  uint32_t link_type() const { return link_type_; }  // LINKTYPE_ETHERNET or LINKTYPE_RAW
  bool loopback() const { return loopback_; }
  Link link() const;

  // Readable when some interface changed; consume() then makes it unreadable.
  int event_fd() const { return events_.get(); }
  void consume_events() const;

 private:
  Result<void> look_up(const std::string& name);
  uint32_t mbps(const char* name) const;

  Fd control_;  // any socket, for ioctls
  Fd events_;
  int index_ = 0;
  uint32_t link_type_ = 1;
  bool loopback_ = false;
};

}  // namespace ringcap::packet

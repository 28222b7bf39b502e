// Outlet: where `ringcap send` sends: a port that it opens for itself, or a running engine's. One thread.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "capture/base/error.h"
#include "driver/ports/address.h"

namespace ringcap::tools {

struct OutletCounts {
  uint64_t sent = 0;     // the port is done with them
  uint64_t refused = 0;  // the port did not take them
};

class Outlet {
 public:
  static constexpr size_t kShortest = 14;  // bytes of a frame: its header's

  virtual ~Outlet() = default;

  // Copies a frame, to be sent with the next push(). False: there is no room for it now. A frame that is too
  // long or too short is refused, and counted.
  virtual bool add(std::span<const std::byte> frame) = 0;
  // Hands over what was added, as far as the port takes it now; the rest stays for the next push(). True if
  // it took something, or there was nothing. Errors: kGone; an interface that is deleted takes and refuses
  // everything before.
  virtual Result<bool> push() = 0;
  // Until the port is done with all of them, or has made no progress for `patience_ms`; false then.
  virtual Result<bool> finish(int patience_ms) = 0;
  virtual OutletCounts counts() const = 0;
  // Bytes of the longest frame, without CRC.
  virtual uint32_t longest() const = 0;
  // "packet:eth0", "vfio:0000:03:00.0 of engine eth0"
  virtual std::string name() const = 0;
};

// Opens the port, sends from memory of its own (`arena_bytes`, hugepages where the port needs them), and
// waits for a link for at most 10 s.
Result<std::unique_ptr<Outlet>> open_port_outlet(const PortAddress& port, uint64_t arena_bytes);
// A sender of the engine, on `port` ("": the first that sends).
Result<std::unique_ptr<Outlet>> open_engine_outlet(const std::string& engine, const std::string& port);

}  // namespace ringcap::tools

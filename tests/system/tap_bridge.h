// Two TAPs in two network namespaces, and a thread that carries frames between them: two hosts on a cable,
// with real protocol stacks at both ends. For tests of `tap:`.
#pragma once

#include <atomic>
#include <cstdint>
#include <thread>

#include "driver/tap/port.h"
#include "port_capture.h"

namespace ringcap::test {

// What is wrong with a frame that left the host: a checksum of IPv4, TCP, UDP or ICMP; "" if nothing is.
std::string fault_of(const Bytes& frame);

class TapBridge {
 public:
  // Hosts 10.1.0.1 and 10.1.0.2 on interfaces t0, up.
  explicit TapBridge(TapOptions options);
  ~TapBridge();

  const Namespace& host(int n) const { return hosts_[n]; }
  // Valid once the bridge has been stopped.
  void stop();
  uint64_t frames() const { return frames_; }
  uint64_t tcp_frames() const { return tcp_frames_; }
  uint32_t longest() const { return longest_; }
  const std::string& fault() const { return fault_; }

 private:
  void carry();
  bool carry_once(PortCapture& from, TapPort& to);
  void look_at(const Captured& frame);

  Namespace hosts_[2];
  std::unique_ptr<PortCapture> captures_[2];
  std::atomic<bool> stop_{false};
  std::thread thread_;
  uint64_t frames_ = 0;
  uint64_t tcp_frames_ = 0;
  uint32_t longest_ = 0;
  std::string fault_;
};

}  // namespace ringcap::test

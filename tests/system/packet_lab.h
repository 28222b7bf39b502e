// A veth pair and a port on one end of it, in this process: for the tests of `packet:`.
#pragma once

#include <memory>
#include <stdexcept>
#include <string>

#include "driver/packet/port.h"
#include "port_capture.h"

namespace ringcap::test {

// near <-> far in a namespace of their own: frames are captured on near.
class PacketLab : public Namespace {
 public:
  explicit PacketLab(int mtu = 1500) { add_veth("near", "far", mtu); }
};

class PacketCapture : public PortCapture {
 public:
  PacketCapture(const Namespace& lab, const std::string& interface, PacketOptions options,
                uint32_t buffer_bytes = 2048, uint32_t buffers = 512)
      : PortCapture(open(lab, interface, options), buffer_bytes, buffers) {}

 private:
  static std::unique_ptr<Port> open(const Namespace& lab, const std::string& interface,
                                    const PacketOptions& options) {
    std::unique_ptr<Port> opened;
    lab.within([&] {
      auto port = open_packet_port(interface, options);
      if (!port) throw std::runtime_error(port.error().message());
      opened = std::move(*port);
    });
    return opened;
  }
};

}  // namespace ringcap::test

// What a NIC is opened with, whatever its family: the keys of a vfio: address (ringcap-ports(7)).
#pragma once

#include <cstdint>

namespace ringcap::pci {

inline constexpr int64_t kModerationAuto = -1;

// What the NIC sends comes back to it instead of going out: for `ringcap selftest` alone. Turned round in the
// MAC, or behind it in the PHY.
enum class Loopback { kOff, kMac, kPhy };

struct NicOptions {
  uint32_t mtu = 1500;
  uint32_t queues = 1;
  uint32_t descriptors = 1024;              // of each receive queue
  int64_t moderation_us = kModerationAuto;  // least time between two interrupts of a queue; 0: off
  bool bad = false;                         // deliver frames with a bad CRC or length as well
  bool crc = false;                         // frames keep their CRC, as their last four bytes
  bool adapter_time = false;                // timestamps by the NIC's clock
  bool transmit = false;                    // maps the arena a second time, for the device to read
  Loopback loopback = Loopback::kOff;
};

}  // namespace ringcap::pci

// PortAddress: the address of a port, and its one parser.
//
//   PORT := KIND ":" ADDRESS { "," KEY "=" VALUE }     a comma in a file name: "\,"
//   KIND := vfio | tap | packet | xdp | pcap | gen     gen has no ADDRESS: "gen:size=64,flows=1000"
//
// ringcap-ports(7) describes the keys; the table in address.cc is where they are. Called by the tools and
// by whoever opens a port, in any thread.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "capture/base/error.h"

namespace ringcap {

enum class PortKind { kVfio, kTap, kPacket, kXdp, kPcap, kGen };
enum class WhenFull { kWait, kDrop };          // what a source does that could wait for takers
enum class Mix { kIpv4, kIpv6, kVlan, kAll };  // gen: protocols of the frames

inline constexpr int64_t kModerationAuto = -1;       // of PortAddress::moderation_us
inline constexpr uint32_t kImix = 0;                 // of PortAddress::size
inline constexpr uint32_t kWriteAll = ~uint32_t{0};  // of PortAddress::write

// What an address says. Every field has a value: what was not given has its default.
struct PortAddress {
  PortKind kind = PortKind::kGen;
  std::string address;  // PCI address (always with its domain), interface, file; "" for gen

  uint32_t queues = 1;  // 1 to 64
  uint32_t mtu = 1500;  // 68 to 16,000

  // vfio
  uint32_t descriptors = 1024;              // 64 to 32,768, a multiple of 8
  int64_t moderation_us = kModerationAuto;  // of interrupts; 0: off
  bool bad = false;                         // deliver frames with a bad CRC or length
  bool crc = false;                         // frames keep their CRC
  bool adapter_time = false;                // timestamps by the NIC's clock
  // packet
  bool outgoing = true;  // deliver what the host sends, too
  // tap
  std::string mac = {};  // "": the kernel draws one
  // pcap
  double speed = 1;   // 0: as fast as possible
  uint64_t loop = 1;  // how often the file is read; 0: for ever
  // pcap, gen
  WhenFull full = WhenFull::kDrop;
  // gen
  uint32_t size = 64;  // bytes of a frame without CRC, 60 to 16,000; kImix
  uint64_t count = 0;  // frames; 0: no end
  uint64_t rate = 0;   // frames per second; 0: as fast as possible
  uint64_t flows = 1000;
  Mix mix = Mix::kIpv4;
  uint32_t write = 64;  // bytes of each frame that are written anew: 64, 0, or kWriteAll
  uint64_t seed = 1;

  bool operator==(const PortAddress&) const = default;
};

// Error (kUsage): says what is wrong, and lists the kinds, keys or values there are.
Result<PortAddress> parse_port_address(std::string_view text);

// The normal form: only keys that differ from their default, in the table's order.
std::string format_port_address(const PortAddress& port);

// "vfio", "tap", ...
std::string_view kind_name(PortKind kind);

// True where `text` begins with a KIND and ":", so that it is meant as a port's address.
bool looks_like_port_address(std::string_view text);

// "0000:03:00.0" of "03:00.0" or "0000:03:00.0"; an error where it is no PCI address.
Result<std::string> normal_pci_address(std::string_view text);

// The name of an engine that was given none: the interface's name; for vfio the one that the interface had,
// which `interface_of` knows by PCI address ("": does not), else the PCI address with '-' for ':'; for pcap
// and gen "pcap0", "gen1": the lowest number that is not `taken`.
std::string default_engine_name(
    const PortAddress& port, const std::function<std::string(const std::string& pci_address)>& interface_of,
    const std::function<bool(const std::string& name)>& taken);

}  // namespace ringcap

// Numbers of the protocols that the parser knows, and the captured bytes that it reads them from. For the
// files of this folder and capture/cluster; anyone else reads what the parser found, in the Frame.
#pragma once

#include <cstddef>
#include <cstdint>

#include "capture/frame/hash.h"
#include "capture/port/port.h"

namespace ringcap {

// https://www.iana.org/assignments/ieee-802-numbers
enum EtherType : uint16_t {
  kTypeNone = 0,
  kFirstType = 0x0600,  // smaller values are IEEE 802.3 lengths
  kTypeIpv4 = 0x0800,
  kTypeArp = 0x0806,
  kTypeErspan3 = 0x22eb,
  kTypeEthernet = 0x6558,  // an Ethernet header, in a tunnel; our walk begins with it, too
  kTypeVlan = 0x8100,
  kTypeIpv6 = 0x86dd,
  kTypePpp = 0x880b,
  kTypeMpls = 0x8847,
  kTypeMplsMulticast = 0x8848,
  kTypePppoe = 0x8864,  // its session stage
  kTypeServiceVlan = 0x88a8,
  kTypeErspan = 0x88be,
  kTypeOldStackedVlan = 0x9100,
};

// https://www.iana.org/assignments/protocol-numbers
enum Protocol : uint8_t {
  kHopByHop = 0,
  kIpv4InIp = 4,
  kTcp = 6,
  kUdp = 17,
  kDccp = 33,
  kIpv6InIp = 41,
  kRouting = 43,
  kFragmentHeader = 44,
  kGre = 47,
  kAuthentication = 51,
  kNoNextHeader = 59,
  kDestinationOptions = 60,
  kL2tp = 115,
  kSctp = 132,
  kMobility = 135,
  kUdpLite = 136,
  kHostIdentity = 139,
  kShim6 = 140,
};

// UDP ports that tunnels are sent to. L2TP's answers may come from its port to any other.
enum TunnelPort : uint16_t {
  kPortL2tp = 1701,
  kPortGtpU = 2152,
  kPortVxlan = 4789,
  kPortVxlanGpe = 4790,
  kPortGeneve = 6081,
  kPortOldVxlan = 8472,  // Linux's before there was a number; still its default
};

// Protocols whose header begins with the two ports. In one test, without a branch that a mix of them
// would make the processor guess.
inline bool has_ports(uint32_t protocol) {
  constexpr uint64_t kLow = uint64_t{1} << kTcp | uint64_t{1} << kUdp | uint64_t{1} << kDccp;
  return ((kLow >> (protocol & 63)) & (protocol < 64)) != 0 || protocol == kSctp || protocol == kUdpLite;
}

inline bool is_vlan(uint16_t type) {
  return type == kTypeVlan || type == kTypeServiceVlan || type == kTypeOldStackedVlan;
}
inline bool is_mpls(uint16_t type) { return type == kTypeMpls || type == kTypeMplsMulticast; }

// Headers that are walked in one frame, of all kinds together: bounds depth and work.
inline constexpr uint32_t kMaxHeaders = 32;

// The captured bytes of one frame, and how many headers may still be walked.
class Bytes {
 public:
  explicit Bytes(const Frame& frame) : data_(frame.data), end_(frame.captured) {}

  bool has(uint32_t offset, uint32_t bytes) const { return offset <= end_ && bytes <= end_ - offset; }
  // For each of these has() was asked before.
  const std::byte* at(uint32_t offset) const { return data_ + offset; }
  uint8_t u8(uint32_t offset) const { return flow_hash::load<uint8_t>(at(offset)); }
  uint16_t be16(uint32_t offset) const { return __builtin_bswap16(flow_hash::load<uint16_t>(at(offset))); }
  uint32_t be32(uint32_t offset) const { return __builtin_bswap32(flow_hash::load<uint32_t>(at(offset))); }

  // To be asked before each header.
  bool may_walk() {
    if (headers_left_ == 0) return false;
    --headers_left_;
    return true;
  }

 private:
  const std::byte* data_;
  uint32_t end_;
  uint32_t headers_left_ = kMaxHeaders;
};

// Where a walk stands: the next header begins at `offset` and is of `type`.
struct Next {
  uint32_t offset = 0;
  uint16_t type = kTypeNone;
};

}  // namespace ringcap

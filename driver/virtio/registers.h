// The structures and numbers of a modern virtio network device on PCI, as far as ringcap uses them, by their
// names in "Virtual I/O Device (VIRTIO) Version 1.2" (OASIS): "Virtio Over PCI Bus", "Basic Facilities of a
// Virtio Device", "Network Device". Everything is little-endian.
#pragma once

#include <cstdint>

namespace ringcap::virtio {

// "Virtio Structure PCI Capabilities": vendor-specific capabilities that say where a structure is.
namespace capability {
inline constexpr uint32_t VENDOR = 0x09;                                   // id of the PCI capability
inline constexpr uint32_t CFG_TYPE = 3, BAR = 4, OFFSET = 8, LENGTH = 12;  // in it
inline constexpr uint32_t NOTIFY_OFF_MULTIPLIER = 16;                      // of NOTIFY_CFG
enum Type : uint32_t { COMMON_CFG = 1, NOTIFY_CFG = 2, ISR_CFG = 3, DEVICE_CFG = 4 };
}  // namespace capability

// "Common configuration structure layout". Bytes: each must be accessed by its own width.
namespace common {
inline constexpr uint32_t device_feature_select = 0x00, device_feature = 0x04;  // 4
inline constexpr uint32_t driver_feature_select = 0x08, driver_feature = 0x0c;  // 4
inline constexpr uint32_t config_msix_vector = 0x10, num_queues = 0x12;         // 2
inline constexpr uint32_t device_status = 0x14;                                 // 1
inline constexpr uint32_t queue_select = 0x16, queue_size = 0x18, queue_msix_vector = 0x1a,
                          queue_enable = 0x1c, queue_notify_off = 0x1e;                               // 2
inline constexpr uint32_t queue_desc = 0x20, queue_driver = 0x28, queue_device = 0x30, bytes = 0x38;  // 8
}  // namespace common
inline constexpr uint32_t kNoVector = 0xffff;

// "Device Status Field"
namespace status {
inline constexpr uint32_t ACKNOWLEDGE = 1, DRIVER = 2, DRIVER_OK = 4, FEATURES_OK = 8, NEEDS_RESET = 0x40,
                          FAILED = 0x80;
}

// "ISR status capability": reading clears, and takes the interrupt line back.
namespace isr {
inline constexpr uint32_t QUEUE = 1, CONFIGURATION = 2;
}

// "Reserved Feature Bits" and "Network Device: Feature bits"; NOTF_COAL is of version 1.3
namespace feature {
inline constexpr uint64_t MRG_RXBUF = 1ull << 15, STATUS = 1ull << 16, CTRL_VQ = 1ull << 17,
                          CTRL_RX = 1ull << 18, MQ = 1ull << 22, VERSION_1 = 1ull << 32,
                          ACCESS_PLATFORM = 1ull << 33, RING_PACKED = 1ull << 34, ORDER_PLATFORM = 1ull << 36,
                          NOTF_COAL = 1ull << 53, RSS = 1ull << 60, SPEED_DUPLEX = 1ull << 63;
}

// "Network Device: Device configuration layout"
namespace net {
inline constexpr uint32_t status = 6, max_virtqueue_pairs = 8;    // 2
inline constexpr uint32_t speed = 12;                             // 4: Mbit/s, or all ones
inline constexpr uint32_t rss_max_key_size = 17;                  // 1
inline constexpr uint32_t rss_max_indirection_table_length = 18;  // 2
inline constexpr uint32_t supported_hash_types = 20;              // 4
inline constexpr uint32_t LINK_UP = 1;                            // of status
}  // namespace net

// What stands before each frame: "Network Device: Device Operation", struct virtio_net_hdr. With VERSION_1 it
// always has num_buffers.
struct Header {
  uint8_t flags;
  uint8_t gso_type;
  uint16_t hdr_len;
  uint16_t gso_size;
  uint16_t csum_start;
  uint16_t csum_offset;
  uint16_t num_buffers;
};
static_assert(sizeof(Header) == 12);
inline constexpr uint8_t kNeedsChecksum = 1;  // of flags

// "Control Virtqueue"
namespace control {
inline constexpr uint8_t OK = 0;
inline constexpr uint8_t RX = 0, RX_PROMISC = 0, RX_ALLMULTI = 1;
inline constexpr uint8_t MQ = 4, MQ_VQ_PAIRS_SET = 0, MQ_RSS_CONFIG = 1;
inline constexpr uint8_t NOTF_COAL = 6, NOTF_COAL_RX_SET = 1;
}  // namespace control

// "RSS": hash types
namespace hash {
inline constexpr uint32_t IPv4 = 1, TCPv4 = 2, UDPv4 = 4, IPv6 = 8, TCPv6 = 16, UDPv6 = 32;
}

}  // namespace ringcap::virtio

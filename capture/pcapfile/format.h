// The pcap and pcapng file formats: numbers and sizes that the reader and the writer share.
//
// Sources: draft-ietf-opsawg-pcap (pcap: a 24-byte file header, then for each frame a 16-byte header and
// its bytes, all in the byte order of who wrote it) and draft-ietf-opsawg-pcapng (blocks, each with its
// type and its total length at the front and the length again at the end).
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace ringcap::pcapfile {

// Frames longer than this are taken for nonsense: libpcap's limit for a snapshot.
inline constexpr uint32_t kMaxCaptured = 262144;

// ---- pcap ----
inline constexpr uint32_t kMagicMicro = 0xa1b2c3d4;
inline constexpr uint32_t kMagicNano = 0xa1b23c4d;
inline constexpr uint32_t kMagicModified = 0xa1b2cd34;  // Kuznetzov's patched libpcap: 24-byte frame headers
inline constexpr uint16_t kVersionMajor = 2;
inline constexpr uint16_t kVersionMinor = 4;
inline constexpr size_t kFileHeaderBytes = 24;
inline constexpr size_t kFrameHeaderBytes = 16;
inline constexpr uint32_t kLinkTypeMask = 0x03ffffff;  // above it: length of the frame check sequence

// ---- pcapng ----
inline constexpr uint32_t kSectionHeader = 0x0a0d0d0a;  // reads the same in both byte orders
inline constexpr uint32_t kByteOrderMagic = 0x1a2b3c4d;
inline constexpr uint32_t kInterfaceDescription = 1;
inline constexpr uint32_t kObsoletePacket = 2;
inline constexpr uint32_t kSimplePacket = 3;
inline constexpr uint32_t kEnhancedPacket = 6;
inline constexpr size_t kBlockHeaderBytes = 8;   // type, total length
inline constexpr size_t kBlockTrailerBytes = 4;  // total length
inline constexpr uint32_t kMinBlockBytes = 12;
inline constexpr uint32_t kMinSectionBytes = 28;
inline constexpr uint32_t kMinInterfaceBytes = 20;
inline constexpr uint32_t kMinSimplePacketBytes = 16;
inline constexpr uint32_t kMinPacketBytes = 32;   // enhanced and obsolete
inline constexpr size_t kPacketHeaderBytes = 28;  // of both, up to the frame
inline constexpr size_t kSimplePacketHeaderBytes = 12;
inline constexpr uint16_t kOptionTimestampResolution = 9;
inline constexpr uint16_t kOptionTimestampOffset = 14;
inline constexpr uint32_t kMaxInterfaces = 65536;  // of one section; more is nonsense

// "1 (Ethernet)": a LINKTYPE_ value for a message. https://www.tcpdump.org/linktypes.html
std::string link_type_text(uint32_t link_type);

}  // namespace ringcap::pcapfile

// docs/layout.md against capture/layout/layout.h: every row of its tables, and no row too few.
#include "capture/layout/layout.h"

#include <gtest/gtest.h>

#include <fstream>
#include <map>
#include <regex>
#include <string>

namespace ringcap::layout {
namespace {

struct Field {
  size_t offset;
  size_t bytes;
  bool operator==(const Field&) const = default;
};
using Fields = std::map<std::string, Field>;

// The rows of the section "## NAME (...)" in docs/layout.md, and the bytes that its title says.
struct Section {
  size_t bytes = 0;
  Fields fields;
};

Section read_section(const std::string& name) {
  std::ifstream file(RINGCAP_SOURCE_DIR "/docs/layout.md");
  const std::regex title("## (\\w+) \\((\\d+) bytes.*"), row("\\| (\\d+) \\| (\\d+) \\| (\\w+) \\|");
  Section section;
  bool inside = false;
  std::smatch match;
  for (std::string line; std::getline(file, line);) {
    if (std::regex_match(line, match, title)) {
      inside = match[1] == name;
      if (inside) section.bytes = std::stoul(match[2]);
    } else if (inside && std::regex_match(line, match, row)) {
      section.fields[match[3]] = {std::stoul(match[1]), std::stoul(match[2])};
    }
  }
  return section;
}

#define FIELD(type, name)                               \
  {                                                     \
    #name, { offsetof(type, name), sizeof(type::name) } \
  }

TEST(Layout, the_descriptor_is_as_documented) {
  const auto section = read_section("Descriptor");
  EXPECT_EQ(section.bytes, sizeof(Descriptor));
  EXPECT_EQ(section.fields,
            (Fields{FIELD(Descriptor, timestamp_ns), FIELD(Descriptor, location), FIELD(Descriptor, length),
                    FIELD(Descriptor, hash), FIELD(Descriptor, captured), FIELD(Descriptor, flags),
                    FIELD(Descriptor, l3_half), FIELD(Descriptor, l4_half), FIELD(Descriptor, source),
                    FIELD(Descriptor, reserved)}));
}

TEST(Layout, ring_lines_and_control_lines_are_as_documented) {
  EXPECT_EQ(read_section("RingLine").bytes, sizeof(RingLine));
  EXPECT_EQ(read_section("RingLine").fields, (Fields{FIELD(RingLine, head)}));
  EXPECT_EQ(read_section("ControlLine").bytes, sizeof(ControlLine));
  EXPECT_EQ(read_section("ControlLine").fields,
            (Fields{FIELD(ControlLine, cursor), FIELD(ControlLine, wake_at), FIELD(ControlLine, late),
                    FIELD(ControlLine, not_matched)}));
}

TEST(Layout, the_header_is_as_documented) {
  const auto section = read_section("Header");
  EXPECT_EQ(section.bytes, sizeof(Header));
  EXPECT_EQ(section.fields,
            (Fields{FIELD(Header, magic),        FIELD(Header, major),       FIELD(Header, minor),
                    FIELD(Header, header_bytes), FIELD(Header, state_bytes), FIELD(Header, arena_bytes),
                    FIELD(Header, page_bytes),   FIELD(Header, started_ns),  FIELD(Header, pid),
                    FIELD(Header, memory),       FIELD(Header, clock),       FIELD(Header, name),
                    FIELD(Header, version),      FIELD(Header, ports),       FIELD(Header, sources),
                    FIELD(Header, workers),      FIELD(Header, takers),      FIELD(Header, consumers),
                    FIELD(Header, regions),      FIELD(Header, clusters),    FIELD(Header, cluster_blocks),
                    FIELD(Header, hash_key),     FIELD(Header, statistics),  FIELD(Header, forwarders),
                    FIELD(Header, senders),      FIELD(Header, state),       FIELD(Header, departed)}));
}

TEST(Layout, a_takers_block_is_as_documented) {
  const auto section = read_section("TakerBlock");
  EXPECT_EQ(section.bytes, sizeof(TakerBlock));
  EXPECT_EQ(section.fields,
            (Fields{FIELD(TakerBlock, considered), FIELD(TakerBlock, not_matched), FIELD(TakerBlock, offered),
                    FIELD(TakerBlock, published), FIELD(TakerBlock, dropped), FIELD(TakerBlock, released),
                    FIELD(TakerBlock, in_ring), FIELD(TakerBlock, reclaiming), FIELD(TakerBlock, reclaimed),
                    FIELD(TakerBlock, late), FIELD(TakerBlock, filter_ns), FIELD(TakerBlock, cluster)}));
}

TEST(Layout, clusters_are_as_documented) {
  EXPECT_EQ(read_section("ClusterBlock").bytes, sizeof(ClusterBlock));
  EXPECT_EQ(read_section("ClusterBlock").fields,
            (Fields{FIELD(ClusterBlock, considered), FIELD(ClusterBlock, not_matched),
                    FIELD(ClusterBlock, offered), FIELD(ClusterBlock, twice), FIELD(ClusterBlock, unassigned),
                    FIELD(ClusterBlock, members), FIELD(ClusterBlock, departed),
                    FIELD(ClusterBlock, filter_ns), FIELD(ClusterBlock, flow_weight)}));
  EXPECT_EQ(read_section("TrackedFlow").bytes, sizeof(TrackedFlow));
  EXPECT_EQ(read_section("TrackedFlow").fields,
            (Fields{FIELD(TrackedFlow, a), FIELD(TrackedFlow, b), FIELD(TrackedFlow, port_a),
                    FIELD(TrackedFlow, port_b), FIELD(TrackedFlow, hash), FIELD(TrackedFlow, version),
                    FIELD(TrackedFlow, protocol), FIELD(TrackedFlow, type), FIELD(TrackedFlow, inherited),
                    FIELD(TrackedFlow, a_to_b), FIELD(TrackedFlow, b_to_a), FIELD(TrackedFlow, bytes)}));
  EXPECT_EQ(read_section("ClusterEntry").bytes, sizeof(ClusterEntry));
  EXPECT_EQ(read_section("ClusterEntry").fields,
            (Fields{FIELD(ClusterEntry, sequence), FIELD(ClusterEntry, used), FIELD(ClusterEntry, kind),
                    FIELD(ClusterEntry, level), FIELD(ClusterEntry, stall), FIELD(ClusterEntry, stall_ms),
                    FIELD(ClusterEntry, filtered), FIELD(ClusterEntry, uid), FIELD(ClusterEntry, members),
                    FIELD(ClusterEntry, slots), FIELD(ClusterEntry, stalled), FIELD(ClusterEntry, moves),
                    FIELD(ClusterEntry, name), FIELD(ClusterEntry, consumers)}));
}

TEST(Layout, flags_are_as_documented) {
  std::ifstream file(RINGCAP_SOURCE_DIR "/docs/layout.md");
  const std::regex row("\\| ([A-Za-z ]+) \\| (\\d+) \\|");
  std::map<std::string, int> flags;
  std::smatch match;
  for (std::string line; std::getline(file, line);)
    if (std::regex_match(line, match, row)) flags[match[1]] = std::stoi(match[2]);
  EXPECT_EQ(flags, (std::map<std::string, int>{{"outgoing", kOutgoing},
                                               {"truncated", kTruncated},
                                               {"bad CRC", kBadCrc},
                                               {"bad length", kBadLength},
                                               {"fragment", kFragment},
                                               {"first fragment", kFirstFragment},
                                               {"VLAN", kVlan},
                                               {"tunnel", kTunnel},
                                               {"hash valid", kHashValid},
                                               {"adapter time", kAdapterTime},
                                               {"copied", kCopied}}));
}

TEST(Layout, a_location_holds_offset_region_and_loss) {
  Descriptor d{};
  d.location = location((uint64_t{1} << 40) - 64, 255) | uint64_t{65535} << 48;
  EXPECT_EQ(frame_offset(d), (uint64_t{1} << 40) - 64);
  EXPECT_EQ(region(d), 255);
  EXPECT_EQ(lost_before(d), 65535);
}

TEST(Layout, forwarders_and_senders_are_as_documented) {
  EXPECT_EQ(read_section("ForwarderEntry").bytes, sizeof(ForwarderEntry));
  EXPECT_EQ(
      read_section("ForwarderEntry").fields,
      (Fields{FIELD(ForwarderEntry, sequence), FIELD(ForwarderEntry, from), FIELD(ForwarderEntry, to),
              FIELD(ForwarderEntry, worker), FIELD(ForwarderEntry, slot), FIELD(ForwarderEntry, queue),
              FIELD(ForwarderEntry, sleeps), FIELD(ForwarderEntry, taken), FIELD(ForwarderEntry, sent),
              FIELD(ForwarderEntry, refused), FIELD(ForwarderEntry, pending), FIELD(ForwarderEntry, bytes)}));
  EXPECT_EQ(read_section("SenderEntry").bytes, sizeof(SenderEntry));
  EXPECT_EQ(read_section("SenderEntry").fields,
            (Fields{FIELD(SenderEntry, sequence), FIELD(SenderEntry, id), FIELD(SenderEntry, state),
                    FIELD(SenderEntry, pid), FIELD(SenderEntry, uid), FIELD(SenderEntry, port),
                    FIELD(SenderEntry, queue), FIELD(SenderEntry, slots), FIELD(SenderEntry, name),
                    FIELD(SenderEntry, consumed), FIELD(SenderEntry, asked), FIELD(SenderEntry, refused),
                    FIELD(SenderEntry, sent), FIELD(SenderEntry, dropped), FIELD(SenderEntry, pending),
                    FIELD(SenderEntry, limited), FIELD(SenderEntry, bytes), FIELD(SenderEntry, sleeps)}));
}

TEST(Layout, what_a_sender_writes_is_as_documented) {
  EXPECT_EQ(read_section("SendLine").bytes, sizeof(SendLine));
  EXPECT_EQ(read_section("SendLine").fields, (Fields{FIELD(SendLine, produced)}));
  EXPECT_EQ(read_section("SendRequest").bytes, sizeof(SendRequest));
  EXPECT_EQ(read_section("SendRequest").fields,
            (Fields{FIELD(SendRequest, offset), FIELD(SendRequest, length)}));
}

}  // namespace
}  // namespace ringcap::layout

#include "tools/balance_count.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "capture/cluster/balance.h"
#include "capture/frame/parse.h"
#include "capture/frame/walk.h"

namespace ringcap::tools {
namespace {

using cluster::Kind;
using cluster::Level;

// A second hash beside the options' key: two flows are taken for one if both are equal, which among a million
// happens once in 37 million times.
constexpr HashKey kSecondKey{0x452821e638d01377, 0xbe5466cf34e90c6c};

std::string address_text(const Packet& packet, size_t offset) {
  char text[INET6_ADDRSTRLEN];
  ::inet_ntop(packet.version == 4 ? AF_INET : AF_INET6, packet.ip + offset, text, sizeof text);
  return text;
}

std::string end_text(const Packet& packet, size_t offset, uint16_t port) {
  std::string address = address_text(packet, offset);
  if (!has_ports(packet.protocol)) return address;
  return packet.version == 4 ? fmt::format("{}:{}", address, ntohs(port))
                             : fmt::format("[{}]:{}", address, ntohs(port));
}

std::string protocol_text(uint8_t protocol) {
  switch (protocol) {
    case 1:
      return "ICMP";
    case kTcp:
      return "TCP";
    case kUdp:
      return "UDP";
    case kGre:
      return "GRE";
    case 50:
      return "ESP";
    case 58:
      return "ICMPv6";
    case kSctp:
      return "SCTP";
    default:
      return fmt::format("protocol {}", protocol);
  }
}

std::string mac_text(const std::byte* mac) {
  return fmt::format("{:02x}", fmt::join(std::span(reinterpret_cast<const uint8_t*>(mac), 6), ":"));
}

std::string flow_text(const Packet& packet) {
  if (!packet.found()) return "less than an Ethernet header";
  if (packet.version == 0)
    return fmt::format("EtherType {:#06x} {} - {}", packet.type < kFirstType ? 0 : packet.type,
                       mac_text(packet.mac + 6), mac_text(packet.mac));
  const bool four = packet.version == 4;
  return fmt::format("{} {} - {}", protocol_text(packet.protocol),
                     end_text(packet, four ? 12 : 8, static_cast<uint16_t>(packet.ports)),
                     end_text(packet, four ? 16 : 24, static_cast<uint16_t>(packet.ports >> 16)));
}

std::string flow_text(const Frame& frame, Level level, const HashKey& key) {
  Walk walk;
  walk_frame(frame, key, walk);
  return flow_text(level == Level::kOuter ? walk.outer : walk.innermost());
}

}  // namespace

double imbalance(std::span<const MemberLoad> loads, uint64_t MemberLoad::* what) {
  uint64_t sum = 0;
  uint64_t largest = 0;
  for (const MemberLoad& load : loads) {
    sum += load.*what;
    largest = std::max(largest, load.*what);
  }
  return sum == 0 ? 0 : static_cast<double>(largest * loads.size()) / static_cast<double>(sum);
}

BalanceCount::BalanceCount(const BalanceOptions& options) : options_(options), members_(options.members) {
  for (uint32_t i = 0; i < options.members; ++i) slots_.join(std::to_string(i));
}

FlowLoad& BalanceCount::flow_of(const Frame& frame) {
  Frame second = frame;
  second.flags = 0;
  parse_frame(second, kSecondKey, second_table_);
  const uint32_t one = cluster::balance_hash(Kind::kFlow5, options_.level, frame, options_.key, table_);
  const uint32_t other =
      cluster::balance_hash(Kind::kFlow5, options_.level, second, kSecondKey, second_table_);
  FlowLoad& flow = flows_[uint64_t{one} << 32 | other];
  if (flow.frames == 0) flow.text = flow_text(frame, options_.level, options_.key);
  return flow;
}

void BalanceCount::deliver(const Frame& frame, FlowLoad& flow, uint32_t member) {
  MemberLoad& load = members_[member];
  ++load.frames;
  load.bytes += frame.length;
  if (std::ranges::find(flow.members, member) != flow.members.end()) return;
  flow.members.push_back(member);
  ++load.flows;
}

uint32_t BalanceCount::member_of(const Frame& frame, uint32_t interface) const {
  if (options_.kind == Kind::kRobin) return static_cast<uint32_t>(frames_ % options_.members);
  if (options_.kind == Kind::kPort) return interface % options_.members;
  return member_of(cluster::balance_hash(options_.kind, options_.level, frame, options_.key, table_));
}

void BalanceCount::take(Frame frame, uint32_t interface) {
  frame.flags = 0;
  parse_frame(frame, options_.key, table_);
  FlowLoad& flow = flow_of(frame);
  const auto [source, target] = cluster::ends_hashes(options_.level, frame, options_.key, table_);
  if (options_.kind == Kind::kEnds) {
    deliver(frame, flow, member_of(source));
    if (member_of(target) != member_of(source)) deliver(frame, flow, member_of(target));
  } else {
    deliver(frame, flow, member_of(frame, interface));
  }
  ++flow.frames;
  flow.bytes += frame.length;
  if (source != target) flow.seen[source < target ? 0 : 1] = true;
  ++frames_;
  bytes_ += frame.length;
  fragments_ += (frame.flags & layout::kFragment) != 0 ? 1 : 0;
}

uint64_t BalanceCount::one_sided() const {
  return static_cast<uint64_t>(std::ranges::count_if(
      flows_, [](const auto& flow) { return flow.second.seen[0] != flow.second.seen[1]; }));
}

std::vector<const FlowLoad*> BalanceCount::largest(size_t count) const {
  std::vector<const FlowLoad*> flows;
  flows.reserve(flows_.size());
  for (const auto& [id, flow] : flows_) flows.push_back(&flow);
  const auto middle = flows.begin() + static_cast<ptrdiff_t>(std::min(count, flows.size()));
  std::partial_sort(flows.begin(), middle, flows.end(), [](const FlowLoad* a, const FlowLoad* b) {
    return a->bytes != b->bytes ? a->bytes > b->bytes : a->text < b->text;
  });
  flows.erase(middle, flows.end());
  return flows;
}

}  // namespace ringcap::tools

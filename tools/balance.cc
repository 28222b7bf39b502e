// ringcap balance: what the balance of a cluster would be for a recorded file.
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>

#include "capture/pcapfile/reader.h"
#include "tools/balance_count.h"
#include "tools/cli.h"
#include "tools/hash_key.h"
#include "tools/table.h"

namespace ringcap::tools {
namespace {

namespace po = boost::program_options;
using nlohmann::ordered_json;

constexpr const char* kDefaultKey = "000102030405060708090a0b0c0d0e0f";

struct Asked {
  std::string file;
  std::string kind = "flow5";
  std::string level = "inner";
  std::string key = kDefaultKey;
  uint32_t members = 4;
  uint32_t top = 10;
  bool json = false;
};

Result<BalanceOptions> options_of(const Asked& asked) {
  const auto kind = cluster::parse_kind(asked.kind);
  if (!kind) return std::unexpected(kind.error());
  if (*kind == cluster::Kind::kQueue)
    return fail(Code::kUsage, "kind queue: a file does not say which receive queue a frame came from",
                "kinds that a file can answer: flow5 flow4 flow2 tcp5 ip5 vlan port robin ends");
  const auto level = cluster::parse_level(asked.level);
  if (!level) return std::unexpected(level.error());
  const auto key = parse_hash_key(asked.key);
  if (!key) return std::unexpected(key.error());
  if (asked.members == 0 || asked.members > cluster::kMaxMembers)
    return fail(Code::kUsage,
                fmt::format("--members {}: from 1 to {} there can be", asked.members, cluster::kMaxMembers));
  return BalanceOptions{.kind = *kind, .level = *level, .members = asked.members, .key = *key};
}

// Up to the file's end, or to where it is damaged.
Result<void> count_frames(pcapfile::Reader& reader, BalanceCount& count) {
  pcapfile::Record record;
  while (true) {
    switch (reader.next(record)) {
      case pcapfile::Reader::Status::kRecord:
        count.take({.timestamp_ns = record.timestamp_ns,
                    .length = record.length,
                    .captured = static_cast<uint16_t>(std::min<uint32_t>(record.captured, UINT16_MAX)),
                    .data = const_cast<std::byte*>(record.data)},  // which is only read
                   record.interface);
        break;
      case pcapfile::Reader::Status::kError:
        return std::unexpected(reader.error());
      default:
        return {};
    }
  }
}

std::string share(uint64_t part, uint64_t whole) {
  return whole == 0 ? "-"
                    : fmt::format("{:.1f}%", 100.0 * static_cast<double>(part) / static_cast<double>(whole));
}

void print_members(const BalanceCount& count) {
  std::vector<std::vector<std::string>> rows = {
      {"member", "frames", "share", "bytes", "share", "flows", "share"}};
  uint32_t number = 0;
  uint64_t frames = 0, bytes = 0, flows = 0;
  for (const MemberLoad& load : count.members()) {
    frames += load.frames;
    bytes += load.bytes;
    flows += load.flows;
  }
  for (const MemberLoad& load : count.members())
    rows.push_back({std::to_string(number++), std::to_string(load.frames), share(load.frames, frames),
                    std::to_string(load.bytes), share(load.bytes, bytes), std::to_string(load.flows),
                    share(load.flows, flows)});
  print("{}", format_table(rows));
  print("imbalance (largest over mean): frames {:.2f}, bytes {:.2f}, flows {:.2f}\n",
        imbalance(count.members(), &MemberLoad::frames), imbalance(count.members(), &MemberLoad::bytes),
        imbalance(count.members(), &MemberLoad::flows));
}

void print_flows(const BalanceCount& count, uint32_t top) {
  std::vector<std::vector<std::string>> rows = {{"bytes", "share", "frames", "member", "flow"}};
  for (const FlowLoad* flow : count.largest(top))
    rows.push_back({std::to_string(flow->bytes), share(flow->bytes, count.bytes()),
                    std::to_string(flow->frames), fmt::format("{}", fmt::join(flow->members, ",")),
                    flow->text});
  if (rows.size() > 1) print("\nlargest flows\n{}", format_table(rows));
}

void print_table(const Asked& asked, const BalanceCount& count) {
  print("{}: {} frames, {} bytes, {} flows; kind {}, level {}\n\n", asked.file, count.frames(), count.bytes(),
        count.flows(), asked.kind, asked.level);
  print_members(count);
  print_flows(count, asked.top);
  print("\nflows seen in one direction only: {} of {}\n", count.one_sided(), count.flows());
  print("fragments: {}, not placed with their flow: {}\n", count.fragments(), count.unplaced());
}

ordered_json balance_json(const Asked& asked, const BalanceCount& count) {
  ordered_json members = ordered_json::array();
  ordered_json largest = ordered_json::array();
  for (const MemberLoad& load : count.members())
    members.push_back(
        {{"member", members.size()}, {"frames", load.frames}, {"bytes", load.bytes}, {"flows", load.flows}});
  for (const FlowLoad* flow : count.largest(asked.top))
    largest.push_back(
        {{"flow", flow->text}, {"frames", flow->frames}, {"bytes", flow->bytes}, {"members", flow->members}});
  return {{"schema", "ringcap.balance/1"},
          {"file", asked.file},
          {"kind", asked.kind},
          {"level", asked.level},
          {"key", asked.key},
          {"frames", count.frames()},
          {"bytes", count.bytes()},
          {"flows", count.flows()},
          {"members", members},
          {"imbalance",
           {{"frames", imbalance(count.members(), &MemberLoad::frames)},
            {"bytes", imbalance(count.members(), &MemberLoad::bytes)},
            {"flows", imbalance(count.members(), &MemberLoad::flows)}}},
          {"largest_flows", largest},
          {"one_sided_flows", count.one_sided()},
          {"fragments", {{"frames", count.fragments()}, {"unplaced", count.unplaced()}}}};
}

}  // namespace

int run_balance(const Words& words) {
  Asked asked;
  Cli cli({.command = "balance",
           .usage = "[OPTION]... FILE",
           .summary = "Shows how a cluster would share the frames of a capture file among its members.",
           .example = "ringcap capture gen:count=1000 -w /tmp/demo.pcap\n"
                      "ringcap balance /tmp/demo.pcap --kind flow2 --members 4"});
  cli.options()("kind", po::value(&asked.kind)->value_name("KIND")->default_value("flow5"),
                "flow5, flow4, flow2, tcp5, ip5, vlan, port, robin or ends");
  cli.options()("level", po::value(&asked.level)->value_name("LEVEL")->default_value("inner"),
                "the packet of a tunnelled frame: inner or outer");
  cli.options()("members", po::value(&asked.members)->value_name("N")->default_value(4),
                "members of the cluster");
  cli.options()("key", po::value(&asked.key)->value_name("HEX")->default_value(kDefaultKey),
                "the hash's key, 32 digits; an engine draws its own");
  cli.options()("top", po::value(&asked.top)->value_name("N")->default_value(10), "largest flows to show");
  cli.json(&asked.json);
  cli.take(&asked.file, "FILE");
  if (auto status = cli.parse(words)) return *status;
  const auto options = options_of(asked);
  if (!options) return report(options.error());
  auto reader = pcapfile::Reader::open(asked.file);
  if (!reader) return report(reader.error());
  if (reader->link_type() != 1)
    return report({Code::kUsage,
                   fmt::format("{}: link type {}: only Ethernet frames can be balanced", asked.file,
                               reader->link_type()),
                   {}});
  BalanceCount count(*options);
  const Result<void> read = count_frames(*reader, count);
  if (asked.json)
    print("{}\n", balance_json(asked, count).dump(1, ' ', false, ordered_json::error_handler_t::replace));
  else
    print_table(asked, count);
  if (read) return finish(kExitOk);
  report(read.error());
  return finish(exit_status(Code::kSystem));  // as of a pcap: port whose file is damaged
}

}  // namespace ringcap::tools

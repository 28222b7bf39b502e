// ringcap balance: what a cluster would do with a recorded file.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "tests/system/harness.h"

namespace ringcap::test {
namespace {

using nlohmann::json;

std::string frames_file(const std::string& name) {
  return std::string(RINGCAP_TEST_DATA) + "/frames/" + name + ".pcap";
}

json balance(const std::string& file, std::vector<std::string> options) {
  std::vector<std::string> words = {"balance", frames_file(file), "--json"};
  words.insert(words.end(), options.begin(), options.end());
  const Outcome outcome = ringcap(words);
  EXPECT_EQ(outcome.status, 0) << outcome.err;
  return json::parse(outcome.out);
}

uint64_t sum(const json& members, const char* what) {
  uint64_t total = 0;
  for (const json& member : members) total += member[what].get<uint64_t>();
  return total;
}

TEST(BalanceCommand, gives_every_frame_to_one_member_and_every_flow_to_one) {
  for (const char* kind : {"flow5", "flow4", "flow2", "tcp5", "ip5", "vlan"}) {
    const json out = balance("plain", {"--kind", kind, "--members", "3"});
    EXPECT_EQ(out["schema"], "ringcap.balance/1");
    EXPECT_EQ(out["kind"], kind);
    EXPECT_EQ(out["members"].size(), 3U);
    EXPECT_EQ(out["flows"], 7);
    EXPECT_EQ(sum(out["members"], "frames"), out["frames"]);
    EXPECT_EQ(sum(out["members"], "bytes"), out["bytes"]);
    EXPECT_EQ(sum(out["members"], "flows"), out["flows"]) << kind;
    EXPECT_EQ(out["one_sided_flows"], 0);
    for (const json& flow : out["largest_flows"]) EXPECT_EQ(flow["members"].size(), 1U) << flow;
  }
}

TEST(BalanceCommand, looks_at_the_inner_or_the_outer_flow_of_a_tunnel) {
  const json inner = balance("vxlan", {});
  EXPECT_EQ(inner["flows"], 7);
  EXPECT_EQ(inner["fragments"]["unplaced"], 0);
  EXPECT_GT(inner["fragments"]["frames"], 10);
  EXPECT_EQ(inner["largest_flows"][0]["flow"].get<std::string>().substr(0, 4), "UDP ");
  const json outer = balance("vxlan", {"--level", "outer", "--kind", "flow2"});
  EXPECT_EQ(outer["flows"], 4) << "each end chooses a port: two flows, by IPv4 and by IPv6";
  const std::string flow = outer["largest_flows"][0]["flow"];
  EXPECT_NE(flow.find("4789"), std::string::npos) << flow;
}

TEST(BalanceCommand, delivers_a_frame_to_both_ends_members) {
  const json out = balance("plain", {"--kind", "ends", "--members", "200"});
  EXPECT_GT(sum(out["members"], "frames"), out["frames"].get<uint64_t>());
  EXPECT_LE(sum(out["members"], "frames"), 2 * out["frames"].get<uint64_t>());
}

TEST(BalanceCommand, gives_out_frames_one_by_one_by_robin) {
  const json out = balance("plain", {"--kind", "robin", "--members", "2"});
  EXPECT_EQ(out["members"][0]["frames"], out["members"][1]["frames"]);
  EXPECT_LT(out["imbalance"]["frames"], 1.001);
}

TEST(BalanceCommand, with_another_key_gives_another_balance) {
  const json one = balance("plain", {"--members", "255"});
  const json same = balance("plain", {"--members", "255"});
  const json other = balance("plain", {"--members", "255", "--key", "ffeeddccbbaa99887766554433221100"});
  EXPECT_EQ(one["members"], same["members"]);
  EXPECT_NE(one["members"], other["members"]);
}

TEST(BalanceCommand, shows_a_table_for_people) {
  const Outcome outcome = ringcap({"balance", frames_file("plain"), "--members", "2", "--top", "1"});
  EXPECT_EQ(outcome.status, 0) << outcome.err;
  for (const char* text : {"26 frames", "7 flows", "imbalance (largest over mean)", "largest flows",
                           "flows seen in one direction only: 0 of 7", "fragments: 12, not placed"})
    EXPECT_NE(outcome.out.find(text), std::string::npos) << text << "\n" << outcome.out;
}

TEST(BalanceCommand, refuses_what_makes_no_sense_in_words_that_help) {
  const auto refused = [](std::vector<std::string> options, const std::string& why) {
    options.insert(options.begin(), {"balance", frames_file("plain")});
    const Outcome outcome = ringcap(options);
    EXPECT_EQ(outcome.status, 2);
    EXPECT_EQ(outcome.out, "");
    EXPECT_NE(outcome.err.find(why), std::string::npos) << outcome.err;
  };
  refused({"--kind", "flow6"}, "there are: flow5 flow4");
  refused({"--kind", "queue"}, "does not say which receive queue");
  refused({"--level", "middle"}, "there are: inner outer");
  refused({"--members", "0"}, "from 1 to 255");
  refused({"--members", "256"}, "from 1 to 255");
  refused({"--key", "12"}, "32 hexadecimal digits");
  refused({"--key", std::string(32, 'x')}, "32 hexadecimal digits");
}

TEST(BalanceCommand, says_when_a_file_is_not_there_not_ethernet_or_damaged) {
  EXPECT_EQ(ringcap({"balance", "/no/such/file"}).status, 6);
  const std::string captures = std::string(RINGCAP_TEST_DATA) + "/captures/";
  const Outcome damaged = ringcap({"balance", captures + "huge_frame.pcap"});
  EXPECT_EQ(damaged.status, 1);
  EXPECT_NE(damaged.out.find("1 frames"), std::string::npos) << "what could be read is shown";
  const TestDir dir;
  const std::string raw_ip("\xd4\xc3\xb2\xa1\x02\0\x04\0\0\0\0\0\0\0\0\0\xff\xff\0\0\x65\0\0\0", 24);
  write_file(dir.file("raw.pcap"), raw_ip);
  const Outcome raw = ringcap({"balance", dir.file("raw.pcap")});
  EXPECT_EQ(raw.status, 2);
  EXPECT_NE(raw.err.find("only Ethernet"), std::string::npos) << raw.err;
}

TEST(BalanceCommand, takes_a_files_interfaces_for_ports) {
  const std::string file = std::string(RINGCAP_TEST_DATA) + "/captures/many.pcapng";
  const Outcome outcome = ringcap({"balance", file, "--kind", "port", "--members", "4", "--json"});
  ASSERT_EQ(outcome.status, 0) << outcome.err;
  const json members = json::parse(outcome.out)["members"];
  // Interfaces 1, 2 and 3 of its first section, 0 and 1 of its second.
  EXPECT_EQ(members[0]["frames"], 1);
  EXPECT_EQ(members[1]["frames"], 2);
  EXPECT_EQ(members[2]["frames"], 1);
  EXPECT_EQ(members[3]["frames"], 1);
}

}  // namespace
}  // namespace ringcap::test

// Programs that share an engine's frames: two unmodified tcpdumps on ringcap:NAME@CLUSTER.
#include <gtest/gtest.h>

#include <cstring>
#include <fstream>
#include <map>
#include <set>

#include "driver/gen/frames.h"
#include "tests/system/pcap/shim.h"

namespace ringcap::test {
namespace {

constexpr uint64_t kFrames = 30'000;

// Of a `gen:` frame: its number, and what names its flow (addresses and ports of IPv4 and UDP).
struct Seen {
  std::map<uint64_t, int> numbers;
  std::set<std::string> flows;
};

// The records of a file of this machine's byte order (pcap-savefile(5)).
void read_file(const std::string& path, Seen& seen) {
  std::ifstream file(path, std::ios::binary);
  const std::string bytes((std::istreambuf_iterator<char>(file)), {});
  for (size_t at = 24; at + 16 <= bytes.size();) {
    uint32_t captured = 0;
    std::memcpy(&captured, &bytes[at + 8], sizeof captured);
    at += 16;
    ASSERT_LE(at + captured, bytes.size()) << path;
    ASSERT_GE(captured, gen::kSequenceOffset + sizeof(uint64_t));
    uint64_t number = 0;
    std::memcpy(&number, &bytes[at + gen::kSequenceOffset], sizeof number);
    ++seen.numbers[number];
    seen.flows.insert(bytes.substr(at + 26, 12));
    at += captured;
  }
}

std::vector<std::string> tcpdump(const Engine& engine, const std::string& file, const std::string& filter) {
  return {"tcpdump", "-nn", "-Z", "root", "-i", "ringcap:" + engine.name() + "@pair", "-w", file, filter};
}

void expect_shared(const std::string& filter) {
  TestDir dir;
  Engine engine({"gen:count=30000,flows=500,full=wait", "--wait-consumers", "2", "--memory", "plain",
                 "--cluster", "pair,kind=flow5"});
  Process one(tcpdump(engine, dir.file("1.pcap"), filter), with_shim());
  Process two(tcpdump(engine, dir.file("2.pcap"), filter), with_shim());
  EXPECT_EQ(one.wait(), 0) << one.err();
  EXPECT_EQ(two.wait(), 0) << two.err();
  Seen first, second;
  read_file(dir.file("1.pcap"), first);
  read_file(dir.file("2.pcap"), second);
  EXPECT_FALSE(first.numbers.empty());
  EXPECT_FALSE(second.numbers.empty());
  Seen all = first;
  for (const auto& [number, times] : second.numbers) all.numbers[number] += times;
  EXPECT_EQ(all.numbers.size(), kFrames) << "none missing";
  for (const auto& [number, times] : all.numbers) ASSERT_EQ(times, 1) << "frame " << number;
  EXPECT_EQ(all.numbers.rbegin()->first, kFrames - 1);
  for (const auto& flow : second.flows) ASSERT_FALSE(first.flows.contains(flow));
}

TEST(PcapCluster, two_programs_share_the_frames_none_twice_none_missing_each_flow_in_one) {
  expect_shared("");
}

TEST(PcapCluster, with_a_filter_two_programs_share_what_it_takes) { expect_shared("ip and udp"); }

}  // namespace
}  // namespace ringcap::test

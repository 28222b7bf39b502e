// ringcap up --transparent, as far as it goes without a NIC under VFIO: the generator plays the NIC that only
// receives. The whole of it, with a NIC, is in tests/vm.
#include <gtest/gtest.h>
#include <sys/socket.h>

#include <nlohmann/json.hpp>

#include "tests/system/harness.h"

namespace ringcap::test {
namespace {

using nlohmann::json;

std::vector<std::string> transparent(const std::string& port, const std::string& mode,
                                     std::vector<std::string> more = {}) {
  std::vector<std::string> words{port, "--transparent", mode, "--memory", "plain", "--user", ""};
  words.insert(words.end(), more.begin(), more.end());
  return words;
}

Outcome up(std::vector<std::string> words, const ProcessOptions& options) {
  words.insert(words.begin(), "up");
  words.insert(words.end(), {"--name", unique_name(), "--arena", "32M"});
  return ringcap(words, options);
}

json to_the_kernel(const Engine& engine) { return engine.stat()["forwarders"][0]; }

// Frames that the host received on an interface, by the kernel's count.
uint64_t host_received(const Namespace& host, const std::string& interface) {
  uint64_t frames = 0;
  host.within([&] {
    std::string text = run({"ip", "-json", "-stats", "link", "show", "dev", interface}).out;
    frames = json::parse(text)[0]["stats64"]["rx"]["packets"];
  });
  return frames;
}

TEST(Transparent, both_gives_the_kernel_every_frame_and_consumers_see_each_once) {
  TestDir dir;
  Namespace host;
  host.ip({"tuntap", "add", "dev", "lan", "mode", "tap"});
  host.ip({"link", "set", "dev", "lan", "up"});
  Engine engine(
      transparent("gen:count=5000,rate=50k,full=wait", "both", {"--tap", "lan", "--wait-consumers", "1"}),
      {.network = &host});
  const std::string file = dir.file("taken.pcap");
  const Outcome captured = ringcap({"capture", engine.name(), "-w", file, "-c", "5000"});
  EXPECT_EQ(captured.status, 0) << captured.err;
  EXPECT_TRUE(wait_until([&] { return to_the_kernel(engine)["sent"] == 5000; }));
  EXPECT_EQ(host_received(host, "lan"), 5000u);
  EXPECT_EQ(engine.imbalance(), "");
}

TEST(Transparent, filter_gives_the_kernel_what_pass_matches_and_consumers_everything) {
  TestDir dir;
  Namespace host;
  host.ip({"tuntap", "add", "dev", "lan", "mode", "tap"});
  host.ip({"link", "set", "dev", "lan", "up"});
  Engine engine(transparent("gen:count=4000,rate=50k,mix=all,full=wait", "filter",
                            {"--tap", "lan", "--pass", "ip6", "--wait-consumers", "1"}),
                {.network = &host});
  const std::string file = dir.file("taken.pcap");
  const Outcome captured = ringcap({"capture", engine.name(), "-w", file, "-c", "4000"});
  EXPECT_EQ(captured.status, 0) << captured.err;
  const Outcome counted = ringcap({"filter", "--json", "--run", file, "ip6"});
  const uint64_t matches = json::parse(counted.out)["run"]["matched"];
  EXPECT_GT(matches, 0u);
  EXPECT_LT(matches, 4000u);
  EXPECT_TRUE(wait_until([&] { return to_the_kernel(engine)["sent"] == matches; }));
  EXPECT_EQ(to_the_kernel(engine)["not_matched"], 4000 - matches);
  EXPECT_EQ(host_received(host, "lan"), matches);
  EXPECT_EQ(engine.imbalance(), "");
}

TEST(Transparent, the_default_filter_follows_the_hosts_addresses) {
  TestDir dir;
  Namespace host;
  // The generator's flows have fixed addresses: the first frame's, learned from a capture of its own.
  const std::string file = dir.file("one.pcap");
  ASSERT_EQ(
      ringcap({"capture", "gen:count=1,flows=1", "--memory", "plain", "--arena", "32M", "-w", file}).status,
      0);
  const std::string line = run({"tcpdump", "-nr", file}).out;  // "... IP 10.0.0.1.1 > 10.0.0.2.2: ..."
  const size_t from = line.find("> ") + 2;
  std::string address = line.substr(from, line.find(':', from) - from);
  address.resize(address.rfind('.'));

  Engine engine(transparent("gen:flows=1,rate=2000", "filter", {"--tap", "lan"}), {.network = &host});
  host.ip({"link", "set", "dev", "lan", "up"});
  EXPECT_TRUE(wait_until([&] { return to_the_kernel(engine)["considered"] > 100; }));
  EXPECT_EQ(to_the_kernel(engine)["offered"], 0);
  host.ip({"address", "add", address + "/24", "dev", "lan"});
  EXPECT_TRUE(wait_until([&] { return to_the_kernel(engine)["sent"] > 100; })) << address;
  host.ip({"address", "del", address + "/24", "dev", "lan"});
  // From some moment on nothing more is offered.
  EXPECT_TRUE(wait_until([&] {
    const uint64_t offered = to_the_kernel(engine)["offered"];
    const uint64_t considered = to_the_kernel(engine)["considered"];
    return wait_until([&] { return to_the_kernel(engine)["considered"] > considered + 200; }) &&
           to_the_kernel(engine)["offered"] == offered;
  }));
  EXPECT_EQ(engine.imbalance(), "");
}

TEST(Transparent, what_the_host_sends_is_flagged_outgoing_and_can_be_captured_alone) {
  TestDir dir;
  Namespace host;
  Engine engine(
      transparent("gen:count=3000,rate=50k,full=wait", "both", {"--tap", "lan", "--wait-consumers", "3"}),
      {.network = &host});
  host.ip({"link", "set", "dev", "lan", "up"});
  const Fd sender = host.raw_socket("lan");
  const auto capture = [&](const std::string& way, int count) {
    return start_ringcap(
        {"capture", engine.name(), "-Q", way, "-w", dir.file(way), "-c", std::to_string(count)});
  };
  Process in = capture("in", 3000), out = capture("out", 100), both = capture("inout", 3100);
  // The generator begins when all three are attached; one of them may have all it wants before we look.
  ASSERT_TRUE(wait_until([&] { return engine.stat()["ports"][0]["queues"][0]["taken"] > 0; }));
  ASSERT_TRUE(wait_until([&] { return engine.stat()["ports"][1]["link"]["up"]; }));
  std::string frame(12, '\xff');
  frame += "\x88\xb5" + std::string(50, 'h');
  for (int i = 0; i < 100; ++i) ASSERT_EQ(::send(sender.get(), frame.data(), frame.size(), 0), 64);
  for (Process* each : {&in, &out, &both}) EXPECT_EQ(each->wait(), 0) << each->err();
  for (const auto& [way, from_host] : {std::pair{"in", 0}, {"out", 100}, {"inout", 100}}) {
    const std::string file = dir.file(way);
    const json counted = json::parse(ringcap({"filter", "--json", "--run", file, "ether proto 0x88b5"}).out);
    EXPECT_EQ(counted["run"]["matched"], from_host) << way;
  }
  EXPECT_EQ(ringcap({"capture", engine.name(), "-Q", "sideways"}).status, 2);
}

TEST(Transparent, a_tap_that_is_down_costs_a_consumer_nothing) {
  TestDir dir;
  Namespace host;
  Engine engine(
      transparent("gen:count=20000,rate=100k,full=wait", "both", {"--tap", "lan", "--wait-consumers", "1"}),
      {.network = &host});
  const std::string file = dir.file("taken.pcap");
  const Outcome captured = ringcap({"capture", engine.name(), "-w", file, "-c", "20000"});
  EXPECT_EQ(captured.status, 0) << captured.err;  // 3: frames were lost
  EXPECT_TRUE(wait_until([&] {
    const json forwarder = to_the_kernel(engine);
    return forwarder["refused"].get<uint64_t>() + forwarder["dropped"].get<uint64_t>() == 20000;
  }));
  EXPECT_EQ(engine.imbalance(), "");
}

TEST(Transparent, a_tap_that_is_deleted_is_reported_and_the_capture_goes_on) {
  TestDir dir;
  Namespace host;
  Engine engine(transparent("gen:rate=1000", "both", {"--tap", "lan"}), {.network = &host});
  host.ip({"link", "set", "dev", "lan", "up"});
  EXPECT_TRUE(wait_until([&] { return to_the_kernel(engine)["sent"] > 0; }));
  host.ip({"link", "del", "dev", "lan"});
  EXPECT_TRUE(wait_until([&] { return to_the_kernel(engine)["refused"] > 0; }));
  EXPECT_EQ(ringcap({"capture", engine.name(), "-w", dir.file("taken.pcap"), "-c", "100"}).status, 0);
  EXPECT_TRUE(wait_until([&] { return engine.process().err().find("tap:lan is gone") != std::string::npos; }))
      << engine.process().err();
  EXPECT_EQ(engine.imbalance(), "");
}

TEST(Transparent, modes_have_pf_rings_numbers_too_and_senseless_ones_are_refused) {
  TestDir dir;
  Namespace host;
  const ProcessOptions in_host{.network = &host};
  EXPECT_NE(up({"packet:lo", "--transparent", "both"}, in_host).err.find("kernel-first"), std::string::npos);
  EXPECT_NE(up({"packet:lo", "--transparent", "1"}, in_host).err.find("kernel-first"), std::string::npos);
  EXPECT_NE(up({"gen:", "--transparent", "0"}, in_host).err.find("--transparent both"), std::string::npos);
  EXPECT_NE(up({"gen:", "--transparent", "3"}, in_host).err.find("filter"), std::string::npos);
  EXPECT_NE(up({"gen:", "--pass", "tcp"}, in_host).err.find("--transparent filter"), std::string::npos);
  EXPECT_NE(up({"gen:", "gen:", "--transparent", "both"}, in_host).err.find("one port"), std::string::npos);
  EXPECT_NE(up({"gen:", "--transparent", "filter", "--tap", "lan", "--pass", "nonsense here"}, in_host)
                .err.find("nonsense"),
            std::string::npos);
  Engine copy({"packet:lo", "--transparent", "kernel-first", "--memory", "plain", "--user", ""}, in_host);
  EXPECT_TRUE(copy.stat()["forwarders"].empty());
}

// ---- circles ---------------------------------------------------------------------------------------

std::vector<std::string> bridge(const std::string& one, const std::string& other) {
  return {"bridge", one, other, "--name", unique_name(), "--arena", "32M", "--user", "", "--memory", "plain"};
}

TEST(Circle, two_bridges_cannot_close_one) {
  TestDir dir;
  Namespace host;
  for (const char* pair : {"va", "vb", "vc"}) host.add_veth(pair, std::string(pair) + "2");
  const ProcessOptions in_host{.network = &host};
  const auto first = bridge("packet:va", "packet:vb");
  Process running = start_ringcap(first, in_host);
  ASSERT_TRUE(wait_until([&] { return takes_connections(first[4]); })) << running.err();
  for (const auto& words : {bridge("packet:va", "packet:vb"), bridge("packet:vb", "packet:va"),
                            bridge("packet:va2", "packet:vb2")}) {
    const Outcome refused = ringcap(words, in_host);
    EXPECT_EQ(refused.status, 2);
    EXPECT_NE(refused.err.find("circle"), std::string::npos) << refused.err;
  }
  // A chain is none.
  const auto chain = bridge("packet:vb2", "packet:vc");
  Process goes_on = start_ringcap(chain, in_host);
  EXPECT_TRUE(wait_until([&] { return takes_connections(chain[4]); })) << goes_on.err();
  // And what has ended counts no longer.
  running.kill();
  goes_on.kill();
  const auto again = bridge("packet:va2", "packet:vb2");
  Process allowed = start_ringcap(again, in_host);
  EXPECT_TRUE(wait_until([&] { return takes_connections(again[4]); })) << allowed.err();
}

TEST(Circle, a_tap_cannot_be_bridged_back_to_itself) {
  TestDir dir;
  Namespace host;
  host.ip({"tuntap", "add", "dev", "lan", "mode", "tap"});
  host.ip({"link", "set", "dev", "lan", "up"});
  const Outcome refused = ringcap(bridge("tap:lan", "packet:lan"), {.network = &host});
  EXPECT_EQ(refused.status, 2);
  EXPECT_NE(refused.err.find("circle"), std::string::npos) << refused.err;
  const Outcome itself = ringcap(bridge("packet:lan", "packet:lan"), {.network = &host});
  EXPECT_EQ(itself.status, 2);
}

}  // namespace
}  // namespace ringcap::test

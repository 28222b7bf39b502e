#include "driver/ports/address.h"

#include <gtest/gtest.h>

#include <set>

namespace ringcap {
namespace {

PortAddress parsed(std::string_view text) {
  auto port = parse_port_address(text);
  EXPECT_TRUE(port) << text << ": " << port.error().message();
  return port.value_or(PortAddress{});
}

Error refused(std::string_view text) {
  auto port = parse_port_address(text);
  EXPECT_FALSE(port) << text;
  return port ? Error{} : port.error();
}

bool mentions(const Error& error, std::string_view part) {
  return error.message().find(part) != std::string::npos;
}

TEST(PortAddress, a_nic_is_named_by_its_pci_address) {
  const PortAddress port = parsed("vfio:0000:03:00.0,queues=4,descriptors=2048,moderation=50,bad=1,mtu=9000");
  EXPECT_EQ(port.kind, PortKind::kVfio);
  EXPECT_EQ(port.address, "0000:03:00.0");
  EXPECT_EQ(port.queues, 4u);
  EXPECT_EQ(port.descriptors, 2048u);
  EXPECT_EQ(port.moderation_us, 50);
  EXPECT_TRUE(port.bad);
  EXPECT_FALSE(port.adapter_time);
  EXPECT_TRUE(parsed("vfio:03:00.0,timestamps=adapter").adapter_time);
  EXPECT_EQ(port.mtu, 9000u);
  EXPECT_EQ(parsed("vfio:03:00.0").address, "0000:03:00.0");
  EXPECT_EQ(parsed("vfio:0000:0A:1F.7").address, "0000:0a:1f.7");
}

TEST(PortAddress, what_is_not_given_has_its_default) {
  const PortAddress nic = parsed("vfio:0000:03:00.0");
  EXPECT_EQ(nic.queues, 1u);
  EXPECT_EQ(nic.mtu, 1500u);
  EXPECT_EQ(nic.descriptors, 1024u);
  EXPECT_EQ(nic.moderation_us, kModerationAuto);
  EXPECT_FALSE(nic.bad);
  EXPECT_TRUE(parsed("packet:eth0").outgoing);
  const PortAddress file = parsed("pcap:a.pcap");
  EXPECT_EQ(file.speed, 1);
  EXPECT_EQ(file.loop, 1u);
  EXPECT_EQ(file.full, WhenFull::kWait);
  const PortAddress generator = parsed("gen:");
  EXPECT_EQ(generator.size, 64u);
  EXPECT_EQ(generator.count, 0u);
  EXPECT_EQ(generator.rate, 0u);
  EXPECT_EQ(generator.flows, 1000u);
  EXPECT_EQ(generator.mix, Mix::kIpv4);
  EXPECT_EQ(generator.write, 64u);
  EXPECT_EQ(generator.seed, 1u);
  EXPECT_EQ(generator.full, WhenFull::kDrop);
}

TEST(PortAddress, the_generator_has_keys_only) {
  const PortAddress port =
      parsed("gen:size=imix,count=1M,rate=10k,flows=5,mix=all,write=all,seed=7,full=wait");
  EXPECT_EQ(port.size, kImix);
  EXPECT_EQ(port.count, 1'000'000u);
  EXPECT_EQ(port.rate, 10'000u);
  EXPECT_EQ(port.flows, 5u);
  EXPECT_EQ(port.mix, Mix::kAll);
  EXPECT_EQ(port.write, kWriteAll);
  EXPECT_EQ(port.seed, 7u);
  EXPECT_EQ(port.full, WhenFull::kWait);
}

TEST(PortAddress, a_comma_in_a_file_name_is_escaped) {
  const PortAddress port = parsed("pcap:/tmp/a\\,b=c.pcap,speed=max,loop=0");
  EXPECT_EQ(port.address, "/tmp/a,b=c.pcap");
  EXPECT_EQ(port.speed, 0);
  EXPECT_EQ(port.loop, 0u);
  EXPECT_EQ(format_port_address(port), "pcap:/tmp/a\\,b=c.pcap,speed=max,loop=0");
  EXPECT_EQ(parsed("pcap:a\\b.pcap").address, "a\\b.pcap");
}

TEST(PortAddress, the_normal_form_has_only_what_differs_from_the_defaults) {
  EXPECT_EQ(format_port_address(parsed("gen:seed=9,size=64,flows=1k,count=2k")), "gen:count=2000,seed=9");
  EXPECT_EQ(format_port_address(parsed("gen:")), "gen:");
  EXPECT_EQ(format_port_address(parsed("vfio:03:00.0,moderation=off,queues=2")),
            "vfio:0000:03:00.0,queues=2,moderation=off");
  EXPECT_EQ(format_port_address(parsed("packet:eth0,outgoing=0")), "packet:eth0,outgoing=0");
  EXPECT_EQ(format_port_address(parsed("pcap:x,full=wait,speed=0.5")), "pcap:x,speed=0.5");
}

TEST(PortAddress, the_normal_form_is_read_back_as_the_same_port) {
  for (const char* text :
       {"gen:size=imix,rate=5,mix=vlan,write=0,full=wait", "pcap:a\\,b,speed=2.5,full=drop,loop=3",
        "vfio:0000:03:00.0,moderation=77,bad=1,descriptors=64,timestamps=adapter", "packet:eth0,mtu=9000",
        "xdp:eth0", "tap:tap0,queues=2,mac=02:00:00:00:00:01"}) {
    const PortAddress port = parsed(text);
    EXPECT_EQ(parsed(format_port_address(port)), port) << text;
  }
}

TEST(PortAddress, an_unknown_key_lists_the_known_ones_of_its_kind) {
  const Error error = refused("packet:eth0,sped=1");
  EXPECT_EQ(error.code, Code::kUsage);
  EXPECT_TRUE(mentions(error, "'sped'")) << error.message();
  EXPECT_TRUE(mentions(error, "queues, mtu, outgoing")) << error.message();
  EXPECT_TRUE(mentions(refused("packet:eth0,seed=1"), "no such key: 'seed'"));
}

TEST(PortAddress, a_value_out_of_range_lists_what_is_allowed) {
  for (const char* text : {"gen:queues=0",
                           "gen:queues=65",
                           "gen:mtu=67",
                           "gen:size=59",
                           "gen:size=16001",
                           "gen:rate=0",
                           "gen:flows=0",
                           "gen:mix=ipx",
                           "gen:write=1",
                           "gen:full=maybe",
                           "gen:seed",
                           "gen:seed=",
                           "pcap:f,speed=0",
                           "pcap:f,speed=-1",
                           "pcap:f,speed=nan",
                           "pcap:f,speed=1x",
                           "packet:e,outgoing=2",
                           "tap:t,mac=",
                           "tap:t,mac=01:00:00:00:00:01",
                           "tap:t,mac=02:00:00:00:00",
                           "vfio:03:00.0,descriptors=100",
                           "vfio:03:00.0,moderation=0",
                           "vfio:03:00.0,timestamps=both",
                           "gen:size=64,",
                           "gen:,size=64"}) {
    EXPECT_EQ(refused(text).code, Code::kUsage) << text;
  }
  EXPECT_TRUE(mentions(refused("gen:mix=ipx"), "ipv4, ipv6, vlan or all"));
}

TEST(PortAddress, an_address_that_cannot_be_is_refused) {
  for (const char* text :
       {"", "eth0", "foo:bar", ":", "packet:", "packet:a/b", "packet:..", "packet:sixteen-letters-x",
        "pcap:", "vfio:", "vfio:eth0", "vfio:0000:03:00", "vfio:0000:03:00.g", "Gen:"}) {
    EXPECT_EQ(refused(text).code, Code::kUsage) << text;
  }
  EXPECT_TRUE(mentions(refused("eth0"), "vfio, tap, packet, xdp, pcap, gen"));
}

TEST(PortAddress, a_bare_interface_name_does_not_look_like_a_port) {
  EXPECT_TRUE(looks_like_port_address("gen:"));
  EXPECT_TRUE(looks_like_port_address("pcap:x"));
  EXPECT_FALSE(looks_like_port_address("eth0"));
  EXPECT_FALSE(looks_like_port_address("eth0:1"));
}

TEST(EngineName, is_the_interface_or_the_lowest_free_number) {
  const std::set<std::string> running = {"gen0", "gen1", "pcap1"};
  const auto taken = [&](const std::string& name) { return running.contains(name); };
  const auto known = [](const std::string& pci) {
    return std::string(pci == "0000:03:00.0" ? "enp3s0" : "");
  };
  EXPECT_EQ(default_engine_name(parsed("packet:eth0"), known, taken), "eth0");
  EXPECT_EQ(default_engine_name(parsed("vfio:0000:03:00.0"), known, taken), "enp3s0");
  EXPECT_EQ(default_engine_name(parsed("vfio:0000:04:00.0"), known, taken), "0000-04-00.0");
  EXPECT_EQ(default_engine_name(parsed("gen:"), known, taken), "gen2");
  EXPECT_EQ(default_engine_name(parsed("pcap:x"), known, taken), "pcap0");
}

}  // namespace
}  // namespace ringcap

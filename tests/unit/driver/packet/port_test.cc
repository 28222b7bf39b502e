// What `packet:` refuses, and how it says so.
#include "driver/packet/port.h"

#include <gtest/gtest.h>

#include "driver/packet/socket.h"

namespace ringcap {
namespace {

TEST(PacketPort, an_interface_that_is_not_there_is_named_with_those_that_are) {
  for (const char* name : {"nosuch0", "", "a-name-that-no-interface-can-have"}) {
    const auto port = open_packet_port(name, {});
    ASSERT_FALSE(port);
    EXPECT_EQ(port.error().code, Code::kNotFound);
    EXPECT_NE(port.error().text.find(name), std::string::npos);
    EXPECT_NE(port.error().mend.find("lo"), std::string::npos) << port.error().mend;
  }
}

TEST(PacketPort, options_out_of_range_are_refused_with_the_range) {
  for (const uint32_t queues : {0u, 65u}) {
    const auto port = open_packet_port("lo", {.queues = queues});
    ASSERT_FALSE(port);
    EXPECT_EQ(port.error().code, Code::kUsage);
    EXPECT_EQ(port.error().mend, "give 1 to 64");
  }
  for (const uint32_t mtu : {0u, 67u, 16363u, 0xffff'ffffu}) {
    const auto port = open_packet_port("lo", {.mtu = mtu});
    ASSERT_FALSE(port);
    EXPECT_EQ(port.error().code, Code::kUsage);
    EXPECT_EQ(port.error().mend, "give 68 to 16362");
  }
}

TEST(PacketPort, a_missing_capability_is_named_with_what_gives_it) {
  const auto error = packet::socket_error(EPERM).error();
  EXPECT_EQ(error.code, Code::kPermission);
  EXPECT_NE(error.text.find("CAP_NET_RAW"), std::string::npos);
  EXPECT_NE(error.mend.find("setcap cap_net_raw+ep"), std::string::npos);
}

}  // namespace
}  // namespace ringcap

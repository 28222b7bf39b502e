// Pcap programs that send, through an engine: Debian's pcapy and scapy, unmodified, with the shim.
#include <gtest/gtest.h>
#include <sys/socket.h>

#include <nlohmann/json.hpp>

#include "tests/system/pcap/shim.h"

namespace ringcap::test {
namespace {

const std::string kPython = "/usr/bin/python3";

// What arrives at an interface, up to `count` frames of the test's own EtherType.
std::vector<std::string> received(int socket, size_t count) {
  std::vector<std::string> frames;
  char frame[2048];
  const bool all = wait_until([&] {
    ssize_t got = 0;
    while ((got = ::recv(socket, frame, sizeof frame, MSG_DONTWAIT)) > 0)
      if (got > 14 && frame[12] == '\x88' && frame[13] == '\xb5') frames.emplace_back(frame, got);
    return frames.size() >= count;
  });
  EXPECT_TRUE(all) << frames.size() << " of " << count;
  return frames;
}

TEST(PcapInject, pcapy_sends_through_an_engine_byte_for_byte_and_in_order) {
  if (run({kPython, "-c", "import pcapy"}).status != 0) GTEST_SKIP() << "python3-pcapy is not installed";
  const Lab lab({"--send-group", "root"});
  const Fd far = lab.network.raw_socket("there");
  const auto outcome =
      run({kPython, "-c",
           "import pcapy, sys\n"
           "r = pcapy.open_live(sys.argv[1], 65535, 1, 100)\n"
           "for i in range(100):\n"
           "  r.sendpacket(b'\\xff' * 12 + b'\\x88\\xb5' + bytes([i % 256]) * (46 + 10 * i))\n",
           lab.device()},
          lab.shimmed());
  EXPECT_EQ(outcome.status, 0) << outcome.err;
  const auto frames = received(far.get(), 100);
  ASSERT_EQ(frames.size(), 100u);
  for (size_t i = 0; i < frames.size(); ++i)
    EXPECT_EQ(frames[i],
              std::string(12, '\xff') + "\x88\xb5" + std::string(46 + 10 * i, static_cast<char>(i)));
  EXPECT_EQ(lab.engine->imbalance(), "");
}

TEST(PcapInject, scapy_sends_with_use_pcap) {
  if (run({kPython, "-c", "import scapy"}).status != 0) GTEST_SKIP() << "python3-scapy is not installed";
  const Lab lab({"--send-group", "root"});
  const Fd far = lab.network.raw_socket("there");
  const auto outcome =
      run({kPython, "-c",
           "import sys\n"
           "from scapy.all import conf, Ether, sendp\n"
           "conf.use_pcap = True\n"
           "sendp(Ether(dst='ff:ff:ff:ff:ff:ff', src='02:00:00:00:00:01', type=0x88b5) / (b'x' * 60),\n"
           "      iface=sys.argv[1], count=5, verbose=False)\n",
           lab.device()},
          lab.shimmed());
  EXPECT_EQ(outcome.status, 0) << outcome.err;
  EXPECT_EQ(received(far.get(), 5).size(), 5u);
}

TEST(PcapInject, who_may_not_send_gets_libpcaps_error_with_the_options_name) {
  if (run({kPython, "-c", "import pcapy"}).status != 0) GTEST_SKIP() << "python3-pcapy is not installed";
  const Lab lab;
  const auto outcome = run({kPython, "-c",
                            "import pcapy, sys\n"
                            "r = pcapy.open_live(sys.argv[1], 65535, 1, 100)\n"
                            "try: r.sendpacket(b'\\xff' * 60)\n"
                            "except pcapy.PcapError as e: print(e)\n",
                            lab.device()},
                           lab.shimmed());
  EXPECT_NE(outcome.out.find("--send-group"), std::string::npos) << outcome.out << outcome.err;
}

}  // namespace
}  // namespace ringcap::test

// Counts what DPDK's driver needs to receive frames: see tests/bench/instructions.h, and nic_receive.cc, its
// opposite. Bursts from queue 0 of the one port, the mbufs given back in bulk.
//
//   peer_dpdk_receive [arguments of the EAL] -- READY BURSTS
#include <rte_eal.h>
#include <rte_ethdev.h>
#include <rte_mbuf.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>

#include "tests/bench/instructions.h"

namespace {

using ringcap::bench::kBurst;

constexpr uint16_t kPort = 0, kDescriptors = 1024;
constexpr unsigned kMbufs = 4095, kCached = 256;

[[noreturn]] void fail(const char* what, int status) {
  std::fprintf(stderr, "%s: %d\n", what, status);
  std::exit(1);
}
void must(const char* what, int status) {
  if (status != 0) fail(what, status);
}

class Nic {
 public:
  Nic() {
    rte_eth_conf conf{};
    rte_mempool* pool =
        rte_pktmbuf_pool_create("frames", kMbufs, kCached, 0, RTE_MBUF_DEFAULT_BUF_SIZE, SOCKET_ID_ANY);
    if (pool == nullptr) fail("rte_pktmbuf_pool_create", rte_errno);
    must("rte_eth_dev_configure", rte_eth_dev_configure(kPort, 1, 1, &conf));
    must("rte_eth_rx_queue_setup",
         rte_eth_rx_queue_setup(kPort, 0, kDescriptors, SOCKET_ID_ANY, nullptr, pool));
    must("rte_eth_tx_queue_setup", rte_eth_tx_queue_setup(kPort, 0, kDescriptors, SOCKET_ID_ANY, nullptr));
    must("rte_eth_dev_start", rte_eth_dev_start(kPort));
    must("rte_eth_promiscuous_enable", rte_eth_promiscuous_enable(kPort));
  }
  bool linked() {
    rte_eth_link link{};
    return rte_eth_link_get_nowait(kPort, &link) == 0 && link.link_status == RTE_ETH_LINK_UP;
  }

  uint32_t receive() {
    got_ = rte_eth_rx_burst(kPort, 0, frames_, kBurst);
    return got_;
  }
  uint64_t look() const {
    uint64_t sum = 0;
    for (uint32_t i = 0; i < got_; ++i) {
      uint64_t bytes = 0;
      std::memcpy(&bytes, rte_pktmbuf_mtod(frames_[i], char*), sizeof bytes);
      sum += frames_[i]->pkt_len + bytes;
    }
    return sum;
  }
  void give_back() { rte_pktmbuf_free_bulk(frames_, got_); }

 private:
  rte_mbuf* frames_[kBurst];
  uint16_t got_ = 0;
};

}  // namespace

int main(int argc, char** argv) {
  const int used = rte_eal_init(argc, argv);
  if (used < 0 || argc - used != 3) fail("peer_dpdk_receive [EAL arguments] -- READY BURSTS", used);
  argv += used;
  Nic nic;
  for (int i = 0; i < 1000 && !nic.linked(); ++i) ::usleep(10'000);
  const int status = ringcap::bench::count_instructions(nic, argv[1], std::strtoul(argv[2], nullptr, 10));
  rte_eth_dev_stop(kPort);
  rte_eal_cleanup();
  return status;
}

#include "tests/bench/dpdk_filter.h"

#include <pcap/pcap.h>
#include <rte_bpf.h>
#include <rte_eal.h>
#include <rte_malloc.h>
#include <rte_mbuf.h>

int dpdk_filter_start(void) {
  static int started = -1;
  char* arguments[] = {"filter_bench", "--no-huge", "--no-shconf",    "-m",
                       "64",           "--no-pci",  "--no-telemetry", "--log-level=error"};
  if (started < 0) started = rte_eal_init(sizeof arguments / sizeof *arguments, arguments) < 0 ? 1 : 0;
  return started;
}

dpdk_filter dpdk_filter_load(const struct bpf_program* program) {
  struct rte_bpf_prm* converted = rte_bpf_convert(program);
  if (converted == NULL) return NULL;
  struct rte_bpf* loaded = rte_bpf_load(converted);
  rte_free(converted);
  struct rte_bpf_jit jit = {0};
  if (loaded == NULL || rte_bpf_get_jit(loaded, &jit) != 0) return NULL;
  return jit.func;
}

void* dpdk_filter_mbuf(const void* data, uint16_t bytes) {
  struct rte_mbuf* mbuf = rte_zmalloc(NULL, sizeof *mbuf, RTE_CACHE_LINE_SIZE);
  if (mbuf == NULL) return NULL;
  mbuf->buf_addr = (void*)(uintptr_t)data;
  mbuf->data_len = bytes;
  mbuf->pkt_len = bytes;
  mbuf->nb_segs = 1;
  return mbuf;
}

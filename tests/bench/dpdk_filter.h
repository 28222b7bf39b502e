/* DPDK's filters for filter_bench.cc: a libpcap program through rte_bpf_convert() and the JIT compiler of
 * rte_bpf, over mbufs that point at the benchmark's own frames. One thread; lives as long as the process. */
#ifndef RINGCAP_BENCH_DPDK_FILTER_H
#define RINGCAP_BENCH_DPDK_FILTER_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct bpf_program;

/* Machine code: 0, or not 0 for a match. Its argument is an mbuf. */
typedef uint64_t (*dpdk_filter)(void* mbuf);

/* Starts DPDK without hugepages and devices, once. 0, or it cannot. */
int dpdk_filter_start(void);

/* NULL where DPDK cannot convert or compile it. */
dpdk_filter dpdk_filter_load(const struct bpf_program* program);

/* An mbuf of one segment around the bytes, which stay where they are. NULL: no memory. */
void* dpdk_filter_mbuf(const void* data, uint16_t bytes);

#ifdef __cplusplus
}
#endif

#endif

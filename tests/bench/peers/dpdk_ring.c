/* DPDK handing frames from one core to another inside one process: what can be had without isolation.
 *
 * The producing core allocates mbufs in bulk, writes 64 bytes into each (a sequence number in the last
 * eight) and puts bursts of 32 on a single-producer single-consumer rte_ring; the consuming core reads
 * each frame's first cache line, checks that the numbers rise, and frees in bulk. The pool is a
 * single-producer single-consumer one too: only one core allocates and only the other frees. Tried with 1,023
 * to 131,071 mbufs and both kinds of pool: this is the fastest. (Fewer mbufs are slower: lines that still lie
 * in the other core's cache cost more than such that have left it.)
 *
 * Arguments: those of the EAL, then -- MILLISECONDS [BYTES]. With BYTES, that many are written and read of
 * each frame instead of 64. Prints one line of JSON; tests/bench/run starts it. */
#define _GNU_SOURCE /* RUSAGE_THREAD */
#include <rte_eal.h>
#include <rte_launch.h>
#include <rte_lcore.h>
#include <rte_mbuf.h>
#include <rte_mbuf_pool_ops.h>
#include <rte_prefetch.h>
#include <rte_ring.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

enum { kBurst = 32, kMbufs = 16383, kRingSlots = 1024, kSequenceAt = 56 };

struct side {
  uint64_t frames;
  uint64_t wrong; /* sequence numbers that did not rise */
  uint64_t sum;   /* of what was read, so that the reading stays */
  double share;   /* of the core, 1 is all of it */
};

static struct rte_mempool* pool; /* read by both cores, as all up to `frame_bytes` is */
static struct rte_ring* ring;
static struct side producer __rte_aligned(128), consumer __rte_aligned(128); /* one core writes each */
static uint64_t deadline_ns;
static unsigned frame_bytes = 64;
static volatile bool produced __rte_aligned(128); /* written by the producer at its end */

static uint64_t now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static uint64_t thread_cpu_ns(void) {
  struct rusage use;
  getrusage(RUSAGE_THREAD, &use);
  return (uint64_t)(use.ru_utime.tv_sec + use.ru_stime.tv_sec) * 1000000000 +
         (uint64_t)(use.ru_utime.tv_usec + use.ru_stime.tv_usec) * 1000;
}

/* `bytes` is a constant where it is called, so that 64 bytes are a few stores and not a call. */
static __rte_always_inline void write_frame(struct rte_mbuf* frame, uint64_t sequence, unsigned bytes) {
  char* data = rte_pktmbuf_mtod(frame, char*);
  memset(data, 0x5a, bytes);
  memcpy(data + kSequenceAt, &sequence, sizeof sequence);
  frame->data_len = (uint16_t)bytes;
  frame->pkt_len = bytes;
}

static bool produce_burst(void) {
  struct rte_mbuf* frames[kBurst];
  if (rte_pktmbuf_alloc_bulk(pool, frames, kBurst) != 0) return false;
  for (unsigned i = 0; i < kBurst; ++i) __builtin_prefetch(rte_pktmbuf_mtod(frames[i], void*), 1);
  if (frame_bytes == 64) {
    for (unsigned i = 0; i < kBurst; ++i) write_frame(frames[i], ++producer.frames, 64);
  } else {
    for (unsigned i = 0; i < kBurst; ++i) write_frame(frames[i], ++producer.frames, frame_bytes);
  }
  while (rte_ring_sp_enqueue_bulk(ring, (void**)frames, kBurst, NULL) == 0) rte_pause();
  return true;
}

static int produce(void* unused) {
  (void)unused;
  const uint64_t wall = now_ns(), cpu = thread_cpu_ns();
  for (unsigned round = 0; (round & 255) != 0 || now_ns() < deadline_ns; ++round)
    if (!produce_burst()) rte_pause();
  producer.share = (double)(thread_cpu_ns() - cpu) / (double)(now_ns() - wall);
  produced = true;
  return 0;
}

static __rte_always_inline void read_frame(const struct rte_mbuf* frame, uint64_t* last, unsigned bytes) {
  const uint64_t* words = rte_pktmbuf_mtod(frame, const uint64_t*);
  for (unsigned i = 0; i < bytes / sizeof *words; ++i) consumer.sum += words[i];
  const uint64_t sequence = words[kSequenceAt / sizeof *words];
  consumer.wrong += sequence != *last + 1;
  *last = sequence;
}

static void read_burst(struct rte_mbuf** frames, unsigned count, uint64_t* last) {
  for (unsigned i = 0; i < count; ++i) rte_prefetch0(rte_pktmbuf_mtod(frames[i], void*));
  if (frame_bytes == 64) {
    for (unsigned i = 0; i < count; ++i) read_frame(frames[i], last, 64);
  } else {
    for (unsigned i = 0; i < count; ++i) read_frame(frames[i], last, frame_bytes);
  }
}

static int consume(void* unused) {
  (void)unused;
  struct rte_mbuf* frames[kBurst];
  uint64_t last = 0;
  const uint64_t wall = now_ns(), cpu = thread_cpu_ns();
  for (;;) {
    const bool over = produced;
    const unsigned count = rte_ring_sc_dequeue_burst(ring, (void**)frames, kBurst, NULL);
    if (count == 0 && over) break;
    read_burst(frames, count, &last);
    consumer.frames += count;
    if (count != 0) rte_pktmbuf_free_bulk(frames, count);
  }
  consumer.share = (double)(thread_cpu_ns() - cpu) / (double)(now_ns() - wall);
  return 0;
}

static int run(uint64_t milliseconds) {
  pool = rte_pktmbuf_pool_create_by_ops("frames", kMbufs, 512, 0, RTE_MBUF_DEFAULT_BUF_SIZE, SOCKET_ID_ANY,
                                        "ring_sp_sc");
  ring = rte_ring_create("hand-over", kRingSlots, SOCKET_ID_ANY, RING_F_SP_ENQ | RING_F_SC_DEQ);
  if (pool == NULL || ring == NULL) return 1;
  deadline_ns = now_ns() + milliseconds * 1000000;
  const uint64_t start = now_ns();
  if (rte_eal_remote_launch(consume, NULL, rte_get_next_lcore(-1, 1, 0)) != 0) return 1;
  produce(NULL);
  rte_eal_mp_wait_lcore();
  const double seconds = (double)(now_ns() - start) / 1e9;
  const double share = producer.share < consumer.share ? producer.share : consumer.share;
  printf("{\"frames\": %llu, \"wrong\": %llu, \"seconds\": %.6f, \"share\": %.3f, \"sum\": %llu}\n",
         (unsigned long long)consumer.frames, (unsigned long long)consumer.wrong, seconds, share,
         (unsigned long long)consumer.sum);
  return consumer.wrong != 0;
}

int main(int argc, char** argv) {
  const int eal = rte_eal_init(argc, argv);
  if (eal < 0 || argc - eal < 2) {
    fprintf(stderr, "usage: %s [EAL options] -- MILLISECONDS [BYTES]; two cores are needed\n", argv[0]);
    return 1;
  }
  if (argc - eal > 2) frame_bytes = (unsigned)strtoul(argv[eal + 2], NULL, 10);
  if (frame_bytes < 64 || frame_bytes > 2048 || rte_lcore_count() != 2) return 1;
  const int status = run(strtoull(argv[eal + 1], NULL, 10));
  rte_eal_cleanup();
  return status;
}

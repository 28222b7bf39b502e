/*
 * What the pcap shim can do that libpcap cannot, for programs that know of it. The shim exports libpcap's
 * names only, so these are inline functions; they work on any pcap_t, and say so where it is not an
 * engine's. Link nothing.
 *
 *   #include <pcap/pcap.h>
 *   #include <ringcap_pcap.h>
 *   struct ringcap_counters counters;
 *   if (ringcap_pcap_counters(handle, &counters) == RINGCAP_OK) ...
 *
 * BSD-3-Clause.
 */
#ifndef RINGCAP_PCAP_H
#define RINGCAP_PCAP_H

#include <pcap/pcap.h>
#include <ringcap.h>
#include <string.h>

#ifdef __cplusplus
extern "C" {
#endif

/* "RINGPCAP": the first word of a pcap_t that is the shim's. In a libpcap's own it is a function's address,
 * which this is not. */
#define RINGCAP_PCAP_TAG UINT64_C(0x50414350474e4952)

struct ringcap_pcap_head {
  uint64_t tag;
  int (*counters)(pcap_t* handle, struct ringcap_counters* counters);
};

/* The 64-bit counters of an activated handle, as ringcap_stats() gives them: pcap_stats() has 32 bits. Any
 * thread; signal handlers. RINGCAP_E_USAGE: the handle is not an engine's, or was not activated. */
static inline int ringcap_pcap_counters(pcap_t* handle, struct ringcap_counters* counters) {
  struct ringcap_pcap_head head;
  memcpy(&head, (const void*)handle, sizeof head);
  return head.tag == RINGCAP_PCAP_TAG ? head.counters(handle, counters) : RINGCAP_E_USAGE;
}

#ifdef __cplusplus
}
#endif
#endif

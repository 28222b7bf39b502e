/* ringcap-filter: pcap filter text to the bytecode that libringcap and the engine take.
 *
 * The one place where ringcap asks libpcap to compile. libringcap does without libpcap, so this is a
 * library of its own (libringcap-filter.so.0), for whoever has a filter as text: the command line, the
 * Python module, any program. Compiling looks names up (hosts, services, protocols), so it belongs into
 * the process of whoever asks, never into the engine.
 *
 * The program that comes out expects the frame as it was on the wire: a VLAN tag is in the frame, so
 * `vlan 10 and tcp` does what pcap-filter(7) documents, and nothing of the Linux kernel's ancillary
 * data is used.
 *
 * Threads: any thread at any time; calls wait for each other, because pcap_compile() of libpcap before
 * 1.8 keeps its state in static variables. A program that calls pcap_compile() itself beside this needs
 * libpcap 1.8 or later.
 */
#ifndef RINGCAP_FILTER_H
#define RINGCAP_FILTER_H

#include <stddef.h>
#include <stdint.h>

#define RINGCAP_FILTER_API __attribute__((visibility("default")))

#ifdef __cplusplus
extern "C" {
#endif

/* One instruction of classic BPF: the same bytes as libpcap's struct bpf_insn, the kernel's struct
 * sock_filter and libringcap's. */
struct ringcap_filter_instruction {
  uint16_t code;
  uint8_t jt;
  uint8_t jf;
  uint32_t k;
};

enum {
  RINGCAP_FILTER_OK = 0,
  RINGCAP_FILTER_E_EXPRESSION = -1, /* libpcap refuses the expression; `error` says why, in its words */
  RINGCAP_FILTER_E_SPACE = -2,      /* `out` is too small; *count is the number that is needed */
  RINGCAP_FILTER_E_USAGE = -3,      /* a null pointer, or a snap length or link type that cannot be */
  RINGCAP_FILTER_E_MEMORY = -4,     /* out of memory */
};

/* Compiles `expression` (pcap-filter(7); "" matches everything).
 *
 *   link_type    LINKTYPE_ value of the frames (https://www.tcpdump.org/linktypes.html): 1 for Ethernet
 *   snaplen      what the program returns for a match: bytes wanted of a frame, 1 to 2^31 - 1
 *   optimize     not 0: run libpcap's optimizer; 0: the program as it was generated
 *   out, count   *count is the room in `out` on entry, in instructions, and the program's length on return;
 *                4,096 is always enough for what an engine accepts. `out` may be NULL if *count is 0: asks
 *                for the length (RINGCAP_FILTER_E_SPACE)
 *   error        gets a text that ends with 0, cut to error_bytes, on failure; "" on success. May be
 *                NULL if error_bytes is 0
 *
 * Returns RINGCAP_FILTER_OK, or one of the errors above; `out` is then untouched. A name in the
 * expression may make it wait for a name server.
 */
RINGCAP_FILTER_API int ringcap_filter_compile(const char* expression, int link_type, uint32_t snaplen,
                                              int optimize, struct ringcap_filter_instruction* out,
                                              size_t* count, char* error, size_t error_bytes);

#ifdef __cplusplus
}
#endif

#endif

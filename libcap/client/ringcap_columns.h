/*
 * Columns and files: what array programs (the Python module ringcap) need of libringcap beside ringcap.h.
 *
 *   ringcap_columns_parse()  reads the headers of a whole burst into columns, an array for each field
 *   ringcap_file_*           gives the frames of a pcap or pcapng file as bursts, like an engine's
 *   ringcap_arena_bytes()    and ringcap_source_of() say what the descriptors of an engine refer to
 *
 * Threads: ringcap_columns_parse() anywhere, at the same time too; a file's handle one thread at a time.
 * Errors as in ringcap.h. Frames are hostile input: every byte is checked to be within what was captured,
 * every frame to be within the arena; a frame that is not has no columns. BSD-3-Clause.
 */
#ifndef RINGCAP_COLUMNS_H
#define RINGCAP_COLUMNS_H

#include "ringcap.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- columns ---- */

/* Which fields a frame has: bits of `valid`. A field that is not there is 0 in its column. */
enum {
  RINGCAP_HAS_ETHERNET = 1 << 0, /* both addresses and the type */
  RINGCAP_HAS_VLAN = 1 << 1,
  RINGCAP_HAS_IP = 1 << 2,   /* version and protocol */
  RINGCAP_HAS_IPV4 = 1 << 3, /* ip_source, ip_destination */
  RINGCAP_HAS_IPV6 = 1 << 4, /* ipv6_source, ipv6_destination */
  RINGCAP_HAS_PORTS = 1 << 5,
  RINGCAP_HAS_TCP_FLAGS = 1 << 6,
  RINGCAP_HAS_SEQUENCE = 1 << 7, /* and acknowledgement */
  RINGCAP_HAS_PAYLOAD = 1 << 8,  /* of TCP, UDP and UDP-Lite, not in later fragments */
  RINGCAP_HAS_INNER = 1 << 9     /* there is a packet in the packet */
};

/* What is behind the end of an IP packet, by its length, is padding and has no fields; a length of 0 says
 * nothing (segmentation offload, jumbograms). Of a header that is not captured whole, what is there counts.
 *
 * Arrays with room for `count` values each; NULL: not wanted. Numbers are in the machine's byte order
 * (10.0.0.1 is 0x0a000001), Ethernet and IPv6 addresses as they lie in the frame. */
struct ringcap_columns {
  size_t size;                   /* sizeof(struct ringcap_columns) */
  uint16_t* valid;               /* RINGCAP_HAS_ bits */
  uint8_t* ethernet_source;      /* 6 bytes a frame */
  uint8_t* ethernet_destination; /* 6 bytes a frame */
  uint16_t* ethernet_type;       /* the last one, behind VLAN tags and PPPoE; below 1536: a length */
  uint16_t* vlan;                /* identifier of the first tag, 0 to 4095; of a tunnel's packets: none */
  uint8_t* ip_version;           /* 4, 6 */
  uint8_t* protocol;             /* behind extension headers */
  uint32_t* ip_source;           /* IPv4 */
  uint32_t* ip_destination;      /* IPv4 */
  uint8_t* ipv6_source;          /* 16 bytes a frame */
  uint8_t* ipv6_destination;     /* 16 bytes a frame */
  uint16_t* source_port;         /* TCP, UDP, UDP-Lite, DCCP, SCTP */
  uint16_t* destination_port;    /* the same */
  uint8_t* tcp_flags;            /* CWR ECE URG ACK PSH RST SYN FIN */
  uint32_t* tcp_sequence;
  uint32_t* tcp_acknowledgement;
  uint16_t* payload_offset; /* in the frame, bytes */
  uint16_t* payload_length; /* bytes of it that were captured, without Ethernet's padding and what is behind
                               UDP's length */
};

enum { RINGCAP_COLUMNS_INNER = 1 << 0 /* of the innermost packet of a tunnel; other frames have none */ };

/* Fills `columns` for `count` descriptors whose frames lie in `arena`. Returns RINGCAP_OK or RINGCAP_E_USAGE.
 */
int ringcap_columns_parse(const struct ringcap_descriptor* frames, uint32_t count, const uint8_t* arena,
                          uint64_t arena_bytes, uint32_t flags, const struct ringcap_columns* columns);

/* ---- an engine's ---- */

/* Bytes that can be read from ringcap_burst's `arena` on. */
uint64_t ringcap_arena_bytes(ringcap_t* handle);

struct ringcap_source {
  uint32_t port;    /* index, from 0 */
  uint32_t queue;   /* of that port */
  char address[96]; /* of the port, "pcap:trace.pcap"; cut where longer */
  char clock[16];   /* "host", "kernel", "adapter" or "file" */
};
/* What a descriptor's `source` means. RINGCAP_E_USAGE: there is no such source. */
int ringcap_source_of(ringcap_t* handle, uint32_t index, struct ringcap_source* source);

/* ---- files ---- */

typedef struct ringcap_file ringcap_file_t;

struct ringcap_file_options {
  size_t size; /* sizeof(struct ringcap_file_options) */
  const struct ringcap_instruction* filter;
  uint32_t filter_length;  /* instructions, at most 4096 */
  const uint8_t* hash_key; /* 16 bytes (docs/hash.md), an engine's, to get its hashes; NULL: zeros */
};

/* Opens a pcap or pcapng file; "-": standard input. A pipe is waited for until its first frame is there.
 * `options` may be NULL. */
int ringcap_file_open(const char* path, const struct ringcap_file_options* options, ringcap_file_t** file,
                      struct ringcap_error* error);

/*
 * The next burst: at most `max` frames (0: 4096; more than 65536 are never given), as many as lie in one
 * block of the file. The burst's memory stays as it is until the burst is given back, in any order. Waits for
 * a pipe as ringcap_take() does. Returns the count, 0 when the time was over, RINGCAP_END, or an error: a
 * file that is cut or damaged gives every frame before that place first. Descriptors are as an engine's that
 * replays the file; of frames longer than 65,535 bytes the first 65,535 count as captured.
 */
int ringcap_file_take(ringcap_file_t* file, uint32_t max, int timeout_ms, struct ringcap_burst* burst);
int ringcap_file_give_back(ringcap_file_t* file, const struct ringcap_burst* burst);

/* Replaces the filter (length 0: none) for frames that are taken from now on: for who must know the file's
 * link type to compile it. At most 4096 instructions. */
int ringcap_file_filter(ringcap_file_t* file, const struct ringcap_instruction* program, uint32_t length);

/* Of every burst's `arena`. */
uint64_t ringcap_file_arena_bytes(ringcap_file_t* file);
int ringcap_file_link_type(ringcap_file_t* file);
/* Frames read, and how many of them the filter did not match. */
void ringcap_file_counts(ringcap_file_t* file, uint64_t* considered, uint64_t* not_matched);
const struct ringcap_error* ringcap_file_last_error(ringcap_file_t* file);
/* NULL is allowed. Bursts must not be touched any more. */
void ringcap_file_close(ringcap_file_t* file);

#ifdef __cplusplus
}
#endif
#endif

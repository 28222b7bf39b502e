/*
 * libringcap: attach to a running ringcap engine and read its frames where the device put them.
 *
 * The frames lie in hugepages that are mapped read-only; nothing is copied. A burst is an array of
 * descriptors; frame i of burst b is at b.arena + RINGCAP_OFFSET(&b.frames[i]), b.frames[i].captured
 * bytes long. Give every burst back: a frame that is held keeps its place in this consumer's ring, and a
 * full ring loses frames (counted in `dropped`; no other consumer is affected).
 *
 * Threads: one thread at a time per handle. ringcap_stats() and ringcap_breakloop() may be called by any
 * thread and in a signal handler. If the engine dies, everything mapped stays readable:
 * ringcap_take() gives what was published and then RINGCAP_E_GONE.
 *
 * Errors: functions return RINGCAP_OK (0), a count, or a negative RINGCAP_E value; ringcap_error() tells
 * what was tried, what is wrong and what mends it.
 *
 * See ringcap(3). BSD-3-Clause.
 */
#ifndef RINGCAP_H
#define RINGCAP_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum {
  RINGCAP_OK = 0,
  RINGCAP_ERROR = -1,        /* a system call failed */
  RINGCAP_E_USAGE = -2,      /* what was asked for makes no sense */
  RINGCAP_E_FILTER = -3,     /* the filter is not valid */
  RINGCAP_E_GONE = -4,       /* the engine ended, or detached us */
  RINGCAP_E_PERMISSION = -5, /* not permitted */
  RINGCAP_E_NOT_FOUND = -6,  /* no such engine */
  RINGCAP_E_VERSION = -7,    /* the engine speaks another major version */
  RINGCAP_END = -8,          /* the sources have ended and everything was read; not an error */
  RINGCAP_BREAK = -9         /* ringcap_breakloop() was called */
};

/* One frame. 32 bytes; as it lies in shared memory. */
struct ringcap_descriptor {
  uint64_t timestamp_ns; /* since the epoch, by the clock that ringcap_clock() names */
  uint64_t location;     /* RINGCAP_OFFSET, RINGCAP_REGION, RINGCAP_LOST_BEFORE */
  uint32_t length;       /* bytes on the wire, without CRC */
  uint32_t hash;         /* of the flow; valid with RINGCAP_HASH_VALID */
  uint16_t captured;     /* bytes that can be read */
  uint16_t flags;        /* RINGCAP_ flags below */
  uint8_t l3_half;       /* offset of the network header / 2; 0: none found */
  uint8_t l4_half;       /* offset of the transport header / 2; 0: none found */
  uint8_t source;        /* number of the receive queue in the engine */
  uint8_t reserved;
};

#define RINGCAP_OFFSET(d) ((d)->location & UINT64_C(0xffffffffff))
#define RINGCAP_REGION(d) ((uint8_t)((d)->location >> 40))
/* Frames lost for this consumer just before this one; 65535: at least as many. */
#define RINGCAP_LOST_BEFORE(d) ((uint16_t)((d)->location >> 48))

enum {
  RINGCAP_OUTGOING = 1 << 0,  /* sent by this host */
  RINGCAP_TRUNCATED = 1 << 1, /* captured < length */
  RINGCAP_BAD_CRC = 1 << 2,
  RINGCAP_BAD_LENGTH = 1 << 3,
  RINGCAP_FRAGMENT = 1 << 4,
  RINGCAP_FIRST_FRAGMENT = 1 << 5,
  RINGCAP_VLAN = 1 << 6,
  RINGCAP_TUNNEL = 1 << 7,
  RINGCAP_HASH_VALID = 1 << 8,
  RINGCAP_ADAPTER_TIME = 1 << 9,
  RINGCAP_COPIED = 1 << 10
};

/* A classic BPF instruction: the same bytes as libpcap's struct bpf_insn. */
struct ringcap_instruction {
  uint16_t code;
  uint8_t jt;
  uint8_t jf;
  uint32_t k;
};

enum {
  RINGCAP_ALLOW_SMALLER = 1 << 0, /* take a smaller ring where the asked one does not fit */
  RINGCAP_MERGE = 1 << 1          /* frames of all workers in order of time; copies descriptors */
};

struct ringcap_options {
  size_t size;          /* sizeof(struct ringcap_options) */
  const char* program;  /* the name that the engine shows; NULL: this program's */
  uint32_t ring_frames; /* per worker, 128 to 16777216; 0: the engine's default, or what is left */
  uint32_t flags;       /* RINGCAP_ALLOW_SMALLER, RINGCAP_MERGE */
  const struct ringcap_instruction* filter; /* NULL: every frame */
  uint32_t filter_length;                   /* instructions, at most 4096 */
  int32_t wait_ms;                          /* for the engine to appear; 0: not at all; -1: for ever */
  uint32_t merge_wait_ms;                   /* for a worker that lags; 0: 10 */
  const char* kind;  /* NAME@CLUSTER: the kind that the cluster must have ("flow5"); NULL: whichever it has */
  const char* level; /* "inner" or "outer"; NULL: whichever it has */
  /* Fewer wake-ups, for who does not mind that frames wait a little. While frames flow, a sleeping
   * ringcap_take() is woken when so many of them wait (at most a quarter of the ring, at most its `max`), or
   * after batch_ms with what there is; the end, a break and the engine's death wake it at once. The first
   * frame after a quiet time, and ringcap_fd(), are as without. 0: woken by every frame. */
  uint32_t batch_frames;
  uint32_t batch_ms; /* how long frames may wait, at most 60000; 0: 10 */
};

#define RINGCAP_OPTIONS_INIT {sizeof(struct ringcap_options), NULL, 0, 0, NULL, 0, 0, 0, NULL, NULL, 0, 0}

struct ringcap_error {
  int code;       /* RINGCAP_E_ value */
  char text[512]; /* what was tried and what is wrong */
  char mend[512]; /* what mends it; may be "" */
};

struct ringcap_burst {
  const struct ringcap_descriptor* frames; /* count of them; valid until the burst is given back */
  const uint8_t* arena;                    /* frame i is at arena + RINGCAP_OFFSET(&frames[i]) */
  uint32_t count;
  uint32_t ring;     /* which worker's ring; RINGCAP_MERGED: of all */
  uint64_t position; /* libringcap's own */
};
#define RINGCAP_MERGED UINT32_MAX

/* The ledger's words (ringcap-stat(1)); 64 bits, never wrapping. */
struct ringcap_counters {
  uint64_t considered;  /* frames that the engine looked at for us since we attached */
  uint64_t not_matched; /* by our filter, wherever it is evaluated */
  uint64_t offered;     /* matched: published or dropped */
  uint64_t published;
  uint64_t dropped; /* our ring was full */
  uint64_t released;
  uint64_t in_ring;
  uint64_t late;   /* came later than the merge waited */
  uint64_t missed; /* by the ports, for everybody; UINT64_MAX: not counted by the device */
};

typedef struct ringcap_handle ringcap_t;

/* "0.1.0" */
const char* ringcap_version(void);

/* Calls `found` with the name of each running engine until it returns non-zero. Returns how many were
 * found, or a negative value. */
int ringcap_list(int (*found)(const char* name, void* context), void* context);

/*
 * Attaches to the engine called `name` as a consumer. `options` may be NULL. On success *handle is set
 * and RINGCAP_OK returned; everything is opened and mapped then, so that the caller may give up privileges.
 * On an error *handle is NULL and *error (may be NULL) says why. `name` may say NAME@CLUSTER or
 * NAME@CLUSTER/MEMBER: then the frames are shared with the cluster's other members, each flow to one of them.
 * A cluster that there is not is made (kind flow5, level inner, or as `kind` and `level` say).
 */
int ringcap_attach(const char* name, const struct ringcap_options* options, ringcap_t** handle,
                   struct ringcap_error* error);

/*
 * Takes a burst: at most `max` frames (0: as many as there are, at most 4096), of one worker's ring, or, with
 * RINGCAP_MERGE or a filter that is evaluated here, gathered. Waits at most timeout_ms for the first (0: not
 * at all; -1: for ever). Returns the count (also in burst->count), 0 when the time was over, RINGCAP_END,
 * RINGCAP_BREAK, RINGCAP_E_GONE or RINGCAP_ERROR. Several bursts may be held at once.
 */
int ringcap_take(ringcap_t* handle, uint32_t max, int timeout_ms, struct ringcap_burst* burst);

/* Gives a burst back. Bursts of one ring are given back in the order they were taken: an older one that is
 * held goes with it. Returns RINGCAP_OK, or RINGCAP_E_USAGE for what was never taken. */
int ringcap_give_back(ringcap_t* handle, const struct ringcap_burst* burst);

/*
 * Another filter (classic BPF, at most 4096 instructions; NULL: every frame) for all frames that are taken
 * from now on, those that lie in the ring already included. Bursts that are held stay valid. No frame is lost
 * by it. Returns RINGCAP_OK when every worker of the engine goes by it (milliseconds), or RINGCAP_E_FILTER,
 * RINGCAP_E_GONE, RINGCAP_ERROR; the old filter then stays.
 */
int ringcap_set_filter(ringcap_t* handle, const struct ringcap_instruction* filter, uint32_t length);

/* A descriptor for select, poll, epoll: readable when ringcap_take(handle, max, 0, ...) would not return 0.
 * It stays the handle's. From the first call on, ringcap_take() keeps it up to date. */
int ringcap_fd(ringcap_t* handle);

/* Makes a ringcap_take() that waits, or the next one, return RINGCAP_BREAK. Any thread; signal handlers. */
void ringcap_breakloop(ringcap_t* handle);

/* Any thread; signal handlers. */
int ringcap_stats(ringcap_t* handle, struct ringcap_counters* counters);

/* LINKTYPE_ value of the frames: 1 for Ethernet. */
int ringcap_link_type(ringcap_t* handle);
/* "host", "kernel", "adapter" or "file": which clock made the timestamps. */
const char* ringcap_clock(ringcap_t* handle);
/* Frames that this consumer's ring holds, per worker, and how many rings there are. */
uint32_t ringcap_ring_frames(ringcap_t* handle);
uint32_t ringcap_rings(ringcap_t* handle);

/*
 * Sending. Only where the engine was started with --send-group, and only for root, the engine's user and that
 * group's members. A frame is copied when it is queued; the engine copies it once more before it looks at it.
 * Frames of one sender keep their order.
 */
typedef struct ringcap_sender ringcap_sender_t;

/*
 * Opens a sender of the engine called `name`, on `port`: an address or a number as `ringcap stat` shows them;
 * NULL: the first port that sends. Or, with ringcap_sender_of(), over an attached consumer's connection,
 * which must then be detached later than the sender is closed: for who gave up privileges since. RINGCAP_OK,
 * or the error that *error (may be NULL) describes: RINGCAP_E_PERMISSION, RINGCAP_E_NOT_FOUND,
 * RINGCAP_E_USAGE (that port cannot send), RINGCAP_ERROR (64 senders already).
 */
int ringcap_sender_open(const char* name, const char* port, ringcap_sender_t** sender,
                        struct ringcap_error* error);
int ringcap_sender_of(ringcap_t* handle, const char* port, ringcap_sender_t** sender,
                      struct ringcap_error* error);

/* An Ethernet frame without its CRC, 14 bytes to what the port's mtu allows. */
struct ringcap_frame {
  const void* data;
  uint32_t length;
};

/*
 * Queues frames; where there is no room, waits at most timeout_ms (-1: for ever). Returns how many were
 * queued (fewer than `count` only when the time was over), RINGCAP_E_USAGE (a length that cannot be sent; the
 * frames before it are queued) or RINGCAP_E_GONE.
 */
int ringcap_send(ringcap_sender_t* sender, const struct ringcap_frame* frames, uint32_t count,
                 int timeout_ms);

/* Waits until the port is done with everything that was queued. RINGCAP_OK, 1 when the time was over, or
 * RINGCAP_E_GONE. */
int ringcap_send_flush(ringcap_sender_t* sender, int timeout_ms);

/* asked = sent + refused + dropped + pending. */
struct ringcap_send_counters {
  uint64_t asked;   /* read by the engine */
  uint64_t sent;    /* the port is done with them */
  uint64_t refused; /* made no sense */
  uint64_t
      dropped; /* the port did not take them: no interface, no link for too long, too short or too long */
  uint64_t pending; /* given to the port */
  uint64_t limited; /* times that the engine's limit on the rate made us wait */
};

/* Any thread; signal handlers. */
int ringcap_send_stats(ringcap_sender_t* sender, struct ringcap_send_counters* counters);
const struct ringcap_error* ringcap_sender_error(ringcap_sender_t* sender);

/* What was queued is still sent. NULL is allowed. */
void ringcap_sender_close(ringcap_sender_t* sender);

/* The handle's last error. */
const struct ringcap_error* ringcap_last_error(ringcap_t* handle);

/* Detaches and frees the handle; NULL is allowed. What is held goes back; descriptors and frames must not be
 * touched any more. */
void ringcap_detach(ringcap_t* handle);

#ifdef __cplusplus
}
#endif
#endif

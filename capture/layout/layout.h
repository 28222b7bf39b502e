// The shared memory's layout: every structure that two processes see. docs/layout.md has the picture;
// tests/unit/capture/layout compares it with this file.
//
// Five kinds of memory, each a memfd of its own that the engine makes and seals:
//
//   arena    frames. Written by devices (and by ports that stand for one). Consumers: read-only.
//   state    header, ports, queues, workers' ledgers, consumers. Written by the engine. Consumers: read-only.
//   rings    one per consumer: a ring for each worker. Written by the workers. That consumer: read-only.
//   control  one per consumer: a line for each worker. Written by that consumer alone; hostile input.
//   send     one per sender: requests and their frames. Written by that sender alone, which the engine maps
//            read-only; hostile input.
//
// Everything is little-endian with fixed widths; offsets, never pointers; one writer per cache line
// (named in the comments). A reader strides by the sizes that it finds in the header, so that a newer
// minor version may add fields at the end of a structure. If the engine dies, everything stays mapped
// and readable; a sequence count may then stay odd, so every reader of one gives up after a bounded
// number of tries.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace ringcap::layout {

inline constexpr uint64_t kMagic = 0x31'50'41'43'47'4e'49'52;  // "RINGCAP1"
inline constexpr uint16_t kMajor = 1;
inline constexpr uint16_t kMinor = 1;

inline constexpr uint32_t kMaxConsumers = 256;
inline constexpr uint32_t kMaxWorkers = 64;
inline constexpr uint32_t kMaxSources = 256;
inline constexpr uint32_t kMaxClusters = 32;     // of one engine, from its start to its end
inline constexpr uint32_t kClusterSlots = 4096;  // capture/cluster/slots.h
inline constexpr uint32_t kTrackedFlows = 64;    // of one cluster, by each worker
inline constexpr uint32_t kMaxSenders = 64;      // of one engine
inline constexpr size_t kNameBytes = 32;         // names are at most 31 characters and a zero
inline constexpr size_t kLineBytes = 128;        // two cache lines: the adjacent-line prefetcher pairs them

// Ring positions only grow, and start here: a page of zeros is visibly not a position.
inline constexpr uint64_t kFirstPosition = uint64_t{1} << 32;
// A counter that the device does not count.
inline constexpr uint64_t kNotCounted = ~uint64_t{0};
// complete_until_ns of a worker that is asleep: it was complete when it fell asleep, and what comes now
// is stamped now (less lag_ns).
inline constexpr uint64_t kAsleep = ~uint64_t{0};

// ---- the ring's descriptor ---------------------------------------------------------------------

// What a taker reads of one frame. 32 bytes, so that a burst is one NumPy array.
struct Descriptor {
  uint64_t timestamp_ns;  // since the epoch, by the source's clock
  uint64_t location;      // see location()
  uint32_t length;        // bytes on the wire, without CRC
  uint32_t hash;          // of the flow; valid with kHashValid
  uint16_t captured;      // bytes in the arena
  uint16_t flags;         // Flag
  uint8_t l3_half;        // offset of the network header / 2; 0: none found
  uint8_t l4_half;        // offset of the transport header / 2; 0: none found
  uint8_t source;         // index into the table of sources
  uint8_t reserved;
};
static_assert(sizeof(Descriptor) == 32);
static_assert(offsetof(Descriptor, location) == 8 && offsetof(Descriptor, length) == 16 &&
              offsetof(Descriptor, hash) == 20 && offsetof(Descriptor, captured) == 24 &&
              offsetof(Descriptor, flags) == 26 && offsetof(Descriptor, l3_half) == 28 &&
              offsetof(Descriptor, l4_half) == 29 && offsetof(Descriptor, source) == 30);

enum Flag : uint16_t {
  kOutgoing = 1 << 0,
  kTruncated = 1 << 1,  // captured < length
  kBadCrc = 1 << 2,
  kBadLength = 1 << 3,
  kFragment = 1 << 4,
  kFirstFragment = 1 << 5,
  kVlan = 1 << 6,
  kTunnel = 1 << 7,
  kHashValid = 1 << 8,
  kAdapterTime = 1 << 9,
  kCopied = 1 << 10,
};

inline constexpr unsigned kLocationBits = 40;
inline constexpr uint64_t kLocationMask = (uint64_t{1} << kLocationBits) - 1;

// location: 40 bits byte offset of the frame in the arena | 8 bits region | 16 bits lost_before.
constexpr uint64_t location(uint64_t offset, uint8_t region) {
  return offset | uint64_t{region} << kLocationBits;
}
constexpr uint64_t frame_offset(const Descriptor& d) { return d.location & kLocationMask; }
constexpr uint8_t region(const Descriptor& d) { return static_cast<uint8_t>(d.location >> kLocationBits); }
// Frames lost for this taker just before this one; 65535 means at least as many.
constexpr uint16_t lost_before(const Descriptor& d) { return static_cast<uint16_t>(d.location >> 48); }

// ---- rings (one memfd per consumer) --------------------------------------------------------------

// One ring's published end. rings memory: a RingLine per worker, rounded up to a page; then the slots
// of each worker's ring, one after the other. slot = position & (size - 1); size is a power of two of
// at least 128, so that a ring's bytes are a multiple of the page size.
struct alignas(kLineBytes) RingLine {
  std::atomic<uint64_t> head;  // written by the worker: everything before it is published
};
static_assert(sizeof(RingLine) == kLineBytes);

inline constexpr uint32_t kMinRingSlots = 128;
inline constexpr uint32_t kMaxRingSlots = 1 << 24;

constexpr uint64_t ring_lines_bytes(uint32_t workers) {
  return (uint64_t{workers} * sizeof(RingLine) + 4095) & ~uint64_t{4095};
}
constexpr uint64_t ring_bytes(uint32_t slots) { return uint64_t{slots} * sizeof(Descriptor); }
constexpr uint64_t ring_offset(uint32_t workers, uint32_t slots, uint32_t worker) {
  return ring_lines_bytes(workers) + worker * ring_bytes(slots);
}
constexpr uint64_t rings_bytes(uint32_t workers, uint32_t slots) {
  return ring_offset(workers, slots, workers);
}

// ---- control area (one memfd per consumer) -------------------------------------------------------

// Written by the consumer alone. The worker reads each word once, checks it, and detaches the consumer
// when it makes no sense: a cursor that goes backwards or beyond the head.
struct alignas(kLineBytes) ControlLine {
  std::atomic<uint64_t> cursor;       // everything before it is given back
  std::atomic<uint64_t> wake_at;      // the head position that the consumer sleeps for; 0: never slept
  std::atomic<uint64_t> late;         // frames that came later than the merge waited (for the ledger only)
  std::atomic<uint64_t> not_matched;  // frames that the consumer's library filtered (for the ledger only)
};
static_assert(sizeof(ControlLine) == kLineBytes);

constexpr uint64_t control_bytes(uint32_t workers) {
  return (uint64_t{workers} * sizeof(ControlLine) + 4095) & ~uint64_t{4095};
}

// ---- state (one memfd per engine) ----------------------------------------------------------------

enum class Clock : uint8_t { kHost = 0, kKernel = 1, kAdapter = 2, kFile = 3 };
enum class MemoryKind : uint32_t { kMemfd = 0, kHugetlbfs = 1, kPlain = 2 };
enum class EngineState : uint32_t { kStarting = 0, kRunning = 1, kSourcesEnded = 2, kEnded = 3 };

// Where a table is: entries of `stride` bytes from `offset` on.
struct Table {
  uint64_t offset;
  uint32_t stride;
  uint32_t count;
};

struct alignas(kLineBytes) Header {
  std::atomic<uint64_t> magic;  // stored last (release), pairs with the reader's acquire
  uint16_t major;
  uint16_t minor;
  uint32_t header_bytes;
  uint64_t state_bytes;
  uint64_t arena_bytes;
  uint64_t page_bytes;  // of the arena
  uint64_t started_ns;  // CLOCK_REALTIME
  uint32_t pid;
  uint32_t memory;  // MemoryKind
  uint32_t clock;   // Clock: of the first source
  uint32_t reserved;
  char name[kNameBytes];     // the engine's
  char version[kNameBytes];  // ringcap's
  Table ports;
  Table sources;
  Table workers;
  Table takers;  // TakerBlock within a WorkerBlock: offset is relative to the worker's entry
  Table consumers;
  Table regions;
  Table clusters;
  Table cluster_blocks;  // ClusterBlock within a WorkerBlock: offset is relative to the worker's entry
  uint64_t hash_key[2];  // of the flow hash (docs/hash.md)
  Table statistics;
  Table forwarders;
  Table senders;
  // Written by the control thread while the engine runs.
  alignas(kLineBytes) std::atomic<uint32_t> state;  // EngineState
  std::atomic<uint32_t> departed;                   // consumers that left
};

struct RegionEntry {
  uint64_t offset;  // in the arena
  uint64_t bytes;
  uint32_t buffer_bytes;  // 2048, 4096, 8192 or 16384
  uint32_t worker;
};

// Written by the control thread, at most a few times a second, under `sequence`.
struct alignas(kLineBytes) PortEntry {
  std::atomic<uint64_t> sequence;
  std::atomic<uint32_t> link_up;
  std::atomic<uint32_t> link_mbps;  // 0: not known
  std::atomic<uint32_t> present;    // 0: the device is gone
  uint32_t mtu;
  uint32_t queues;
  uint32_t link_type;  // LINKTYPE_ value (https://www.tcpdump.org/linktypes.html)
  char address[96];    // "vfio:0000:03:00.0", cut where longer
  char driver[kNameBytes];
  // Of all its queues together, where the device cannot say it of each; as in SourceEntry.
  std::atomic<uint64_t> received;
  std::atomic<uint64_t> missed;
  std::atomic<uint64_t> bad;
  std::atomic<uint64_t> at_rest;  // of the sum of its queues' `taken`
};

// One of the numbers that a port's device keeps. The value is written by the control thread.
struct alignas(kLineBytes) StatisticEntry {
  char name[kNameBytes];  // as `ethtool -S` has it
  uint32_t port;
  uint32_t reserved;
  std::atomic<uint64_t> value;
};

// One receive queue. received, missed, bad: written by the control thread; taken: by the worker.
struct alignas(kLineBytes) SourceEntry {
  std::atomic<uint64_t> sequence;
  std::atomic<uint64_t> received;  // by the device; kNotCounted where it cannot say
  std::atomic<uint64_t> missed;    // no descriptor or FIFO full; kNotCounted where it cannot say
  std::atomic<uint64_t> bad;       // CRC, length; kNotCounted where it cannot say
  // 0: frames came since the reading before this one; else `taken` then + 1: the queue's sum must hold while
  // `taken` is still that.
  std::atomic<uint64_t> at_rest;
  uint32_t port;
  uint32_t queue;
  uint32_t worker;
  uint32_t clock;  // Clock
  alignas(64) std::atomic<uint64_t> taken;
  std::atomic<uint64_t> ended;  // 1: a source that ends has ended
};

// A worker's ledger: written by the worker, once a round, under `sequence`.
struct alignas(kLineBytes) WorkerEntry {
  std::atomic<uint64_t> sequence;  // odd while the worker writes
  std::atomic<uint64_t> taken;
  std::atomic<uint64_t> broken;
  std::atomic<uint64_t> filtered;
  std::atomic<uint64_t> no_buffer;
  std::atomic<uint64_t> considered;
  std::atomic<uint64_t> wanted;
  std::atomic<uint64_t> unwanted;
  std::atomic<uint64_t> copied;
  std::atomic<uint64_t> bytes;  // on the wire, of taken frames
  std::atomic<uint64_t> rounds;
  std::atomic<uint64_t> sleeps;
  std::atomic<uint64_t> wakeups;      // consumers woken
  std::atomic<uint64_t> clock_steps;  // of the host's clock
  std::atomic<uint64_t> buffers_total;
  std::atomic<uint64_t> buffers_port;
  std::atomic<uint64_t> buffers_free;
  std::atomic<uint64_t> buffers_referenced;
  std::atomic<uint64_t> buffers_in_hand;
  std::atomic<uint64_t>
      filter_ns;                   // spent on the engine's filter; measured in some rounds, times their share
  std::atomic<uint64_t> cut;       // frames that were longer than a buffer
  std::atomic<uint64_t> unplaced;  // later fragments that came without their first one
  // Every frame stamped before this is published. On a line of its own: consumers that merge read it.
  alignas(kLineBytes) std::atomic<uint64_t> complete_until_ns;
  std::atomic<uint64_t> plan_seen;  // number of the plan that the worker goes by
  uint64_t lag_ns;                  // constant: how long a stamped frame may be on its way to this worker
};

// What one taker was offered by one worker. The entries follow the WorkerEntry, one per consumer slot,
// then one for all consumers that have left. Written by the worker, under the WorkerEntry's sequence.
struct alignas(kLineBytes) TakerBlock {
  std::atomic<uint64_t> considered;   // since it attached
  std::atomic<uint64_t> not_matched;  // by its filter
  std::atomic<uint64_t> offered;
  std::atomic<uint64_t> published;
  std::atomic<uint64_t> dropped;  // ring full
  std::atomic<uint64_t> released;
  std::atomic<uint64_t> in_ring;
  std::atomic<uint64_t> reclaiming;  // left by a consumer that is gone, not collected yet
  std::atomic<uint64_t> reclaimed;
  std::atomic<uint64_t> late;       // as the consumer itself says
  std::atomic<uint64_t> filter_ns;  // spent on its filter; one that several takers have is the first one's
  std::atomic<uint64_t> cluster;    // number of its cluster + 1; 0: none
};

// What one cluster was offered by one worker. These entries follow the TakerBlocks, one per cluster.
struct alignas(kLineBytes) ClusterBlock {
  std::atomic<uint64_t> considered;   // since the cluster was made
  std::atomic<uint64_t> not_matched;  // by its filter
  std::atomic<uint64_t> offered;      // to members, or to nobody; twice where kind `ends` found two members
  std::atomic<uint64_t> twice;        // of kind `ends`: frames that were offered to two members
  std::atomic<uint64_t> unassigned;   // of offered: there was no member
  std::atomic<uint64_t> members;      // of offered: to members that are there, whatever their filters said
  std::atomic<uint64_t> departed;     // of offered: to members that have left
  std::atomic<uint64_t> filter_ns;
  std::atomic<uint64_t> flow_weight;  // how many frames one counted frame of a TrackedFlow stands for
};

// One of a cluster's largest flows, as one worker saw it: a sample of its frames is counted. Follows the
// ClusterBlock, kTrackedFlows of them; unused ones have no frames. Written some times a second, word by word.
struct TrackedFlow {
  uint8_t a[16], b[16];     // addresses, in network order: 4 or 16 bytes, or 6 of a MAC; a is the lower end
  uint16_t port_a, port_b;  // 0: none
  uint32_t hash;            // docs/hash.md
  uint8_t version;          // 4, 6; 0: MAC addresses
  uint8_t protocol;         // of IP
  uint16_t type;            // EtherType, where version is 0
  uint32_t inherited;       // counted frames of the flow whose place this one took: its own error
  uint32_t a_to_b, b_to_a;  // counted frames, by direction
  uint64_t bytes;           // on the wire, of counted frames
};
static_assert(sizeof(TrackedFlow) == 64);
inline constexpr size_t kTrackedFlowWords = sizeof(TrackedFlow) / sizeof(uint64_t);

enum class ConsumerState : uint32_t { kFree = 0, kAttached = 1, kLeaving = 2 };
enum class FilterPlace : uint32_t { kNone = 0, kEngine = 1, kLibrary = 2 };
// Why the engine detached a consumer; its socket may have been too full to say so.
inline constexpr std::string_view kControlAreaNonsense =
    "the consumer's control area makes no sense: its cursor went backwards or beyond what was published";
enum class Detached : uint32_t { kNot = 0, kControlArea = 1, kMessage = 2 };

// One consumer. Written by the control thread, under `sequence`.
struct alignas(kLineBytes) ConsumerEntry {
  std::atomic<uint64_t> sequence;
  std::atomic<uint64_t> id;  // never used twice within an engine
  std::atomic<uint32_t> state;
  uint32_t pid;
  uint32_t uid;
  uint32_t ring_slots;                      // per worker
  uint32_t filter;                          // FilterPlace
  std::atomic<uint32_t> detached;           // Detached
  uint64_t attached_ns;                     // CLOCK_REALTIME
  std::atomic<uint64_t> considered_before;  // of a member: before its cluster's table last changed
  char name[kNameBytes];
  char cluster[kNameBytes];
  char member[kNameBytes];
};

enum class Stall : uint32_t { kKeep = 0, kMove = 1 };
inline constexpr uint16_t kNoConsumer = 0xffff;

// One cluster. Written by the control thread, under `sequence`.
struct alignas(kLineBytes) ClusterEntry {
  std::atomic<uint64_t> sequence;
  uint32_t used;   // 0: there is no such cluster (yet)
  uint32_t kind;   // cluster::Kind
  uint32_t level;  // cluster::Level
  uint32_t stall;  // Stall
  uint32_t stall_ms;
  uint32_t filtered;  // 1: it has a filter
  uint32_t uid;       // whose it is
  uint32_t members;   // that serve
  uint32_t slots;     // entries of `consumers` that are in use
  uint32_t stalled;   // members whose slots others serve for now
  uint64_t moves;     // slots that changed hands
  char name[kNameBytes];
  uint16_t consumers[kClusterSlots];  // by slot: the consumer's place in its table, or kNoConsumer
};

// What a forwarder does with the frames that one worker hands it: received by port `from`, sent on port `to`.
// Written by the forwarder's thread, under `sequence`. Its place among the consumers' slots says what the
// worker offered it.
struct alignas(kLineBytes) ForwarderEntry {
  std::atomic<uint64_t> sequence;
  uint32_t from, to;  // ports
  uint32_t worker;
  uint32_t slot;                 // of the TakerBlocks
  uint32_t queue;                // transmit queue of `to`
  std::atomic<uint32_t> sleeps;  // 1: the thread sleeps
  std::atomic<uint64_t> taken;   // out of the ring: sent + refused + pending
  std::atomic<uint64_t> sent;    // the device or the kernel is done with them
  std::atomic<uint64_t>
      refused;  // cannot be sent: cut, too long or too short, or there is no interface any more
  std::atomic<uint64_t> pending;  // given to the device
  std::atomic<uint64_t> bytes;    // of `sent`
};

enum class SenderState : uint32_t { kFree = 0, kOpen = 1, kClosing = 2 };

// One sender. The first part is written by the control thread while no forwarder knows the sender, the rest
// by the forwarder's thread, under `sequence`.
struct alignas(kLineBytes) SenderEntry {
  std::atomic<uint64_t> sequence;
  std::atomic<uint64_t> id;  // never used twice within an engine
  std::atomic<uint32_t> state;
  uint32_t pid;
  uint32_t uid;
  uint32_t port;
  uint32_t queue;  // transmit queue of the port
  uint32_t slots;
  char name[kNameBytes];
  alignas(kLineBytes) std::atomic<uint64_t> consumed;  // requests before it are read: their slots are free
  std::atomic<uint64_t> asked;    // requests that were read: refused + sent + dropped + pending
  std::atomic<uint64_t> refused;  // requests that make no sense
  std::atomic<uint64_t> sent;     // the device or the kernel is done with them
  std::atomic<uint64_t> dropped;  // the device or the kernel did not take them
  std::atomic<uint64_t> pending;  // given to the device
  std::atomic<uint64_t> limited;  // times that the sender's credit was used up while it asked for more
  std::atomic<uint64_t> bytes;    // of `sent`
  std::atomic<uint64_t> sleeps;   // 1: the forwarder sleeps; a sender that asks for something rings its bell
};

// ---- senders' memory (one memfd per sender) ------------------------------------------------------

// A SendLine; the requests; from the next page on the frames, slots * slot_bytes. Request i is at position &
// (slots - 1); which part of the frames' area it uses is the sender's business.
struct alignas(kLineBytes) SendLine {
  std::atomic<uint64_t> produced;  // requests before it are there; begins at kFirstPosition
};
struct SendRequest {
  uint32_t offset;  // of the frame in the frames' area
  uint32_t length;  // without CRC
};
inline constexpr uint32_t kMinSendSlots = 64;
inline constexpr uint32_t kMaxSendSlots = 4096;

constexpr uint64_t send_frames_offset(uint32_t slots) {
  return (sizeof(SendLine) + slots * sizeof(SendRequest) + 4095) & ~uint64_t{4095};
}
constexpr uint64_t send_bytes(uint32_t slots, uint32_t slot_bytes) {
  return (send_frames_offset(slots) + uint64_t{slots} * slot_bytes + 4095) & ~uint64_t{4095};
}

constexpr uint64_t align_line(uint64_t bytes) { return (bytes + kLineBytes - 1) & ~uint64_t{kLineBytes - 1}; }

}  // namespace ringcap::layout

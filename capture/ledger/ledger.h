// The ledger, read: a copy of an engine's counters out of its shared state, and the sums that must
// hold (docs/ledger.md lists them). Used by `ringcap stat`, libringcap and tests; any thread, any
// process that maps the state. If the engine died in the middle of a write, the copy says so (`torn`)
// instead of waiting.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "capture/base/error.h"
#include "capture/layout/layout.h"

namespace ringcap::ledger {

struct Queue {
  uint32_t port = 0, queue = 0, worker = 0;
  uint64_t received = 0, missed = 0, bad = 0;  // layout::kNotCounted where the device cannot say
  uint64_t taken = 0;
  bool ended = false;
  bool at_rest =
      false;  // the queue's sum is checked only then: registers and frames are read at different times
};

struct Port {
  std::string address, driver;
  uint32_t mtu = 0, link_type = 0, mbps = 0;
  bool up = false, present = false;
  // Of all queues together; layout::kNotCounted where the queues say it, or nobody can.
  uint64_t received = layout::kNotCounted, missed = layout::kNotCounted, bad = layout::kNotCounted;
  uint64_t taken = 0;
  bool at_rest = false;
  std::vector<Queue> queues;
  std::vector<std::pair<std::string, uint64_t>> statistics;  // what the device counts, by name
};

struct Taker {
  uint64_t considered = 0, not_matched = 0, offered = 0, published = 0, dropped = 0, released = 0,
           in_ring = 0, reclaiming = 0, reclaimed = 0, late = 0, filter_ns = 0;
  uint32_t cluster = 0;  // number + 1; 0: none
  void add(const Taker& other);
};

struct Buffers {
  uint64_t total = 0, port = 0, free = 0, referenced = 0, in_hand = 0;
  void add(const Buffers& other);
};

// What members of one cluster were offered: by one worker, or together.
struct ClusterCounts {
  uint64_t considered = 0, not_matched = 0, offered = 0, twice = 0, unassigned = 0, members = 0, departed = 0,
           filter_ns = 0;
  void add(const ClusterCounts& other);
};

// One of a cluster's largest flows; frames and bytes are estimates from a sample.
struct Flow {
  layout::TrackedFlow flow{};
  uint64_t frames = 0, bytes = 0;
  uint64_t error = 0;  // it may have had so many frames more
  bool one_sided() const;
};

struct Cluster {
  uint32_t number = 0;
  std::string name;
  uint32_t kind = 0, level = 0;  // cluster::Kind, cluster::Level
  layout::Stall stall = layout::Stall::kKeep;
  uint32_t stall_ms = 0, uid = 0, members = 0, stalled = 0, slots = 0;
  bool filtered = false;
  uint64_t moves = 0;
  std::vector<uint16_t> consumers;  // by slot: consumer slot, or layout::kNoConsumer
  ClusterCounts total;              // over the workers
  std::vector<Flow> flows;          // largest first
  uint32_t slots_of(uint32_t consumer_slot) const;
};

struct Worker {
  uint64_t taken = 0, broken = 0, filtered = 0, no_buffer = 0, considered = 0, wanted = 0, unwanted = 0,
           copied = 0, bytes = 0, rounds = 0, sleeps = 0, wakeups = 0, clock_steps = 0, filter_ns = 0,
           cut = 0, unplaced = 0;
  Buffers buffers;
  std::vector<Taker> takers;            // by consumer slot; the last: all that have left
  std::vector<ClusterCounts> clusters;  // by number; as many as read() found
  bool torn = false;
};

struct Consumer {
  uint32_t slot = 0;
  uint64_t id = 0;
  uint32_t pid = 0, uid = 0, ring_slots = 0;
  uint64_t attached_ns = 0;
  layout::ConsumerState state = layout::ConsumerState::kFree;
  layout::FilterPlace filter = layout::FilterPlace::kNone;
  std::string name, cluster, member;
  Taker total;                     // over the workers
  uint64_t considered_before = 0;  // of a member: before its cluster's table last changed
  // What a member was given since then.
  uint64_t load() const { return total.considered - std::min(considered_before, total.considered); }
};

// Frames of one port that are sent on another: what the workers offered, and what became of it.
struct Forwarder {
  uint32_t from = 0, to = 0;
  uint32_t slot = 0;
  Taker total;  // over the workers
  uint64_t taken = 0, sent = 0, refused = 0, pending = 0, bytes = 0;
};

struct Sender {
  uint64_t id = 0;
  std::string name;
  uint32_t pid = 0, uid = 0, port = 0, queue = 0;
  uint64_t asked = 0, refused = 0, sent = 0, dropped = 0, pending = 0, limited = 0, bytes = 0;
};

struct Ledger {
  std::string engine, version;
  uint32_t pid = 0;
  uint64_t started_ns = 0;
  uint64_t hash_key[2] = {};  // docs/hash.md
  layout::Clock clock = layout::Clock::kHost;
  layout::MemoryKind memory = layout::MemoryKind::kMemfd;
  layout::EngineState state = layout::EngineState::kStarting;
  uint64_t page_bytes = 0, arena_bytes = 0;
  std::vector<Port> ports;
  std::vector<Worker> workers;
  std::vector<Consumer> consumers;
  std::vector<Cluster> clusters;
  std::vector<Forwarder> forwarders;
  std::vector<Sender> senders;
  uint64_t departed = 0;
  Taker departed_total;
  Buffers buffers;
};

// One sum that does not hold.
struct Mismatch {
  std::string sum;    // "taken = broken + filtered + no_buffer + considered"
  std::string where;  // "worker 0"
  uint64_t left = 0, right = 0;
};

enum class Verdict { kBalanced, kUnbalanced, kCannotBeTold };
const char* to_string(Verdict verdict);
// "host", "kernel", "adapter", "file"
const char* clock_name(layout::Clock clock);
// "memfd", "hugetlbfs", "plain"
const char* memory_name(layout::MemoryKind kind);

struct Check {
  Verdict verdict = Verdict::kBalanced;
  std::vector<Mismatch> unbalanced;
};

// Checks that `state` is a state memory of a major version that we read, with all its tables inside.
Result<const layout::Header*> check_state(std::span<const std::byte> state);

// Copies one worker's counters; those of one sum always belong together. Safe in a signal handler when
// `worker.takers` has its size already. `slots`: how many taker blocks to copy.
void read_worker(const layout::Header& header, uint32_t index, Worker& worker);
// One consumer's counters over all workers; safe in a signal handler.
Taker read_taker(const layout::Header& header, uint32_t slot);
// One sender's counters; safe in a signal handler but for the name, which it leaves empty.
Sender read_sender(const layout::Header& header, uint32_t entry);
Ledger read(const layout::Header& header);
// Frames that the ports' devices had no room for; layout::kNotCounted if one of them cannot say. Safe in a
// signal handler.
uint64_t missed(const layout::Header& header);
Check check(const Ledger& ledger);

}  // namespace ringcap::ledger

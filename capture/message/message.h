// Control messages: what a client and an engine say over the control socket (Unix, SOCK_SEQPACKET; one
// message a packet). docs/protocol.md lists who sends which when. Both sides read foreign bytes here:
// every parse function checks sizes and terminates strings, and never trusts a count. Thread-safe
// (no state).
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "capture/base/error.h"
#include "capture/base/fd.h"
#include "capture/cluster/kind.h"
#include "capture/filter/program.h"
#include "capture/layout/layout.h"

namespace ringcap::message {

inline constexpr uint32_t kMagic = 0x4d435252;  // "RRCM"
inline constexpr size_t kMaxBytes = size_t{64} << 10;
inline constexpr uint32_t kMaxFilterInstructions = 4096;
inline constexpr size_t kMaxFds = 4;

enum class Type : uint32_t {
  kHello = 1,           // client: first message; answered by kAttached, kObserving, kStopping or kRefused
  kAttached = 2,        // engine: with the descriptors state, arena, rings, control
  kObserving = 3,       // engine: with the descriptor state
  kRefused = 4,         // engine: and closes
  kWake = 5,            // engine: a ring reached its wake_at
  kDetached = 6,        // engine: the reason; and closes
  kDetach = 7,          // client: gives its place back; frames it still holds are reclaimed
  kStopping = 8,        // engine: the order to stop was accepted
  kSetFilter = 9,       // client, attached: from now on this filter
  kFilterSet = 10,      // engine: every worker goes by it; where it is evaluated
  kFilterRefused = 11,  // engine: the reason; everything is as before
  kSendOpen = 12,       // client, attached or a sender: wants to send on a port
  kSendGranted = 13,    // engine: with the descriptors of the sender's memory and of the forwarder's bell
  kSendRefused = 14,    // engine: the reason; everything is as before
  kSendClose = 15,      // client, attached: is done with one of its senders
};

struct Header {
  uint32_t magic;
  uint16_t major;  // layout::kMajor
  uint16_t minor;
  Type type;
  uint32_t bytes;  // of the whole message
};
static_assert(sizeof(Header) == 16);

enum class Role : uint32_t {
  kConsumer = 1,  // takes frames
  kObserver = 2,  // reads the state (ledger) only
  kStop = 3,      // asks the engine to end
  kSender = 5,    // sends only: answered as an observer is, and may stay
  kOperator = 4,  // gives the engine, or the cluster that the hello names, the hello's filter
};

// What a client asks for.
struct Hello {
  Role role = Role::kConsumer;
  uint32_t ring_slots = 0;     // per worker, rounded up to a power of two; 0: the engine's default
  bool allow_smaller = false;  // take a smaller ring where the asked one does not fit
  std::string program;         // the client's name, for people
  std::string cluster;         // "" : none
  std::string member;
  std::vector<filter::Instruction> filter;  // classic BPF; empty: every frame
  std::optional<cluster::Kind> kind = {};   // that the cluster must have; empty: whichever
  std::optional<cluster::Level> level = {};
};

// An attached consumer's filter from now on. Programs are classic BPF; empty: every frame.
struct SetFilter {
  std::vector<filter::Instruction> filter;
  // For frames that the host sent, where that is another one than for those that it received.
  std::optional<std::vector<filter::Instruction>> outgoing = {};
};

struct Attached {
  uint64_t id = 0;
  uint32_t slot = 0;  // of the consumer in the state's table
  uint32_t workers = 0;
  uint32_t ring_slots = 0;
  layout::FilterPlace filter = layout::FilterPlace::kNone;
  uint64_t state_bytes = 0;
  uint64_t arena_bytes = 0;
  uint64_t rings_bytes = 0;
  uint64_t control_bytes = 0;
};

inline constexpr uint32_t kAnyPort = ~uint32_t{0};

struct SendOpen {
  uint32_t port = kAnyPort;  // number in the engine; kAnyPort: the first that sends
  uint32_t slots = 0;        // requests that the memory holds; 0: the engine's choice
  uint32_t cpu = 0;          // where the sender runs: decides the transmit queue
};

struct SendGranted {
  uint64_t id = 0;
  uint32_t entry = 0;  // in the state's table of senders
  uint32_t port = 0;
  uint32_t slots = 0;
  uint32_t slot_bytes = 0;  // longest frame
};

// Writing: the bytes of one message.
std::vector<std::byte> encode(const Hello& hello);
std::vector<std::byte> encode(const Attached& attached);
std::vector<std::byte> encode_observing(uint64_t state_bytes);
std::vector<std::byte> encode(const SetFilter& set_filter);
std::vector<std::byte> encode_filter_set(layout::FilterPlace place);
std::vector<std::byte> encode(const SendOpen& open);
std::vector<std::byte> encode(const SendGranted& granted);
std::vector<std::byte> encode_send_close(uint64_t sender);
std::vector<std::byte> encode_error(Type type, const Error& error);  // kRefused, kDetached, ...Refused
Header plain(Type type);                                             // kWake, kDetach, kStopping

// Reading. The header of a received packet; kVersion names the older side; kUsage: not a message of ours.
Result<Header> parse_header(std::span<const std::byte> packet);
Result<Hello> parse_hello(std::span<const std::byte> packet);
Result<Attached> parse_attached(std::span<const std::byte> packet);
Result<uint64_t> parse_observing(std::span<const std::byte> packet);
Result<SetFilter> parse_set_filter(std::span<const std::byte> packet);
Result<layout::FilterPlace> parse_filter_set(std::span<const std::byte> packet);
Result<SendOpen> parse_send_open(std::span<const std::byte> packet);
Result<SendGranted> parse_send_granted(std::span<const std::byte> packet);
Result<uint64_t> parse_send_close(std::span<const std::byte> packet);
Error parse_error(std::span<const std::byte> packet);

// One packet from a socket, with the descriptors that came with it.
struct Received {
  std::vector<std::byte> bytes;  // empty: the other side closed
  std::vector<Fd> fds;
};
// Errors: EAGAIN (nothing there; kSystem with empty text), anything else.
Result<Received> receive(int socket, bool wait);
// Sends one packet, with descriptors. Does not wait: a full socket is an error.
Result<void> send(int socket, std::span<const std::byte> packet, std::span<const int> fds = {});
// The wake-up: MSG_DONTWAIT; a full socket is readable already. True unless the other side is gone.
bool send_wake(int socket);

}  // namespace ringcap::message

#include "capture/message/message.h"

#include <fmt/format.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstring>
#include <memory>

namespace ringcap::message {
namespace {

constexpr size_t kTextBytes = 1024;

// The fixed part of each message, as it travels.
struct WireHello {
  Header header;
  Role role;
  uint32_t ring_slots;
  uint32_t allow_smaller;
  uint32_t filter_instructions;
  char program[layout::kNameBytes];
  char cluster[layout::kNameBytes];
  char member[layout::kNameBytes];
  uint32_t kind;  // cluster::Kind + 1; 0: whichever
  uint32_t level;
};
struct WireFilter {
  Header header;
  uint32_t instructions;  // that follow
  uint32_t outgoing;      // of a second program, that follow these, + 1; 0: there is none
};
struct WireFilterSet {
  Header header;
  uint32_t place;  // layout::FilterPlace
  uint32_t reserved;
};
struct WireAttached {
  Header header;
  uint64_t id;
  uint32_t slot;
  uint32_t workers;
  uint32_t ring_slots;
  uint32_t filter;
  uint64_t state_bytes;
  uint64_t arena_bytes;
  uint64_t rings_bytes;
  uint64_t control_bytes;
};
struct WireObserving {
  Header header;
  uint64_t state_bytes;
};
struct WireSendOpen {
  Header header;
  uint32_t port;
  uint32_t slots;
  uint32_t cpu;
  uint32_t reserved;
};
struct WireSendGranted {
  Header header;
  uint64_t id;
  uint32_t entry;
  uint32_t port;
  uint32_t slots;
  uint32_t slot_bytes;
};
struct WireSendClose {
  Header header;
  uint64_t id;
};
struct WireError {
  Header header;
  uint32_t code;
  uint32_t reserved;
  char text[kTextBytes];
  char mend[kTextBytes];
};

Header header_of(Type type, size_t bytes) {
  return {kMagic, layout::kMajor, layout::kMinor, type, static_cast<uint32_t>(bytes)};
}

template <size_t N>
void put_text(char (&to)[N], const std::string& from) {
  std::memset(to, 0, N);
  std::memcpy(to, from.data(), std::min(from.size(), N - 1));
}

// A foreign string: ends at its first zero or at the field's end; control characters become '?'.
template <size_t N>
std::string get_text(const char (&from)[N]) {
  std::string text(from, strnlen(from, N));
  std::ranges::replace_if(text, [](unsigned char c) { return c < 0x20 || c == 0x7f; }, '?');
  return text;
}

template <typename Wire>
std::vector<std::byte> bytes_of(const Wire& wire) {
  const auto* from = reinterpret_cast<const std::byte*>(&wire);
  return {from, from + sizeof(Wire)};
}

template <typename Wire>
Result<Wire> fixed_part(std::span<const std::byte> packet, Type type) {
  auto header = parse_header(packet);
  if (!header) return std::unexpected(header.error());
  if (header->type != type || packet.size() < sizeof(Wire))
    return fail(Code::kUsage,
                fmt::format("control message of type {} and {} bytes: expected type {} and at least {}",
                            static_cast<uint32_t>(header->type), packet.size(), static_cast<uint32_t>(type),
                            sizeof(Wire)));
  Wire wire;
  std::memcpy(&wire, packet.data(), sizeof wire);
  return wire;
}

std::vector<std::byte> with_filter(std::vector<std::byte> packet,
                                   std::span<const filter::Instruction> filter) {
  const auto bytes = std::as_bytes(filter);
  packet.insert(packet.end(), bytes.begin(), bytes.end());
  return packet;
}

// The `count` instructions that follow the fixed part of `fixed_bytes`.
Result<std::vector<filter::Instruction>> filter_after(std::span<const std::byte> packet, size_t fixed_bytes,
                                                      uint64_t count) {
  if (count > kMaxFilterInstructions)
    return fail(Code::kFilter, fmt::format("a filter has at most {} instructions, this one {}",
                                           kMaxFilterInstructions, count));
  if (packet.size() != fixed_bytes + count * sizeof(filter::Instruction))
    return fail(Code::kUsage, "the message's filter is cut short or followed by nonsense");
  std::vector<filter::Instruction> filter(count);
  if (count != 0) std::memcpy(filter.data(), packet.data() + fixed_bytes, count * sizeof filter[0]);
  return filter;
}

// An enumeration's value that may be absent: value + 1, or 0.
template <typename Enum>
uint32_t put_optional(const std::optional<Enum>& value) {
  return value ? static_cast<uint32_t>(*value) + 1 : 0;
}
template <typename Enum>
std::optional<Enum> get_optional(uint32_t word) {
  return word == 0 ? std::nullopt : std::optional(static_cast<Enum>(word - 1));
}

void collect_fds(msghdr& message, std::vector<Fd>& fds) {
  for (cmsghdr* c = CMSG_FIRSTHDR(&message); c != nullptr; c = CMSG_NXTHDR(&message, c)) {
    if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS) continue;
    const size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; ++i) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof fd);
      fds.emplace_back(fd);
    }
  }
}

}  // namespace

std::vector<std::byte> encode(const Hello& hello) {
  const size_t filter_bytes = hello.filter.size() * sizeof(filter::Instruction);
  WireHello wire{};
  wire.header = header_of(Type::kHello, sizeof wire + filter_bytes);
  wire.role = hello.role;
  wire.ring_slots = hello.ring_slots;
  wire.allow_smaller = hello.allow_smaller ? 1 : 0;
  wire.filter_instructions = static_cast<uint32_t>(hello.filter.size());
  put_text(wire.program, hello.program);
  put_text(wire.cluster, hello.cluster);
  put_text(wire.member, hello.member);
  wire.kind = put_optional(hello.kind);
  wire.level = put_optional(hello.level);
  return with_filter(bytes_of(wire), hello.filter);
}

std::vector<std::byte> encode(const SetFilter& s) {
  std::vector<filter::Instruction> both = s.filter;
  if (s.outgoing) both.insert(both.end(), s.outgoing->begin(), s.outgoing->end());
  WireFilter wire{};
  wire.header = header_of(Type::kSetFilter, sizeof wire + both.size() * sizeof both[0]);
  wire.instructions = static_cast<uint32_t>(s.filter.size());
  wire.outgoing = s.outgoing ? static_cast<uint32_t>(s.outgoing->size()) + 1 : 0;
  return with_filter(bytes_of(wire), both);
}

std::vector<std::byte> encode_filter_set(layout::FilterPlace place) {
  return bytes_of(
      WireFilterSet{header_of(Type::kFilterSet, sizeof(WireFilterSet)), static_cast<uint32_t>(place), 0});
}

std::vector<std::byte> encode(const Attached& a) {
  return bytes_of(WireAttached{header_of(Type::kAttached, sizeof(WireAttached)), a.id, a.slot, a.workers,
                               a.ring_slots, static_cast<uint32_t>(a.filter), a.state_bytes, a.arena_bytes,
                               a.rings_bytes, a.control_bytes});
}

std::vector<std::byte> encode_observing(uint64_t state_bytes) {
  return bytes_of(WireObserving{header_of(Type::kObserving, sizeof(WireObserving)), state_bytes});
}

std::vector<std::byte> encode(const SendOpen& open) {
  return bytes_of(
      WireSendOpen{header_of(Type::kSendOpen, sizeof(WireSendOpen)), open.port, open.slots, open.cpu, 0});
}

std::vector<std::byte> encode(const SendGranted& g) {
  return bytes_of(WireSendGranted{header_of(Type::kSendGranted, sizeof(WireSendGranted)), g.id, g.entry,
                                  g.port, g.slots, g.slot_bytes});
}

std::vector<std::byte> encode_send_close(uint64_t sender) {
  return bytes_of(WireSendClose{header_of(Type::kSendClose, sizeof(WireSendClose)), sender});
}

std::vector<std::byte> encode_error(Type type, const Error& error) {
  WireError wire{};
  wire.header = header_of(type, sizeof wire);
  wire.code = static_cast<uint32_t>(error.code);
  put_text(wire.text, error.text);
  put_text(wire.mend, error.mend);
  return bytes_of(wire);
}

Header plain(Type type) { return header_of(type, sizeof(Header)); }

Result<Header> parse_header(std::span<const std::byte> packet) {
  Header header;
  if (packet.size() < sizeof header)
    return fail(Code::kUsage, fmt::format("control message of {} bytes is too short", packet.size()));
  std::memcpy(&header, packet.data(), sizeof header);
  if (header.magic != kMagic) return fail(Code::kUsage, "this is not a control message of ringcap");
  if (header.major != layout::kMajor)
    return fail(
        Code::kVersion,
        fmt::format("the other side speaks version {} of the shared memory's layout, this side {}: {} "
                    "is older",
                    header.major, layout::kMajor,
                    header.major < layout::kMajor ? "the other side" : "this side"),
        "bring both to the same version of ringcap");
  if (header.bytes != packet.size())
    return fail(Code::kUsage,
                fmt::format("control message says {} bytes and has {}", header.bytes, packet.size()));
  return header;
}

Result<Hello> parse_hello(std::span<const std::byte> packet) {
  auto wire = fixed_part<WireHello>(packet, Type::kHello);
  if (!wire) return std::unexpected(wire.error());
  auto filter = filter_after(packet, sizeof *wire, wire->filter_instructions);
  if (!filter) return std::unexpected(filter.error());
  if (wire->role < Role::kConsumer || wire->role > Role::kSender)
    return fail(Code::kUsage, fmt::format("unknown role {}", static_cast<uint32_t>(wire->role)));
  if (wire->kind > cluster::kKinds || wire->level > 2)
    return fail(Code::kUsage, fmt::format("unknown kind {} or level {} of balance", wire->kind, wire->level));
  Hello hello{.role = wire->role,
              .ring_slots = wire->ring_slots,
              .allow_smaller = wire->allow_smaller != 0,
              .program = get_text(wire->program),
              .cluster = get_text(wire->cluster),
              .member = get_text(wire->member),
              .filter = std::move(*filter),
              .kind = get_optional<cluster::Kind>(wire->kind),
              .level = get_optional<cluster::Level>(wire->level)};
  return hello;
}

Result<SetFilter> parse_set_filter(std::span<const std::byte> packet) {
  auto wire = fixed_part<WireFilter>(packet, Type::kSetFilter);
  if (!wire) return std::unexpected(wire.error());
  const uint64_t outgoing = wire->outgoing == 0 ? 0 : wire->outgoing - 1;
  auto both = filter_after(packet, sizeof *wire, wire->instructions + outgoing);
  if (!both) return std::unexpected(both.error());
  const auto second = both->begin() + static_cast<ptrdiff_t>(wire->instructions);
  SetFilter set;
  if (wire->outgoing != 0) set.outgoing.emplace(second, both->end());
  both->erase(second, both->end());
  set.filter = std::move(*both);
  return set;
}

Result<layout::FilterPlace> parse_filter_set(std::span<const std::byte> packet) {
  auto wire = fixed_part<WireFilterSet>(packet, Type::kFilterSet);
  if (!wire) return std::unexpected(wire.error());
  return static_cast<layout::FilterPlace>(wire->place);
}

Result<Attached> parse_attached(std::span<const std::byte> packet) {
  auto wire = fixed_part<WireAttached>(packet, Type::kAttached);
  if (!wire) return std::unexpected(wire.error());
  return Attached{.id = wire->id,
                  .slot = wire->slot,
                  .workers = wire->workers,
                  .ring_slots = wire->ring_slots,
                  .filter = static_cast<layout::FilterPlace>(wire->filter),
                  .state_bytes = wire->state_bytes,
                  .arena_bytes = wire->arena_bytes,
                  .rings_bytes = wire->rings_bytes,
                  .control_bytes = wire->control_bytes};
}

Result<uint64_t> parse_observing(std::span<const std::byte> packet) {
  auto wire = fixed_part<WireObserving>(packet, Type::kObserving);
  if (!wire) return std::unexpected(wire.error());
  return wire->state_bytes;
}

Result<SendOpen> parse_send_open(std::span<const std::byte> packet) {
  auto wire = fixed_part<WireSendOpen>(packet, Type::kSendOpen);
  if (!wire) return std::unexpected(wire.error());
  return SendOpen{.port = wire->port, .slots = wire->slots, .cpu = wire->cpu};
}

Result<SendGranted> parse_send_granted(std::span<const std::byte> packet) {
  auto wire = fixed_part<WireSendGranted>(packet, Type::kSendGranted);
  if (!wire) return std::unexpected(wire.error());
  return SendGranted{.id = wire->id,
                     .entry = wire->entry,
                     .port = wire->port,
                     .slots = wire->slots,
                     .slot_bytes = wire->slot_bytes};
}

Result<uint64_t> parse_send_close(std::span<const std::byte> packet) {
  auto wire = fixed_part<WireSendClose>(packet, Type::kSendClose);
  if (!wire) return std::unexpected(wire.error());
  return wire->id;
}

Error parse_error(std::span<const std::byte> packet) {
  auto header = parse_header(packet);
  if (!header) return header.error();
  auto wire = fixed_part<WireError>(packet, header->type);
  if (!wire) return wire.error();
  return Error{static_cast<Code>(wire->code), get_text(wire->text), get_text(wire->mend)};
}

Result<Received> receive(int socket, bool wait) {
  Received received;
  // Not a vector of that size: zeroing 64 KiB takes longer than receiving.
  const auto room = std::make_unique_for_overwrite<std::byte[]>(kMaxBytes);
  iovec part{room.get(), kMaxBytes};
  alignas(cmsghdr) char control[CMSG_SPACE(kMaxFds * sizeof(int))];
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  ssize_t got = 0;
  do {
    got = ::recvmsg(socket, &message, MSG_CMSG_CLOEXEC | (wait ? 0 : MSG_DONTWAIT));
  } while (got < 0 && errno == EINTR);
  if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return fail(Code::kSystem, "");
  if (got < 0 && errno == ECONNRESET) return received;  // closed, with a packet of ours unread
  if (got < 0) return fail_system("cannot read from the control socket");
  collect_fds(message, received.fds);
  if ((message.msg_flags & MSG_TRUNC) != 0)
    return fail(Code::kUsage, fmt::format("control message of more than {} bytes", kMaxBytes));
  received.bytes.assign(room.get(), room.get() + got);
  return received;
}

Result<void> send(int socket, std::span<const std::byte> packet, std::span<const int> fds) {
  iovec part{const_cast<std::byte*>(packet.data()), packet.size()};
  alignas(cmsghdr) char control[CMSG_SPACE(kMaxFds * sizeof(int))] = {};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  if (!fds.empty()) {
    message.msg_control = control;
    message.msg_controllen = CMSG_SPACE(fds.size_bytes());
    cmsghdr* c = CMSG_FIRSTHDR(&message);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(fds.size_bytes());
    std::memcpy(CMSG_DATA(c), fds.data(), fds.size_bytes());
  }
  ssize_t sent = 0;
  do {
    sent = ::sendmsg(socket, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
  } while (sent < 0 && errno == EINTR);
  if (sent < 0) return fail_system("cannot write to the control socket");
  return {};
}

bool send_wake(int socket) {
  const Header wake = plain(Type::kWake);
  const ssize_t sent = ::send(socket, &wake, sizeof wake, MSG_DONTWAIT | MSG_NOSIGNAL);
  return sent >= 0 || errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR || errno == ENOBUFS;
}

}  // namespace ringcap::message

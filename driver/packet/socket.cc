#include "driver/packet/socket.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <linux/filter.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <span>

namespace ringcap::packet {

namespace {

constexpr uint32_t kDrop = 0;

template <typename T>
bool set_option(int fd, int level, int name, const T& value) {
  return ::setsockopt(fd, level, name, &value, sizeof(value)) == 0;
}

bool attach(int fd, std::span<sock_filter> program) {
  const sock_fprog filter{.len = static_cast<uint16_t>(program.size()), .filter = program.data()};
  return set_option(fd, SOL_SOCKET, SO_ATTACH_FILTER, filter);
}

bool attach_refuse(int fd) {
  std::array program{sock_filter BPF_STMT(BPF_RET | BPF_K, kDrop)};
  return attach(fd, program);
}

// Accepts `bytes` bytes of every frame but outgoing ones. PACKET_IGNORE_OUTGOING alone is not enough: the
// kernel does not look at it for the sockets of a fanout group.
bool attach_incoming(int fd, uint32_t bytes) {
  std::array program{
      sock_filter BPF_STMT(BPF_LD | BPF_B | BPF_ABS, static_cast<uint32_t>(SKF_AD_OFF + SKF_AD_PKTTYPE)),
      sock_filter BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, PACKET_OUTGOING, 0, 1),
      sock_filter BPF_STMT(BPF_RET | BPF_K, kDrop),
      sock_filter BPF_STMT(BPF_RET | BPF_K, bytes),
  };
  return attach(fd, program);
}

bool attach_all(int fd, uint32_t bytes) {
  std::array program{sock_filter BPF_STMT(BPF_RET | BPF_K, bytes)};
  return attach(fd, program);
}

// Asks for a ring of as many blocks as the kernel has memory for, from `blocks` down; 0: not even few.
uint32_t set_ring(int fd, uint32_t blocks) {
  for (; blocks >= kMinimumBlocks; blocks /= 2) {
    tpacket_req3 request{};
    request.tp_block_size = kBlockBytes;
    request.tp_block_nr = blocks;
    request.tp_frame_size = 2048;  // only checked: a frame takes what it needs
    request.tp_frame_nr = blocks * (kBlockBytes / request.tp_frame_size);
    request.tp_retire_blk_tov = kRetireMs;
    if (set_option(fd, SOL_PACKET, PACKET_RX_RING, request)) return blocks;
    if (errno != ENOMEM) break;
  }
  return 0;
}

}  // namespace

std::unexpected<Error> socket_error(int number) {
  if (number == EPERM || number == EACCES) {
    return fail(Code::kPermission, "cannot open a packet socket: CAP_NET_RAW is missing",
                "run as root, or once: `sudo setcap cap_net_raw+ep $(command -v ringcap)`");
  }
  if (number == EAFNOSUPPORT) {
    return fail_system("cannot open a packet socket", number, "as root: `modprobe af_packet`");
  }
  return fail_system("cannot open a packet socket", number);
}

Result<PacketSocket> PacketSocket::open(const Options& options) {
  PacketSocket socket;
  // Protocol 0: nothing is received before bind_interface().
  socket.fd_ = Fd(::socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!socket.fd_) return socket_error(errno);
  socket.outgoing_ = options.outgoing;
  if (!attach_refuse(socket.fd())) return fail_system("cannot attach a filter to a packet socket");
  if (auto made = socket.make_ring(options); !made) return std::unexpected(made.error());
  if (auto bound = socket.bind_interface(options); !bound) return std::unexpected(bound.error());
  return socket;
}

Result<void> PacketSocket::make_ring(const Options& options) {
  if (!set_option(fd(), SOL_PACKET, PACKET_VERSION, int{TPACKET_V3})) {
    return fail_system("cannot set a packet socket to TPACKET_V3", errno,
                       "a kernel of 3.2 or later is needed");
  }
  const uint32_t blocks = set_ring(fd(), std::max(options.ring_bytes / kBlockBytes, kMinimumBlocks));
  if (blocks == 0) {
    return fail_system(fmt::format("cannot get a packet ring of {} MiB", kMinimumBlocks * kBlockBytes >> 20),
                       errno, "fewer queues need less memory");
  }
  auto ring = Mapping::map(fd(), size_t{blocks} * kBlockBytes, Mapping::Access::kReadWrite, "packet ring");
  if (!ring) return std::unexpected(ring.error());
  ring_ = std::move(*ring);
  return {};
}

Result<void> PacketSocket::bind_interface(const Options& options) {
  // Spares the kernel a copy of each frame it sends; the filter does the rest.
  if (!outgoing_) set_option(fd(), SOL_PACKET, PACKET_IGNORE_OUTGOING, 1);
  packet_mreq membership{};
  membership.mr_ifindex = options.interface_index;
  membership.mr_type = PACKET_MR_PROMISC;
  if (!set_option(fd(), SOL_PACKET, PACKET_ADD_MEMBERSHIP, membership)) {
    return fail_system(fmt::format("cannot make {} promiscuous", options.interface));
  }
  sockaddr_ll address{};
  address.sll_family = AF_PACKET;
  address.sll_protocol = htons(ETH_P_ALL);
  address.sll_ifindex = options.interface_index;
  if (::bind(fd(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) {
    return fail_system(fmt::format("cannot bind a packet socket to {}", options.interface));
  }
  return {};
}

Result<void> PacketSocket::set_fanout(uint16_t group, uint16_t flags) {
  const int value = group | (PACKET_FANOUT_HASH | flags) << 16;
  if (set_option(fd(), SOL_PACKET, PACKET_FANOUT, value)) return {};
  if (errno == EINVAL || errno == ENETDOWN) {
    return fail_system("cannot spread frames over several queues (fanout)", errno,
                       "the interface must be up: `ip link set INTERFACE up`");
  }
  return fail_system("cannot spread frames over several queues (fanout)");
}

Result<uint16_t> PacketSocket::make_group() {
  if (auto made = set_fanout(0, PACKET_FANOUT_FLAG_UNIQUEID); !made) return std::unexpected(made.error());
  int value = 0;
  socklen_t bytes = sizeof(value);
  if (::getsockopt(fd(), SOL_PACKET, PACKET_FANOUT, &value, &bytes) != 0) {
    return fail_system("cannot read a packet socket's fanout group");
  }
  return static_cast<uint16_t>(value);
}

Result<void> PacketSocket::join_group(uint16_t group) { return set_fanout(group, 0); }

Result<void> PacketSocket::accept(uint32_t bytes) {
  const bool attached = outgoing_ ? attach_all(fd(), bytes) : attach_incoming(fd(), bytes);
  if (!attached) return fail_system("cannot attach a filter to a packet socket");
  return {};
}

void PacketSocket::refuse() { attach_refuse(fd()); }

Statistics PacketSocket::take_statistics() {
  tpacket_stats_v3 statistics{};
  socklen_t bytes = sizeof(statistics);
  if (::getsockopt(fd(), SOL_PACKET, PACKET_STATISTICS, &statistics, &bytes) != 0) return {};
  // For TPACKET_V3 tp_packets has the dropped ones in it.
  return {.received = statistics.tp_packets, .dropped = statistics.tp_drops};
}

void PacketSocket::clear_error() {
  int error = 0;
  socklen_t bytes = sizeof(error);
  ::getsockopt(fd(), SOL_SOCKET, SO_ERROR, &error, &bytes);
}

}  // namespace ringcap::packet

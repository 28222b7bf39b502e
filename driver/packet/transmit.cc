#include "driver/packet/transmit.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <sys/socket.h>

#include <algorithm>

#include "driver/packet/socket.h"

namespace ringcap::packet {

Result<std::unique_ptr<PacketTransmit>> PacketTransmit::open(int interface_index,
                                                             const std::string& interface) {
  Fd fd(::socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd) return socket_error(errno);
  sockaddr_ll address{};
  address.sll_family = AF_PACKET;
  address.sll_protocol = 0;  // it receives nothing
  address.sll_ifindex = interface_index;
  if (::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) {
    return fail_system(fmt::format("cannot bind a packet socket to {}", interface));
  }
  const int on = 1;
  if (::setsockopt(fd.get(), SOL_PACKET, PACKET_QDISC_BYPASS, &on, sizeof(on)) != 0) {
    return fail_system("cannot pass by the queueing discipline");
  }
  return std::unique_ptr<PacketTransmit>(new PacketTransmit(std::move(fd)));
}

PacketTransmit::PacketTransmit(Fd fd) : fd_(std::move(fd)) {
  for (uint32_t i = 0; i < kSlots; ++i) {
    messages_[i].msg_hdr.msg_iov = &data_[i];
    messages_[i].msg_hdr.msg_iovlen = 1;
  }
}

uint32_t PacketTransmit::transmit(std::span<const TransmitFrame> frames) {
  const uint64_t room = kSlots - (taken_ - given_);
  frames = frames.first(std::min<uint64_t>(frames.size(), room));
  const uint32_t sent = send(frames);
  for (const TransmitFrame& frame : frames.first(sent)) cookies_[taken_++ % kSlots] = frame.cookie;
  return sent;
}

// Sends from the first on; returns how many are done with.
uint32_t PacketTransmit::send(std::span<const TransmitFrame> frames) {
  const auto count = static_cast<uint32_t>(frames.size());
  for (uint32_t i = 0; i < count; ++i)
    data_[i] = {.iov_base = const_cast<std::byte*>(frames[i].data), .iov_len = frames[i].length};
  uint32_t done = 0;
  while (done < count) {
    const int sent = ::sendmmsg(fd_.get(), &messages_[done], count - done, MSG_DONTWAIT);
    if (sent > 0) {
      done += static_cast<uint32_t>(sent);
    } else if (errno == EAGAIN || errno == ENOBUFS) {
      return done;  // later
    } else if (errno != EINTR) {
      refused_.fetch_add(1, std::memory_order_relaxed);
      ++done;
    }
  }
  return done;
}

uint32_t PacketTransmit::completed(std::span<uint32_t> out) {
  const auto count = static_cast<uint32_t>(std::min<uint64_t>(out.size(), taken_ - given_));
  for (uint32_t i = 0; i < count; ++i) out[i] = cookies_[given_++ % kSlots];
  return count;
}

}  // namespace ringcap::packet

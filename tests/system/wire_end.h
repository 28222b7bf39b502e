// The far ends of veth pairs, for tests of what an engine sends: frames go in, and come out again with their
// VLAN tags. And frames that can be told from each other.
#pragma once

#include <linux/if_packet.h>
#include <poll.h>
#include <sys/socket.h>

#include <cstring>
#include <map>
#include <random>
#include <set>
#include <stdexcept>
#include <string>
#include <vector>

#include "port_capture.h"

namespace ringcap::test {

inline constexpr size_t kNumberAt = 18;  // behind addresses, a VLAN tag if there is one, and the EtherType

// A frame of `bytes` bytes (at least 26) that no other number has, of one of 16 pairs of addresses.
inline Bytes numbered(std::mt19937& random, uint64_t number, size_t bytes, bool tagged = false) {
  Bytes frame = random_frame(random, bytes);
  frame[5] = frame[11] = static_cast<std::byte>(number % 16);
  if (tagged) {
    const std::byte tag[] = {std::byte{0x81}, std::byte{0},    std::byte{0x20},
                             std::byte{7},    std::byte{0x88}, std::byte{0xb5}};
    std::memcpy(frame.data() + 12, tag, sizeof tag);
  }
  std::memcpy(frame.data() + kNumberAt, &number, sizeof number);
  return frame;
}

inline uint64_t number_of(const Bytes& frame) {
  uint64_t number = 0;
  std::memcpy(&number, frame.data() + kNumberAt, sizeof number);
  return number;
}

// Frames of many lengths, every tenth with a VLAN tag, numbered from `first` on.
inline std::vector<Bytes> numbered_frames(uint64_t first, size_t count, size_t longest = 1514) {
  std::mt19937 random(static_cast<unsigned>(first + 1));
  std::vector<Bytes> frames;
  for (size_t i = 0; i < count; ++i) {
    const size_t bytes = i % 4 == 0 ? longest - i % 3 : 26 + random() % (longest - 26);
    frames.push_back(numbered(random, first + i, bytes, i % 10 == 9));
  }
  return frames;
}

// One end of a veth pair. What the host itself sends there does not come out.
class WireEnd {
 public:
  WireEnd(const Namespace& lab, const std::string& interface) : fd_(lab.raw_socket(interface)) {
    const int on = 1, bytes = 64 << 20;
    if (::setsockopt(fd_.get(), SOL_PACKET, PACKET_AUXDATA, &on, sizeof on) != 0 ||
        ::setsockopt(fd_.get(), SOL_PACKET, PACKET_IGNORE_OUTGOING, &on, sizeof on) != 0 ||
        ::setsockopt(fd_.get(), SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof bytes) != 0)
      throw std::runtime_error("cannot set up a packet socket");
  }

  void send(const Bytes& frame) { send_frame(fd_, frame); }
  void send(const std::vector<Bytes>& frames) {
    for (const Bytes& frame : frames) send(frame);
  }
  // Waits for so many; fewer when patience ends.
  std::vector<Bytes> take(size_t count, std::chrono::milliseconds patience = kPatience) {
    std::vector<Bytes> frames;
    const auto deadline = std::chrono::steady_clock::now() + patience;
    while (frames.size() < count && std::chrono::steady_clock::now() < deadline) {
      pollfd wait{fd_.get(), POLLIN, 0};
      ::poll(&wait, 1, 50);
      for (Bytes frame = receive(); !frame.empty() && frames.size() < count; frame = receive()) {
        frames.push_back(std::move(frame));
        if (frames.size() == count) break;
      }
    }
    return frames;
  }
  // What is there and came by now.
  std::vector<Bytes> rest() {
    std::vector<Bytes> frames;
    for (Bytes frame = receive(); !frame.empty(); frame = receive()) frames.push_back(std::move(frame));
    return frames;
  }

 private:
  Bytes receive() {
    Bytes frame(65536);
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(tpacket_auxdata))];
    iovec data{frame.data(), frame.size()};
    msghdr message{};
    message.msg_iov = &data;
    message.msg_iovlen = 1;
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    ssize_t bytes = ::recvmsg(fd_.get(), &message, MSG_DONTWAIT);
    // That the interface was down is said once.
    if (bytes < 0 && errno == ENETDOWN) bytes = ::recvmsg(fd_.get(), &message, MSG_DONTWAIT);
    if (bytes <= 0) return {};
    frame.resize(static_cast<size_t>(bytes));
    for (cmsghdr* c = CMSG_FIRSTHDR(&message); c != nullptr; c = CMSG_NXTHDR(&message, c)) {
      if (c->cmsg_level != SOL_PACKET || c->cmsg_type != PACKET_AUXDATA) continue;
      tpacket_auxdata aux{};
      std::memcpy(&aux, CMSG_DATA(c), sizeof aux);
      if ((aux.tp_status & TP_STATUS_VLAN_VALID) == 0) continue;
      const std::byte tag[] = {
          static_cast<std::byte>(aux.tp_vlan_tpid >> 8), static_cast<std::byte>(aux.tp_vlan_tpid),
          static_cast<std::byte>(aux.tp_vlan_tci >> 8), static_cast<std::byte>(aux.tp_vlan_tci)};
      frame.insert(frame.begin() + 12, std::begin(tag), std::end(tag));
    }
    return frame;
  }

  Fd fd_;
};

// "" if these are the same frames in the same order; else what is different first.
inline std::string difference(const std::vector<Bytes>& got, const std::vector<Bytes>& sent) {
  for (size_t i = 0; i < std::min(got.size(), sent.size()); ++i) {
    if (got[i] == sent[i]) continue;
    return "frame " + std::to_string(i) + " of " + std::to_string(sent[i].size()) +
           " bytes: " + std::to_string(got[i].size()) + " bytes, number " +
           std::to_string(got[i].size() > kNumberAt + 8 ? number_of(got[i]) : 0);
  }
  if (got.size() == sent.size()) return "";
  return std::to_string(got.size()) + " of " + std::to_string(sent.size()) + " frames";
}

}  // namespace ringcap::test

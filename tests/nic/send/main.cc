// ringcap_nic_send ADDRESS FILE: sends the frames of a pcap file through the NIC at the PCI address, with
// ringcap's driver, and ends when the NIC has sent them all. For tests in virtual machines: 16 MiB of
// hugepages hold the frames that are on their way.
#include <fmt/core.h>
#include <sys/mman.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <vector>

#include "capture/base/fd.h"
#include "capture/base/mapping.h"
#include "driver/vfio/port.h"

namespace ringcap {
namespace {

constexpr uint32_t kBufferBytes = 16384, kBuffers = 960;  // to send from
constexpr uint32_t kReceiveBuffers = 64;                  // behind them: something may come in meanwhile
constexpr uint32_t kFileHeaderBytes = 24, kRecordHeaderBytes = 16;
constexpr std::chrono::seconds kDeadline{60};

// The frames of a file, one after the other.
class Frames {
 public:
  explicit Frames(const char* path) : file_(path, std::ios::binary) { file_.seekg(kFileHeaderBytes); }
  bool next(std::vector<char>& frame) {
    uint32_t header[kRecordHeaderBytes / 4];
    if (!file_.read(reinterpret_cast<char*>(header), kRecordHeaderBytes)) return false;
    if (header[2] > kBufferBytes) return false;
    frame.resize(header[2]);
    return static_cast<bool>(file_.read(frame.data(), header[2]));
  }

 private:
  std::ifstream file_;
};

Result<Mapping> make_arena() {
  const Fd fd(::memfd_create("arena", MFD_CLOEXEC | MFD_HUGETLB));
  constexpr uint64_t kBytes = uint64_t{kBufferBytes} * (kBuffers + kReceiveBuffers);
  if (!fd || ::ftruncate(fd.get(), kBytes) != 0) return fail_system("cannot make an arena of hugepages");
  return Mapping::map(fd.get(), kBytes, Mapping::Access::kReadWrite, "arena");
}

// The frames that are ready go out; buffers of those that are sent come back.
class Sender {
 public:
  Sender(TransmitQueue& queue, const Mapping& arena) : queue_(queue), arena_(arena) {
    for (uint32_t i = 0; i < kBuffers; ++i) free_.push_back(i);
  }
  bool full() const { return free_.empty(); }
  bool idle() const { return free_.size() == kBuffers; }
  void add(const std::vector<char>& frame) {
    const uint32_t buffer = free_.back();
    free_.pop_back();
    const uint64_t offset = uint64_t{buffer} * kBufferBytes;
    std::memcpy(arena_.data() + offset, frame.data(), frame.size());
    waiting_.push_back({.data = arena_.data() + offset,
                        .arena_offset = offset,
                        .length = static_cast<uint32_t>(frame.size()),
                        .cookie = buffer});
  }
  void work() {
    waiting_.erase(waiting_.begin(), waiting_.begin() + queue_.transmit(waiting_));
    uint32_t done[64];
    const uint32_t count = queue_.completed(done);
    free_.insert(free_.end(), done, done + count);
  }

 private:
  TransmitQueue& queue_;
  const Mapping& arena_;
  std::vector<uint32_t> free_;
  std::vector<TransmitFrame> waiting_;
};

Result<uint64_t> send(const char* address, const char* path) {
  Result<Mapping> arena = make_arena();
  if (!arena) return std::unexpected(arena.error());
  auto port = open_vfio_port(address, {.mtu = 9000, .descriptors = 64, .transmit = true});
  if (!port) return std::unexpected(port.error());
  if (auto ready = (*port)->prepare({arena->data(), arena->bytes()}); !ready)
    return std::unexpected(ready.error());
  constexpr uint64_t kBehind = uint64_t{kBuffers} * kBufferBytes;
  const Region region{arena->data() + kBehind, kBehind, kBufferBytes, kReceiveBuffers, 0};
  FreeBuffers free(kReceiveBuffers);
  for (uint32_t i = 0; i < kReceiveBuffers; ++i) free.push(i);
  if (auto armed = (*port)->receive_queues()[0]->arm(region, free); !armed)
    return std::unexpected(armed.error());
  if (auto started = (*port)->start(); !started) return std::unexpected(started.error());

  const auto end = std::chrono::steady_clock::now() + kDeadline;
  while (!(*port)->link().up) {  // it may have to negotiate
    if (std::chrono::steady_clock::now() > end) return fail(Code::kSystem, "the NIC has no link");
    ::usleep(1000);
  }
  Sender sender(*(*port)->transmit_queues()[0], *arena);
  Frames frames(path);
  std::vector<char> frame;
  uint64_t count = 0;
  for (bool more = frames.next(frame); more || !sender.idle(); sender.work()) {
    if (std::chrono::steady_clock::now() > end)
      return fail(Code::kSystem, fmt::format("not all of {} frames were sent", count));
    while (more && !sender.full()) {
      sender.add(frame);
      ++count;
      more = frames.next(frame);
    }
  }
  (*port)->stop();
  return count;
}

}  // namespace
}  // namespace ringcap

int main(int argc, char** argv) {
  if (argc != 3) {
    std::fputs("usage: ringcap_nic_send ADDRESS FILE\n", stderr);
    return 2;
  }
  const auto sent = ringcap::send(argv[1], argv[2]);
  if (!sent) {
    fmt::print(stderr, "ringcap_nic_send: {}\n", sent.error().message());
    return 1;
  }
  fmt::print("{} frames sent\n", *sent);
  return 0;
}

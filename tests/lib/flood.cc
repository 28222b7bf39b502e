// ringcap_flood: sends a counted number of UDP frames on an interface, as fast as the kernel can or at a
// rate.
//
//   ringcap_flood INTERFACE [--size BYTES] [--count FRAMES] [--flows N] [--rate FRAMES_PER_SECOND|max]
//
// For tests, the quick start and benchmarks: traffic for an interface that they made. Needs CAP_NET_RAW.
// Through a transmit ring (PACKET_TX_RING) past the queueing discipline: one system call for many frames,
// no copy. Frames are those of traffic.h, sequence numbers from 0 on. Prints what it sent; exit status 0:
// all of it was given to the interface, 1: an error, 2: usage.
// Source: Documentation/networking/packet_mmap.rst of the kernel.
#include <fmt/format.h>
#include <getopt.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <poll.h>
#include <sys/socket.h>
#include <time.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "capture/base/error.h"
#include "capture/base/fd.h"
#include "capture/base/mapping.h"
#include "tests/lib/traffic.h"

namespace ringcap::test {
namespace {

constexpr uint32_t kSlots = 1024;  // of the ring
constexpr uint32_t kBatch = 256;   // frames for one system call
constexpr uint32_t kFrameOffset = TPACKET_ALIGN(sizeof(tpacket2_hdr));
constexpr uint64_t kMaximumCount = 1'000'000'000;
constexpr uint64_t kStuckNs = 5'000'000'000;  // no frame left in this time: give up

struct Options {
  std::string interface;
  uint32_t size = 64;
  uint64_t count = 1'000'000;
  uint32_t flows = 1;
  uint64_t rate = 0;  // 0: max
};

uint64_t now_ns() {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
}

class Sender {
 public:
  static Result<Sender> open(const Options& options);
  // Sends everything; returns how many frames the interface took.
  Result<uint64_t> run();

 private:
  explicit Sender(const Options& options) : options_(options) {}
  Result<void> make_socket();
  Result<void> make_ring();
  void fill_ring();
  tpacket2_hdr* slot(uint64_t position) const {
    return ring_.at<tpacket2_hdr>(position % kSlots * size_t{slot_bytes_});
  }
  static uint32_t status(tpacket2_hdr* header) {
    return std::atomic_ref<uint32_t>(header->tp_status).load(std::memory_order_acquire);
  }
  uint32_t queue_batch(uint64_t due);
  void prepare(tpacket2_hdr* header);
  Result<void> kick();

  Options options_;
  Fd fd_;
  Mapping ring_;
  uint32_t slot_bytes_ = 0;
  std::vector<std::vector<std::byte>> flows_;
  uint64_t queued_ = 0;
  uint64_t refused_ = 0;
};

Result<Sender> Sender::open(const Options& options) {
  Sender sender(options);
  if (auto made = sender.make_socket(); !made) return std::unexpected(made.error());
  if (auto made = sender.make_ring(); !made) return std::unexpected(made.error());
  sender.fill_ring();
  return sender;
}

Result<void> Sender::make_socket() {
  fd_ = Fd(::socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0));
  if (!fd_) return fail_system("cannot open a packet socket");
  sockaddr_ll address{};
  address.sll_family = AF_PACKET;
  address.sll_ifindex = static_cast<int>(::if_nametoindex(options_.interface.c_str()));
  if (address.sll_ifindex == 0) return fail_system(fmt::format("no interface {}", options_.interface));
  if (::bind(fd_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) {
    return fail_system(fmt::format("cannot bind to {}", options_.interface));
  }
  return {};
}

Result<void> Sender::make_ring() {
  const int version = TPACKET_V2;
  const int on = 1;
  slot_bytes_ = kFrameOffset + options_.size <= 256 ? 256 : 2048;
  while (slot_bytes_ < kFrameOffset + options_.size) slot_bytes_ *= 2;
  tpacket_req request{};
  request.tp_frame_size = slot_bytes_;
  request.tp_frame_nr = kSlots;
  request.tp_block_size = std::max(slot_bytes_, 4096u);
  request.tp_block_nr = kSlots * slot_bytes_ / request.tp_block_size;
  if (::setsockopt(fd_.get(), SOL_PACKET, PACKET_VERSION, &version, sizeof(version)) != 0 ||
      ::setsockopt(fd_.get(), SOL_PACKET, PACKET_QDISC_BYPASS, &on, sizeof(on)) != 0 ||
      ::setsockopt(fd_.get(), SOL_PACKET, PACKET_LOSS, &on, sizeof(on)) != 0 ||
      ::setsockopt(fd_.get(), SOL_PACKET, PACKET_TX_RING, &request, sizeof(request)) != 0) {
    return fail_system("cannot make a transmit ring");
  }
  auto ring =
      Mapping::map(fd_.get(), size_t{kSlots} * slot_bytes_, Mapping::Access::kReadWrite, "transmit ring");
  if (!ring) return std::unexpected(ring.error());
  ring_ = std::move(*ring);
  return {};
}

void Sender::fill_ring() {
  flows_.assign(options_.flows, std::vector<std::byte>(options_.size));
  for (uint32_t flow = 0; flow < options_.flows; ++flow) make_traffic(flows_[flow], flow);
  for (uint32_t i = 0; i < kSlots; ++i) {
    std::memcpy(reinterpret_cast<std::byte*>(slot(i)) + kFrameOffset, flows_[0].data(), options_.size);
  }
}

// The headers differ between flows, the rest is the slot's already.
void Sender::prepare(tpacket2_hdr* header) {
  std::byte* const frame = reinterpret_cast<std::byte*>(header) + kFrameOffset;
  std::memcpy(frame, flows_[queued_ % options_.flows].data(), kSequenceOffset);
  set_sequence(frame, queued_);
  header->tp_len = options_.size;
  std::atomic_ref<uint32_t>(header->tp_status).store(TP_STATUS_SEND_REQUEST, std::memory_order_release);
}

uint32_t Sender::queue_batch(uint64_t due) {
  uint32_t batch = 0;
  for (; batch < kBatch && queued_ < due && status(slot(queued_)) == TP_STATUS_AVAILABLE; ++batch) {
    prepare(slot(queued_));
    ++queued_;
  }
  return batch;
}

// Sends what is queued. The kernel says how many bytes went; that fewer went means try again.
Result<void> Sender::kick() {
  if (::send(fd_.get(), nullptr, 0, 0) >= 0) return {};
  if (errno == ENOBUFS || errno == EAGAIN || errno == EINTR) return {};
  return fail_system(fmt::format("cannot send on {}", options_.interface));
}

Result<uint64_t> Sender::run() {
  const uint64_t start = now_ns();
  uint64_t progress = start;
  while (queued_ < options_.count) {
    const uint64_t now = now_ns();
    uint64_t due = options_.count;
    if (options_.rate != 0) {
      const auto elapsed = static_cast<double>(now - start) / 1e9;
      due = std::min(due, static_cast<uint64_t>(elapsed * static_cast<double>(options_.rate)) + 1);
    }
    const uint32_t batch = queue_batch(due);
    if (batch != 0) progress = now;
    if (now - progress > kStuckNs) return fail(Code::kSystem, "the interface takes no frames");
    if (batch == 0 && due <= queued_) {
      const timespec pause{.tv_sec = 0, .tv_nsec = 20'000};
      ::nanosleep(&pause, nullptr);
      continue;
    }
    if (auto sent = kick(); !sent) return std::unexpected(sent.error());
  }
  return queued_;
}

uint64_t number(const char* text, uint64_t minimum, uint64_t maximum, const char* name) {
  char* end = nullptr;
  const double value = std::strtod(text, &end);
  const double unit = *end == 'k' ? 1e3 : *end == 'M' ? 1e6 : *end == 'G' ? 1e9 : 1;
  const double result = value * unit;
  if (end == text || result < static_cast<double>(minimum) || result > static_cast<double>(maximum)) {
    fmt::print(stderr, "ringcap_flood: {} {}: give {} to {}\n", name, text, minimum, maximum);
    std::exit(2);
  }
  return static_cast<uint64_t>(result);
}

[[noreturn]] void usage() {
  fmt::print(stderr,
             "usage: ringcap_flood INTERFACE [--size BYTES] [--count FRAMES] [--flows N] [--rate N|max]\n");
  std::exit(2);
}

Options parse(int argc, char** argv) {
  static const option kLong[] = {{"size", 1, nullptr, 's'},
                                 {"count", 1, nullptr, 'c'},
                                 {"flows", 1, nullptr, 'f'},
                                 {"rate", 1, nullptr, 'r'},
                                 {nullptr, 0, nullptr, 0}};
  Options options;
  for (int c; (c = ::getopt_long(argc, argv, "", kLong, nullptr)) != -1;) {
    const std::string value = optarg == nullptr ? "" : optarg;
    if (c == 's') options.size = static_cast<uint32_t>(number(optarg, kSmallestTraffic, 16384, "--size"));
    if (c == 'c') options.count = number(optarg, 1, kMaximumCount, "--count");
    if (c == 'f') options.flows = static_cast<uint32_t>(number(optarg, 1, 65536, "--flows"));
    if (c == 'r') options.rate = value == "max" ? 0 : number(optarg, 1, kMaximumCount, "--rate");
    if (c == '?') usage();
  }
  if (optind + 1 != argc) usage();
  options.interface = argv[optind];
  return options;
}

int flood(int argc, char** argv) {
  auto sender = Sender::open(parse(argc, argv));
  const uint64_t start = now_ns();
  const Result<uint64_t> sent = sender ? sender->run() : std::unexpected(sender.error());
  if (!sent) {
    fmt::print(stderr, "ringcap_flood: {}\n", sent.error().message());
    return 1;
  }
  const double seconds = static_cast<double>(now_ns() - start) / 1e9;
  fmt::print("sent {} frames in {:.3f} s, {:.0f} a second\n", *sent, seconds,
             static_cast<double>(*sent) / seconds);
  return 0;
}

}  // namespace
}  // namespace ringcap::test

int main(int argc, char** argv) { return ringcap::test::flood(argc, argv); }

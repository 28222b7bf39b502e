// ringcap_flood: sends a counted number of UDP frames on an interface, as fast as the kernel can or at a
// rate.
//
//   ringcap_flood INTERFACE [--size BYTES] [--count FRAMES] [--flows N] [--rate FRAMES_PER_SECOND|max]
//
// For tests, the quick start and benchmarks: traffic for an interface that they made. Needs CAP_NET_RAW and
// CAP_BPF, or root. Through an AF_XDP socket in copy mode, which takes a fifth less time for a frame than a
// packet socket's transmit ring; one such sender an interface. Frames are those of traffic.h, sequence
// numbers from 0 on. Prints what it sent; exit status 0: all of it was given to the interface, 1: an error,
// 2: usage. Source: Documentation/networking/af_xdp.rst of the kernel.
#include <fmt/format.h>
#include <getopt.h>
#include <linux/if_xdp.h>
#include <net/if.h>
#include <sys/mman.h>
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

constexpr uint32_t kSlots = 4096;        // of both rings, and frames in flight at most
constexpr uint32_t kSlotBytes = 4096;    // the kernel's largest
constexpr uint32_t kBatch = 256;         // frames for one system call
constexpr uint32_t kMaximumSize = 4000;  // the kernel wants some room in a slot
constexpr uint64_t kMaximumCount = 1'000'000'000;
constexpr uint64_t kStuckNs = 5'000'000'000;  // no frame left in this time: give up
constexpr uint64_t kBusyNs = 2'000'000'000;
constexpr int kMaximumTxBudget = 9;  // XDP_MAX_TX_SKB_BUDGET, of kernels since 6.17

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

void pause() {
  const timespec time{.tv_sec = 0, .tv_nsec = 20'000};
  ::nanosleep(&time, nullptr);
}

// One of the two rings that are shared with the kernel: this side writes one index, the kernel the other.
template <typename Entry>
class SharedRing {
 public:
  static Result<SharedRing> map(int fd, const xdp_ring_offset& offsets, uint64_t page_offset) {
    SharedRing ring;
    const size_t bytes = offsets.desc + kSlots * sizeof(Entry);
    auto mapping = Mapping::map(fd, bytes, Mapping::Access::kReadWrite, "ring of an XDP socket", page_offset);
    if (!mapping) return std::unexpected(mapping.error());
    ring.mapping_ = std::move(*mapping);
    ring.offsets_ = offsets;
    return ring;
  }
  Entry& entry(uint64_t position) { return mapping_.at<Entry>(offsets_.desc)[position % kSlots]; }
  void produce(uint64_t end) {
    word(offsets_.producer).store(static_cast<uint32_t>(end), std::memory_order_release);
  }
  void consume(uint64_t end) {
    word(offsets_.consumer).store(static_cast<uint32_t>(end), std::memory_order_release);
  }
  uint32_t produced() { return word(offsets_.producer).load(std::memory_order_acquire); }

 private:
  std::atomic_ref<uint32_t> word(uint64_t offset) { return std::atomic_ref(*mapping_.at<uint32_t>(offset)); }

  Mapping mapping_;
  xdp_ring_offset offsets_{};
};

class Sender {
 public:
  static Result<Sender> open(const Options& options);
  // Sends everything; returns how many frames the interface took.
  Result<uint64_t> run();

 private:
  explicit Sender(const Options& options) : options_(options) {}
  Result<void> make_frames();
  Result<void> make_rings();
  Result<void> bind_interface();
  template <typename T>
  bool set_option(int name, const T& value) {
    return ::setsockopt(fd_.get(), SOL_XDP, name, &value, sizeof(value)) == 0;
  }
  std::byte* frame(uint64_t position) const { return memory_.data() + position % kSlots * kSlotBytes; }
  uint32_t queue_batch(uint64_t due);
  uint64_t due(uint64_t elapsed_ns) const;
  Result<void> kick();
  bool collect();

  Options options_;
  Mapping memory_;
  Fd fd_;
  SharedRing<xdp_desc> transmit_;
  SharedRing<uint64_t> completion_;
  std::vector<std::vector<std::byte>> flows_;
  uint64_t queued_ = 0;
  uint64_t completed_ = 0;
};

Result<Sender> Sender::open(const Options& options) {
  Sender sender(options);
  sender.fd_ = Fd(::socket(AF_XDP, SOCK_RAW | SOCK_CLOEXEC, 0));
  if (!sender.fd_) return fail_system("cannot open an XDP socket");
  for (auto step : {&Sender::make_frames, &Sender::make_rings, &Sender::bind_interface}) {
    if (auto done = (sender.*step)(); !done) return std::unexpected(done.error());
  }
  return sender;
}

// Every slot holds a whole frame from the start; later only headers and sequence numbers are written.
Result<void> Sender::make_frames() {
  const size_t bytes = size_t{kSlots} * kSlotBytes;
  void* const memory = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return fail_system("cannot get memory");
  memory_ = Mapping::adopt(memory, bytes);
  flows_.assign(options_.flows, std::vector<std::byte>(options_.size));
  for (uint32_t flow = 0; flow < options_.flows; ++flow) make_traffic(flows_[flow], flow);
  for (uint32_t i = 0; i < kSlots; ++i) std::memcpy(frame(i), flows_[0].data(), options_.size);
  xdp_umem_reg registration{};
  registration.addr = reinterpret_cast<uint64_t>(memory);
  registration.len = bytes;
  registration.chunk_size = kSlotBytes;
  if (!set_option(XDP_UMEM_REG, registration)) {
    return fail_system("cannot give memory to an XDP socket", errno, "run as root, or raise `ulimit -l`");
  }
  return {};
}

Result<void> Sender::make_rings() {
  // The fill ring is for receiving; a socket must have it all the same.
  for (const int ring : {XDP_UMEM_FILL_RING, XDP_UMEM_COMPLETION_RING, XDP_TX_RING}) {
    if (!set_option(ring, kSlots)) return fail_system("cannot make the rings of an XDP socket");
  }
  set_option(kMaximumTxBudget, kBatch);  // older kernels take 32 frames a call
  xdp_mmap_offsets offsets{};
  socklen_t bytes = sizeof(offsets);
  if (::getsockopt(fd_.get(), SOL_XDP, XDP_MMAP_OFFSETS, &offsets, &bytes) != 0) {
    return fail_system("cannot ask for the rings of an XDP socket");
  }
  auto transmit = SharedRing<xdp_desc>::map(fd_.get(), offsets.tx, XDP_PGOFF_TX_RING);
  if (!transmit) return std::unexpected(transmit.error());
  auto completion = SharedRing<uint64_t>::map(fd_.get(), offsets.cr, XDP_UMEM_PGOFF_COMPLETION_RING);
  if (!completion) return std::unexpected(completion.error());
  transmit_ = std::move(*transmit);
  completion_ = std::move(*completion);
  return {};
}

Result<void> Sender::bind_interface() {
  sockaddr_xdp address{};
  address.sxdp_family = AF_XDP;
  address.sxdp_flags = XDP_COPY;
  address.sxdp_ifindex = ::if_nametoindex(options_.interface.c_str());
  if (address.sxdp_ifindex == 0) return fail_system(fmt::format("no interface {}", options_.interface));
  // The kernel lets go of an interface a moment after the last socket on it was closed.
  const uint64_t deadline = now_ns() + kBusyNs;
  while (::bind(fd_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) {
    if (errno != EBUSY || now_ns() > deadline) {
      return fail_system(fmt::format("cannot bind an XDP socket to {}", options_.interface), errno,
                         "the interface must be up, and have no other XDP socket");
    }
    pause();
  }
  return {};
}

uint32_t Sender::queue_batch(uint64_t due) {
  uint32_t batch = 0;
  for (; batch < kBatch && queued_ < due && queued_ - completed_ < kSlots; ++batch, ++queued_) {
    std::byte* const to = frame(queued_);
    if (options_.flows > 1) std::memcpy(to, flows_[queued_ % options_.flows].data(), kSequenceOffset);
    set_sequence(to, queued_);
    const auto offset = static_cast<uint64_t>(to - memory_.data());
    transmit_.entry(queued_) = {.addr = offset, .len = options_.size, .options = 0};
  }
  transmit_.produce(queued_);
  return batch;
}

// Has the kernel send what is queued, all of it or a part.
Result<void> Sender::kick() {
  if (::sendto(fd_.get(), nullptr, 0, MSG_DONTWAIT, nullptr, 0) >= 0) return {};
  if (errno == ENOBUFS || errno == EAGAIN || errno == EBUSY || errno == EINTR) return {};
  return fail_system(fmt::format("cannot send on {}", options_.interface));
}

// Counts what was sent and freed since; whether there was any.
bool Sender::collect() {
  const uint32_t fresh = completion_.produced() - static_cast<uint32_t>(completed_);
  completed_ += fresh;
  completion_.consume(completed_);
  return fresh != 0;
}

uint64_t Sender::due(uint64_t elapsed_ns) const {
  if (options_.rate == 0) return options_.count;
  const double frames = static_cast<double>(elapsed_ns) / 1e9 * static_cast<double>(options_.rate);
  return std::min(options_.count, static_cast<uint64_t>(frames) + 1);
}

Result<uint64_t> Sender::run() {
  const uint64_t start = now_ns();
  uint64_t progress = start;
  while (completed_ < options_.count) {
    const uint64_t now = now_ns();
    const uint32_t batch = queue_batch(due(now - start));
    if (batch == 0 && completed_ == queued_) {  // ahead of the rate
      pause();
      progress = now;
      continue;
    }
    if (auto sent = kick(); !sent) return std::unexpected(sent.error());
    if (collect()) progress = now;
    if (now - progress > kStuckNs) return fail(Code::kSystem, "the interface takes no frames");
  }
  return completed_;
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
    if (c == 's')
      options.size = static_cast<uint32_t>(number(optarg, kSmallestTraffic, kMaximumSize, "--size"));
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

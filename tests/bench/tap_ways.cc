// Ways of handing frames to the host through a TAP, one thread: why the `tap:` port writes as it does.
//   --how=write      a write() a frame (what driver/tap/transmit.cc does)
//   --how=io_uring   a batch of writes a system call, with the descriptor and the memory registered
// The TAP is made in the network namespace of the caller. See tests/bench/benchlib/tap.py.
#include <liburing.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <vector>

#include "tests/bench/bench.h"
#include "tests/lib/traffic.h"

namespace {

using namespace ringcap::bench;

constexpr uint32_t kFrames = 4096;         // in memory, as in an arena: not always the same line
constexpr uint32_t kSpacing = 2048 + 192;  // of their starts

int open_tap(const std::string& name) {
  const int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
  ifreq request{};
  name.copy(request.ifr_name, IFNAMSIZ - 1);
  request.ifr_flags = IFF_TAP | IFF_NO_PI;
  if (fd < 0 || ioctl(fd, TUNSETIFF, &request) != 0) fail_errno("making TAP " + name);
  const int control = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  request.ifr_flags = IFF_UP;
  if (ioctl(control, SIOCSIFFLAGS, &request) != 0) fail_errno("setting TAP " + name + " up");
  close(control);
  return fd;
}

struct Memory {
  std::vector<std::byte> bytes = std::vector<std::byte>(size_t{kFrames} * kSpacing);
  uint32_t frame_bytes;

  explicit Memory(uint32_t size) : frame_bytes(size) {
    for (uint32_t i = 0; i < kFrames; ++i) ringcap::test::make_traffic({frame(i), size}, i % 100);
  }
  std::byte* frame(uint64_t number) { return bytes.data() + number % kFrames * kSpacing; }
};

uint64_t write_frames(int fd, Memory& memory, uint32_t batch, uint64_t first) {
  for (uint32_t i = 0; i < batch; ++i) {
    if (write(fd, memory.frame(first + i), memory.frame_bytes) < 0) fail_errno("writing a frame");
  }
  return batch;
}

class Ring {
 public:
  Ring(int fd, Memory& memory, uint32_t batch) {
    if (const int error =
            io_uring_queue_init(batch, &ring_, IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN);
        error < 0) {
      errno = -error;
      fail_errno("making an io_uring");
    }
    const iovec all{.iov_base = memory.bytes.data(), .iov_len = memory.bytes.size()};
    if (io_uring_register_files(&ring_, &fd, 1) < 0 || io_uring_register_buffers(&ring_, &all, 1) < 0)
      fail("registering with the io_uring failed");
  }
  ~Ring() { io_uring_queue_exit(&ring_); }
  Ring(const Ring&) = delete;
  Ring& operator=(const Ring&) = delete;

  uint64_t write_frames(Memory& memory, uint32_t batch, uint64_t first) {
    for (uint32_t i = 0; i < batch; ++i) {
      io_uring_sqe* const entry = io_uring_get_sqe(&ring_);
      io_uring_prep_write_fixed(entry, 0, memory.frame(first + i), memory.frame_bytes, 0, 0);
      entry->flags |= IOSQE_FIXED_FILE;
    }
    io_uring_submit_and_wait(&ring_, batch);
    io_uring_cqe* done[256];
    const unsigned count = io_uring_peek_batch_cqe(&ring_, done, batch);
    for (unsigned i = 0; i < count; ++i) {
      if (done[i]->res < 0) fail(fmt::format("writing a frame: {}", std::strerror(-done[i]->res)));
    }
    io_uring_cq_advance(&ring_, count);
    return count;
  }

 private:
  io_uring ring_;
};

}  // namespace

int main(int argc, char** argv) {
  const Options options = parse_options(
      argc, argv,
      {{"how", "write"}, {"batch", "64"}, {"bytes", "64"}, {"tap", "rbtap0"}, {"ms", "2000"}, {"core", "1"}});
  pin_to(static_cast<int>(number(options, "core")));
  const auto batch = static_cast<uint32_t>(number(options, "batch"));
  if (batch < 1 || batch > 256) fail("--batch is 1 to 256");
  const std::string how = text(options, "how");
  if (how != "write" && how != "io_uring") fail("--how is write or io_uring");
  const int fd = open_tap(text(options, "tap"));
  Memory memory(static_cast<uint32_t>(number(options, "bytes")));
  Ring ring(fd, memory, batch);

  const CoreShare measured;
  const uint64_t start = now_ns(), end = start + number(options, "ms") * 1'000'000;
  uint64_t frames = 0;
  while (now_ns() < end)
    frames +=
        how == "write" ? write_frames(fd, memory, batch, frames) : ring.write_frames(memory, batch, frames);
  const double seconds = static_cast<double>(now_ns() - start) / 1e9;
  fmt::print("{{\"frames\": {}, \"seconds\": {:.6f}, \"share\": {:.3f}}}\n", frames, seconds,
             measured.share());
}

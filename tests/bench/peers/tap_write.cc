// The least that re-injection can cost: a loop of write()s of one frame each into a TAP. The peer of a
// forwarder that sends on a tap: port. The frames are a pcap file's, so that the kernel does with them what
// it does with ours.
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <fstream>
#include <vector>

#include "tests/bench/bench.h"

namespace {

using namespace ringcap::bench;

int open_tap(const std::string& name) {
  const int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
  ifreq request{};
  name.copy(request.ifr_name, IFNAMSIZ - 1);
  request.ifr_flags = IFF_TAP | IFF_NO_PI;
  if (fd < 0 || ioctl(fd, TUNSETIFF, &request) != 0) fail_errno("making " + name);
  const int socket = ::socket(AF_INET, SOCK_DGRAM, 0);
  if (ioctl(socket, SIOCGIFFLAGS, &request) != 0) fail_errno("asking " + name);
  request.ifr_flags = static_cast<short>(request.ifr_flags | IFF_UP);
  if (ioctl(socket, SIOCSIFFLAGS, &request) != 0) fail_errno("setting up " + name);
  close(socket);
  return fd;
}

std::vector<std::vector<char>> read_frames(const std::string& path) {
  constexpr int kFileHeader = 24, kRecordHeader = 16;
  std::ifstream file(path, std::ios::binary);
  file.seekg(kFileHeader);
  std::vector<std::vector<char>> frames;
  uint32_t header[kRecordHeader / 4];
  while (file.read(reinterpret_cast<char*>(header), kRecordHeader)) {
    frames.emplace_back(header[2]);
    file.read(frames.back().data(), header[2]);
  }
  return frames;
}

}  // namespace

int main(int argc, char** argv) {
  const Options options =
      parse_options(argc, argv, {{"file", ""}, {"tap", "rbtap0"}, {"ms", "1000"}, {"core", "1"}});
  pin_to(static_cast<int>(number(options, "core")));
  const int tap = open_tap(text(options, "tap"));
  const auto frames = read_frames(text(options, "file"));
  if (frames.empty()) fail_errno("reading " + text(options, "file"));

  const CoreShare measured;
  const uint64_t start = now_ns(), end = start + number(options, "ms") * 1'000'000;
  uint64_t written = 0;
  while (now_ns() < end)
    for (const auto& frame : frames)
      if (write(tap, frame.data(), frame.size()) > 0) ++written;
  const double seconds = static_cast<double>(now_ns() - start) / 1e9;
  fmt::print("{{\"frames\": {}, \"seconds\": {:.6f}, \"share\": {:.3f}}}\n", written, seconds,
             measured.share());
}

// Reads a pcap file as fast as the peer can: --with=libpcap (pcap_next_ex) or --with=read (a bare loop of
// read()s, which looks at nothing: what no reader of the file can beat). The peers of the pcap: port.
#include <pcap/pcap.h>
#include <unistd.h>

#include <vector>

#include "tests/bench/bench.h"

namespace {

using namespace ringcap::bench;

struct Total {
  uint64_t frames = 0;
  uint64_t bytes = 0;
};

Total read_with_libpcap(const std::string& file) {
  char message[PCAP_ERRBUF_SIZE];
  pcap_t* pcap = pcap_open_offline(file.c_str(), message);
  if (pcap == nullptr) fail(message);
  Total total;
  pcap_pkthdr* header = nullptr;
  const u_char* data = nullptr;
  while (pcap_next_ex(pcap, &header, &data) == 1) {
    ++total.frames;
    total.bytes += header->caplen;
  }
  pcap_close(pcap);
  return total;
}

Total read_bare(const std::string& file) {
  const int fd = open(file.c_str(), O_RDONLY);
  if (fd < 0) fail_errno("opening " + file);
  std::vector<char> block(size_t{256} * 1024);
  Total total;
  for (ssize_t count; (count = read(fd, block.data(), block.size())) > 0;)
    total.bytes += static_cast<uint64_t>(count);
  close(fd);
  return total;
}

}  // namespace

int main(int argc, char** argv) {
  const Options options =
      parse_options(argc, argv, {{"file", ""}, {"with", "libpcap"}, {"core", "1"}, {"ms", "1000"}});
  pin_to(static_cast<int>(number(options, "core")));
  const CoreShare measured;
  const uint64_t start = now_ns();
  Total total;
  uint64_t passes = 0;
  do {
    const Total pass = text(options, "with") == "read" ? read_bare(text(options, "file"))
                                                       : read_with_libpcap(text(options, "file"));
    total.frames += pass.frames;
    total.bytes += pass.bytes;
    ++passes;
  } while (now_ns() - start < number(options, "ms") * 1'000'000);
  const double seconds = static_cast<double>(now_ns() - start) / 1e9;
  fmt::print("{{\"frames\": {}, \"bytes\": {}, \"passes\": {}, \"seconds\": {:.6f}, \"share\": {:.3f}}}\n",
             total.frames, total.bytes, passes, seconds, measured.share());
}

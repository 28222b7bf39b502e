// Reads a capture device with libpcap's functions, the system's or the shim's (LD_LIBRARY_PATH decides):
//   --read=loop      pcap_loop() with a callback that counts, until SIGINT
//   --read=next_ex   pcap_next_ex() for --ms after the first frame
//   --read=latency   immediate mode: from a frame's time stamp to the callback, of --frames frames
#include <pcap/pcap.h>

#include <algorithm>
#include <csignal>
#include <vector>

#include "tests/bench/bench.h"

namespace {

using namespace ringcap::bench;

pcap_t* pcap = nullptr;

void count(u_char* frames, const pcap_pkthdr*, const u_char*) { ++*reinterpret_cast<uint64_t*>(frames); }

void stamp(u_char* user, const pcap_pkthdr* header, const u_char*) {
  const auto stamped =
      static_cast<uint64_t>(header->ts.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(header->ts.tv_usec);
  const uint64_t now = clock_ns(CLOCK_REALTIME);
  reinterpret_cast<std::vector<uint64_t>*>(user)->push_back(now - std::min(now, stamped));
}

void open_device(const Options& options, bool immediate) {
  char message[PCAP_ERRBUF_SIZE];
  pcap = pcap_create(text(options, "device").c_str(), message);
  if (pcap == nullptr) fail(message);
  if (pcap_set_snaplen(pcap, 262144) != 0 || pcap_set_timeout(pcap, 100) != 0 ||
      pcap_set_immediate_mode(pcap, immediate) != 0)
    fail("libpcap refuses a setting");
  if (pcap_set_tstamp_precision(pcap, PCAP_TSTAMP_PRECISION_NANO) != 0) fail("no time stamps in nanoseconds");
  if (pcap_activate(pcap) < 0) fail(pcap_geterr(pcap));
  fmt::print(stderr, "listening on {}\n", text(options, "device"));
}

int loop() {
  std::signal(SIGINT, [](int) { pcap_breakloop(pcap); });
  uint64_t frames = 0;
  if (pcap_loop(pcap, -1, count, reinterpret_cast<u_char*>(&frames)) == PCAP_ERROR) fail(pcap_geterr(pcap));
  fmt::print("{} packets captured\n", frames);
  return 0;
}

int next_ex(uint64_t ms) {
  pcap_pkthdr* header = nullptr;
  const u_char* packet = nullptr;
  int code = 0;
  while ((code = pcap_next_ex(pcap, &header, &packet)) == 0) {
  }
  const CoreShare measured;
  const uint64_t start = now_ns();
  uint64_t frames = 0, bytes = 0;
  while (code >= 0 && now_ns() - start < ms * 1'000'000) {
    for (int i = 0; i < 4096; ++i) {
      code = pcap_next_ex(pcap, &header, &packet);
      if (code != 1) break;
      ++frames;
      bytes += header->caplen;
    }
  }
  const double seconds = static_cast<double>(now_ns() - start) / 1e9;
  fmt::print("{{\"frames\": {}, \"bytes\": {}, \"seconds\": {:.6f}, \"share\": {:.3f}}}\n", frames, bytes,
             seconds, measured.share_wanted());
  return code < 0 ? 1 : 0;
}

int latency(int frames) {
  std::vector<uint64_t> waited;
  waited.reserve(static_cast<size_t>(frames));
  if (pcap_loop(pcap, frames, stamp, reinterpret_cast<u_char*>(&waited)) != 0) fail(pcap_geterr(pcap));
  std::ranges::sort(waited);
  fmt::print("{{\"median_ns\": {}, \"p99_ns\": {}, \"share\": 1}}\n", waited[waited.size() / 2],
             waited[waited.size() * 99 / 100]);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  const Options options = parse_options(
      argc, argv, {{"device", ""}, {"read", "loop"}, {"core", "-1"}, {"ms", "1000"}, {"frames", "1000"}});
  pin_to(static_cast<int>(number(options, "core")));
  open_device(options, text(options, "read") == "latency");
  if (text(options, "read") == "next_ex") return next_ex(number(options, "ms"));
  if (text(options, "read") == "latency") return latency(static_cast<int>(number(options, "frames")));
  return loop();
}

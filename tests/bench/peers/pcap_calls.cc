// What calls of libpcap cost that have nothing to do with engines, with the system's library or through the
// shim (LD_LIBRARY_PATH decides): ns per call, of pcap_next_ex() over a file that it writes first, of
// pcap_offline_filter(), of pcap_open_dead() with pcap_close(), and of pcap_datalink(), which does nothing.
#include <pcap/pcap.h>

#include <vector>

#include "tests/bench/bench.h"

namespace {

using namespace ringcap::bench;

constexpr int kFrames = 200'000;
constexpr bpf_u_int32 kBytes = 60;

void write_file(const std::string& path) {
  pcap_t* dead = pcap_open_dead(DLT_EN10MB, 65535);
  pcap_dumper_t* file = pcap_dump_open(dead, path.c_str());
  if (file == nullptr) fail(pcap_geterr(dead));
  const std::vector<u_char> frame(kBytes, 0x45);
  const pcap_pkthdr header{.ts = {.tv_sec = 1, .tv_usec = 0}, .caplen = kBytes, .len = kBytes};
  for (int i = 0; i < kFrames; ++i) pcap_dump(reinterpret_cast<u_char*>(file), &header, frame.data());
  pcap_dump_close(file);
  pcap_close(dead);
}

// ns of one call of `call`, over about `ms`.
template <typename Call>
double each(uint64_t ms, int calls, Call call) {
  const uint64_t start = now_ns();
  uint64_t done = 0;
  do {
    for (int i = 0; i < calls; ++i) call();
    done += static_cast<uint64_t>(calls);
  } while (now_ns() - start < ms * 1'000'000);
  return static_cast<double>(now_ns() - start) / static_cast<double>(done);
}

double next_ex(const std::string& path, uint64_t ms) {
  return each(ms, 1,
              [&] {
                char message[PCAP_ERRBUF_SIZE];
                pcap_t* file = pcap_open_offline(path.c_str(), message);
                if (file == nullptr) fail(message);
                pcap_pkthdr* header = nullptr;
                const u_char* packet = nullptr;
                while (pcap_next_ex(file, &header, &packet) == 1) {
                }
                pcap_close(file);
              }) /
         kFrames;
}

double offline_filter(uint64_t ms) {
  pcap_t* dead = pcap_open_dead(DLT_EN10MB, 65535);
  bpf_program program{};
  if (pcap_compile(dead, &program, "tcp port 80", 1, PCAP_NETMASK_UNKNOWN) != 0) fail(pcap_geterr(dead));
  std::vector<u_char> frame(kBytes, 0);
  frame[12] = 0x08, frame[14] = 0x45, frame[23] = 6, frame[37] = 80;
  const pcap_pkthdr header{.ts = {}, .caplen = kBytes, .len = kBytes};
  int taken = 0;
  const double ns =
      each(ms, 10'000, [&] { taken += pcap_offline_filter(&program, &header, frame.data()) != 0; });
  if (taken == 0) fail("the filter takes nothing");
  pcap_close(dead);
  return ns;
}

}  // namespace

int main(int argc, char** argv) {
  const Options options = parse_options(argc, argv, {{"file", ""}, {"core", "1"}, {"ms", "200"}});
  pin_to(static_cast<int>(number(options, "core")));
  const std::string& path = text(options, "file");
  write_file(path);
  const uint64_t ms = number(options, "ms");
  const CoreShare measured;
  const double next = next_ex(path, ms), filter = offline_filter(ms);
  const double open = each(ms, 1000, [] { pcap_close(pcap_open_dead(DLT_EN10MB, 65535)); });
  pcap_t* dead = pcap_open_dead(DLT_EN10MB, 65535);
  int sum = 0;
  const double nothing = each(ms, 10'000, [&] { sum += pcap_datalink(dead); });
  fmt::print(
      "{{\"next_ex\": {:.3f}, \"filter\": {:.3f}, \"open\": {:.3f}, \"nothing\": {:.3f}, \"sum\": {}, "
      "\"share\": {:.3f}}}\n",
      next, filter, open, nothing, sum, measured.share());
}

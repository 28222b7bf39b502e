// Writes a pcap file of the simple IMIX (7 : 4 : 1 frames of 60, 590 and 1,514 bytes, UDP over IPv4,
// 1,000 flows): what the benchmarks of the pcap: port and of its peers read. Little-endian, nanoseconds.
#include <array>
#include <vector>

#include "tests/bench/bench.h"

namespace {

using namespace ringcap::bench;

constexpr std::array<uint16_t, 12> kMix = {60, 590, 60, 590, 60, 60, 1514, 590, 60, 60, 590, 60};

struct FileHeader {
  uint32_t magic = 0xa1b23c4d;  // nanoseconds
  uint16_t major = 2;
  uint16_t minor = 4;
  uint32_t zone = 0;
  uint32_t accuracy = 0;
  uint32_t snap = 65535;
  uint32_t link_type = 1;  // Ethernet
};

struct RecordHeader {
  uint32_t seconds;
  uint32_t nanoseconds;
  uint32_t captured;
  uint32_t length;
};

void store16(uint8_t* at, uint32_t value) {  // big-endian, as in protocol headers
  at[0] = static_cast<uint8_t>(value >> 8);
  at[1] = static_cast<uint8_t>(value);
}

uint16_t ip_checksum(const uint8_t* header) {
  uint32_t sum = 0;
  for (int i = 0; i < 20; i += 2) sum += static_cast<uint32_t>(header[i] << 8 | header[i + 1]);
  sum = (sum & 0xffff) + (sum >> 16);
  return static_cast<uint16_t>(~((sum & 0xffff) + (sum >> 16)));
}

// Ethernet, IPv4 and UDP headers of one of 1,000 flows; the payload stays as it is.
void write_headers(uint8_t* frame, uint32_t length, uint64_t index) {
  const uint32_t flow = static_cast<uint32_t>(index % 1000);
  const uint8_t ethernet[14] = {2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0};
  const uint8_t ip[20] = {0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, 17, 0, 0, 10, 0, 0, 0, 10, 1, 0, 1};
  std::memcpy(frame, ethernet, sizeof ethernet);
  std::memcpy(frame + 14, ip, sizeof ip);
  store16(frame + 16, length - 14);
  store16(frame + 28, flow);
  store16(frame + 24, ip_checksum(frame + 14));
  store16(frame + 34, 1024 + flow);
  store16(frame + 36, 53);
  store16(frame + 38, length - 34);
  store16(frame + 40, 0);
}

void write_record(FILE* out, uint64_t index, std::vector<uint8_t>& frame) {
  const uint16_t length = kMix[index % kMix.size()];
  const uint64_t time_ns = index * 1000;
  const RecordHeader header{1'700'000'000 + static_cast<uint32_t>(time_ns / 1'000'000'000),
                            static_cast<uint32_t>(time_ns % 1'000'000'000), length, length};
  write_headers(frame.data(), length, index);
  if (fwrite(&header, sizeof header, 1, out) != 1 || fwrite(frame.data(), length, 1, out) != 1)
    fail_errno("writing the file");
}

}  // namespace

int main(int argc, char** argv) {
  const Options options = parse_options(argc, argv, {{"file", ""}, {"frames", "2000000"}});
  FILE* out = std::fopen(text(options, "file").c_str(), "wbx");
  if (out == nullptr) fail_errno("creating " + text(options, "file"));
  const FileHeader header;
  if (fwrite(&header, sizeof header, 1, out) != 1) fail_errno("writing the file");
  std::vector<uint8_t> frame(kMix[6], 0x5a);
  const uint64_t frames = number(options, "frames");
  for (uint64_t i = 0; i < frames; ++i) write_record(out, i, frame);
  if (std::fclose(out) != 0) fail_errno("writing the file");
  fmt::print("{{\"frames\": {}}}\n", frames);
}

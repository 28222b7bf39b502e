// Reading a capture file out of the page cache: our reader, libpcap's pcap_next_ex, and a bare loop of
// read()s. The file, 2,000,000 IMIX frames (7 : 4 : 1 of 60, 590 and 1,514 bytes) in memory, is made at the
// start.
#include <benchmark/benchmark.h>
#include <fcntl.h>
#include <pcap/pcap.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdlib>
#include <string>
#include <vector>

#include "capture/pcapfile/reader.h"
#include "capture/pcapfile/writer.h"
#include "driver/pcap/port.h"

namespace ringcap::pcapfile {
namespace {

constexpr uint32_t kFrames = 2'000'000;

const std::string& file() {
  static const std::string path = [] {
    constexpr uint32_t kMix[] = {60, 590, 60, 590, 60, 60, 1514, 590, 60, 60, 590, 60};
    const int fd = ::memfd_create("imix", MFD_CLOEXEC);
    const std::unique_ptr<Writer> writer = Writer::adopt(Fd(::dup(fd)), "imix", {.reference_bytes = 0});
    const std::vector<std::byte> bytes(1514, std::byte{0x5a});
    for (uint32_t i = 0; i < kFrames; ++i)
      writer->append(uint64_t{i} * 1000, kMix[i % 12], std::span(bytes).first(kMix[i % 12]));
    if (!writer->close()) std::abort();
    return "/proc/self/fd/" + std::to_string(fd);
  }();
  return path;
}

void count(benchmark::State& state, uint64_t frames) {
  if (frames != static_cast<uint64_t>(kFrames * state.iterations()))
    state.SkipWithError("frames are missing");
  state.SetItemsProcessed(static_cast<int64_t>(frames));
}

// Argument: KiB of a block.
void ours(benchmark::State& state) {
  uint64_t frames = 0;
  file();
  for (auto _ : state) {
    Result<Reader> reader = Reader::open(file(), {.block_bytes = static_cast<size_t>(state.range(0)) << 10});
    Record record;
    uint64_t sum = 0;
    while (reader->next(record) == Reader::Status::kRecord) {
      ++frames;
      sum += record.timestamp_ns + record.captured + record.length;
    }
    benchmark::DoNotOptimize(sum);
  }
  count(state, frames);
}
BENCHMARK(ours)->Name("ringcap")->Arg(64)->Arg(128)->Arg(256)->Arg(512)->Arg(1024)->Unit(
    benchmark::kMillisecond);

// The pcap: port: the same and a copy into the arena, as a worker has it.
void port(benchmark::State& state) {
  constexpr uint32_t kBuffers = 1024;
  constexpr uint32_t kBufferBytes = 2048;
  std::vector<std::byte> arena(size_t{kBuffers} * kBufferBytes);
  FreeBuffers free(kBuffers);
  for (uint32_t i = 0; i < kBuffers; ++i) free.push(i);
  std::vector<Frame> burst(64);
  uint64_t frames = 0;
  file();
  for (auto _ : state) {
    auto opened = open_pcap_port(file(), {.speed = 0});
    ReceiveQueue& queue = *(*opened)->receive_queues().front();
    if (!queue.arm({.base = arena.data(), .buffer_bytes = kBufferBytes, .count = kBuffers}, free))
      std::abort();
    if (!(*opened)->start()) std::abort();
    while (!queue.ended()) {
      const uint32_t count = queue.receive(burst, free).frames;
      for (uint32_t i = count; i > 0; --i) free.push(burst[i - 1].buffer);
      frames += count;
    }
  }
  count(state, frames);
}
BENCHMARK(port)->Name("ringcap_port")->Unit(benchmark::kMillisecond);

void libpcap(benchmark::State& state) {
  uint64_t frames = 0;
  file();
  for (auto _ : state) {
    char error[PCAP_ERRBUF_SIZE];
    pcap_t* pcap = pcap_open_offline_with_tstamp_precision(file().c_str(), PCAP_TSTAMP_PRECISION_NANO, error);
    pcap_pkthdr* header;
    const u_char* data;
    uint64_t sum = 0;
    while (pcap_next_ex(pcap, &header, &data) == 1) {
      ++frames;
      sum += static_cast<uint64_t>(header->ts.tv_sec) * 1'000'000'000 +
             static_cast<uint64_t>(header->ts.tv_usec) + header->caplen + header->len;
    }
    benchmark::DoNotOptimize(sum);
    pcap_close(pcap);
  }
  count(state, frames);
}
BENCHMARK(libpcap)->Unit(benchmark::kMillisecond);

// Argument: KiB of a block.
void bare_read(benchmark::State& state) {
  std::vector<char> block(static_cast<size_t>(state.range(0)) << 10);
  file();
  for (auto _ : state) {
    const Fd fd(::open(file().c_str(), O_RDONLY | O_CLOEXEC));
    while (::read(fd.get(), block.data(), block.size()) > 0) {
    }
  }
  state.SetItemsProcessed(state.iterations() * int64_t{kFrames});
}
BENCHMARK(bare_read)->Arg(256)->Arg(1024)->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace ringcap::pcapfile

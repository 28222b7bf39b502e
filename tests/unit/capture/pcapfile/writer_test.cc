#include "capture/pcapfile/writer.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <pcap/pcap.h>
#include <sys/stat.h>

#include <csignal>
#include <memory>
#include <random>
#include <thread>

#include "tests/unit/capture/pcapfile/captures.h"

namespace ringcap::pcapfile::test {
namespace {

std::vector<Expected> random_frames(uint32_t count, unsigned seed) {
  std::mt19937_64 random(seed);
  std::vector<Expected> frames;
  for (uint32_t i = 0; i < count; ++i) {
    const uint64_t size = random() % 3 == 0 ? random() % 9015 : random() % 200;
    Expected frame{1'700'000'000'000'000'000 + i * uint64_t{1'234'567}, static_cast<uint32_t>(size), {}};
    for (uint64_t j = 0; j < size; ++j) frame.data.push_back(static_cast<std::byte>(random()));
    frames.push_back(std::move(frame));
  }
  return frames;
}

// Writes them the way a consumer does: a burst, flush_references(), and the burst's memory is another's.
void write_frames(Writer& writer, const std::vector<Expected>& frames) {
  std::vector<std::vector<std::byte>> burst;
  for (const Expected& frame : frames) {
    burst.push_back(frame.data);
    EXPECT_TRUE(writer.append(frame.timestamp_ns, frame.length, burst.back()));
    if (burst.size() < 64) continue;
    EXPECT_TRUE(writer.flush_references());
    for (auto& data : burst) std::fill(data.begin(), data.end(), std::byte{0xee});
    burst.clear();
  }
  EXPECT_TRUE(writer.flush_references());
}

void check_by_libpcap(const std::string& path, const std::vector<Expected>& frames, bool nano = true) {
  char error[PCAP_ERRBUF_SIZE];
  const auto precision = nano ? PCAP_TSTAMP_PRECISION_NANO : PCAP_TSTAMP_PRECISION_MICRO;
  const std::unique_ptr<pcap_t, decltype(&pcap_close)> file(
      pcap_open_offline_with_tstamp_precision(path.c_str(), static_cast<u_int>(precision), error),
      pcap_close);
  ASSERT_TRUE(file) << error;
  pcap_pkthdr* header;
  const u_char* data;
  for (const Expected& frame : frames) {
    ASSERT_EQ(pcap_next_ex(file.get(), &header, &data), 1) << pcap_geterr(file.get());
    const auto* bytes = reinterpret_cast<const std::byte*>(data);
    const uint64_t unit_ns = nano ? 1 : 1000;
    const Expected read{static_cast<uint64_t>(header->ts.tv_sec) * 1'000'000'000 +
                            static_cast<uint64_t>(header->ts.tv_usec) * unit_ns,
                        header->len,
                        {bytes, bytes + header->caplen}};
    ASSERT_TRUE(read == frame) << "at " << frame.timestamp_ns;
  }
  EXPECT_EQ(pcap_next_ex(file.get(), &header, &data), PCAP_ERROR_BREAK);
}

std::unique_ptr<Writer> make(const std::string& path, const WriterOptions& options = {}) {
  Result<std::unique_ptr<Writer>> writer = Writer::create(path, options);
  if (writer) return std::move(*writer);
  ADD_FAILURE() << writer.error().message();
  return Writer::adopt(Fd(), path, options);
}

TEST(PcapWriter, libpcap_reads_what_was_written_copied_or_referred_to) {
  for (const uint32_t reference_bytes : {0, 1, 1024}) {
    Folder folder;
    const std::string path = folder.file("written.pcap");
    const std::vector<Expected> frames = random_frames(5000, 1 + reference_bytes);
    const std::unique_ptr<Writer> writer = make(path, {.reference_bytes = reference_bytes});
    write_frames(*writer, frames);
    ASSERT_TRUE(writer->close());
    check_by_libpcap(path, frames);
    EXPECT_EQ(writer->written_bytes(), content(path).size());
  }
}

TEST(PcapWriter, our_reader_reads_what_was_written) {
  Folder folder;
  const std::string path = folder.file("written.pcap");
  const std::vector<Expected> frames = random_frames(3000, 5);
  const std::unique_ptr<Writer> writer = make(path, {.link_type = 101});
  write_frames(*writer, frames);
  ASSERT_TRUE(writer->close());
  Result<Reader> reader = Reader::open(path);
  ASSERT_TRUE(reader);
  EXPECT_EQ(reader->link_type(), 101u);
  Reader::Status last;
  EXPECT_TRUE(read_all(*reader, last) == frames);
  EXPECT_EQ(last, Reader::Status::kEnd);
}

TEST(PcapWriter, a_burst_larger_than_all_pieces_is_written_in_order) {
  Folder folder;
  const std::string path = folder.file("written.pcap");
  const std::unique_ptr<Writer> writer = make(path);
  std::vector<Expected> frames;
  for (uint32_t i = 0; i < 3000; ++i)
    frames.push_back({i, 1500, std::vector<std::byte>(i % 3 == 0 ? 60 : 1500, static_cast<std::byte>(i))});
  for (const Expected& frame : frames)
    ASSERT_TRUE(writer->append(frame.timestamp_ns, frame.length, frame.data));
  ASSERT_TRUE(writer->close());
  check_by_libpcap(path, frames);
}

TEST(PcapWriter, microseconds_are_for_old_readers) {
  Folder folder;
  const std::string path = folder.file("written.pcap");
  std::vector<Expected> frames = random_frames(100, 3);
  const std::unique_ptr<Writer> writer = make(path, {.microseconds = true});
  write_frames(*writer, frames);
  ASSERT_TRUE(writer->close());
  EXPECT_EQ(content(path).substr(0, 4), "\xd4\xc3\xb2\xa1");
  for (Expected& frame : frames) frame.timestamp_ns -= frame.timestamp_ns % 1000;
  check_by_libpcap(path, frames, false);
}

TEST(PcapWriter, frames_are_cut_to_the_snapshot_length) {
  Folder folder;
  const std::string path = folder.file("written.pcap");
  std::vector<Expected> frames = random_frames(500, 4);
  const std::unique_ptr<Writer> writer = make(path, {.snaplen = 1300});
  write_frames(*writer, frames);
  ASSERT_TRUE(writer->close());
  for (Expected& frame : frames) frame.data.resize(std::min<size_t>(frame.data.size(), 1300));
  check_by_libpcap(path, frames);
}

TEST(PcapWriter, flush_writes_everything_at_once) {
  Folder folder;
  const std::string path = folder.file("written.pcap");
  const std::unique_ptr<Writer> writer = make(path);
  const Expected frame = expected_frame(0);
  ASSERT_TRUE(writer->append(frame.timestamp_ns, frame.length, frame.data));
  EXPECT_EQ(content(path).size(), 0u);
  ASSERT_TRUE(writer->flush());
  check_by_libpcap(path, {frame});
}

TEST(PcapWriter, a_file_that_exists_is_overwritten_only_by_force) {
  Folder folder;
  const std::string path = folder.file("precious");
  std::ofstream(path) << "precious";
  Result<std::unique_ptr<Writer>> refused = Writer::create(path);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Code::kUsage);
  EXPECT_NE(refused.error().message().find("--force"), std::string::npos);
  EXPECT_EQ(content(path), "precious");
  ASSERT_TRUE(make(path, {.force = true})->close());
  check_by_libpcap(path, {});
}

TEST(PcapWriter, files_are_for_owner_and_group_only) {
  Folder folder;
  const std::string path = folder.file("written.pcap");
  const mode_t before = ::umask(0);
  const std::unique_ptr<Writer> writer = make(path);
  ::umask(before);
  struct stat status{};
  ASSERT_EQ(::stat(path.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 07777, 0640u);
}

TEST(PcapWriter, a_device_is_written_to_without_force) {
  const std::unique_ptr<Writer> writer = make("/dev/null");
  write_frames(*writer, random_frames(1000, 6));
  EXPECT_TRUE(writer->close());
}

TEST(PcapWriter, a_full_disk_is_an_error_that_stays) {
  const std::unique_ptr<Writer> writer = make("/dev/full");
  const std::vector<std::byte> small(60), large(1500);
  EXPECT_TRUE(writer->append(1, 60, small));
  EXPECT_FALSE(writer->flush());
  ASSERT_TRUE(writer->error());
  EXPECT_EQ(writer->error()->message(),
            "cannot write to /dev/full after 0 bytes: No space left on device; "
            "make room there, or write to another file system");
  EXPECT_FALSE(writer->append(2, 60, small));
  EXPECT_FALSE(writer->append(2, 1500, large));
  EXPECT_FALSE(writer->flush_references());
  EXPECT_FALSE(writer->close());
}

TEST(PcapWriter, a_pipe_whose_reader_is_gone_is_an_error) {
  int ends[2];
  ASSERT_EQ(::pipe2(ends, O_CLOEXEC), 0);
  const std::unique_ptr<Writer> writer = Writer::adopt(Fd(ends[1]), "standard output");
  Fd(ends[0]).reset();
  const auto before = std::signal(SIGPIPE, SIG_IGN);
  EXPECT_FALSE(writer->flush());
  std::signal(SIGPIPE, before);
  ASSERT_TRUE(writer->error());
  EXPECT_NE(writer->error()->message().find("Broken pipe"), std::string::npos) << writer->error()->message();
}

TEST(PcapWriter, short_writes_to_a_pipe_that_does_not_block_lose_nothing) {
  int ends[2];
  ASSERT_EQ(::pipe2(ends, O_CLOEXEC), 0);
  ASSERT_EQ(::fcntl(ends[1], F_SETFL, O_NONBLOCK), 0);
  ASSERT_GT(::fcntl(ends[1], F_SETPIPE_SZ, 4096), 0);
  const std::vector<Expected> frames = random_frames(2000, 8);
  std::thread thread([fd = ends[1], &frames] {
    const std::unique_ptr<Writer> writer = Writer::adopt(Fd(fd), "pipe", {.reference_bytes = 500});
    write_frames(*writer, frames);
    EXPECT_TRUE(writer->close());
  });
  Result<Reader> reader = Reader::adopt(Fd(ends[0]), "pipe");
  ASSERT_TRUE(reader);
  Reader::Status last;
  EXPECT_TRUE(read_all(*reader, last) == frames);
  EXPECT_EQ(last, Reader::Status::kEnd);
  thread.join();
}

}  // namespace
}  // namespace ringcap::pcapfile::test

#include "capture/pcapfile/reader.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <pcap/pcap.h>

#include <memory>
#include <random>

#include "tests/unit/capture/pcapfile/captures.h"

namespace ringcap::pcapfile::test {
namespace {

using Status = Reader::Status;

// A file of microseconds knows no more.
std::vector<Expected> in_microseconds(std::vector<Expected> frames) {
  for (Expected& frame : frames) frame.timestamp_ns -= frame.timestamp_ns % 1000;
  return frames;
}

std::vector<Expected> read_file(const std::string& path, const ReaderOptions& options = {}) {
  Result<Reader> reader = Reader::open(path, options);
  if (!reader) {
    ADD_FAILURE() << reader.error().message();
    return {};
  }
  Status last;
  std::vector<Expected> frames = read_all(*reader, last);
  EXPECT_EQ(last, Status::kEnd) << reader->error().message();
  return frames;
}

std::string open_error(const std::string& path) {
  Result<Reader> reader = Reader::open(path);
  return reader ? "it was opened" : reader.error().message();
}

// libpcap's view of a file.
std::vector<Expected> read_by_libpcap(const std::string& path) {
  char error[PCAP_ERRBUF_SIZE];
  const std::unique_ptr<pcap_t, decltype(&pcap_close)> file(
      pcap_open_offline_with_tstamp_precision(path.c_str(), PCAP_TSTAMP_PRECISION_NANO, error), pcap_close);
  if (!file) {
    ADD_FAILURE() << error;
    return {};
  }
  std::vector<Expected> frames;
  pcap_pkthdr* header;
  const u_char* data;
  while (pcap_next_ex(file.get(), &header, &data) == 1) {
    const auto* bytes = reinterpret_cast<const std::byte*>(data);
    const auto ns =
        static_cast<uint64_t>(header->ts.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(header->ts.tv_usec);
    frames.push_back({ns, header->len, {bytes, bytes + header->caplen}});
  }
  return frames;
}

TEST(PcapReader, every_nanosecond_flavour_gives_the_same_frames) {
  for (const char* name : {"nano_little.pcap", "nano_big.pcap", "little.pcapng", "big.pcapng"})
    EXPECT_EQ(read_file(capture(name)), expected_frames()) << name;
}

TEST(PcapReader, every_microsecond_flavour_gives_the_same_frames) {
  for (const char* name : {"micro_little.pcap", "micro_big.pcap", "old.pcap"})
    EXPECT_EQ(read_file(capture(name)), in_microseconds(expected_frames())) << name;
}

TEST(PcapReader, sections_and_interfaces_have_their_own_byte_order_resolution_and_offset) {
  std::vector<Expected> expected = expected_frames();
  expected[0].timestamp_ns -= expected[0].timestamp_ns % 1000;  // this interface's are microseconds
  EXPECT_EQ(read_file(capture("many.pcapng")), expected);
}

TEST(PcapReader, simple_packets_are_cut_by_the_snapshot_length_and_keep_the_last_timestamp) {
  std::vector<Expected> expected = expected_frames();
  for (Expected& frame : expected) {
    frame.timestamp_ns = expected[0].timestamp_ns;
    frame.data.resize(std::min<size_t>(frame.data.size(), 96));
  }
  EXPECT_EQ(read_file(capture("simple.pcapng")), expected);
}

TEST(PcapReader, libpcap_reads_the_same_out_of_the_same_files) {
  for (const char* name : {"nano_little.pcap", "nano_big.pcap", "micro_little.pcap", "micro_big.pcap",
                           "old.pcap", "little.pcapng", "big.pcapng"})
    EXPECT_EQ(read_file(capture(name)), read_by_libpcap(capture(name))) << name;
}

TEST(PcapReader, what_libpcap_writes_is_read) {
  Folder folder;
  const std::string path = folder.file("written.pcap");
  pcap_t* dead = pcap_open_dead_with_tstamp_precision(DLT_RAW, 65535, PCAP_TSTAMP_PRECISION_NANO);
  pcap_dumper_t* dumper = pcap_dump_open(dead, path.c_str());
  ASSERT_NE(dumper, nullptr) << pcap_geterr(dead);
  for (const Expected& frame : expected_frames()) {
    const pcap_pkthdr header{{static_cast<time_t>(frame.timestamp_ns / 1'000'000'000),
                              static_cast<suseconds_t>(frame.timestamp_ns % 1'000'000'000)},
                             static_cast<bpf_u_int32>(frame.data.size()),
                             frame.length};
    pcap_dump(reinterpret_cast<u_char*>(dumper), &header, reinterpret_cast<const u_char*>(frame.data.data()));
  }
  pcap_dump_close(dumper);
  pcap_close(dead);
  EXPECT_EQ(read_file(path), expected_frames());
  EXPECT_EQ(Reader::open(path)->link_type(), 101u);  // LINKTYPE_RAW, which is not DLT_RAW
}

TEST(PcapReader, a_file_cut_anywhere_gives_what_comes_before_and_says_where) {
  for (const char* name : {"nano_little.pcap", "big.pcapng", "many.pcapng", "simple.pcapng"}) {
    const std::string whole = content(capture(name));
    const std::vector<Expected> all = read_file(capture(name));
    size_t frames_before = 0;
    for (size_t bytes = 1; bytes < whole.size(); ++bytes) {
      Result<Reader> reader = Reader::adopt(memory_file(whole.substr(0, bytes)), name, {.block_bytes = 4096});
      const std::string cut = std::string(name) + " is cut at byte " + std::to_string(bytes) + ":";
      if (!reader) {
        EXPECT_TRUE(reader.error().text.starts_with(cut)) << reader.error().text;
        continue;
      }
      Status last;
      const std::vector<Expected> frames = read_all(*reader, last);
      EXPECT_GE(frames.size(), frames_before);
      EXPECT_TRUE(frames.size() <= all.size() && std::equal(frames.begin(), frames.end(), all.begin()));
      if (last == Status::kError) {
        EXPECT_TRUE(reader->error().text.starts_with(cut)) << reader->error().text;
      }
      frames_before = frames.size();
    }
    EXPECT_EQ(frames_before, all.size() - (std::string(name).ends_with("pcap") ? 1 : 0)) << name;
  }
}

TEST(PcapReader, the_error_of_a_cut_file_says_what_is_missing) {
  Result<Reader> reader =
      Reader::adopt(memory_file(content(capture("nano_little.pcap")).substr(0, 24 + 76 + 20)), "F");
  ASSERT_TRUE(reader) << reader.error().text;
  Status last;
  EXPECT_EQ(read_all(*reader, last).size(), 1u);
  EXPECT_EQ(reader->error().text,
            "F is cut at byte 120: a frame that begins at byte 100 needs 57 more bytes");
  EXPECT_EQ(last, Status::kError);
  Record record;
  EXPECT_EQ(reader->next(record), Status::kError);
}

TEST(PcapReader, nonsense_in_a_file_is_an_error_after_the_frames_before_it) {
  const std::pair<const char*, const char*> cases[] = {
      {"huge_frame.pcap",
       "is damaged at byte 100: it has a frame with 4294967280 bytes captured, where 262144"},
      {"huge_frame.pcapng", "it has a frame with 4294967280 bytes captured"},
      {"huge_block.pcapng", "is cut at byte"},
      {"huge_unknown_block.pcapng", "is cut at byte"},
      {"tiny_block.pcapng", "a block of type 0x6 (enhanced packet) with the length 8"},
      {"odd_block.pcapng", "with the length 33"},
      {"other_end.pcapng", "the end of a block, whose length is 4 there and"},
      {"no_interface.pcapng", "a frame of interface 7, where its section has described 1"},
      {"beyond_block.pcapng", "a frame with 61 bytes captured in a block of 92 bytes"},
      {"bad_option.pcapng", "option 9 says 60000 bytes, where 0 are left"},
      {"bad_order.pcapng", "byte-order magic is 12345678"},
      {"version_2.pcapng", "pcapng version 2.0"},
      {"mixed.pcapng", "has 101 (raw IP), those before it 1 (Ethernet)"},
  };
  for (const auto& [name, expected] : cases) {
    Result<Reader> reader = Reader::open(capture(name));
    ASSERT_TRUE(reader) << name << reader.error().text;
    Status last;
    EXPECT_EQ(read_all(*reader, last), std::vector{expected_frame(0)}) << name;
    EXPECT_EQ(last, Status::kError) << name;
    EXPECT_NE(reader->error().message().find(expected), std::string::npos)
        << name << ": " << reader->error().message();
  }
}

TEST(PcapReader, what_is_no_capture_file_is_refused_with_what_mends_it) {
  Folder folder;
  const auto make = [&](const char* name, const std::string& bytes) {
    const std::string path = folder.file(name);
    std::ofstream(path, std::ios::binary) << bytes;
    return path;
  };
  EXPECT_NE(open_error(capture("modified.pcap")).find("modified pcap format"), std::string::npos);
  EXPECT_NE(open_error(make("packed", "\x1f\x8b\x08 and so on")).find("zcat"), std::string::npos);
  EXPECT_NE(open_error(make("empty", "")).find("is empty"), std::string::npos);
  EXPECT_NE(open_error(make("text", "#!/bin/sh")).find("begins with 23212f62"), std::string::npos);
  EXPECT_NE(open_error(make("version", content(capture("nano_little.pcap")).replace(4, 1, "\x03")))
                .find("version 3.4"),
            std::string::npos);
  EXPECT_NE(open_error(folder.file("nowhere")).find("there is no file"), std::string::npos);
  EXPECT_NE(open_error("/tmp").find("directory"), std::string::npos);
}

TEST(PcapReader, rewinding_gives_the_same_frames_again) {
  for (const char* name : {"nano_big.pcap", "many.pcapng"}) {
    Result<Reader> reader = Reader::open(capture(name));
    ASSERT_TRUE(reader) << reader.error().text;
    Status last;
    const std::vector<Expected> first = read_all(*reader, last);
    ASSERT_TRUE(reader->rewind());
    EXPECT_EQ(read_all(*reader, last), first);
    EXPECT_EQ(last, Status::kEnd);
  }
}

TEST(PcapReader, frames_that_lie_across_blocks_are_whole) {
  std::mt19937 random(7);
  std::vector<Expected> expected;
  std::string bytes = content(capture("nano_little.pcap")).substr(0, kFileHeaderBytes);
  for (uint32_t i = 0; i < 400; ++i) {
    const uint32_t size = i % 50 == 0 ? kMaxCaptured : static_cast<uint32_t>(random() % 10000);
    Expected frame{i, size, std::vector<std::byte>(size, static_cast<std::byte>(i))};
    const uint32_t header[] = {0, i, size, size};
    bytes.append(reinterpret_cast<const char*>(header), sizeof(header));
    bytes.append(reinterpret_cast<const char*>(frame.data.data()), size);
    expected.push_back(std::move(frame));
  }
  for (const size_t block_bytes : {4096, 65536, 1 << 20}) {
    Result<Reader> reader = Reader::adopt(memory_file(bytes), "F", {.block_bytes = block_bytes});
    Status last;
    EXPECT_TRUE(read_all(*reader, last) == expected) << block_bytes;
    EXPECT_EQ(last, Status::kEnd);
  }
}

TEST(PcapReader, a_pipe_that_trickles_gives_each_frame_when_its_last_byte_is_there) {
  for (const char* name : {"nano_little.pcap", "little.pcapng"}) {
    int ends[2];
    ASSERT_EQ(::pipe2(ends, O_CLOEXEC), 0);
    const Fd out(ends[1]);
    const std::string bytes = content(capture(name));
    const size_t start = 200;  // file header or interface descriptions, which opening waits for
    ASSERT_EQ(::write(out.get(), bytes.data(), start), static_cast<ssize_t>(start));
    Result<Reader> reader = Reader::adopt(Fd(ends[0]), name, {.wait = false, .block_bytes = 4096});
    ASSERT_TRUE(reader) << reader.error().text;
    EXPECT_FALSE(reader->seekable());
    std::vector<Expected> frames;
    for (size_t i = start; i <= bytes.size(); ++i) {
      Status last;
      for (Expected& frame : read_all(*reader, last)) frames.push_back(std::move(frame));
      ASSERT_EQ(last, Status::kNotYet) << reader->error().text;
      if (i == bytes.size()) break;
      ASSERT_EQ(::write(out.get(), &bytes[i], 1), 1);
    }
    EXPECT_EQ(frames, expected_frames());
  }
}

TEST(PcapReader, a_pipe_has_the_link_type_of_its_first_interface_and_a_file_that_of_its_first_frame) {
  int ends[2];
  ASSERT_EQ(::pipe2(ends, O_CLOEXEC), 0);
  Fd out(ends[1]);
  const std::string bytes = content(capture("many.pcapng"));
  ASSERT_EQ(::write(out.get(), bytes.data(), bytes.size()), static_cast<ssize_t>(bytes.size()));
  out.reset();
  Result<Reader> pipe = Reader::adopt(Fd(ends[0]), "F");
  ASSERT_TRUE(pipe) << pipe.error().text;
  EXPECT_EQ(pipe->link_type(), 101u);
  Record record;
  EXPECT_EQ(pipe->next(record), Status::kError);
  EXPECT_NE(pipe->error().text.find("mixes link types"), std::string::npos) << pipe->error().text;
  EXPECT_FALSE(pipe->rewind());
  EXPECT_EQ(Reader::open(capture("many.pcapng"))->link_type(), 1u);
}

}  // namespace
}  // namespace ringcap::pcapfile::test

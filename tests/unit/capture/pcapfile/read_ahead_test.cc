// Reading ahead: two threads read the blocks of a file, and nobody who reads the frames can tell.
#include "capture/pcapfile/read_ahead.h"

#include <dirent.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sched.h>

#include <cstring>
#include <fstream>
#include <random>
#include <string>
#include <vector>

#include "capture/pcapfile/reader.h"
#include "tests/unit/capture/pcapfile/captures.h"

namespace ringcap::pcapfile::test {
namespace {

using Status = Reader::Status;
constexpr size_t kBlockBytes = 4096;

// A pcap file of `frames` frames of up to `longest` bytes, and what must come out of it.
struct Sample {
  std::string bytes = content(capture("nano_little.pcap")).substr(0, kFileHeaderBytes);
  std::vector<Expected> frames;

  Sample(uint32_t count, uint32_t longest) {
    std::mt19937 random(7);
    for (uint32_t i = 0; i < count; ++i) {
      const uint32_t size = i % 100 == 99 ? longest : static_cast<uint32_t>(random() % (longest / 20 + 1));
      const uint32_t header[] = {0, i, size, size};
      bytes.append(reinterpret_cast<const char*>(header), sizeof(header));
      bytes.append(size, static_cast<char>(i));
      frames.push_back({i, size, std::vector<std::byte>(size, static_cast<std::byte>(i))});
    }
  }
};

Result<Reader> read_ahead(Fd fd, size_t block_bytes = kBlockBytes) {
  return Reader::adopt(std::move(fd), "F", {.block_bytes = block_bytes, .read_ahead = true});
}

// Threads of this process that read ahead.
std::vector<pid_t> helpers() {
  std::vector<pid_t> found;
  DIR* const tasks = ::opendir("/proc/self/task");
  while (const dirent* entry = ::readdir(tasks)) {
    std::string name;
    std::getline(std::ifstream(std::string("/proc/self/task/") + entry->d_name + "/comm"), name);
    if (name == "read-ahead") found.push_back(std::stoi(entry->d_name));
  }
  ::closedir(tasks);
  return found;
}

// Reads until there is a helper that has said its name; the file must be long enough.
pid_t read_until_helped(Reader& reader) {
  Record record;
  while (reader.next(record) == Status::kRecord)
    if (const auto found = helpers(); !found.empty()) return found.front();
  return 0;
}

TEST(ReadAhead, frames_are_the_same_with_blocks_of_any_size) {
  const Sample sample(2000, kMaxCaptured);
  for (const size_t block_bytes : {4096, 65536, 1 << 20}) {
    Result<Reader> reader = read_ahead(memory_file(sample.bytes), block_bytes);
    ASSERT_TRUE(reader) << reader.error().text;
    Status last;
    EXPECT_TRUE(read_all(*reader, last) == sample.frames) << block_bytes;
    EXPECT_EQ(last, Status::kEnd) << reader->error().text;
  }
}

TEST(ReadAhead, files_of_every_kind_read_as_they_do_without) {
  for (const char* name : {"nano_little.pcap", "big.pcapng", "many.pcapng", "simple.pcapng"}) {
    Result<Reader> reader = read_ahead(memory_file(content(capture(name))));
    Result<Reader> plain = Reader::open(capture(name));
    ASSERT_TRUE(reader && plain);
    Status last;
    EXPECT_EQ(read_all(*reader, last), read_all(*plain, last)) << name;
  }
}

TEST(ReadAhead, a_file_cut_near_a_blocks_end_gives_what_comes_before_and_says_where) {
  const Sample sample(300, 2000);
  for (size_t bytes = 5 * kBlockBytes - 40; bytes < 5 * kBlockBytes + 40; ++bytes) {
    Result<Reader> reader = read_ahead(memory_file(sample.bytes.substr(0, bytes)));
    Result<Reader> plain = Reader::adopt(memory_file(sample.bytes.substr(0, bytes)), "F");
    ASSERT_TRUE(reader && plain);
    Status last, plain_last;
    EXPECT_EQ(read_all(*reader, last), read_all(*plain, plain_last)) << bytes;
    EXPECT_EQ(last, plain_last) << bytes;
    EXPECT_EQ(reader->error().text, plain->error().text);
  }
}

TEST(ReadAhead, a_file_is_read_from_its_start_again_wherever_one_was) {
  const Sample sample(1000, 2000);
  Result<Reader> reader = read_ahead(memory_file(sample.bytes));
  ASSERT_TRUE(reader) << reader.error().text;
  Record record;
  for (uint32_t stop = 0; stop < 1000; stop += 37) {
    for (uint32_t i = 0; i < stop; ++i) {
      ASSERT_EQ(reader->next(record), Status::kRecord) << reader->error().text;
      ASSERT_EQ(copy_of(record), sample.frames[i]) << stop;
    }
    ASSERT_TRUE(reader->rewind());
  }
  for (int pass = 0; pass < 3; ++pass) {
    Status last;
    EXPECT_TRUE(read_all(*reader, last) == sample.frames) << pass;
    EXPECT_EQ(last, Status::kEnd);
    ASSERT_TRUE(reader->rewind());
  }
}

TEST(ReadAhead, its_thread_ends_with_the_reader_wherever_that_was) {
  const Sample sample(3000, 2000);
  for (int i = 0; i < 20; ++i) {
    Result<Reader> reader = read_ahead(memory_file(sample.bytes));
    ASSERT_TRUE(reader);
    EXPECT_NE(read_until_helped(*reader), 0);
    Record record;
    for (int more = 0; more < 50 * i; ++more) ASSERT_EQ(reader->next(record), Status::kRecord);
  }
  EXPECT_TRUE(helpers().empty());
}

TEST(ReadAhead, its_thread_may_run_where_the_maker_of_the_reader_may) {
  cpu_set_t all, one;
  ASSERT_EQ(::sched_getaffinity(0, sizeof all, &all), 0);
  const Sample sample(3000, 2000);
  Result<Reader> reader = read_ahead(memory_file(sample.bytes));
  ASSERT_TRUE(reader);
  CPU_ZERO(&one);
  CPU_SET(::sched_getcpu(), &one);
  ASSERT_EQ(::sched_setaffinity(0, sizeof one, &one), 0);
  const pid_t helper = read_until_helped(*reader);
  EXPECT_NE(helper, 0);
  // It says its name before it moves.
  bool there = false;
  Record record;
  while (!there && reader->next(record) == Status::kRecord) {
    cpu_set_t its;
    there = ::sched_getaffinity(helper, sizeof its, &its) == 0 && CPU_EQUAL(&its, &all) != 0;
  }
  EXPECT_TRUE(there);
  ::sched_setaffinity(0, sizeof all, &all);
}

TEST(ReadAhead, a_pipe_and_a_small_file_have_no_thread) {
  int ends[2];
  ASSERT_EQ(::pipe2(ends, O_CLOEXEC), 0);
  Fd out(ends[1]);
  const Sample small(40, 2000);
  ASSERT_LT(small.bytes.size(), 2 * kBlockBytes);
  ASSERT_EQ(::write(out.get(), small.bytes.data(), small.bytes.size()), ssize_t(small.bytes.size()));
  out.reset();
  Result<Reader> pipe = read_ahead(Fd(ends[0])), file = read_ahead(memory_file(small.bytes));
  ASSERT_TRUE(pipe && file);
  Status last;
  EXPECT_EQ(read_all(*pipe, last), small.frames);
  EXPECT_EQ(read_all(*file, last), small.frames);
  EXPECT_TRUE(helpers().empty());
}

TEST(ReadAhead, a_file_that_grows_is_read_to_its_new_end) {
  const Sample sample(1000, 2000);
  const size_t half = sample.bytes.size() / 2;
  Fd fd = memory_file(sample.bytes.substr(0, half));
  const Fd writer(::fcntl(fd.get(), F_DUPFD_CLOEXEC, 0));
  Result<Reader> reader = read_ahead(std::move(fd));
  ASSERT_TRUE(reader);
  std::vector<Expected> frames;
  Record record;
  for (uint32_t i = 0; i < 100; ++i) {
    ASSERT_EQ(reader->next(record), Status::kRecord);
    frames.push_back(copy_of(record));
  }
  const std::string rest = sample.bytes.substr(half);
  ASSERT_EQ(::pwrite(writer.get(), rest.data(), rest.size(), static_cast<off_t>(half)), ssize_t(rest.size()));
  Status last;
  for (Expected& frame : read_all(*reader, last)) frames.push_back(std::move(frame));
  EXPECT_TRUE(frames == sample.frames);
  EXPECT_EQ(last, Status::kEnd) << reader->error().text;
}

TEST(ReadAhead, a_file_that_shrinks_gives_frames_up_to_a_cut_and_says_where) {
  const Sample sample(3000, 2000);
  Fd fd = memory_file(sample.bytes);
  const Fd writer(::fcntl(fd.get(), F_DUPFD_CLOEXEC, 0));
  Result<Reader> reader = read_ahead(std::move(fd));
  ASSERT_TRUE(reader);
  Record record;
  ASSERT_EQ(reader->next(record), Status::kRecord);
  ASSERT_EQ(::ftruncate(writer.get(), 5 * kBlockBytes + 7), 0);
  // What was read before the cut may still come; never less, and never anything else.
  Status last;
  const std::vector<Expected> rest = read_all(*reader, last);
  EXPECT_TRUE(std::equal(rest.begin(), rest.end(), sample.frames.begin() + 1));
  EXPECT_EQ(last, Status::kError);
  EXPECT_TRUE(reader->error().text.starts_with("F is cut at byte ")) << reader->error().text;
}

TEST(ReadAhead, an_error_comes_after_the_frames_before_it) {
  const Sample sample(5000, 2000);
  Result<Reader> reader = read_ahead(memory_file(sample.bytes));
  ASSERT_TRUE(reader);
  std::vector<Expected> frames;
  Record record;
  for (uint32_t i = 0; i < 100; ++i) {
    ASSERT_EQ(reader->next(record), Status::kRecord);
    frames.push_back(copy_of(record));
  }
  // From now on its descriptor cannot be read.
  const Fd closed(::open("/dev/null", O_WRONLY | O_CLOEXEC));
  ASSERT_EQ(::dup3(closed.get(), reader->fd(), O_CLOEXEC), reader->fd());
  Status last;
  for (Expected& frame : read_all(*reader, last)) frames.push_back(std::move(frame));
  EXPECT_LT(frames.size(), sample.frames.size());
  EXPECT_TRUE(std::equal(frames.begin(), frames.end(), sample.frames.begin()));
  EXPECT_EQ(last, Status::kError);
  EXPECT_TRUE(reader->error().text.starts_with("cannot read F at byte ")) << reader->error().text;
  EXPECT_EQ(reader->next(record), Status::kError);
}

}  // namespace
}  // namespace ringcap::pcapfile::test

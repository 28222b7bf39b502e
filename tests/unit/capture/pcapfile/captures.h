// The frames that tests/data/make_captures.py puts into every file, and files of a test's own.
#pragma once

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "capture/base/fd.h"
#include "capture/pcapfile/reader.h"

namespace ringcap::pcapfile::test {

struct Expected {
  uint64_t timestamp_ns;
  uint32_t length;
  std::vector<std::byte> data;
  bool operator==(const Expected&) const = default;
};

inline Expected expected_frame(uint32_t index) {
  constexpr uint32_t kLengths[] = {60, 61, 1514, 64, 9014};
  constexpr uint32_t kCaptured[] = {60, 61, 96, 64, 128};
  Expected frame{1'700'000'000'123'456'789 + index * uint64_t{1'000'001'002}, kLengths[index], {}};
  for (uint32_t j = 0; j < kCaptured[index]; ++j)
    frame.data.push_back(static_cast<std::byte>((17 * index + j) % 256));
  return frame;
}

inline std::vector<Expected> expected_frames() {
  std::vector<Expected> frames;
  for (uint32_t i = 0; i < 5; ++i) frames.push_back(expected_frame(i));
  return frames;
}

inline std::string capture(const std::string& name) { return RINGCAP_TEST_DATA "/captures/" + name; }

inline std::string content(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  EXPECT_TRUE(file) << path;
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

// A file in memory with this content, to be read from its start.
inline Fd memory_file(const std::string& bytes) {
  Fd fd(::memfd_create("capture", MFD_CLOEXEC));
  EXPECT_EQ(::pwrite(fd.get(), bytes.data(), bytes.size(), 0), static_cast<ssize_t>(bytes.size()));
  return fd;
}

// A folder that is gone with the test.
class Folder {
 public:
  Folder() {
    std::string name = testing::TempDir() + "ringcap-XXXXXX";
    path_ = ::mkdtemp(name.data());
  }
  ~Folder() {
    for (const std::string& file : files_) ::unlink(file.c_str());
    ::rmdir(path_.c_str());
  }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  std::string file(const std::string& name) {
    files_.push_back(path_ + "/" + name);
    return files_.back();
  }

 private:
  std::string path_;
  std::vector<std::string> files_;
};

inline Expected copy_of(const Record& record) {
  return {record.timestamp_ns, record.length, {record.data, record.data + record.captured}};
}

// Everything up to the end, the error or the wait, which `last` tells.
inline std::vector<Expected> read_all(Reader& reader, Reader::Status& last) {
  std::vector<Expected> frames;
  Record record;
  while ((last = reader.next(record)) == Reader::Status::kRecord) frames.push_back(copy_of(record));
  return frames;
}

}  // namespace ringcap::pcapfile::test

// The reader of capture files on any bytes, as a file and through a pipe: frames lie within the file, the
// same ones come again after rewinding and through the pipe, and an end stays an end. Input: the file.
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <optional>

#include "capture/pcapfile/reader.h"

namespace {

using ringcap::Fd;
using ringcap::Result;
using ringcap::pcapfile::Reader;
using ringcap::pcapfile::Record;

constexpr size_t kPipeBytes = 60000;  // what a pipe takes without a reader

void require(bool condition) {
  if (!condition) std::abort();
}

struct Total {
  uint64_t frames = 0;
  uint64_t bytes = 0;
  uint64_t sum = 0;
  bool failed = false;
  bool operator==(const Total&) const = default;
};

void add(const Record& record, Total& total) {
  ++total.frames;
  total.bytes += record.captured;
  total.sum += record.timestamp_ns + record.length + record.interface;
  for (uint32_t i = 0; i < record.captured; ++i)
    total.sum = total.sum * 31 + std::to_integer<uint64_t>(record.data[i]);
}

Total read_all(Reader& reader) {
  Total total;
  Record record;
  Reader::Status status;
  while ((status = reader.next(record)) == Reader::Status::kRecord) {
    require(record.captured <= record.length && record.captured <= ringcap::pcapfile::kMaxCaptured);
    require(record.link_type == reader.link_type());
    add(record, total);
  }
  require(status != Reader::Status::kNotYet && reader.next(record) == status);
  total.failed = status == Reader::Status::kError;
  require(reader.error().text.empty() == !total.failed);
  return total;
}

std::optional<Total> read_file(const uint8_t* data, size_t size, uint32_t& link_type) {
  Fd fd(::memfd_create("fuzz", MFD_CLOEXEC));
  require(::pwrite(fd.get(), data, size, 0) == static_cast<ssize_t>(size));
  Result<Reader> reader = Reader::adopt(std::move(fd), "file", {.block_bytes = 4096});
  if (!reader) return {};
  link_type = reader->link_type();
  const Total total = read_all(*reader);
  constexpr size_t kLeastHeaderBytes = 16;
  require(total.bytes + total.frames * kLeastHeaderBytes <= size);
  if (total.failed) return total;
  require(reader->rewind().has_value());
  require(read_all(*reader) == total);
  return total;
}

std::optional<Total> read_pipe(const uint8_t* data, size_t size, uint32_t& link_type) {
  int ends[2];
  require(::pipe2(ends, O_CLOEXEC) == 0);
  Fd out(ends[1]);
  Fd in(ends[0]);
  require(size == 0 || ::write(out.get(), data, size) == static_cast<ssize_t>(size));
  out.reset();
  Result<Reader> reader = Reader::adopt(std::move(in), "pipe", {.wait = false, .block_bytes = 4096});
  if (!reader) return {};
  link_type = reader->link_type();
  return read_all(*reader);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  uint32_t file_link_type = 0;
  uint32_t pipe_link_type = 0;
  const std::optional<Total> file = read_file(data, size, file_link_type);
  if (size > kPipeBytes) return 0;
  const std::optional<Total> pipe = read_pipe(data, size, pipe_link_type);
  // A file is refused at once where a pipe is only later, and knows more about its link type.
  if (file && pipe && file_link_type == pipe_link_type) require(*file == *pipe);
  return 0;
}

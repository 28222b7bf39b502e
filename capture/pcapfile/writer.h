// Writer: writes a pcap file, in nanoseconds unless told otherwise. `ringcap capture -w` uses it, from one
// thread.
//
// Frames are gathered into a block and written when it is full (kMinBlockBytes at least), so that a frame
// costs a copy and every few hundred frames a system call. Large frames are not copied: they are written from
// where they lie. Hence the one rule of this class:
//
//   the bytes given to append() must stay untouched until flush_references() (or flush(), or close())
//   returns.
//
// So a consumer appends a burst, calls flush_references() once, and gives the burst back. Measured on tmpfs
// (docs/performance.md has the numbers): at 1,500 bytes, out of a cold arena, this reaches 78 % of a bare
// loop of 1 MiB writes where copying reaches 65 %; out of a warm one 94 % against 88 %. Below about 1,000
// bytes copying is faster, because the kernel then waits for one cold frame after the other.
//
// A write that fails (disk full, reader of a pipe gone) is final: append() and the flushes say false from
// then on, and error() says why. The process must ignore SIGPIPE, or that signal ends it before EPIPE does.
// If the process dies, what was not flushed is lost and the file may end within a frame: readers give
// what comes before the cut.
#pragma once

#include <sys/uio.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "capture/base/error.h"
#include "capture/base/fd.h"
#include "capture/pcapfile/format.h"

namespace ringcap::pcapfile {

inline constexpr size_t kSmallestBlockBytes = 256 << 10;

struct WriterOptions {
  bool microseconds = false;        // for old readers
  uint32_t snaplen = kMaxCaptured;  // frames are cut to it; 0 or more than kMaxCaptured: kMaxCaptured
  uint32_t link_type = 1;           // LINKTYPE_ value
  bool force = false;               // overwrite a file that exists
  // Bytes gathered before they are written; at least kSmallestBlockBytes, which is also the fastest: a block
  // of that size is still in the second-level cache when the kernel reads it.
  size_t block_bytes = kSmallestBlockBytes;
  uint32_t reference_bytes = 1024;  // frames of this size and more are not copied; 0: all are
};

class Writer {
 public:
  // Makes the file (mode 0640, less the umask) and puts the file header into the first block. "-": standard
  // output, unless it is a terminal. A regular file that exists is refused without `force`; a device like
  // /dev/null or a named pipe is simply written to, a block device only with `force`.
  static Result<std::unique_ptr<Writer>> create(const std::string& path, const WriterOptions& options = {});
  // The same on a descriptor that is open already; `name` is for messages.
  static std::unique_ptr<Writer> adopt(Fd fd, std::string name, const WriterOptions& options = {});

  Writer(const Writer&) = delete;
  Writer& operator=(const Writer&) = delete;
  // Flushes what is left, without telling whether that worked: call close() to know.
  ~Writer();

  // One frame: when it was received (ns since the epoch), its length on the wire, its first bytes. False:
  // writing failed, now or earlier.
  bool append(uint64_t timestamp_ns, uint32_t length, std::span<const std::byte> captured) {
    const size_t bytes = std::min<size_t>(captured.size(), snaplen_);
    if (bytes >= reference_bytes_) return append_reference(timestamp_ns, length, captured.first(bytes));
    if (static_cast<size_t>(limit_ - at_) < kFrameHeaderBytes + bytes && !make_room()) return false;
    put_header(timestamp_ns, length, static_cast<uint32_t>(bytes));
    if (bytes > 0) std::memcpy(at_, captured.data(), bytes);
    at_ += bytes;
    return true;
  }
  // After it, no frame's bytes are referred to any more. Writes only if some are.
  bool flush_references() { return pieces_.empty() ? !error_ : write_out(); }
  // Writes everything.
  bool flush() { return write_out(); }
  // Writes everything and closes the file.
  Result<void> close();

  // Why writing failed; nothing if it did not.
  const std::optional<Error>& error() const { return error_; }
  const std::string& name() const { return name_; }
  uint64_t written_bytes() const { return written_bytes_; }

 private:
  Writer(Fd fd, std::string name, const WriterOptions& options);
  void put_file_header(const WriterOptions& options);
  bool append_reference(uint64_t timestamp_ns, uint32_t length, std::span<const std::byte> captured);
  bool make_room();
  bool write_out();
  bool write_pieces();
  bool wait_writable();
  bool fail_write(int number);

  void put_header(uint64_t timestamp_ns, uint32_t length, uint32_t captured) {
    const auto fraction = static_cast<uint32_t>(timestamp_ns % 1'000'000'000);
    const uint32_t header[4] = {static_cast<uint32_t>(timestamp_ns / 1'000'000'000),
                                microseconds_ ? fraction / 1000 : fraction, captured, length};
    static_assert(sizeof(header) == kFrameHeaderBytes);
    std::memcpy(at_, header, sizeof(header));
    at_ += sizeof(header);
  }

  Fd fd_;
  std::string name_;
  bool microseconds_;
  size_t snaplen_;
  size_t reference_bytes_;
  std::unique_ptr<std::byte[]> block_;
  std::byte* limit_;  // end of the block; at_ after a failure, so that append() needs no test of its own
  std::byte* at_;     // next free byte of the block
  std::byte* run_;    // first byte of the block that no piece covers yet
  std::vector<iovec> pieces_;    // block runs and frames, in the file's order
  size_t referenced_bytes_ = 0;  // of frames in pieces_
  uint64_t written_bytes_ = 0;
  std::optional<Error> error_;
};

}  // namespace ringcap::pcapfile

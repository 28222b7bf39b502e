// Reader: reads the frames of a pcap or pcapng file, of a pipe, or of standard input. One thread. Every byte
// of the file is input from a stranger: lengths are checked before they are used, nothing is allocated by
// them, nothing is read beyond what was read in. ReaderOptions::read_ahead adds a thread that reads blocks
// (read_ahead.h); it never looks at them.
//
// pcap: both byte orders, micro- and nanoseconds. pcapng: both byte orders, several sections and interfaces,
// enhanced, simple and obsolete packet blocks, any timestamp resolution and offset; blocks and options of
// other kinds are skipped. All frames of a file must have one link type. A file that is cut gives everything
// before the cut, then the error.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "capture/base/error.h"
#include "capture/base/fd.h"
#include "capture/pcapfile/format.h"
#include "capture/pcapfile/input.h"

namespace ringcap::pcapfile {

struct Record {
  const std::byte* data = nullptr;  // valid until the next call of next()
  uint32_t captured = 0;            // bytes at data; at most `length` and kMaxCaptured
  uint32_t length = 0;              // on the wire
  uint64_t timestamp_ns = 0;        // since the epoch; of a simple packet block: that of the frame before it
  uint32_t interface = 0;           // index within its pcapng section; 0 in pcap
  uint32_t link_type = 0;           // LINKTYPE_ value, the same for all frames of a file
};

struct ReaderOptions {
  bool wait = true;                // for a pipe's data; else next() says kNotYet
  size_t block_bytes = 256 << 10;  // of one read(), at least 4096; more is no faster
  bool read_ahead = false;  // a regular file is read by a helper thread, too: for who reads at full speed
};

class Reader {
 public:
  enum class Status {
    kRecord,
    kNotYet,  // a pipe has no more for now; only without ReaderOptions::wait
    kEnd,
    kError,  // error() says what
  };

  // Opens the file and reads up to its first frame (of a pipe: up to what tells its link type), waiting for
  // that if need be. "-": standard input, unless it is a terminal.
  static Result<Reader> open(const std::string& path, const ReaderOptions& options = {});
  // The same on a descriptor that is open already; `name` is for messages.
  static Result<Reader> adopt(Fd fd, std::string name, const ReaderOptions& options = {});

  // The next frame. Once it said kEnd or kError it says so again.
  Status next(Record& record) {
    if (format_ == Format::kPcap && input_.available() >= kFrameHeaderBytes) [[likely]] {
      const std::byte* const header = input_.data();
      const uint32_t captured = word(header + 8);
      if (captured <= kMaxCaptured && input_.available() - kFrameHeaderBytes >= captured) [[likely]] {
        take_pcap(record, header, captured, word(header + 12));
        return Status::kRecord;
      }
    }
    return next_slowly(record);
  }

  // Goes back to the first frame. Not for pipes.
  Result<void> rewind();

  // LINKTYPE_ value of the frames. A file without any: of its first interface, or Ethernet.
  uint32_t link_type() const { return link_type_; }
  bool seekable() const { return input_.seekable(); }
  // What is read, to wait on for a pipe.
  int fd() const { return input_.fd(); }
  // The block that the last record lies in (Input): who shares it may keep records beyond the next call.
  const Input& input() const { return input_; }
  const Error& error() const { return error_; }
  const std::string& name() const { return name_; }

 private:
  // kOldPcap: up to version 2.3, where the two lengths of a frame are the other way round in some files.
  enum class Format : uint8_t { kPcap, kOldPcap, kPcapng, kEnded, kFailed };

  // ns = (ticks * multiplier / divisor >> shift) + offset_s seconds
  struct Interface {
    uint32_t link_type = 1;
    uint32_t snaplen = 0;  // 0: not limited
    uint64_t multiplier = 1000;
    uint64_t divisor = 1;
    uint32_t shift = 0;
    int64_t offset_s = 0;
  };
  struct Block {
    uint32_t type = 0;
    uint32_t bytes = 0;  // with header and trailer
  };

  Reader(Fd fd, const ReaderOptions& options, std::string name)
      : input_(std::move(fd), options.block_bytes, options.read_ahead), name_(std::move(name)) {}
  Result<void> start();
  Status start_pcap();
  Status start_pcapng();
  Status refuse_magic(uint32_t magic);

  Status next_slowly(Record& record);
  Status next_pcap(Record& record);
  Status next_pcapng(Record& record);
  Status find_packet(Block& block, bool stop_at_interface = false);
  Status peek_block(Block& block);
  Status take_other_block(const Block& block);
  Status take_section(const Block& block);
  Status take_interface(const Block& block);
  Status take_options(Interface& interface, const std::byte* option, const std::byte* end);
  Status take_packet(const Block& block, Record& record);
  Status take_simple_packet(const Block& block, Record& record);
  Status take_frame(const Block& block, size_t header_bytes, Record& record);
  Status check_interface(uint32_t index);
  void leave_block(const Block& block, size_t taken_bytes);
  Status finish_block();

  Status need(size_t bytes, std::string_view what);
  Status damaged(std::string what, std::string mend = {});
  Status failed(Error error);

  uint32_t word(const std::byte* p) const {
    uint32_t value;
    std::memcpy(&value, p, sizeof(value));
    return swapped_ ? std::byteswap(value) : value;
  }
  uint16_t half(const std::byte* p) const {
    uint16_t value;
    std::memcpy(&value, p, sizeof(value));
    return swapped_ ? std::byteswap(value) : value;
  }
  // The frame at `header`, all of it there.
  void take_pcap(Record& record, const std::byte* header, uint32_t captured, uint32_t length) {
    record.data = header + kFrameHeaderBytes;
    record.captured = captured;
    record.length = length < captured ? captured : length;
    record.timestamp_ns = uint64_t{word(header)} * 1'000'000'000 + uint64_t{word(header + 4)} * fraction_ns_;
    record.interface = 0;
    record.link_type = link_type_;
    input_.drop(kFrameHeaderBytes + captured);
  }

  Input input_;
  std::string name_;
  Format format_ = Format::kPcap;
  bool swapped_ = false;      // the file, or this section of it, has the other byte order
  uint32_t fraction_ns_ = 1;  // pcap: of a timestamp's second half
  uint32_t link_type_ = 1;
  std::vector<Interface> interfaces_;  // of this pcapng section
  uint64_t last_timestamp_ns_ = 0;
  uint64_t skip_bytes_ = 0;     // pcapng: of the block before, still to be skipped, trailer included
  uint32_t trailer_bytes_ = 0;  // what that trailer must say
  Error error_;
};

}  // namespace ringcap::pcapfile

#include "capture/pcapfile/writer.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

namespace ringcap::pcapfile {
namespace {

constexpr size_t kMaxPieces = 1024;              // IOV_MAX
constexpr size_t kMaxReferencedBytes = 4 << 20;  // written at the latest when so much is referred to

Result<Fd> open_standard_output() {
  if (::isatty(STDOUT_FILENO))
    return fail(Code::kUsage, "standard output is a terminal: frames are not written to it",
                "give a file (-w FILE) or a pipe (-w - | PROGRAM)");
  Fd fd(::fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 0));
  if (!fd) return fail_system("cannot write to standard output");
  return fd;
}

// What exists at `path` already and is no regular file: a device, a pipe.
Result<Fd> open_existing(const std::string& path, bool force) {
  struct stat status{};
  if (::stat(path.c_str(), &status) == 0 && S_ISREG(status.st_mode))
    return fail(Code::kUsage, fmt::format("{} exists already", path), "give --force to overwrite it");
  if (S_ISBLK(status.st_mode) && !force)
    return fail(Code::kUsage, fmt::format("{} is a block device", path), "give --force to overwrite it");
  Fd fd(::open(path.c_str(), O_WRONLY | O_CLOEXEC | O_NOCTTY));
  if (!fd) return fail_system(fmt::format("cannot open {} for writing", path));
  return fd;
}

Result<Fd> open_output(const std::string& path, bool force) {
  if (path == "-") return open_standard_output();
  const int how = O_WRONLY | O_CREAT | O_CLOEXEC | O_NOCTTY | (force ? O_TRUNC : O_EXCL);
  Fd fd(::open(path.c_str(), how, 0640));
  if (fd) return fd;
  if (errno == EEXIST) return open_existing(path, force);
  return fail_system(fmt::format("cannot make {}", path));
}

}  // namespace

Result<std::unique_ptr<Writer>> Writer::create(const std::string& path, const WriterOptions& options) {
  Result<Fd> fd = open_output(path, options.force);
  if (!fd) return std::unexpected(std::move(fd.error()));
  return adopt(std::move(*fd), path == "-" ? "standard output" : path, options);
}

std::unique_ptr<Writer> Writer::adopt(Fd fd, std::string name, const WriterOptions& options) {
  return std::unique_ptr<Writer>(new Writer(std::move(fd), std::move(name), options));
}

Writer::Writer(Fd fd, std::string name, const WriterOptions& options)
    : fd_(std::move(fd)),
      name_(std::move(name)),
      microseconds_(options.microseconds),
      snaplen_(options.snaplen == 0 ? kMaxCaptured : std::min(options.snaplen, kMaxCaptured)),
      reference_bytes_(options.reference_bytes == 0 ? SIZE_MAX : options.reference_bytes) {
  const size_t bytes = std::max({options.block_bytes, kSmallestBlockBytes, snaplen_ + kFrameHeaderBytes});
  block_.reset(new std::byte[bytes]);
  at_ = run_ = block_.get();
  limit_ = block_.get() + bytes;
  pieces_.reserve(kMaxPieces);
  put_file_header(options);
}

Writer::~Writer() { write_out(); }

void Writer::put_file_header(const WriterOptions& options) {
  struct {
    uint32_t magic;
    uint16_t major, minor;
    uint32_t zone, accuracy;  // both always 0
    uint32_t snaplen, link_type;
  } const header{microseconds_ ? kMagicMicro : kMagicNano, kVersionMajor,    kVersionMinor, 0, 0,
                 static_cast<uint32_t>(snaplen_),          options.link_type};
  static_assert(sizeof(header) == kFileHeaderBytes);
  std::memcpy(at_, &header, sizeof(header));
  at_ += sizeof(header);
}

bool Writer::append_reference(uint64_t timestamp_ns, uint32_t length, std::span<const std::byte> captured) {
  // Two pieces for this frame and one for what may follow it.
  const bool room = pieces_.size() + 3 <= kMaxPieces && referenced_bytes_ < kMaxReferencedBytes &&
                    static_cast<size_t>(limit_ - at_) >= kFrameHeaderBytes;
  if (!room && !make_room()) return false;
  put_header(timestamp_ns, length, static_cast<uint32_t>(captured.size()));
  pieces_.push_back({run_, static_cast<size_t>(at_ - run_)});
  pieces_.push_back({const_cast<std::byte*>(captured.data()), captured.size()});
  run_ = at_;
  referenced_bytes_ += captured.size();
  return true;
}

bool Writer::make_room() { return write_out(); }

// Writes the pieces and what follows them in the block; the block is empty after it.
bool Writer::write_out() {
  if (error_ || !fd_) return false;
  if (at_ > run_) pieces_.push_back({run_, static_cast<size_t>(at_ - run_)});
  const bool written = write_pieces();
  pieces_.clear();
  referenced_bytes_ = 0;
  at_ = run_ = block_.get();
  if (!written) limit_ = at_;
  return written;
}

bool Writer::write_pieces() {
  iovec* piece = pieces_.data();
  iovec* const end = piece + pieces_.size();
  while (piece < end) {
    const ssize_t count = ::writev(fd_.get(), piece, static_cast<int>(end - piece));
    if (count < 0) {
      if (errno == EINTR || (errno == EAGAIN && wait_writable())) continue;
      return fail_write(errno);
    }
    auto left = static_cast<size_t>(count);
    written_bytes_ += left;
    while (piece < end && left >= piece->iov_len) left -= (piece++)->iov_len;
    if (left > 0) *piece = {static_cast<std::byte*>(piece->iov_base) + left, piece->iov_len - left};
  }
  return true;
}

// Somebody gave us a descriptor that does not block.
bool Writer::wait_writable() {
  pollfd poll_fd{fd_.get(), POLLOUT, 0};
  while (::poll(&poll_fd, 1, -1) < 0)
    if (errno != EINTR) return false;
  return true;
}

bool Writer::fail_write(int number) {
  std::string mend;
  if (number == ENOSPC || number == EDQUOT) mend = "make room there, or write to another file system";
  if (number == EFBIG) mend = "raise the limit (ulimit -f), or write to another file system";
  if (number == EPIPE) mend = "the program that read it has ended";
  error_ = fail_system(fmt::format("cannot write to {} after {} bytes", name_, written_bytes_), number,
                       std::move(mend))
               .error();
  return false;
}

Result<void> Writer::close() {
  write_out();
  if (error_) return std::unexpected(*error_);
  const int fd = fd_.release();
  // After EINTR the descriptor is closed all the same (man 2 close).
  if (fd >= 0 && ::close(fd) != 0 && errno != EINTR)
    return fail_system(fmt::format("cannot finish writing {}", name_));
  return {};
}

}  // namespace ringcap::pcapfile

#include "capture/pcapfile/reader.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <bit>

namespace ringcap::pcapfile {
namespace {

Result<Fd> open_input(const std::string& path) {
  if (path == "-") {
    if (::isatty(STDIN_FILENO))
      return fail(Code::kUsage, "standard input is a terminal: no frames come from there",
                  "give a file, or a pipe (PROGRAM | ...)");
    Fd fd(::fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 0));
    if (!fd) return fail_system("cannot read standard input");
    return fd;
  }
  Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY));
  if (fd) return fd;
  if (errno == ENOENT) return fail(Code::kNotFound, fmt::format("there is no file {}", path));
  return fail_system(fmt::format("cannot open {}", path));
}

bool is_packet(uint32_t type) {
  return type == kEnhancedPacket || type == kSimplePacket || type == kObsoletePacket;
}

uint32_t smallest_block(uint32_t type) {
  switch (type) {
    case kSectionHeader:
      return kMinSectionBytes;
    case kInterfaceDescription:
      return kMinInterfaceBytes;
    case kSimplePacket:
      return kMinSimplePacketBytes;
    case kEnhancedPacket:
    case kObsoletePacket:
      return kMinPacketBytes;
    default:
      return kMinBlockBytes;
  }
}

const char* block_name(uint32_t type) {
  switch (type) {
    case kSectionHeader:
      return "section header";
    case kInterfaceDescription:
      return "interface description";
    case kSimplePacket:
      return "simple packet";
    case kEnhancedPacket:
      return "enhanced packet";
    case kObsoletePacket:
      return "obsolete packet";
    default:
      return "other";
  }
}

// What unpacks a file that begins with these bytes; nullptr: not known.
const char* unpacker(const std::byte* magic) {
  const auto is = [magic](uint8_t a, uint8_t b) {
    return magic[0] == std::byte{a} && magic[1] == std::byte{b};
  };
  if (is(0x1f, 0x8b)) return "zcat";
  if (is(0xfd, 0x37)) return "xzcat";
  if (is(0x42, 0x5a)) return "bzcat";
  if (is(0x28, 0xb5)) return "zstdcat";
  if (is(0x04, 0x22)) return "lz4cat";
  return nullptr;
}

uint64_t power_of_10(unsigned exponent) {
  uint64_t power = 1;
  while (exponent-- > 0) power *= 10;
  return power;
}

}  // namespace

// ---- opening -------------------------------------------------------------------------------------

Result<Reader> Reader::open(const std::string& path, const ReaderOptions& options) {
  Result<Fd> fd = open_input(path);
  if (!fd) return std::unexpected(std::move(fd.error()));
  return adopt(std::move(*fd), path == "-" ? "standard input" : path, options);
}

Result<Reader> Reader::adopt(Fd fd, std::string name, const ReaderOptions& options) {
  Reader reader(std::move(fd), options, std::move(name));
  if (Result<void> started = reader.start(); !started) return std::unexpected(std::move(started.error()));
  reader.input_.wait(options.wait);
  return reader;
}

Result<void> Reader::rewind() {
  if (!seekable())
    return fail(Code::kUsage, fmt::format("{} is a pipe: it cannot be read a second time", name_));
  if (Result<void> done = input_.rewind(); !done) return context(name_, std::move(done.error()));
  swapped_ = false;
  skip_bytes_ = 0;
  last_timestamp_ns_ = 0;
  interfaces_.clear();
  return start();
}

Result<void> Reader::start() {
  Status status = need(sizeof(uint32_t), "its file header");
  if (status == Status::kRecord) {
    uint32_t magic;
    std::memcpy(&magic, input_.data(), sizeof(magic));
    swapped_ = magic == std::byteswap(kMagicMicro) || magic == std::byteswap(kMagicNano) ||
               magic == std::byteswap(kMagicModified);
    magic = word(input_.data());
    if (magic == kSectionHeader)
      status = start_pcapng();
    else if (magic == kMagicMicro || magic == kMagicNano)
      status = start_pcap();
    else
      status = refuse_magic(magic);
  }
  if (status == Status::kError) return std::unexpected(error_);
  return {};
}

Reader::Status Reader::refuse_magic(uint32_t magic) {
  if (magic == kMagicModified)
    return failed(
        {Code::kUsage,
         fmt::format("{} has the modified pcap format of an old patched libpcap (magic a1b2cd34)", name_),
         fmt::format("convert it: editcap -F pcap {} NEW", name_)});
  if (const char* program = unpacker(input_.data()))
    return failed({Code::kUsage, fmt::format("{} is compressed", name_),
                   fmt::format("unpack it first: {} {} > NEW", program, name_)});
  return failed({Code::kUsage,
                 fmt::format("{} is neither a pcap nor a pcapng file: it begins with {:08x}", name_,
                             std::byteswap(magic)),
                 {}});
}

Reader::Status Reader::start_pcap() {
  if (const Status status = need(kFileHeaderBytes, "its file header"); status != Status::kRecord)
    return status;
  const std::byte* const header = input_.data();
  const uint16_t major = half(header + 4);
  const uint16_t minor = half(header + 6);
  if (major != kVersionMajor || minor > kVersionMinor)
    return failed(
        {Code::kUsage,
         fmt::format("{} is of pcap version {}.{}: versions 2.0 to 2.4 can be read", name_, major, minor),
         {}});
  format_ = minor == kVersionMinor ? Format::kPcap : Format::kOldPcap;
  fraction_ns_ = word(header) == kMagicNano ? 1 : 1000;
  link_type_ = word(header + 20) & kLinkTypeMask;
  input_.drop(kFileHeaderBytes);
  return Status::kRecord;
}

// The link type is that of the first frame; a pipe may not have that yet: there, of the first interface.
Reader::Status Reader::start_pcapng() {
  format_ = Format::kPcapng;
  link_type_ = 1;
  Block block;
  const Status status = find_packet(block, !seekable());
  if (!interfaces_.empty()) link_type_ = interfaces_[0].link_type;
  if (status != Status::kRecord || !seekable() || block.type == kSimplePacket) return status;
  if (const Status there = need(kPacketHeaderBytes, "a frame's header"); there != Status::kRecord)
    return there;
  const std::byte* const id = input_.data() + kBlockHeaderBytes;
  const uint32_t index = block.type == kEnhancedPacket ? word(id) : half(id);
  if (index < interfaces_.size()) link_type_ = interfaces_[index].link_type;
  return status;
}

// ---- pcap ----------------------------------------------------------------------------------------

Reader::Status Reader::next_slowly(Record& record) {
  switch (format_) {
    case Format::kPcap:
    case Format::kOldPcap:
      return next_pcap(record);
    case Format::kPcapng:
      return next_pcapng(record);
    case Format::kEnded:
      return Status::kEnd;
    case Format::kFailed:
      break;
  }
  return Status::kError;
}

Reader::Status Reader::next_pcap(Record& record) {
  if (const Status status = need(kFrameHeaderBytes, "a frame's header"); status != Status::kRecord)
    return status;
  uint32_t captured = word(input_.data() + 8);
  uint32_t length = word(input_.data() + 12);
  if (format_ == Format::kOldPcap && captured > length) std::swap(captured, length);
  if (captured > kMaxCaptured)
    return damaged(
        fmt::format("a frame with {} bytes captured, where {} are the most", captured, kMaxCaptured));
  if (const Status status = need(kFrameHeaderBytes + captured, "a frame"); status != Status::kRecord)
    return status;
  take_pcap(record, input_.data(), captured, length);
  return Status::kRecord;
}

// ---- pcapng --------------------------------------------------------------------------------------

Reader::Status Reader::next_pcapng(Record& record) {
  Block block;
  if (const Status status = find_packet(block); status != Status::kRecord) return status;
  return block.type == kSimplePacket ? take_simple_packet(block, record) : take_packet(block, record);
}

// Takes blocks up to the next packet block, which stays where it is; or up to the first interface.
Reader::Status Reader::find_packet(Block& block, bool stop_at_interface) {
  for (;;) {
    if (skip_bytes_ > 0)
      if (const Status status = finish_block(); status != Status::kRecord) return status;
    if (stop_at_interface && !interfaces_.empty()) return Status::kRecord;
    if (const Status status = peek_block(block); status != Status::kRecord) return status;
    if (is_packet(block.type)) return Status::kRecord;
    if (const Status status = take_other_block(block); status != Status::kRecord) return status;
  }
}

// Type and length of the block that begins here; a section header's also says the byte order.
Reader::Status Reader::peek_block(Block& block) {
  if (const Status status = need(kBlockHeaderBytes, "a block's header"); status != Status::kRecord)
    return status;
  block.type = word(input_.data());
  if (block.type == kSectionHeader) {
    if (const Status status = need(kMinSectionBytes, "a section header"); status != Status::kRecord)
      return status;
    uint32_t order;
    std::memcpy(&order, input_.data() + kBlockHeaderBytes, sizeof(order));
    if (order != kByteOrderMagic && order != std::byteswap(kByteOrderMagic))
      return damaged(fmt::format("a section header whose byte-order magic is {:08x}", order));
    swapped_ = order != kByteOrderMagic;
  }
  block.bytes = word(input_.data() + 4);
  if (block.bytes < smallest_block(block.type) || block.bytes % 4 != 0)
    return damaged(
        fmt::format("a block of type {:#x} ({}) with the length {}, where at least {} and a multiple of 4 "
                    "are needed",
                    block.type, block_name(block.type), block.bytes, smallest_block(block.type)));
  return Status::kRecord;
}

Reader::Status Reader::take_other_block(const Block& block) {
  if (block.type == kSectionHeader) return take_section(block);
  if (block.type == kInterfaceDescription) return take_interface(block);
  leave_block(block, kBlockHeaderBytes);
  return Status::kRecord;
}

Reader::Status Reader::take_section(const Block& block) {
  const uint16_t major = half(input_.data() + 12);
  if (major != 1)
    return failed({Code::kUsage,
                   fmt::format("{} has a section of pcapng version {}.{} at byte {}: version 1 can be read",
                               name_, major, half(input_.data() + 14), input_.position()),
                   {}});
  interfaces_.clear();
  leave_block(block, 24);
  return Status::kRecord;
}

Reader::Status Reader::take_interface(const Block& block) {
  if (block.bytes > Input::kMaxNeedBytes || interfaces_.size() >= kMaxInterfaces)
    return damaged(fmt::format("interface description {} of its section, with {} bytes",
                               interfaces_.size() + 1, block.bytes));
  if (const Status status = need(block.bytes, "an interface description"); status != Status::kRecord)
    return status;
  const std::byte* const data = input_.data();
  Interface interface{.link_type = half(data + 8), .snaplen = word(data + 12)};
  const std::byte* const end = data + block.bytes - kBlockTrailerBytes;
  if (const Status status = take_options(interface, data + 16, end); status != Status::kRecord) return status;
  interfaces_.push_back(interface);
  leave_block(block, block.bytes - kBlockTrailerBytes);
  return Status::kRecord;
}

Reader::Status Reader::take_options(Interface& interface, const std::byte* option, const std::byte* end) {
  while (end - option >= 4) {
    const uint16_t code = half(option);
    const uint16_t bytes = half(option + 2);
    const std::byte* const value = option + 4;
    if (code == 0) break;
    if (end - value < bytes)
      return damaged(fmt::format("an interface description whose option {} says {} bytes, where {} are left",
                                 code, bytes, end - value));
    if (code == kOptionTimestampResolution && bytes == 1) {
      const auto resolution = std::to_integer<uint8_t>(*value);
      const unsigned exponent = resolution & 0x7f;
      const bool binary = (resolution & 0x80) != 0;
      interface.shift = binary ? exponent : 0;
      interface.multiplier = binary          ? 1'000'000'000
                             : exponent <= 9 ? power_of_10(9 - exponent)
                                             : exponent <= 28;
      interface.divisor = !binary && exponent > 9 && exponent <= 28 ? power_of_10(exponent - 9) : 1;
    }
    if (code == kOptionTimestampOffset && bytes == 8) {
      uint64_t seconds;
      std::memcpy(&seconds, value, sizeof(seconds));
      interface.offset_s = std::bit_cast<int64_t>(swapped_ ? std::byteswap(seconds) : seconds);
    }
    option = value + std::min<ptrdiff_t>((bytes + 3) & ~3, end - value);
  }
  return Status::kRecord;
}

namespace {

__extension__ using Int128 = __int128;

// 0 and the largest value stand for what does not fit.
uint64_t clamp_ns(Int128 ns) {
  if (ns < 0) return 0;
  return ns > Int128{UINT64_MAX} ? UINT64_MAX : static_cast<uint64_t>(ns);
}

}  // namespace

Reader::Status Reader::take_packet(const Block& block, Record& record) {
  if (const Status status = need(kPacketHeaderBytes, "a frame's header"); status != Status::kRecord)
    return status;
  const std::byte* const header = input_.data();
  record.interface = block.type == kEnhancedPacket ? word(header + 8) : half(header + 8);
  if (const Status status = check_interface(record.interface); status != Status::kRecord) return status;
  record.captured = word(header + 20);
  record.length = std::max(word(header + 24), record.captured);
  if (record.captured > kMaxCaptured || record.captured > block.bytes - kMinPacketBytes)
    return damaged(fmt::format("a frame with {} bytes captured in a block of {} bytes, where {} are the most",
                               record.captured, block.bytes, kMaxCaptured));
  const uint64_t ticks = uint64_t{word(header + 12)} << 32 | word(header + 16);
  const Interface& interface = interfaces_[record.interface];
  Int128 ns = Int128{ticks} * interface.multiplier;
  if (interface.divisor != 1) ns /= interface.divisor;
  record.timestamp_ns = clamp_ns((ns >> interface.shift) + Int128{interface.offset_s} * 1'000'000'000);
  return take_frame(block, kPacketHeaderBytes, record);
}

// It has neither interface nor timestamp: the section's first, and that of the frame before.
Reader::Status Reader::take_simple_packet(const Block& block, Record& record) {
  if (const Status status = need(kSimplePacketHeaderBytes, "a frame's header"); status != Status::kRecord)
    return status;
  if (const Status status = check_interface(0); status != Status::kRecord) return status;
  record.interface = 0;
  record.length = word(input_.data() + 8);
  record.captured = std::min(record.length, block.bytes - kMinSimplePacketBytes);
  if (interfaces_[0].snaplen > 0) record.captured = std::min(record.captured, interfaces_[0].snaplen);
  if (record.captured > kMaxCaptured)
    return damaged(fmt::format("a frame of {} bytes, where {} are the most", record.captured, kMaxCaptured));
  record.timestamp_ns = last_timestamp_ns_;
  return take_frame(block, kSimplePacketHeaderBytes, record);
}

Reader::Status Reader::check_interface(uint32_t index) {
  if (index >= interfaces_.size())
    return damaged(fmt::format("a frame of interface {}, where its section has described {}", index,
                               interfaces_.size()));
  const uint32_t link_type = interfaces_[index].link_type;
  if (link_type == link_type_) return Status::kRecord;
  return failed(
      {Code::kUsage,
       fmt::format("{} mixes link types: the frame at byte {} has {}, those before it {}", name_,
                   input_.position(), link_type_text(link_type), link_type_text(link_type_)),
       fmt::format("take one interface out of it: tshark -r {} -Y 'frame.interface_id == 0' -w NEW", name_)});
}

Reader::Status Reader::take_frame(const Block& block, size_t header_bytes, Record& record) {
  const size_t bytes = header_bytes + record.captured;
  if (const Status status = need(bytes, "a frame"); status != Status::kRecord) return status;
  record.data = input_.data() + header_bytes;
  record.link_type = link_type_;
  last_timestamp_ns_ = record.timestamp_ns;
  leave_block(block, bytes);
  return Status::kRecord;
}

// The rest of the block is skipped at the next call: until then a frame in it stays where it is.
void Reader::leave_block(const Block& block, size_t taken_bytes) {
  input_.drop(taken_bytes);
  skip_bytes_ = block.bytes - taken_bytes;
  trailer_bytes_ = block.bytes;
}

Reader::Status Reader::finish_block() {
  while (skip_bytes_ > kBlockTrailerBytes) {
    if (const Status status = need(1, "the rest of a block"); status != Status::kRecord) return status;
    const uint64_t bytes = std::min<uint64_t>(input_.available(), skip_bytes_ - kBlockTrailerBytes);
    input_.drop(bytes);
    skip_bytes_ -= bytes;
  }
  if (const Status status = need(kBlockTrailerBytes, "a block's end"); status != Status::kRecord)
    return status;
  if (const uint32_t bytes = word(input_.data()); bytes != trailer_bytes_)
    return damaged(fmt::format("the end of a block, whose length is {} there and {} at its start", bytes,
                               trailer_bytes_));
  input_.drop(kBlockTrailerBytes);
  skip_bytes_ = 0;
  return Status::kRecord;
}

// ---- what can go wrong ---------------------------------------------------------------------------

// The next `bytes` bytes, of `what`. A file may end where a frame or block would begin.
Reader::Status Reader::need(size_t bytes, std::string_view what) {
  switch (input_.need(bytes)) {
    case Input::Need::kThere:
      return Status::kRecord;
    case Input::Need::kNotYet:
      return Status::kNotYet;
    case Input::Need::kFailed:
      return failed(
          fail_system(fmt::format("cannot read {} at byte {}", name_, input_.position() + input_.available()),
                      input_.error_number())
              .error());
    case Input::Need::kShort:
      break;
  }
  const uint64_t position = input_.position();
  const size_t available = input_.available();
  if (available == 0 && skip_bytes_ == 0 && position > 0) {
    format_ = Format::kEnded;
    return Status::kEnd;
  }
  if (position + available == 0) return failed({Code::kUsage, fmt::format("{} is empty", name_), {}});
  return failed({Code::kUsage,
                 fmt::format("{} is cut at byte {}: {} that begins at byte {} needs {} more bytes", name_,
                             position + available, what, position, bytes - available),
                 "everything before it was read"});
}

Reader::Status Reader::damaged(std::string what, std::string mend) {
  return failed({Code::kUsage,
                 fmt::format("{} is damaged at byte {}: it has {}", name_, input_.position(), what),
                 std::move(mend)});
}

Reader::Status Reader::failed(Error error) {
  error_ = std::move(error);
  format_ = Format::kFailed;
  return Status::kError;
}

}  // namespace ringcap::pcapfile

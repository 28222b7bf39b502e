// The frame parser on any bytes: stays within them, agrees with itself between its two ways, and gives
// offsets that lie in the frame. Input: 16 bytes, the hash's key; the rest is the frame.
#include <cstdlib>
#include <cstring>
#include <memory>

#include "capture/frame/parse.h"

namespace {

void require(bool condition) {
  if (!condition) std::abort();
}

void check_result(const ringcap::Frame& frame) {
  require(frame.l3_half == 0 || frame.l3_half * 2U + 20 <= frame.captured);
  require(frame.l4_half == 0 || frame.l4_half * 2U + 4 <= frame.captured);
  require(frame.l4_half == 0 || frame.l4_half > frame.l3_half);
  require(((frame.flags & ringcap::layout::kHashValid) != 0) == (frame.captured >= 14));
}

bool same(const ringcap::Frame& one, const ringcap::Frame& other) {
  return one.hash == other.hash && one.flags == other.flags && one.l3_half == other.l3_half &&
         one.l4_half == other.l4_half;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  constexpr size_t kKeyBytes = 16;
  if (size < kKeyBytes || size > kKeyBytes + 65535) return 0;
  const auto key = ringcap::HashKey::from_bytes(std::as_bytes(std::span(data, size)).first<kKeyBytes>());
  const size_t captured = size - kKeyBytes;
  // A copy of its own, so that the sanitizer sees the first byte read too many.
  const std::unique_ptr<std::byte[]> bytes(new std::byte[captured]);
  std::memcpy(bytes.get(), data + kKeyBytes, captured);

  ringcap::Frame frame;
  frame.data = bytes.get();
  frame.captured = static_cast<uint16_t>(captured);
  frame.length = frame.captured;
  ringcap::Frame general = frame;
  ringcap::parse_burst({&frame, 1}, key);
  ringcap::parse_other(general, key);
  require(same(frame, general));
  check_result(frame);
  return 0;
}

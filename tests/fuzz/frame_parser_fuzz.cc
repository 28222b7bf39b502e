// The frame parser, its fragment table and the kinds of balance on any bytes: they stay within them, agree
// with themselves between their quick and their general ways, and give offsets that lie in the frame.
// Input: 16 bytes, the hash's key; then frames, one after the other, half a second apart: two bytes length,
// low byte first, and the frame; a length of more than is left stands for the rest.
#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <memory>

#include "capture/cluster/balance.h"
#include "capture/frame/parse.h"

namespace {

using ringcap::FragmentTable;
using ringcap::Frame;
using ringcap::HashKey;
using ringcap::cluster::Kind;
using ringcap::cluster::Level;
namespace layout = ringcap::layout;

constexpr Kind kHashed[] = {Kind::kFlow5, Kind::kFlow4, Kind::kFlow2, Kind::kTcp5, Kind::kIp5, Kind::kVlan};
constexpr Level kLevels[] = {Level::kInner, Level::kOuter};
constexpr uint64_t kHalfSecond = 500'000'000;

void require(bool condition) {
  if (!condition) std::abort();
}

void check_result(const Frame& frame) {
  const bool tunnel = (frame.flags & layout::kTunnel) != 0;
  const bool fragment = (frame.flags & layout::kFragment) != 0;
  require(frame.l3_half == 0 || frame.l3_half * 2U + 20 <= frame.captured);
  require(frame.l4_half == 0 || frame.l4_half * 2U + 4 <= frame.captured);
  require(frame.l4_half == 0 || frame.l4_half > frame.l3_half);
  require(((frame.flags & layout::kHashValid) != 0) == (frame.captured >= 14));
  require(fragment || (frame.flags & layout::kFirstFragment) == 0);
  if (!tunnel) require(frame.inner_l3 == 0 && frame.inner_l4 == 0);
  require(frame.inner_l3 == 0 || frame.inner_l3 + 20U <= frame.captured);
  require(frame.inner_l4 == 0 || (frame.inner_l4 > frame.inner_l3 && frame.inner_l4 + 4U <= frame.captured));
}

bool same(const Frame& one, const Frame& other) {
  return one.hash == other.hash && one.flags == other.flags && one.l3_half == other.l3_half &&
         one.l4_half == other.l4_half && one.inner_l3 == other.inner_l3 && one.inner_l4 == other.inner_l4;
}

void check_balance(const Frame& frame, const HashKey& key, const FragmentTable& fragments) {
  using namespace ringcap::cluster;
  // A frame may make the table forget what its own hash came from; then only a walk is what it is now.
  const bool whole = (frame.flags & (layout::kFragment | layout::kTunnel)) == 0;
  for (const Level level : kLevels) {
    for (const Kind kind : kHashed)
      require((kind == Kind::kFlow5 && !whole) ||
              balance_hash(kind, level, frame, key, fragments) ==
                  walked_balance_hash(kind, level, frame, key, fragments));
    const uint32_t flow5 = walked_balance_hash(Kind::kFlow5, level, frame, key, fragments);
    const uint32_t flow2 = walked_balance_hash(Kind::kFlow2, level, frame, key, fragments);
    for (const Kind kind : {Kind::kTcp5, Kind::kIp5}) {
      const uint32_t hash = balance_hash(kind, level, frame, key, fragments);
      require(hash == flow5 || hash == flow2 || !whole);
    }
    ends_hashes(level, frame, key, fragments);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  constexpr size_t kKeyBytes = 16;
  if (size < kKeyBytes) return 0;
  const auto key = HashKey::from_bytes(std::as_bytes(std::span(data, size)).first<kKeyBytes>());
  auto rest = std::span(data, size).subspan(kKeyBytes);
  FragmentTable fragments(8);
  FragmentTable general_fragments(8);
  for (uint64_t now_ns = kHalfSecond; rest.size() >= 2; now_ns += kHalfSecond) {
    const size_t length = std::min<size_t>(rest[0] | rest[1] << 8, rest.size() - 2);
    // A copy of its own, so that the sanitizer sees the first byte read too many.
    const std::unique_ptr<std::byte[]> bytes(new std::byte[length]);
    std::copy_n(reinterpret_cast<const std::byte*>(rest.data()) + 2, length, bytes.get());
    rest = rest.subspan(2 + length);

    Frame frame{.timestamp_ns = now_ns, .captured = static_cast<uint16_t>(length), .data = bytes.get()};
    Frame general = frame;
    ringcap::parse_frame(frame, key, fragments);
    ringcap::parse_other(general, key, general_fragments);
    require(same(frame, general));
    require(fragments.unplaced() == general_fragments.unplaced());
    check_result(frame);
    check_balance(frame, key, fragments);
  }
  return 0;
}

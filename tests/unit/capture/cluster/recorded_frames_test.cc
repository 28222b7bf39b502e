// Every encapsulation, from capture files: tests/data/frames.
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <random>
#include <set>

#include "capture/cluster/balance.h"
#include "capture/frame/parse.h"
#include "tests/unit/capture/frame/frame_builder.h"
#include "tests/unit/capture/frame/frame_files.h"

namespace ringcap {
namespace {

using cluster::Kind;
using cluster::Level;
using test::HeldFrame;
using test::RecordedFile;
using test::RecordedFrame;
using test::Tuple;

constexpr HashKey kKey{0x0123456789abcdef, 0xfedcba9876543210};
constexpr Kind kHashed[] = {Kind::kFlow5, Kind::kFlow4, Kind::kFlow2, Kind::kTcp5, Kind::kIp5, Kind::kVlan};
constexpr Level kLevels[] = {Level::kInner, Level::kOuter};

const std::vector<RecordedFile>& files() {
  static const std::vector<RecordedFile> all = test::read_frame_files();
  return all;
}

// Calls what(file, frame, parsed Frame, table) for every frame, each file with a table of its own.
template <typename What>
void for_each_frame(What what) {
  for (const RecordedFile& file : files()) {
    FragmentTable fragments(64);
    for (const RecordedFrame& recorded : file.frames) {
      HeldFrame held(recorded.bytes);
      parse_frame(held.frame, kKey, fragments);
      what(file, recorded, held.frame, fragments);
    }
    EXPECT_EQ(fragments.unplaced(), 0U) << file.name;
  }
}

std::string about(const RecordedFile& file, const RecordedFrame& frame) {
  return file.name + ", frame " + std::to_string(&frame - file.frames.data() + 1);
}

TEST(RecordedFrames, are_there_for_every_encapsulation) {
  EXPECT_GE(files().size(), 38U);
  size_t frames = 0;
  for (const RecordedFile& file : files()) frames += file.frames.size();
  EXPECT_GT(frames, 1500U);
}

TEST(RecordedFrames, have_the_hash_of_their_innermost_flow) {
  for_each_frame([](const auto& file, const auto& recorded, const Frame& frame, const FragmentTable&) {
    EXPECT_EQ(frame.hash, test::expected_hash(Kind::kFlow5, recorded.inner, 0, kKey))
        << about(file, recorded);
    EXPECT_TRUE(frame.flags & layout::kHashValid);
  });
}

TEST(RecordedFrames, have_the_hash_of_every_kind_at_both_levels) {
  for_each_frame([](const auto& file, const auto& recorded, const Frame& frame, const FragmentTable& table) {
    for (const Level level : kLevels)
      for (const Kind kind : kHashed) {
        const bool inner = level == Level::kInner;
        EXPECT_EQ(cluster::balance_hash(kind, level, frame, kKey, table),
                  test::expected_hash(kind, inner ? recorded.inner : recorded.outer,
                                      inner ? recorded.last_vlan : recorded.first_vlan, kKey))
            << about(file, recorded) << ' ' << kind_name(kind) << ' ' << level_name(level);
      }
  });
}

TEST(RecordedFrames, have_a_hash_for_each_end_at_both_levels) {
  for_each_frame([](const auto& file, const auto& recorded, const Frame& frame, const FragmentTable& table) {
    for (const Level level : kLevels) {
      const Tuple& tuple = level == Level::kInner ? recorded.inner : recorded.outer;
      const auto [source, target] = cluster::ends_hashes(level, frame, kKey, table);
      EXPECT_EQ(source, test::expected_end(tuple, tuple.source, kKey)) << about(file, recorded);
      EXPECT_EQ(target, test::expected_end(tuple, tuple.target, kKey)) << about(file, recorded);
    }
  });
}

// Which does not rest on anybody's idea of the hash: one value for a flow, and as many as there are flows.
TEST(RecordedFrames, of_one_flow_have_one_hash_in_both_directions_and_in_fragments) {
  std::map<std::set<std::string>, std::set<uint32_t>> hashes;  // by the two ends, in no order
  for_each_frame([&](const auto&, const auto& recorded, const Frame& frame, const FragmentTable&) {
    const Tuple& t = recorded.inner;
    const std::string number = ' ' + t.family + ' ' + std::to_string(t.number);
    hashes[{t.source + ' ' + std::to_string(t.source_port) + number,
            t.target + ' ' + std::to_string(t.target_port) + number}]
        .insert(frame.hash);
  });
  std::set<uint32_t> all;
  for (const auto& [flow, values] : hashes) {
    EXPECT_EQ(values.size(), 1U) << *flow.begin();
    all.insert(values.begin(), values.end());
  }
  EXPECT_EQ(all.size(), hashes.size());
}

TEST(RecordedFrames, say_where_their_innermost_headers_are) {
  for_each_frame([](const auto& file, const auto& recorded, const Frame& frame, const FragmentTable&) {
    const bool tunnel = (frame.flags & layout::kTunnel) != 0;
    EXPECT_EQ(tunnel, recorded.tunnel) << about(file, recorded);
    EXPECT_EQ((frame.flags & layout::kFragment) != 0, recorded.fragment) << about(file, recorded);
    EXPECT_EQ((frame.flags & layout::kVlan) != 0, recorded.first_vlan != 0) << about(file, recorded);
    if (recorded.inner_l3 == 0 && !tunnel) return;
    EXPECT_EQ(tunnel ? frame.inner_l3 : frame.l3_half * 2U, recorded.inner_l3) << about(file, recorded);
  });
}

TEST(RecordedFrames, of_a_tunnel_have_their_outer_offsets_too) {
  for_each_frame([](const auto& file, const auto& recorded, const Frame& frame, const FragmentTable&) {
    if (!recorded.tunnel || recorded.outer.family == "mac") return;
    EXPECT_EQ(frame.l3_half, 7) << about(file, recorded);
    const uint32_t version = std::to_integer<uint32_t>(recorded.bytes[14]) >> 4;
    EXPECT_EQ(std::to_string(version), recorded.outer.family);
  });
}

// ---- another program -------------------------------------------------------------------------------------

std::string tuple_text(const Tuple& t) {
  return fmt::format("{} {} {} {} {} {}", t.family, t.number, t.source, t.source_port, t.target,
                     t.target_port);
}

// The lines of flow_hash.py for a frame: its tuples as the files have them, the values as the parser has.
void write_values(std::ofstream& out, const RecordedFrame& recorded, const Frame& frame,
                  const FragmentTable& fragments) {
  const auto line = [&](const char* kind, const std::string& tuple, uint32_t value) {
    out << fmt::format("efcdab89674523011032547698badcfe {} {} {:08x}\n", kind, tuple, value);
  };
  for (const Level level : kLevels) {
    const bool inner = level == Level::kInner;
    const std::string tuple = tuple_text(inner ? recorded.inner : recorded.outer);
    const std::string vlan = fmt::format("mac {} - 0 - 0", inner ? recorded.last_vlan : recorded.first_vlan);
    for (const Kind kind : kHashed)
      line(kind_name(kind), kind == Kind::kVlan ? vlan : tuple,
           cluster::balance_hash(kind, level, frame, kKey, fragments));
    const auto [source, target] = cluster::ends_hashes(level, frame, kKey, fragments);
    line("source", tuple, source);
    line("target", tuple, target);
  }
}

TEST(RecordedFrames, have_the_hashes_that_another_program_computes_from_the_document) {
  const std::string path = testing::TempDir() + fmt::format("/recorded_frames.{}", ::getpid());
  std::ofstream out(path);
  for_each_frame([&](const auto&, const auto& recorded, const Frame& frame, const FragmentTable& table) {
    write_values(out, recorded, frame, table);
  });
  out.close();
  const std::string program = RINGCAP_SOURCE_DIR "/tests/unit/capture/frame/flow_hash.py";
  EXPECT_EQ(std::system(fmt::format("python3 -B {} {}", program, path).c_str()), 0);
  std::filesystem::remove(path);
}

// ---- damaged ---------------------------------------------------------------------------------------------

// Everything that looks at a frame looks at it; the address sanitizer sees a byte too many.
void look_at(std::span<const std::byte> bytes, FragmentTable& fragments) {
  HeldFrame held(bytes);
  HeldFrame other(bytes);
  parse_frame(held.frame, kKey, fragments);
  const Frame& frame = held.frame;
  ASSERT_TRUE(frame.l3_half * 2U < bytes.size() || frame.l3_half == 0);
  ASSERT_TRUE(frame.l4_half * 2U + 4 <= bytes.size() || frame.l4_half == 0);
  if ((frame.flags & layout::kTunnel) != 0) {
    ASSERT_TRUE(frame.inner_l3 + 20U <= bytes.size() || frame.inner_l3 == 0);
    ASSERT_TRUE(frame.inner_l4 + 4U <= bytes.size() || frame.inner_l4 == 0);
  }
  if (frame_detail::parse_plain(other.frame, kKey)) {
    parse_other(other.frame, kKey, fragments);
    ASSERT_EQ(frame.hash, other.frame.hash);
  }
  for (const Level level : kLevels) {
    for (const Kind kind : kHashed) cluster::balance_hash(kind, level, frame, kKey, fragments);
    cluster::ends_hashes(level, frame, kKey, fragments);
  }
}

TEST(RecordedFrames, cut_anywhere_are_read_within_their_bytes) {
  FragmentTable fragments(64);
  for (const RecordedFile& file : files())
    for (const RecordedFrame& recorded : file.frames) {
      // Behind the headers there is nothing more to find.
      const size_t most = std::min<size_t>(recorded.bytes.size(), 200);
      for (size_t captured = 0; captured <= most; ++captured)
        look_at(std::span(recorded.bytes).first(captured), fragments);
    }
}

TEST(RecordedFrames, with_bits_flipped_are_read_within_their_bytes) {
  FragmentTable fragments(64);
  std::mt19937 random(20260122);
  for (const RecordedFile& file : files())
    for (const RecordedFrame& recorded : file.frames)
      for (int i = 0; i < 100; ++i) {
        std::vector<std::byte> bytes = recorded.bytes;
        const size_t headers = std::min<size_t>(bytes.size(), 160);
        for (uint32_t flips = 1 + random() % 4; flips > 0; --flips)
          bytes[random() % headers] ^= std::byte(1U << random() % 8);
        bytes.resize(headers);
        look_at(bytes, fragments);
      }
}

TEST(RecordedFrames, followed_by_random_bytes_are_read_within_their_bytes) {
  FragmentTable fragments(64);
  std::mt19937 random(20260123);
  for (const RecordedFile& file : files())
    for (const RecordedFrame& recorded : file.frames)
      for (int i = 0; i < 50; ++i) {
        std::vector<std::byte> bytes = recorded.bytes;
        const size_t kept = random() % std::min<size_t>(bytes.size(), 120);
        bytes.resize(160);
        for (size_t j = kept; j < bytes.size(); ++j) bytes[j] = static_cast<std::byte>(random());
        look_at(bytes, fragments);
      }
}

}  // namespace
}  // namespace ringcap

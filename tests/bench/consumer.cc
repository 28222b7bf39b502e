// A consumer that does what every consumer must: takes bursts, reads each frame's descriptor and first
// cache line, checks that the sequence numbers of gen: rise, gives back. --read=all: reads every byte;
// --read=none: the descriptor alone, for frames that have no number; --read=one: the first handle's frames as
// `line`, of the others the descriptors alone. --handles=N: attaches N times (members of a cluster, where
// --engine says NAME@CLUSTER) and serves them in turn. It never sleeps, unless --wait says how
// long a take may wait, and --batch for how many frames. For --ms from the first frame on, or
// until the sources end; then it prints what it read and lost.
#include <vector>

#include "libcap/client/ringcap.h"
#include "tests/bench/bench.h"

namespace {

using namespace ringcap::bench;

constexpr uint32_t kAhead = 8;           // frames between prefetch and read
constexpr uint32_t kSequenceWord = 7;    // bytes 56 to 63 (driver/gen/port.h)
constexpr uint32_t kRoundsPerLook = 64;  // between looks at the clock

struct Total {
  uint64_t frames = 0;
  uint64_t bursts = 0;
  uint64_t wrong = 0;  // sequence numbers that did not rise
  uint64_t sum = 0;    // of what was read, so that the reading stays
  uint64_t last = 0;
};

uint64_t sum_words(const uint8_t* data, uint32_t words) {
  uint64_t sum = 0;
  for (uint32_t i = 0; i < words; ++i) {
    uint64_t word;
    std::memcpy(&word, data + i * sizeof word, sizeof word);
    sum += word;
  }
  return sum;
}

enum class Read { kNone, kLine, kAll };

template <Read kRead>
void read_burst(const ringcap_burst& burst, Total& total) {
  for (uint32_t i = 0; i < burst.count; ++i) {
    if (kRead != Read::kNone && i + kAhead < burst.count)
      __builtin_prefetch(burst.arena + RINGCAP_OFFSET(&burst.frames[i + kAhead]));
    const ringcap_descriptor& frame = burst.frames[i];
    total.sum += frame.timestamp_ns;
    if constexpr (kRead == Read::kNone) continue;
    const uint8_t* data = burst.arena + RINGCAP_OFFSET(&frame);
    total.sum += sum_words(data, kRead == Read::kAll ? frame.captured / 8 : 8);
    uint64_t sequence;
    std::memcpy(&sequence, data + size_t{kSequenceWord} * 8, sizeof sequence);
    total.wrong += sequence <= total.last && total.frames + i != 0;
    total.last = sequence;
  }
  total.frames += burst.count;
  ++total.bursts;
}

ringcap_t* attach(const Options& options) {
  ringcap_options how = RINGCAP_OPTIONS_INIT;
  how.wait_ms = 10'000;
  how.ring_frames = static_cast<uint32_t>(number(options, "ring"));
  how.batch_frames = static_cast<uint32_t>(number(options, "batch"));
  ringcap_t* handle = nullptr;
  ringcap_error error{};
  if (ringcap_attach(text(options, "engine").c_str(), &how, &handle, &error) != RINGCAP_OK)
    fail(fmt::format("{} {}", error.text, error.mend));
  return handle;
}

// One burst, waiting for it; false at the end of the frames.
bool take(ringcap_t* handle, uint32_t max, int wait_ms, ringcap_burst& burst) {
  const int count = ringcap_take(handle, max, wait_ms, &burst);
  if (count < 0 && count != RINGCAP_END && count != RINGCAP_E_GONE) fail(ringcap_last_error(handle)->text);
  return count >= 0;
}

using Handles = std::vector<ringcap_t*>;

// What each take asks for.
struct Takes {
  uint32_t max;
  int wait_ms;
};

// kFirst: how the first handle's frames are read.
template <Read kFirst, Read kOthers>
Total consume(const Handles& handles, uint64_t for_ns, Takes takes) {
  Total total;
  ringcap_burst burst;
  const uint64_t end = now_ns() + for_ns;
  size_t turn = 0;
  for (uint32_t round = 1; round % kRoundsPerLook != 0 || now_ns() < end; ++round) {
    turn = turn + 1 < handles.size() ? turn + 1 : 0;
    ringcap_t* const handle = handles[turn];
    if (!take(handle, takes.max, takes.wait_ms, burst)) break;
    if (burst.count == 0) continue;
    if (turn == 0)
      read_burst<kFirst>(burst, total);
    else
      read_burst<kOthers>(burst, total);
    ringcap_give_back(handle, &burst);
  }
  return total;
}

Total consume_as(const std::string& read, const Handles& handles, uint64_t for_ns, Takes takes) {
  if (read == "none") return consume<Read::kNone, Read::kNone>(handles, for_ns, takes);
  if (read == "one") return consume<Read::kLine, Read::kNone>(handles, for_ns, takes);
  if (read == "all") return consume<Read::kAll, Read::kAll>(handles, for_ns, takes);
  return consume<Read::kLine, Read::kLine>(handles, for_ns, takes);
}

uint64_t dropped(const Handles& handles) {
  uint64_t sum = 0;
  for (ringcap_t* handle : handles) {
    ringcap_counters counters{};
    ringcap_stats(handle, &counters);
    sum += counters.dropped;
  }
  return sum;
}

}  // namespace

int main(int argc, char** argv) {
  const Options options = parse_options(argc, argv,
                                        {{"engine", "gen0"},
                                         {"core", "1"},
                                         {"ms", "1000"},
                                         {"read", "line"},
                                         {"max", "256"},
                                         {"ring", "0"},
                                         {"wait", "0"},
                                         {"batch", "0"},
                                         {"handles", "1"}});
  pin_to(static_cast<int>(number(options, "core")));
  Handles handles;
  for (uint64_t i = 0; i < number(options, "handles"); ++i) handles.push_back(attach(options));
  ringcap_burst first;
  if (!take(handles[0], 1, 10'000, first) || first.count == 0) fail("no frame came within 10 s");
  ringcap_give_back(handles[0], &first);

  const Takes takes{static_cast<uint32_t>(number(options, "max")), static_cast<int>(number(options, "wait"))};
  const uint64_t for_ns = number(options, "ms") * 1'000'000;
  const uint64_t dropped_before = dropped(handles);
  const CoreShare measured;
  const uint64_t start = now_ns();
  const Total total = consume_as(text(options, "read"), handles, for_ns, takes);
  const double seconds = static_cast<double>(now_ns() - start) / 1e9;
  const double share = measured.share();
  fmt::print(
      "{{\"frames\": {}, \"lost\": {}, \"wrong\": {}, \"burst\": {:.1f}, \"seconds\": {:.6f}, "
      "\"share\": {:.3f}, \"cpu_ns\": {}, \"sum\": {}}}\n",
      total.frames, dropped(handles) - dropped_before, total.wrong,
      static_cast<double>(total.frames) / static_cast<double>(total.bursts ? total.bursts : 1), seconds,
      share, cpu_ns(RUSAGE_SELF), total.sum);
  for (ringcap_t* handle : handles) ringcap_detach(handle);
  return total.wrong == 0 ? 0 : 1;
}

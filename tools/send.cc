// ringcap send: plays a file's frames out of a port, or through a running engine.
#include <fmt/format.h>
#include <poll.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <vector>

#include "capture/base/monotonic.h"
#include "capture/base/units.h"
#include "capture/pcapfile/reader.h"
#include "tools/cli.h"
#include "tools/outlet.h"
#include "tools/pacing.h"

namespace ringcap::tools {
namespace po = boost::program_options;
namespace {

constexpr uint32_t kFrames = 256;  // that are given in one go
constexpr uintmax_t kKeptBytes = uintmax_t{256}
                                 << 20;  // of a file that is read before the first frame leaves
constexpr int kPatienceMs = 5'000;       // at the end: for what is on its way
constexpr int kLookMs = 100;             // how long a pipe is waited for before anything else is looked at
constexpr uint64_t kStuckNs = 10'000'000'000;
constexpr uint64_t kProgressNs = 1'000'000'000;

volatile bool stopped = false;
void on_signal(int) { stopped = true; }

struct SendWords {
  std::string where, file, rate, port;
  double speed = 1;
  bool flat_out = false, json = false;
  Count loop{1};
  Bytes memory{uint64_t{16} << 20};
};

// "100k": frames a second; "500Mbps": bits of frames a second.
Result<PaceOptions> parse_pace(const SendWords& words, const Cli& cli) {
  const int ways = int{cli.given("rate")} + int{cli.given("speed")} + int{words.flat_out};
  if (ways > 1)
    return fail(Code::kUsage, "--rate, --speed and --flat-out exclude each other", "give one of them");
  if (words.flat_out) return PaceOptions{.pace = Pace::kFlatOut};
  if (!cli.given("rate")) {
    if (!(words.speed > 0))
      return fail(Code::kUsage, fmt::format("--speed {}: expected a number above 0", words.speed));
    return PaceOptions{.pace = Pace::kRecorded, .factor = words.speed};
  }
  std::string number = words.rate;
  const bool bits = number.ends_with("bps");
  if (bits) number.resize(number.size() - 3);
  const auto parsed = parse_count(number);
  if (!parsed)
    return fail(Code::kUsage,
                fmt::format("--rate {}: expected frames a second, as 100k, or bits, as 500Mbps", words.rate));
  const uint64_t count = *parsed;
  if (count == 0) return fail(Code::kUsage, "--rate 0 would never send anything");
  return PaceOptions{.pace = bits ? Pace::kBits : Pace::kFrames, .factor = static_cast<double>(count)};
}

Result<std::unique_ptr<Outlet>> open_outlet(const SendWords& words) {
  if (looks_like_port_address(words.where)) {
    auto port = parse_port_address(words.where);
    if (!port) return std::unexpected(port.error());
    return open_port_outlet(*port, words.memory.value);
  }
  return open_engine_outlet(words.where, words.port);
}

// The frames of a file, pass after pass, with their times running on. A file of moderate size is read before
// the first frame leaves, so that neither a disk nor the reading disturbs the pace.
class Frames {
 public:
  struct Frame {
    std::span<const std::byte> data;  // valid until the next call
    uint64_t time_ns = 0;
    bool whole = true;
  };

  enum class Next { kFrame, kNotYet, kEnd };

  static Result<Frames> open(const SendWords& words, bool flat_out);
  uint32_t link_type() const { return reader_.link_type(); }
  bool seekable() const { return reader_.seekable(); }
  // kNotYet: a pipe has no more for now.
  Result<Next> next(Frame& frame);
  // A moment, or until a pipe has more; a signal ends it.
  void wait() const;

 private:
  struct Kept {
    size_t at;
    uint32_t captured;
    bool whole;
    uint64_t timestamp_ns;
  };

  Frames(pcapfile::Reader reader, uint64_t passes) : reader_(std::move(reader)), passes_(passes) {}
  Result<void> keep();
  Result<Next> read(Frame& frame);
  bool another_pass();

  pcapfile::Reader reader_;
  uint64_t passes_;  // 0: for ever
  std::vector<std::byte> bytes_;
  std::vector<Kept> kept_;  // empty: read from the file as they are sent
  size_t next_kept_ = 0;
  uint64_t pass_ = 0, in_pass_ = 0, first_ns_ = 0, base_ns_ = 0, last_ns_ = 0;
};

Result<Frames> Frames::open(const SendWords& words, bool flat_out) {
  std::error_code none;
  const auto size = std::filesystem::file_size(words.file, none);
  const bool keeps = !none && size <= kKeptBytes && std::filesystem::is_regular_file(words.file, none);
  auto reader = pcapfile::Reader::open(words.file, {.wait = false, .read_ahead = flat_out && !keeps});
  if (!reader) return std::unexpected(reader.error());
  Frames frames(std::move(*reader), words.loop.value);
  if (keeps)
    if (auto kept = frames.keep(); !kept) return std::unexpected(kept.error());
  return frames;
}

// A file that is damaged is not kept: what is before the damage is sent, and then said.
Result<void> Frames::keep() {
  pcapfile::Record record;
  auto status = reader_.next(record);
  for (; status == pcapfile::Reader::Status::kRecord; status = reader_.next(record)) {
    kept_.push_back({bytes_.size(), record.captured, record.captured == record.length, record.timestamp_ns});
    bytes_.insert(bytes_.end(), record.data, record.data + record.captured);
  }
  if (status != pcapfile::Reader::Status::kError) return {};
  kept_.clear();
  return reader_.rewind();
}

Result<Frames::Next> Frames::read(Frame& frame) {
  if (!kept_.empty()) {
    if (next_kept_ == kept_.size()) {
      next_kept_ = 0;
      return Next::kEnd;
    }
    const Kept& kept = kept_[next_kept_++];
    frame = {std::span(bytes_).subspan(kept.at, kept.captured), kept.timestamp_ns, kept.whole};
    return Next::kFrame;
  }
  pcapfile::Record record;
  const auto status = reader_.next(record);
  if (status == pcapfile::Reader::Status::kError) return std::unexpected(reader_.error());
  if (status == pcapfile::Reader::Status::kNotYet) return Next::kNotYet;
  if (status != pcapfile::Reader::Status::kRecord) return Next::kEnd;
  frame = {{record.data, record.captured}, record.timestamp_ns, record.captured == record.length};
  return Next::kFrame;
}

void Frames::wait() const {
  pollfd more{.fd = reader_.fd(), .events = POLLIN, .revents = 0};
  ::poll(&more, 1, kLookMs);
}

Result<Frames::Next> Frames::next(Frame& frame) {
  for (;;) {
    auto read_one = read(frame);
    if (!read_one || *read_one == Next::kNotYet) return read_one;
    if (*read_one == Next::kFrame) break;
    if (!another_pass()) return Next::kEnd;
    if (kept_.empty())
      if (auto back = reader_.rewind(); !back) return std::unexpected(back.error());
  }
  if (in_pass_++ == 0) first_ns_ = frame.time_ns;
  last_ns_ = std::max(last_ns_, base_ns_ + (frame.time_ns - std::min(frame.time_ns, first_ns_)));
  frame.time_ns = last_ns_;
  return Next::kFrame;
}

// A pass begins one mean distance after the one before it ended.
bool Frames::another_pass() {
  if (in_pass_ == 0 || (passes_ != 0 && ++pass_ == passes_)) return false;
  base_ns_ = last_ns_ + (in_pass_ > 1 ? (last_ns_ - base_ns_) / (in_pass_ - 1) : 0);
  in_pass_ = 0;
  return true;
}

class Sending {
 public:
  Sending(Outlet& outlet, Frames frames, const PaceOptions& pace)
      : outlet_(outlet), frames_(std::move(frames)), pacer_(pace) {}
  Result<void> run();
  const Histogram& errors() const { return pacer_.errors(); }
  uint64_t asked = 0, cut = 0;
  uint64_t fit = 0, bytes = 0;  // of those that can be sent, and theirs
  bool finished = true;
  uint64_t began_ns = 0, ended_ns = 0;

 private:
  Result<void> add(const Frames::Frame& frame, uint64_t due_ns);
  Result<void> push();
  void progress();

  Outlet& outlet_;
  Frames frames_;
  Pacer pacer_;
  std::vector<uint64_t> due_;  // of the frames that were added and not pushed
  uint64_t now_ns_ = 0;
  uint64_t shown_ns_ = 0;
  uint64_t shown_ = 0;
};

// Waits for room, if there is none; not for ever.
Result<void> Sending::add(const Frames::Frame& frame, uint64_t due_ns) {
  uint64_t began = 0;
  while (!outlet_.add(frame.data)) {
    if (began == 0) began = monotonic_ns();
    auto pushed = push();
    if (!pushed) return pushed;
    if (stopped) return {};
    if (monotonic_ns() - began > kStuckNs)
      return fail(Code::kSystem, fmt::format("{} has taken nothing for 10 seconds", outlet_.name()),
                  "has it a link?");
  }
  ++asked;
  if (frame.data.size() >= Outlet::kShortest && frame.data.size() <= outlet_.longest()) {
    ++fit;
    bytes += frame.data.size();
  }
  if (!frame.whole) ++cut;
  due_.push_back(due_ns);
  return {};
}

Result<void> Sending::push() {
  now_ns_ = monotonic_ns();
  for (const uint64_t due : due_) pacer_.sent(due, now_ns_);
  due_.clear();
  if (auto pushed = outlet_.push(); !pushed) return std::unexpected(pushed.error());
  progress();
  return {};
}

// Frames that are due go out together; before the first that is not, what was added leaves.
Result<void> Sending::run() {
  began_ns = now_ns_ = shown_ns_ = monotonic_ns();
  Frames::Frame frame;
  Result<void> result;
  while (result && !stopped) {
    const auto more = frames_.next(frame);
    if (!more) result = std::unexpected(more.error());
    if (!more || *more == Frames::Next::kEnd) break;
    if (*more == Frames::Next::kNotYet) {
      result = push();
      frames_.wait();
      continue;
    }
    const uint64_t due = pacer_.due(frame.time_ns, static_cast<uint32_t>(frame.data.size()));
    if (due > now_ns_ || due_.size() == kFrames) result = push();
    if (due > now_ns_) now_ns_ = wait_until(due, stopped);
    if (result && !stopped) result = add(frame, due);
  }
  if (result) result = push();
  auto done = outlet_.finish(kPatienceMs);
  ended_ns = monotonic_ns();
  if (!done) return std::unexpected(done.error());
  finished = *done;
  return result;
}

// A line that replaces itself, where somebody watches.
void Sending::progress() {
  if (now_ns_ - shown_ns_ < kProgressNs || ::isatty(STDERR_FILENO) == 0) return;
  fmt::print(stderr, "\r{} frames, {:.0f} a second   ", asked,
             static_cast<double>(asked - shown_) * 1e9 / static_cast<double>(now_ns_ - shown_ns_));
  shown_ns_ = now_ns_;
  shown_ = asked;
}

std::string time_text(uint64_t ns) {
  if (ns < 10'000) return fmt::format("{} ns", ns);
  if (ns < 10'000'000) return fmt::format("{:.1f} us", static_cast<double>(ns) / 1e3);
  return fmt::format("{:.1f} ms", static_cast<double>(ns) / 1e6);
}

void show(const Sending& sending, const Outlet& outlet, bool json) {
  const OutletCounts counts = outlet.counts();
  const double seconds = static_cast<double>(sending.ended_ns - sending.began_ns) / 1e9;
  const double rate = seconds > 0 ? static_cast<double>(counts.sent) / seconds : 0;
  // Exact where the port took all that fit.
  const double share =
      sending.fit != 0 ? static_cast<double>(counts.sent) / static_cast<double>(sending.fit) : 0;
  const double bits = seconds > 0 ? 8.0 * static_cast<double>(sending.bytes) * share / seconds : 0;
  const Histogram& errors = sending.errors();
  if (json) {
    nlohmann::ordered_json out = {
        {"schema", "ringcap.send/1"}, {"to", outlet.name()},       {"asked", sending.asked},
        {"sent", counts.sent},        {"refused", counts.refused}, {"cut", sending.cut},
        {"bytes", sending.bytes},     {"seconds", seconds},        {"frames_per_second", rate},
        {"bits_per_second", bits},    {"pacing_error_ns", nullptr}};
    if (errors.count() != 0)
      out["pacing_error_ns"] = {
          {"median", errors.quantile(0.5)}, {"p99", errors.quantile(0.99)}, {"most", errors.most()}};
    return print("{}\n", out.dump(1));
  }
  if (::isatty(STDERR_FILENO) != 0) fmt::print(stderr, "\r");
  print("{} of {} frames sent to {}, {} bytes in {:.3f} s: {:.0f} frames a second, {:.1f} Mbit/s\n",
        counts.sent, sending.asked, outlet.name(), sending.bytes, seconds, rate, bits / 1e6);
  if (errors.count() != 0)
    print("pacing: late by {} in the median, by {} at most in 99 of 100, by {} at most\n",
          time_text(errors.quantile(0.5)), time_text(errors.quantile(0.99)), time_text(errors.most()));
  if (counts.refused != 0)
    print("{} frames were refused: longer than {} bytes, shorter than 14, or {} is down\n", counts.refused,
          outlet.longest(), outlet.name());
  if (sending.cut != 0)
    print("{} frames are cut in the file, and were sent as they are there\n", sending.cut);
  if (!sending.finished) print("not all frames had left after {} s\n", kPatienceMs / 1000);
}

int send_file(const SendWords& words, const PaceOptions& pace) {
  auto frames = Frames::open(words, pace.pace == Pace::kFlatOut);
  if (!frames) return report(frames.error());
  if (frames->link_type() != 1)
    return report(
        {Code::kUsage,
         fmt::format("the frames of {} are not Ethernet (link type {})", words.file, frames->link_type()),
         ""});
  if (words.loop.value != 1 && !frames->seekable())
    return report({Code::kUsage, "--loop: a pipe can be read only once", ""});
  auto outlet = open_outlet(words);
  if (!outlet) return report(outlet.error());
  struct sigaction action{};
  action.sa_handler = on_signal;
  ::sigaction(SIGINT, &action, nullptr);
  ::sigaction(SIGTERM, &action, nullptr);
  ::prctl(PR_SET_TIMERSLACK, 1);
  Sending sending(**outlet, std::move(*frames), pace);
  const auto ran = sending.run();
  show(sending, **outlet, words.json);
  if (!ran) return finish(report(ran.error()));
  const OutletCounts counts = (*outlet)->counts();
  return finish(counts.sent == sending.asked ? kExitOk : kExitLost);
}

}  // namespace

int run_send(const Words& words) {
  SendWords send;
  Cli cli({.command = "send",
           .usage = "[OPTION]... PORT|NAME FILE",
           .summary =
               "Sends the frames of a pcap or pcapng file (\"-\": standard input) out of PORT, or through "
               "the running engine NAME, at the speed at which they were recorded.",
           .example = "ringcap send packet:eth0 trace.pcap --rate 100k --loop 10"});
  cli.options()("rate", po::value(&send.rate)->value_name("RATE"),
                "so many frames a second (100k), or bits of frames (500Mbps)");
  cli.options()("speed", po::value(&send.speed)->value_name("X"), "X times the recorded speed");
  cli.options()("flat-out", po::bool_switch(&send.flat_out), "as fast as the port takes them");
  cli.options()("loop", po::value(&send.loop)->value_name("N"), "play the file N times; 0: for ever");
  cli.options()("port", po::value(&send.port)->value_name("PORT"),
                "with NAME: which of the engine's ports; the first that sends if not given");
  cli.options()("memory", po::value(&send.memory)->value_name("BYTES"),
                "with PORT: memory for frames on their way, 16M if not given");
  cli.json(&send.json);
  cli.take(&send.where, "PORT|NAME");
  cli.take(&send.file, "FILE");
  if (auto status = cli.parse(words)) return *status;
  const auto pace = parse_pace(send, cli);
  if (!pace) return report(pace.error());
  return send_file(send, *pace);
}

}  // namespace ringcap::tools

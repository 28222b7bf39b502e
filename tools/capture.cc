// ringcap capture: takes frames from an engine, or from a port through an engine of its own, and writes them
// to a pcap file. Says at the end, and on the way, where every frame went.
#include <net/if.h>
#include <spdlog/spdlog.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <csignal>
#include <thread>

#include "capture/base/names.h"
#include "capture/base/run_dir.h"
#include "capture/ledger/ledger.h"
#include "capture/pcapfile/writer.h"
#include "libcap/client/client.h"
#include "tools/cli.h"
#include "tools/engine_options.h"
#include "tools/filter_text.h"

namespace ringcap::tools {
namespace po = boost::program_options;

namespace {

constexpr uint32_t kBurstFrames = 1024;
constexpr uint32_t kPrefetchAhead = 8;
// Into a file we write what came together: so many frames at a time, or what came within that time.
constexpr uint32_t kBatchFrames = 1024;
constexpr uint32_t kBatchMs = 10;

struct CaptureWords {
  std::string what, interface, file, filter_file, kind, level, direction = "inout";
  std::vector<std::string> filter;
  Count count{}, snaplen{}, ring{};
  Duration wait{};
  bool flush = false, quiet = false, micro = false, force = false, count_only = false, allow_smaller = false;
  bool unordered = false;
  EngineWords engine;
};

std::atomic<bool> progress_wanted{false};
client::Client* breakable = nullptr;  // for the signal handlers; set before they are

void on_end(int) { breakable->break_loop(); }
void on_progress(int) { progress_wanted.store(true, std::memory_order_relaxed); }

void handle_signals(client::Client& client) {
  breakable = &client;
  struct sigaction action{};
  action.sa_handler = on_end;
  ::sigaction(SIGINT, &action, nullptr);
  ::sigaction(SIGTERM, &action, nullptr);
  action.sa_handler = on_progress;
  ::sigaction(SIGUSR1, &action, nullptr);
  action.sa_handler = SIG_IGN;
  ::sigaction(SIGPIPE, &action, nullptr);
}

// ---- where the frames come from ------------------------------------------------------------------

// What WHAT means: a port's address, else a running engine, else an interface.
struct Source {
  MadeEngine own;  // empty: somebody else's
  std::thread engine_thread;
  std::unique_ptr<client::Client> client;
  bool own_ended_well = true;
  Error own_error;

  void stop_engine() {
    if (!engine_thread.joinable()) return;
    own.engine->request_stop();
    engine_thread.join();
  }
  ~Source() { stop_engine(); }
};

Result<std::string> find_what(const CaptureWords& words) {
  if (looks_like_port_address(words.what)) return words.what;
  const auto consumed = parse_consumed(words.what);
  if (consumed) {
    for (const auto& dir : run_dirs())
      if (engine_runs(dir, consumed->engine)) {
        if (!words.quiet) say(fmt::format("capturing from the running engine {}", words.what));
        return std::string();
      }
    if (words.wait.ns != 0) return std::string();
  }
  if (::if_nametoindex(words.what.c_str()) != 0) {
    if (!words.quiet)
      say(fmt::format("capturing the interface {} (AF_PACKET; it stays the kernel's)", words.what));
    return "packet:" + words.what;
  }
  return fail(
      Code::kNotFound, fmt::format("{} is neither a running engine nor an interface", words.what),
      "ringcap devices lists both; a port's address has its kind in front: pcap:FILE, gen:, packet:IF");
}

Result<void> balance_options(const CaptureWords& words, client::ClientOptions& options) {
  if (!words.kind.empty()) {
    auto kind = cluster::parse_kind(words.kind);
    if (!kind) return std::unexpected(kind.error());
    options.kind = *kind;
  }
  if (!words.level.empty()) {
    auto level = cluster::parse_level(words.level);
    if (!level) return std::unexpected(level.error());
    options.level = *level;
  }
  return {};
}

// Whether somebody may be watching what we write as we write it: a pipe, a socket, a terminal.
bool watched(const CaptureWords& words) {
  if (words.file.empty()) return false;
  struct stat status{};
  const bool there =
      words.file == "-" ? ::fstat(STDOUT_FILENO, &status) == 0 : ::stat(words.file.c_str(), &status) == 0;
  if (!there) return false;
  const bool terminal = words.file == "-" && ::isatty(STDOUT_FILENO) != 0;
  return S_ISFIFO(status.st_mode) || S_ISSOCK(status.st_mode) || terminal;
}

Result<void> check_direction(const std::string& word) {
  if (word == "in" || word == "out" || word == "inout") return {};
  return fail(Code::kUsage, fmt::format("--direction {}: there is in, out and inout", word));
}

// Frames of one direction only: the other one's filter refuses everything.
Result<void> choose_direction(const CaptureWords& words, const std::vector<filter::Instruction>& program,
                              client::Client& client) {
  if (words.direction == "inout") return {};
  const std::vector<filter::Instruction> nothing{
      {.code = 0x06, .jt = 0, .jf = 0, .k = 0}};  // BPF_RET | BPF_K
  if (words.direction == "in") return client.set_filter(program, nothing);
  return client.set_filter(nothing, program);
}

Result<void> attach(const CaptureWords& words, Source& source) {
  if (auto known = check_direction(words.direction); !known) return known;
  auto port_text = find_what(words);
  if (!port_text) return std::unexpected(port_text.error());
  client::ClientOptions options{.program = "capture",
                                .ring_slots = static_cast<uint32_t>(words.ring.value),
                                .allow_smaller = words.allow_smaller,
                                .merge = !words.count_only && !words.unordered,
                                .filter = {},
                                .wait_ms = static_cast<int32_t>(words.wait.ns / 1'000'000),
                                .merge_wait_ms = 10,
                                .kind = {},
                                .level = {},
                                .batch_frames = words.flush || watched(words) ? 0 : kBatchFrames,
                                .batch_ms = kBatchMs};
  if (auto agreed = balance_options(words, options); !agreed) return agreed;
  uint32_t link_type = 1;
  if (!port_text->empty()) {
    auto address = parse_port_address(*port_text);
    if (!address) return std::unexpected(address.error());
    auto engine_opts = engine_options(words.engine, {*address});
    if (!engine_opts) return std::unexpected(engine_opts.error());
    engine_opts->name = fmt::format("capture-{}", ::getpid());
    engine_opts->listen = false;
    engine_opts->wait_consumers = 1;
    auto made = make_engine(std::move(*engine_opts), {*address});
    if (!made) return std::unexpected(made.error());
    source.own = std::move(*made);
    link_type = source.own.ports.front()->link_type();
  }
  auto program = compile_filter(words.filter, words.filter_file, link_type);
  if (!program) return std::unexpected(program.error());
  options.filter = std::move(*program);

  if (!source.own.engine) {
    auto client = client::Client::attach(words.what, options);
    if (!client) return std::unexpected(client.error());
    if (!options.filter.empty() && (*client)->link_type() != link_type)
      return fail(Code::kUsage,
                  fmt::format("the frames of {} are not Ethernet (link type {}): a filter is not possible",
                              words.what, (*client)->link_type()),
                  "leave the filter out, and use it when you read the file: tcpdump -r FILE FILTER");
    source.client = std::move(*client);
    return choose_direction(words, options.filter, *source.client);
  }
  auto socket = source.own.engine->connect_inside();
  if (!socket) return std::unexpected(socket.error());
  source.engine_thread = std::thread([&source] {
    if (auto ran = source.own.engine->run(); !ran) {
      source.own_ended_well = false;
      source.own_error = ran.error();
    }
  });
  auto client = client::Client::attach_socket(std::move(*socket), options);
  if (!client) return std::unexpected(client.error());
  source.client = std::move(*client);
  return choose_direction(words, options.filter, *source.client);
}

// ---- the loop ------------------------------------------------------------------------------------

class Progress {
 public:
  Progress(const client::Client& client, bool quiet)
      : client_(client), wanted_(!quiet && ::isatty(STDERR_FILENO) != 0) {}

  // At most once a second, or when SIGUSR1 asked.
  void tick(uint64_t frames) {
    const bool asked = progress_wanted.exchange(false, std::memory_order_relaxed);
    if (!asked && !wanted_) return;
    const auto now = std::chrono::steady_clock::now();
    const double seconds = std::chrono::duration<double>(now - last_).count();
    if (!asked && seconds < 1) return;
    const auto stats = client_.stats();
    const std::string text =
        fmt::format("{} frames, {:.0f} a second, {} dropped", frames,
                    static_cast<double>(frames - last_frames_) / std::max(seconds, 1e-9), stats.dropped);
    if (asked)
      say(text);
    else
      fmt::print(stderr, "\r\033[K{}", text);
    shown_ |= !asked;
    last_ = now;
    last_frames_ = frames;
  }
  void clear() const {
    if (shown_) fmt::print(stderr, "\r\033[K");
  }

 private:
  const client::Client& client_;
  bool wanted_;
  bool shown_ = false;
  std::chrono::steady_clock::time_point last_ = std::chrono::steady_clock::now();
  uint64_t last_frames_ = 0;
};

bool write_burst(const client::Client& client, const client::FrameBurst& burst, uint32_t count,
                 pcapfile::Writer& writer) {
  bool ok = true;
  for (uint32_t i = 0; i < count; ++i) {
    if (i + kPrefetchAhead < count) __builtin_prefetch(client.frame(burst.frames[i + kPrefetchAhead]));
    const auto& d = burst.frames[i];
    ok = writer.append(d.timestamp_ns, d.length, {client.frame(d), d.captured});
  }
  return writer.flush_references() && ok;
}

struct Outcome {
  uint64_t frames = 0;
  uint64_t bytes = 0;
  client::Taken last = client::Taken::kTimeout;
  bool write_failed = false;
};

Outcome capture_loop(const CaptureWords& words, client::Client& client, pcapfile::Writer* writer) {
  Outcome outcome;
  Progress progress(client, words.quiet);
  uint64_t until = words.count.value != 0 ? words.count.value : ~uint64_t{0};
  bool broken = false;
  for (;;) {
    client::FrameBurst burst;
    const auto max = static_cast<uint32_t>(std::min<uint64_t>(kBurstFrames, until - outcome.frames));
    const client::Taken taken = client.take(max, broken ? 0 : 200, burst);
    if (broken && taken == client::Taken::kTimeout) break;
    outcome.last = taken;
    if (outcome.last == client::Taken::kBreak && !broken) {
      // What lies in our rings has come before the signal did.
      broken = true;
      const uint64_t waiting = uint64_t{client.ring_slots()} * client.rings();
      until = std::min(until, outcome.frames + waiting);
    } else if (outcome.last == client::Taken::kFrames) {
      for (uint32_t i = 0; i < burst.count; ++i) outcome.bytes += burst.frames[i].length;
      if (writer != nullptr && !write_burst(client, burst, burst.count, *writer)) outcome.write_failed = true;
      client.give_back(burst);
      outcome.frames += burst.count;
      if (writer != nullptr && words.flush && !outcome.write_failed) outcome.write_failed = !writer->flush();
    } else if (outcome.last == client::Taken::kTimeout) {
      if (writer != nullptr && !writer->flush()) outcome.write_failed = true;
    } else {
      break;
    }
    progress.tick(outcome.frames);
    if (outcome.write_failed || outcome.frames == until) break;
  }
  progress.clear();
  return outcome;
}

int conclude(const CaptureWords& words, Source& source, const Outcome& outcome) {
  const auto stats = source.client->stats();
  const PortLosses losses = port_losses(source.client->header());
  if (!words.quiet) {
    say(fmt::format("{} frames captured, {} bytes on the wire, timestamps by the {} clock", outcome.frames,
                    outcome.bytes,
                    ledger::clock_name(static_cast<layout::Clock>(source.client->header().clock))));
    say(fmt::format("{} frames lost because our ring was full, {} without a buffer, {}{}", stats.dropped,
                    losses.no_buffer,
                    losses.missed_known ? fmt::format("{} missed by the port", losses.missed)
                                        : std::string("the port does not count what it misses"),
                    stats.late != 0 ? fmt::format("; {} came late and are out of order", stats.late) : ""));
  }
  if (words.count_only) print("{}\n", outcome.frames);
  if (outcome.last == client::Taken::kError) return report(source.client->error());
  if (!source.own_ended_well) return report(source.own_error);
  if (outcome.last == client::Taken::kEnd && source.own.source_failed()) return finish(kExitError);
  const bool own_losses = source.own.engine != nullptr && losses.missed + losses.no_buffer != 0;
  return finish(stats.dropped != 0 || own_losses ? kExitLost : kExitOk);
}

}  // namespace

int run_capture(const Words& words) {
  CaptureWords w;
  Cli cli(
      {.command = "capture",
       .usage = "[OPTION]... WHAT [FILTER]",
       .summary =
           "Captures frames from WHAT (a running engine, a port's address or an interface) to a pcap file.",
       .example = "ringcap capture gen:count=1000,full=wait --memory plain -w /tmp/demo.pcap --force"});
  cli.options()("interface,i", po::value(&w.interface)->value_name("WHAT"),
                "the same as WHAT, tcpdump's way");
  cli.options()("write,w", po::value(&w.file)->value_name("FILE"),
                "write the frames to FILE; - is standard output");
  cli.options()("count,c", po::value(&w.count)->value_name("N"), "end after N frames");
  cli.options()("snapshot-length,s", po::value(&w.snaplen)->value_name("BYTES"),
                "cut frames to so many bytes; 0: do not");
  cli.options()("filter-file,F", po::value(&w.filter_file)->value_name("FILE"), "read the FILTER from FILE");
  cli.options()("direction,Q", po::value(&w.direction)->value_name("WAY"),
                "frames that came in, that the host sent (out), or both (inout)");
  cli.options()("packet-buffered,U", po::bool_switch(&w.flush), "write to the file after every burst");
  cli.options()("quiet,q", po::bool_switch(&w.quiet), "no progress and no summary");
  cli.options()("micro", po::bool_switch(&w.micro), "timestamps in microseconds, for old readers");
  cli.options()("force", po::bool_switch(&w.force), "overwrite FILE");
  cli.options()("count-only", po::bool_switch(&w.count_only),
                "write no file; print how many frames there were");
  cli.options()("unordered", po::bool_switch(&w.unordered),
                "do not put the workers' frames in order of time");
  cli.options()("consumer-ring", po::value(&w.ring)->value_name("FRAMES"),
                "ring to ask the engine for, per worker");
  cli.options()("kind", po::value(&w.kind)->value_name("KIND"),
                "of a cluster (NAME@CLUSTER): flow5 flow4 flow2 tcp5 ip5 vlan queue port robin ends");
  cli.options()("level", po::value(&w.level)->value_name("LEVEL"),
                "of a cluster: inner or outer headers of tunnels");
  cli.options()("allow-smaller", po::bool_switch(&w.allow_smaller),
                "take a smaller ring where that does not fit");
  cli.options()("wait", po::value(&w.wait)->value_name("TIME"), "wait so long for the engine to appear");
  add_engine_options(cli, w.engine);
  cli.take(&w.what, "WHAT", true);
  cli.take_rest(&w.filter, "FILTER");
  if (auto status = cli.parse(words)) return *status;
  if (!w.interface.empty()) {
    if (!w.what.empty()) w.filter.insert(w.filter.begin(), w.what);
    w.what = w.interface;
  }
  if (w.what.empty())
    return report({Code::kUsage, "what is to be captured?",
                   "ringcap devices lists what there is; then: ringcap capture WHAT -w FILE"});
  if (w.file.empty() && !w.count_only)
    return report(
        {Code::kUsage, "where are the frames to go?",
         "-w FILE, or --count-only, or to see them: ringcap capture " + w.what + " -w - | tcpdump -r -"});

  Source source;
  if (auto attached = attach(w, source); !attached) return report(attached.error());
  std::unique_ptr<pcapfile::Writer> writer;
  if (!w.file.empty()) {
    const pcapfile::WriterOptions options{.microseconds = w.micro,
                                          .snaplen = static_cast<uint32_t>(w.snaplen.value),
                                          .link_type = source.client->link_type(),
                                          .force = w.force};
    auto opened = pcapfile::Writer::create(w.file, options);
    if (!opened) return report(opened.error());
    writer = std::move(*opened);
  }
  handle_signals(*source.client);
  const Outcome outcome = capture_loop(w, *source.client, writer.get());
  Result<void> closed = writer ? writer->close() : Result<void>{};
  source.stop_engine();
  const int status = conclude(w, source, outcome);
  return closed ? status : report(closed.error());
}

}  // namespace ringcap::tools

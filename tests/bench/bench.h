// What the benchmark programs share: pinning, clocks, the share of a core a thread had, options.
//
// Each program is a process of its own that tests/bench/run starts. It prints its result as one line
// of JSON on stdout and anything for people on stderr, and exits 0; on an error, 1.
// Nothing here is thread-safe; a CoreShare is used by the one thread that it measures.
#pragma once

#include <fcntl.h>
#include <fmt/format.h>
#include <pthread.h>
#include <sched.h>
#include <sys/resource.h>

#include <cerrno>
#include <cinttypes>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <map>
#include <string>
#include <string_view>

namespace ringcap::bench {

[[noreturn]] inline void fail(const std::string& message) {
  fmt::print(stderr, "{}\n", message);
  std::exit(1);
}

[[noreturn]] inline void fail_errno(const std::string& what) { fail(what + ": " + std::strerror(errno)); }

inline uint64_t clock_ns(clockid_t clock) {
  timespec t{};
  clock_gettime(clock, &t);
  return static_cast<uint64_t>(t.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(t.tv_nsec);
}
inline uint64_t now_ns() { return clock_ns(CLOCK_MONOTONIC); }

// Binds the calling thread to one core; a negative core leaves it alone.
inline void pin_to(int core) {
  if (core < 0) return;
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(core, &set);
  if (const int error = pthread_setaffinity_np(pthread_self(), sizeof set, &set); error != 0)
    fail(fmt::format("binding a thread to core {}: {}", core, std::strerror(error)));
}

// CPU time of the calling thread (RUSAGE_THREAD) or of the process (RUSAGE_SELF).
inline uint64_t cpu_ns(int who) {
  rusage use{};
  getrusage(who, &use);
  const auto ns = [](const timeval& t) {
    return static_cast<uint64_t>(t.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(t.tv_usec) * 1'000;
  };
  return ns(use.ru_utime) + ns(use.ru_stime);
}

// The calling thread's time on a core and its time in the queue for one, in ns, as the scheduler counts.
struct Scheduled {
  uint64_t ran = 0;
  uint64_t waited = 0;

  static Scheduled now() {
    Scheduled times;
    if (FILE* file = std::fopen("/proc/thread-self/schedstat", "re")) {
      if (std::fscanf(file, "%" SCNu64 " %" SCNu64, &times.ran, &times.waited) != 2) times = {};
      std::fclose(file);
    }
    return times;
  }
};

// The share of a core that the calling thread had since this object was made: 1 is all of it. A sample
// counts only if each of its threads had at least 0.98 (tests/bench/benchlib/sample.py decides).
class CoreShare {
 public:
  CoreShare() : wall_(now_ns()), cpu_(cpu_ns(RUSAGE_THREAD)), scheduled_(Scheduled::now()) {}
  // Of a thread that never sleeps: of the wall clock.
  double share() const {
    const uint64_t wall = now_ns() - wall_;
    const uint64_t cpu = cpu_ns(RUSAGE_THREAD) - cpu_;
    return wall == 0 ? 0 : static_cast<double>(cpu) / static_cast<double>(wall);
  }
  // Of a thread that sleeps when it has nothing to do: of the time that it was ready to run.
  double share_wanted() const {
    const Scheduled now = Scheduled::now();
    const uint64_t ran = now.ran - scheduled_.ran;
    const uint64_t ready = ran + now.waited - scheduled_.waited;
    return ready == 0 ? 1 : static_cast<double>(ran) / static_cast<double>(ready);
  }

 private:
  uint64_t wall_;
  uint64_t cpu_;
  Scheduled scheduled_;
};

// Options of the form --key=value; `known` holds the defaults, and another key is an error.
using Options = std::map<std::string, std::string, std::less<>>;

inline Options parse_options(int argc, char** argv, Options known) {
  for (int i = 1; i < argc; ++i) {
    const std::string_view word = argv[i];
    const size_t equals = word.find('=');
    const auto key =
        word.starts_with("--") && equals != word.npos ? known.find(word.substr(2, equals - 2)) : known.end();
    if (key == known.end()) {
      std::string names;
      for (const auto& [name, value] : known) names += fmt::format(" --{}={}", name, value);
      fail(fmt::format("{}: cannot use \"{}\"; the options and their defaults:{}", argv[0], word, names));
    }
    key->second = word.substr(equals + 1);
  }
  return known;
}

inline uint64_t number(const Options& options, std::string_view key) {
  const std::string& text = options.find(key)->second;
  char* end = nullptr;
  const uint64_t value = std::strtoull(text.c_str(), &end, 10);
  if (text.empty() || *end != '\0') fail(fmt::format("--{}={}: not a number", key, text));
  return value;
}

inline const std::string& text(const Options& options, std::string_view key) {
  return options.find(key)->second;
}

}  // namespace ringcap::bench

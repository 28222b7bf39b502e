// A consumer that sleeps for every frame: how long from the frame's timestamp until it has read it. Prints
// median and 99th percentile over --frames frames, or those that come within --seconds.
#include "libcap/client/ringcap.h"
#include "tests/bench/bench.h"
#include "tests/bench/latency.h"

namespace {

using namespace ringcap::bench;

ringcap_t* attach(const std::string& engine) {
  ringcap_options how = RINGCAP_OPTIONS_INIT;
  how.wait_ms = 10'000;
  ringcap_t* handle = nullptr;
  ringcap_error error{};
  if (ringcap_attach(engine.c_str(), &how, &handle, &error) != RINGCAP_OK)
    fail(fmt::format("{} {}", error.text, error.mend));
  return handle;
}

Latencies measure(ringcap_t* handle, uint64_t frames, uint64_t for_ns) {
  Latencies latencies;
  const uint64_t end = now_ns() + for_ns;
  while (latencies.size() < frames && now_ns() < end) {
    ringcap_burst burst;
    const int count = ringcap_take(handle, 0, 500, &burst);
    if (count == RINGCAP_END) break;
    if (count < 0) fail(ringcap_last_error(handle)->text);
    if (count == 0) continue;
    const uint64_t now = clock_ns(CLOCK_REALTIME);
    for (uint32_t i = 0; i < burst.count; ++i)
      latencies.add(now - std::min(now, burst.frames[i].timestamp_ns));
    ringcap_give_back(handle, &burst);
  }
  return latencies;
}

}  // namespace

int main(int argc, char** argv) {
  const Options options =
      parse_options(argc, argv, {{"engine", "gen0"}, {"core", "1"}, {"frames", "1000"}, {"seconds", "10"}});
  pin_to(static_cast<int>(number(options, "core")));
  ringcap_t* handle = attach(text(options, "engine"));
  const CoreShare measured;
  Latencies latencies =
      measure(handle, number(options, "frames"), number(options, "seconds") * 1'000'000'000);
  latencies.print(measured.share_wanted());
  ringcap_detach(handle);
}

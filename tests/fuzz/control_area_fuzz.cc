// A hostile consumer: writes anything into its control area between the worker's rounds. Whatever it does,
// the ledger balances, a well-behaved consumer beside it loses nothing, and after it has left every buffer
// is back. Input: pairs of an operation and a value.
#include <cstdlib>
#include <cstring>

#include "tests/unit/capture/engine/one_worker.h"

namespace {

using ringcap::test::Attached;
using ringcap::test::OneWorker;

void require(bool condition) {
  if (!condition) std::abort();
}

// One engine for all inputs: each brings a consumer of its own.
OneWorker& engine() {
  static OneWorker one("gen:", uint64_t{8} << 20);
  return one;
}

void play(Attached& hostile, Attached& good, const uint8_t* data, size_t size) {
  auto& control = *hostile.ring().control;
  for (size_t at = 0; at + 9 <= size && at < size_t{9} * 64; at += 9) {
    uint64_t value = 0;
    std::memcpy(&value, data + at + 1, sizeof value);
    switch (data[at] % 6) {
      case 0:
        control.cursor.store(value);
        break;
      case 1:
        control.wake_at.store(value);
        break;
      case 2:
        control.cursor.store(hostile.ring().head() - value % 256);
        break;
      case 3:
        control.wake_at.store(hostile.ring().head() + value % 4);
        break;
      case 4:
        hostile.drain();
        break;
      default:
        control.late.store(value);
        break;
    }
    engine().rounds(1 + static_cast<uint32_t>(value % 8));
    good.drain();
    require(engine().unbalanced().empty());
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Attached hostile = engine().attach(128), good = engine().attach(1024);
  engine().rounds(1);  // no plan is published before the one before it was seen
  play(hostile, good, data, size);
  require(engine().taker(good).dropped == 0);
  engine().leave(hostile);
  engine().leave(good);
  for (int gone = 0; gone < 2;) {
    engine().round();
    for (const auto& event : engine().events()) {
      if (event.kind != ringcap::engine::EventKind::kGone || event.id == 0) continue;
      engine().consumers().let_go(event.id);
      ++gone;
    }
  }
  engine().consumers().free_gone(engine().worker().plan_seen());
  require(engine().counts().buffers.referenced == 0);
  require(engine().unbalanced().empty());
  return 0;
}

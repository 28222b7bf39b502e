#include "driver/selftest/selftest.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <poll.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <optional>
#include <thread>

#include "driver/nic/drivers.h"
#include "driver/pci/nic_port.h"
#include "driver/selftest/loop.h"
#include "driver/selftest/spread.h"

namespace ringcap::selftest {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

constexpr uint32_t kUsualMtu = 1500, kHeader = 14;
constexpr uint32_t kDescriptors = 128, kFewDescriptors = 64;
constexpr uint32_t kResets = 3;
constexpr uint32_t kComesBackMs = 5'000;  // a PHY may take a second or two to settle
constexpr milliseconds kInterruptDeadline{5'000};
constexpr const char* kNoLoopback =
    "this NIC has no loopback: nothing that it sends can come back to it, and nothing is sent to the wire";

const char* name_of(pci::Loopback way) { return way == pci::Loopback::kMac ? "MAC" : "PHY"; }

const char* name_of(pci::Interrupt kind) {
  switch (kind) {
    case pci::Interrupt::kMsix:
      return "MSI-X";
    case pci::Interrupt::kMsi:
      return "MSI";
    case pci::Interrupt::kIntx:
      return "INTx";
    case pci::Interrupt::kNone:
      break;
  }
  return "none";
}

// What the NIC counted, nothing where it does not count that, and what we did.
struct Counted {
  std::optional<uint64_t> sent = {}, received = {}, bytes = {};
  uint64_t missed = 0, bad = 0;
  uint64_t our_sent = 0, our_received = 0, our_bytes = 0;
};

// The parts of one test, and what each leaves for the next.
class Tester {
 public:
  explicit Tester(const Settings& settings) : settings_(settings) {}
  Result<Report> run();

 private:
  using Part = void (Tester::*)();

  Result<std::unique_ptr<Port>> open(const pci::NicOptions& options);
  std::unique_ptr<Loop> open_loop(const std::string& id, uint32_t mtu, pci::Loopback way);
  void reset();
  void registers();
  void loopback();
  void patterns();
  void jumbo();
  void arena();
  void queues();
  void interrupts();
  void link();

  void exchange_lengths(const std::string& id, uint32_t mtu, uint32_t rounds);
  void compare(const Counted& before, const Counted& after);
  Result<std::string> fire_all(Port& port, pci::SelfTestable& nic);
  std::optional<bool> wakes_by(ReceiveQueue& queue, const std::function<bool()>& cause);

  bool stopped() const { return settings_.stopped(); }
  void tell(std::string id, Outcome outcome, std::string text);
  void pass(std::string id, std::string text) { tell(std::move(id), Outcome::kPassed, std::move(text)); }
  void fail(std::string id, std::string text) { tell(std::move(id), Outcome::kFailed, std::move(text)); }
  void skip(std::string id, std::string text) { tell(std::move(id), Outcome::kNotPossible, std::move(text)); }

  const Settings& settings_;
  Report report_;
  // Known once reset() opened it.
  pci::NicLimits limits_;
  uint32_t vectors_ = 1;
  pci::Interrupt interrupt_ = pci::Interrupt::kNone;
  std::vector<pci::Loopback> ways_;
  std::optional<pci::Loopback> way_;  // the one that works
};

Counted count(Loop& loop) {
  const QueueCounters counters = loop.port().counters();
  Counted counted{.missed = counters.missed,
                  .bad = counters.bad,
                  .our_sent = loop.sent(),
                  .our_received = loop.delivered(),
                  .our_bytes = loop.delivered_bytes()};
  for (const Statistic& each : loop.port().statistics()) {
    const std::string_view name = each.name;
    if (name == "tx_packets") counted.sent = each.value;
    if (name == "rx_packets") counted.received = each.value;
    if (name == "rx_bytes") counted.bytes = each.value;
  }
  return counted;
}

pci::SelfTestable& testable(Port& port) { return dynamic_cast<pci::SelfTestable&>(port); }

void Tester::tell(std::string id, Outcome outcome, std::string text) {
  report_.checks.push_back({std::move(id), outcome, std::move(text)});
  settings_.tell(report_.checks.back());
}

Result<std::unique_ptr<Port>> Tester::open(const pci::NicOptions& options) {
  auto function = settings_.open();
  if (!function) return std::unexpected(function.error());
  return open_nic(std::move(*function), options);
}

Result<Report> Tester::run() {
  auto first = open({});  // a NIC that is not there, not bound, in use, unknown: no test at all
  if (!first) return std::unexpected(first.error());
  const auto& nic = testable(**first);
  limits_ = nic.limits();
  vectors_ = nic.vectors();
  interrupt_ = nic.interrupt();
  ways_ = nic.loopbacks();
  first->reset();
  for (const Part part :
       {&Tester::reset, &Tester::registers, &Tester::loopback, &Tester::patterns, &Tester::jumbo,
        &Tester::arena, &Tester::queues, &Tester::interrupts, &Tester::link}) {
    if (stopped()) break;
    (this->*part)();
  }
  return report_;
}

// ---- reset and registers -------------------------------------------------------------------------------

// Each opening of a port resets the chip and waits until it says that it is ready.
void Tester::reset() {
  Clock::duration longest{};
  for (uint32_t i = 0; i < kResets && !stopped(); ++i) {
    const auto begin = Clock::now();
    const auto port = open({});
    if (!port) return fail("reset", port.error().message());
    longest = std::max(longest, Clock::now() - begin);
  }
  pass("reset", fmt::format("opened and reset {} times, the longest took {} ms", kResets,
                            std::chrono::duration_cast<milliseconds>(longest).count()));
}

// The NIC's own address, in the byte order of the wire; nothing where its registers are not known by name.
std::optional<std::array<uint8_t, 6>> own_address(const std::vector<pci::RegisterValue>& registers) {
  const auto value = [&](std::initializer_list<const char*> names) -> std::optional<uint32_t> {
    for (const auto& each : registers) {
      if (std::ranges::find(names, each.name) != names.end()) return each.value;
    }
    return std::nullopt;
  };
  const auto low = value({"RAL", "RAL0", "mac[0..3]"}), high = value({"RAH", "RAH0", "mac[4..5]"});
  if (!low || !high) return std::nullopt;
  std::array<uint8_t, 6> bytes;
  for (uint32_t i = 0; i < 6; ++i) bytes[i] = static_cast<uint8_t>((i < 4 ? *low : *high) >> 8 * (i % 4));
  return bytes;
}

// Nobody answers: ones everywhere; a device without power, or the wrong BAR: zeros.
std::string insane(const std::vector<pci::RegisterValue>& registers) {
  const auto all = [&](uint32_t value) {
    return std::ranges::all_of(registers, [&](const auto& each) { return each.value == value; });
  };
  if (registers.empty()) return "there are none";
  if (all(0)) return "all of them read 0";
  if (all(~0u)) return "all of them read ones: the device does not answer";
  const auto address = own_address(registers);
  if (!address) return "";
  if (std::ranges::all_of(*address, [](uint8_t byte) { return byte == 0; }))
    return "the NIC has no address of its own";
  return (*address)[0] & 1 ? "the NIC's own address is one of a group" : "";
}

void Tester::registers() {
  auto function = settings_.open();
  if (!function) return fail("registers", function.error().message());
  const auto values = dump_nic(**function);
  function->reset();
  if (!values) return fail("registers", values.error().message());
  if (const auto address = own_address(*values))
    report_.mac = fmt::format("{:02x}", fmt::join(*address, ":"));
  if (const std::string wrong = insane(*values); !wrong.empty()) return fail("registers", wrong);
  auto port = open({.transmit = true});
  if (!port) return fail("registers", port.error().message());
  const auto tried = testable(**port).try_registers();
  if (!tried) return fail("registers", tried.error().message());
  const std::string kept = *tried == 0 ? "none of them can be written without effect"
                                       : fmt::format("{} kept every pattern written to them", *tried);
  pass("registers", fmt::format("{} read and plausible; {}", values->size(), kept));
}

// ---- loopback ------------------------------------------------------------------------------------------

// Null, and a check that failed, where it does not even start.
std::unique_ptr<Loop> Tester::open_loop(const std::string& id, uint32_t mtu, pci::Loopback way) {
  auto port = open({.mtu = mtu, .descriptors = kDescriptors, .transmit = true, .loopback = way});
  if (!port) {
    fail(id, port.error().message());
    return nullptr;
  }
  auto loop = std::make_unique<Loop>(std::move(*port), settings_.arena, settings_.arena_bytes);
  if (auto started = loop->start(); !started) {
    fail(id, started.error().message());
    return nullptr;
  }
  return loop;
}

// The first way that works is used from here on; of the others is told whether they would.
void Tester::loopback() {
  if (ways_.empty()) return skip("loopback", kNoLoopback);
  std::string text;
  for (const pci::Loopback way : ways_) {
    const auto loop = open_loop("loopback", kUsualMtu, way);
    if (!loop) return;
    const bool came = loop->probe(kComesBackMs, settings_.stopped);
    if (stopped()) return;
    if (came && !way_) way_ = way;
    text += fmt::format("{}through the {}: {}", text.empty() ? "" : "; ", name_of(way),
                        came ? "frames come back" : "nothing comes back");
  }
  tell("loopback", way_ ? Outcome::kPassed : Outcome::kFailed, text);
}

void Tester::patterns() {
  exchange_lengths("patterns", kUsualMtu, static_cast<uint32_t>(std::size(kPatterns)));
}

void Tester::jumbo() {
  if (limits_.greatest_mtu <= kUsualMtu)
    return skip("jumbo", fmt::format("the driver takes an MTU of {} at most", limits_.greatest_mtu));
  exchange_lengths("jumbo", limits_.greatest_mtu, 1);
}

// All lengths in each round, the pattern one further each time: as many rounds as patterns are all pairs.
void Tester::exchange_lengths(const std::string& id, uint32_t mtu, uint32_t rounds) {
  if (!way_) return skip(id, ways_.empty() ? kNoLoopback : "nothing comes back");
  const auto loop = open_loop(id, mtu, *way_);
  if (!loop) return;
  if (!loop->probe(kComesBackMs, settings_.stopped))
    return stopped() ? void() : fail(id, fmt::format("nothing comes back with an MTU of {}", mtu));
  const uint32_t longest = mtu + kHeader, lengths = longest - kShortest + 1;
  const auto shape = [&](uint64_t number) -> Shape {
    const uint64_t pattern = (number % lengths + number / lengths) % std::size(kPatterns);
    return {.length = kShortest + static_cast<uint32_t>(number % lengths), .pattern = kPatterns[pattern]};
  };
  const auto done = loop->exchange(uint64_t{lengths} * rounds, shape, settings_.stopped);
  if (stopped()) return;
  if (!done) return fail(id, done.error().text);
  pass(id, fmt::format("{} frames, all lengths from {} to {} bytes{}, came back byte for byte, in order",
                       uint64_t{lengths} * rounds, kShortest, longest,
                       rounds == 1 ? "" : fmt::format(", {} patterns each", rounds)));
}

// Buffers go round, so that as many long frames as there are buffers, and a ring more, use all of them.
void Tester::arena() {
  const std::string no = ways_.empty() ? kNoLoopback : "nothing comes back";
  if (!way_) {
    skip("arena", no);
    return skip("counters", no);
  }
  const auto loop = open_loop("arena", kUsualMtu, *way_);
  if (!loop) return;
  const auto shape = [](uint64_t) -> Shape { return {.length = kUsualMtu + kHeader}; };
  Result<void> done;
  if (!loop->probe(kComesBackMs, settings_.stopped))
    done = ringcap::fail(Code::kSystem, "nothing comes back");
  const Counted before = count(*loop);
  for (uint32_t round = 0; round < 8 && done && !stopped(); ++round) {
    if (loop->never_received() == 0 && loop->never_sent() == 0) break;
    done = loop->exchange(loop->buffers() / 2 + kDescriptors, shape, settings_.stopped);
  }
  if (stopped()) return;
  if (!done) return fail("arena", done.error().text);
  const uint32_t missing = loop->never_received() + loop->never_sent();
  tell("arena", missing == 0 ? Outcome::kPassed : Outcome::kFailed,
       missing == 0
           ? fmt::format("the NIC wrote to each of {} buffers, and read from each, right", loop->buffers())
           : fmt::format("of {} buffers, the NIC never wrote to {} and never read from {}", loop->buffers(),
                         loop->never_received(), loop->never_sent()));
  compare(before, count(*loop));
}

// What the NIC counted is what was sent and came back. Not from the beginning: what is sent before there is
// link, some count and some do not.
void Tester::compare(const Counted& before, const Counted& after) {
  if (!after.sent || !after.received)
    return skip("counters", "this NIC does not count what it sends and receives");
  const uint64_t sent = *after.sent - *before.sent, received = *after.received - *before.received;
  const uint64_t bytes = after.bytes ? *after.bytes - *before.bytes : 0;
  const uint64_t our_sent = after.our_sent - before.our_sent,
                 our_received = after.our_received - before.our_received,
                 our_bytes = after.our_bytes - before.our_bytes;
  const uint64_t missed = after.missed - before.missed, bad = after.bad - before.bad;
  const bool right = sent == our_sent && received == our_received && (!after.bytes || bytes == our_bytes) &&
                     missed == 0 && bad == 0;
  tell(
      "counters", right ? Outcome::kPassed : Outcome::kFailed,
      fmt::format("the NIC counted {} sent, {} received with {} bytes, {} missed, {} bad; we did {} sent, {} "
                  "received with {} bytes",
                  sent, received, bytes, missed, bad, our_sent, our_received, our_bytes));
}

// ---- queues --------------------------------------------------------------------------------------------

// All that the chip has, also those that have no interrupt.
void Tester::queues() {
  if (limits_.queues == 1) return skip("queues", "the driver knows one receive queue of this NIC");
  if (!way_) return skip("queues", ways_.empty() ? kNoLoopback : "nothing comes back");
  if (interrupt_ == pci::Interrupt::kMsi || interrupt_ == pci::Interrupt::kIntx)
    return skip("queues",
                fmt::format("several queues need MSI-X, and there is {} here", name_of(interrupt_)));
  auto port = open(
      {.queues = limits_.queues, .descriptors = Spread::kDescriptors, .transmit = true, .loopback = *way_});
  if (!port) return fail("queues", port.error().message());
  Spread spread(std::move(*port), settings_.arena, settings_.arena_bytes);
  Result<void> done = spread.start();
  if (done) done = spread.exchange(kComesBackMs, settings_.stopped);
  if (stopped()) return;
  if (!done) return fail("queues", done.error().text);
  const std::vector<uint32_t> flows = spread.flows_of_queues();
  const bool all = std::ranges::none_of(flows, [](uint32_t count) { return count == 0; });
  tell("queues", all ? Outcome::kPassed : Outcome::kFailed,
       fmt::format(
           "{} flows, {} frames each, came back byte for byte through {} receive queues, each flow in one "
           "and in order: {} flows",
           Spread::kFlows, Spread::kRounds, flows.size(), fmt::join(flows, ", ")));
}

// ---- interrupts ----------------------------------------------------------------------------------------

// As many queues as there are vectors for, so that each vector is somebody's.
void Tester::interrupts() {
  const uint32_t queues = std::clamp<uint32_t>(vectors_ - 1, 1, limits_.queues);
  auto port = open({.queues = queues, .descriptors = kFewDescriptors});
  if (!port) return fail("interrupts", port.error().message());
  auto& nic = testable(**port);
  if (nic.interrupt() == pci::Interrupt::kNone)
    return fail("interrupts", "the kernel gives no interrupt for this NIC: it can only be polled");
  std::vector<FreeBuffers> free;
  const uint64_t each = uint64_t{(*port)->buffer_need()} * kFewDescriptors;
  if (each * queues > settings_.arena_bytes) return skip("interrupts", "the arena is too small");
  Result<void> ready = (*port)->prepare({.arena = settings_.arena, .arena_bytes = settings_.arena_bytes});
  for (uint32_t q = 0; q < queues && ready; ++q) {
    ReceiveQueue& queue = *(*port)->receive_queues()[q];
    free.emplace_back(queue.descriptors());
    for (uint32_t i = 0; i < queue.descriptors(); ++i) free[q].push(i);
    ready = queue.arm({.base = settings_.arena + q * each,
                       .arena_offset = q * each,
                       .buffer_bytes = (*port)->buffer_need(),
                       .count = queue.descriptors(),
                       .number = static_cast<uint8_t>(q)},
                      free[q]);
  }
  if (ready) ready = (*port)->start();
  const Result<std::string> fired = ready ? fire_all(**port, nic) : std::unexpected(ready.error());
  (*port)->stop();
  if (stopped()) return;
  if (!fired) return fail("interrupts", fired.error().message());
  if (fired->empty())
    return skip("interrupts",
                fmt::format("{} armed; this NIC fires none that has no cause", name_of(nic.interrupt())));
  pass("interrupts", *fired);
}

bool readable(int fd, milliseconds deadline) {
  pollfd ready{.fd = fd, .events = POLLIN, .revents = 0};
  return ::poll(&ready, 1, static_cast<int>(deadline.count())) == 1;
}

// Empty: there is no way to cause it.
std::optional<bool> Tester::wakes_by(ReceiveQueue& queue, const std::function<bool()>& cause) {
  queue.enable_wake();
  if (!cause()) {
    queue.disable_wake();
    return std::nullopt;
  }
  const auto end = Clock::now() + kInterruptDeadline;
  bool woke = false;
  while (!(woke = readable(queue.wait_fd(), milliseconds(50))) && Clock::now() < end && !stopped()) {
  }
  queue.disable_wake();
  return woke;
}

// Empty: the NIC cannot be made to.
Result<std::string> Tester::fire_all(Port& port, pci::SelfTestable& nic) {
  const auto queues = static_cast<uint32_t>(port.receive_queues().size());
  uint32_t fired = 0;
  for (uint32_t q = 0; q < queues && !stopped(); ++q) {
    if (!nic.wakes(q)) continue;
    const auto woke = wakes_by(*port.receive_queues()[q], [&] { return nic.fire(q); });
    if (!woke) return std::string();
    if (!*woke)
      return ringcap::fail(
          Code::kSystem,
          fmt::format("{}: that of receive queue {} was fired, and never came", name_of(nic.interrupt()), q));
    ++fired;
  }
  // What is no frame: by a vector of its own, or told by the queue that shares it.
  port.handle_event();
  bool told = false;
  const auto end = Clock::now() + kInterruptDeadline;
  while (!told && Clock::now() < end && !stopped()) {
    ReceiveQueue& queue = *port.receive_queues()[0];
    if (nic.interrupt() != pci::Interrupt::kMsix) queue.enable_wake();
    nic.fire(queues);
    told = readable(port.event_fd(), milliseconds(100));
    if (nic.interrupt() != pci::Interrupt::kMsix) queue.disable_wake();
    told = told || readable(port.event_fd(), milliseconds(0));
  }
  if (!told)
    return ringcap::fail(Code::kSystem, fmt::format("{}: that of link changes was fired, and never came",
                                                    name_of(nic.interrupt())));
  return fmt::format("{}: {} of receive queues and that of link changes, each fired and came",
                     name_of(nic.interrupt()), fired);
}

// ---- link ----------------------------------------------------------------------------------------------

// Without loopback. That there is no cable is no fault of the NIC's.
void Tester::link() {
  auto port = open({.descriptors = kDescriptors, .transmit = true});
  if (!port) return fail("link", port.error().message());
  Loop listener(std::move(*port), settings_.arena, settings_.arena_bytes);
  if (auto started = listener.start(); !started) return fail("link", started.error().message());
  const auto begin = Clock::now();
  const auto end = begin + milliseconds(settings_.link_wait_ms);
  Link link = listener.port().link();
  while (!link.up && link.present && Clock::now() < end && !stopped()) {
    std::this_thread::sleep_for(milliseconds(10));
    link = listener.port().link();
  }
  if (stopped()) return;
  if (!link.present) return fail("link", "the NIC does not answer any more");
  if (!link.up)
    return skip("link", fmt::format("no link within {} s: no cable, or nobody at its other end",
                                    settings_.link_wait_ms / 1000.0));
  pass("link", fmt::format("up{} after {} ms",
                           link.mbps == 0 ? std::string() : fmt::format(", {} Mbit/s,", link.mbps),
                           std::chrono::duration_cast<milliseconds>(Clock::now() - begin).count()));
}

}  // namespace

Result<Report> run(const Settings& settings) { return Tester(settings).run(); }

}  // namespace ringcap::selftest

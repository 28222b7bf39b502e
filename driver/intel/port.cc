#include "driver/intel/port.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <ctime>
#include <thread>

#include "driver/intel/registers.h"
#include "driver/pci/moderation_names.h"

namespace ringcap::intel {
namespace {

using std::chrono::milliseconds;

constexpr uint64_t kBarBytes = 128 << 10;
constexpr uint32_t kUsualMtu = 1500;
constexpr uint32_t kShortBuffer = 2048, kJumboBuffer = 16384;
constexpr milliseconds kDrain{10};
constexpr int kClockTries = 8;
constexpr uint64_t kClockNearNs = 5'000, kClockSetNs = 1'000'000;

uint64_t realtime_ns() {
  timespec now{};
  ::clock_gettime(CLOCK_REALTIME, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
}

}  // namespace

// ---- open --------------------------------------------------------------------------------------------

IntelPort::IntelPort(std::unique_ptr<pci::Function> function, const pci::NicOptions& options,
                     const ChipFacts& facts, std::span<const Counter> counters)
    : NicPort(std::move(function), options), facts_(facts), statistics_(counters) {}

Result<void> IntelPort::initialise() {
  const pci::NicLimits limits{.driver = facts_.driver,
                              .chip = facts_.chip,
                              .queues = facts_.queues,
                              .greatest_mtu = facts_.greatest_mtu,
                              .stamps = facts_.clock != nullptr};
  if (Result<void> possible = check_options(limits); !possible) return possible;
  Result<std::unique_ptr<pci::Bar>> bar = function_->bar(0);
  if (!bar) return std::unexpected(bar.error());
  if ((*bar)->bytes() < kBarBytes) {
    return fail(Code::kSystem,
                fmt::format("BAR 0 has {} bytes, an {}'s has {}", (*bar)->bytes(), facts_.chip, kBarBytes));
  }
  bar_ = std::move(*bar);
  registers_ = Registers(bar_.get());
  if (Result<void> done = reset(); !done) return done;
  statistics_.clear(registers_);  // whoever had it before may have died without reading them
  if (Result<void> armed = arm_interrupts(facts_.vectors); !armed) return armed;
  if (Result<void> watched = watch_events(); !watched) return watched;
  return make_queues();
}

bool IntelPort::jumbo() const { return options_.mtu > kUsualMtu; }

uint32_t IntelPort::longest_frame() const {
  return (jumbo() ? options_.mtu : kUsualMtu) + facts_.longest_overhead;
}

uint32_t IntelPort::buffer_need() const { return jumbo() ? kJumboBuffer : kShortBuffer; }

// Colouring: the device drops what is longer than 1,518 or 1,522 bytes, so that behind the last start, 448,
// everything ends before byte 1,976 of 2,048. Not with bad=1 (SBP lets longer frames in), and not with a
// larger MTU: then the device might write a long frame beyond the buffer's end.
Result<void> IntelPort::make_queues() {
  if (options_.adapter_time) clock_ = std::make_unique<AdapterClock>(*facts_.clock);
  for (uint32_t number = 0; number < options_.queues; ++number) {
    auto memory = allocate_ring(uint64_t{options_.descriptors} * sizeof(Descriptor));
    if (!memory) return std::unexpected(memory.error());
    Wake wake = own_vectors_ ? wake_of(number) : shared_wake();
    wake.function = function_.get();
    if (!own_vectors_) wake.link_event_fd = link_event_.get();
    if (own_vectors_ && !has_vector(number)) wake.vector = -1;
    const ReceiveSettings settings{.driver = facts_.driver,
                                   .number = number,
                                   .descriptors = options_.descriptors,
                                   .buffer_need = buffer_need(),
                                   .shortest_good = kShortestFrame + crc_bytes(),
                                   .longest_good = longest_frame() + crc_bytes(),
                                   .bad = options_.bad,
                                   .colour = !jumbo() && !options_.bad,
                                   .tail = receive_block(number) + RDT,
                                   .clock = clock_.get(),
                                   .throttle = throttle_of(number),
                                   .moderation_us = options_.moderation_us};
    std::unique_ptr<IntelReceive> ring = make_receive(settings, *memory, wake);
    rings_.push_back(ring.get());
    queues_.push_back(std::move(ring));
    if (!wakes(number)) continue;
    // Not the chip's, but asked for in the same breath.
    const size_t at = statistics_.add(pci::moderation_us_name(number));
    if (moderated_++ == 0) moderation_at_ = at;
  }
  if (!options_.transmit) return {};
  auto memory = allocate_ring(IntelTransmitQueue::ring_bytes());
  if (!memory) return std::unexpected(memory.error());
  transmit_ = make_transmit(*memory);
  return {};
}

std::unique_ptr<IntelReceive> IntelPort::make_receive(const ReceiveSettings& settings,
                                                      pci::Function::DmaMemory ring, const Wake& wake) {
  return std::make_unique<IntelReceiveQueue<ExtendedReceive>>(settings, registers_, ring, counting(), wake);
}

// Where it matters, room for two, of which one does not cross the boundary.
Result<pci::Function::DmaMemory> IntelPort::allocate_ring(uint64_t bytes) {
  const uint64_t within = facts_.ring_within;
  auto memory = function_->dma_allocate(within == 0 ? bytes : 2 * bytes);
  if (!memory || within == 0) return memory;
  const auto first = static_cast<uint64_t>(memory->iova);
  const bool crosses = first / within != (first + bytes - 1) / within;
  const uint64_t skip = crosses ? within - first % within : 0;
  return pci::Function::DmaMemory{memory->data + skip, pci::Iova{first + skip}, bytes};
}

void IntelPort::set_receive_arena(pci::Iova arena) {
  for (IntelReceive* ring : rings_) ring->set_arena(arena);
}

// ---- for the families -------------------------------------------------------------------------------

// Datasheet, "Receive Initialization". The ring need not start at slot 0.
void IntelPort::write_ring(uint32_t queue) {
  const uint32_t block = receive_block(queue), at = rings_[queue]->resume_at();
  registers_.write(block + RDBAL, static_cast<uint32_t>(rings_[queue]->ring_iova()));
  registers_.write(block + RDBAH, static_cast<uint32_t>(rings_[queue]->ring_iova() >> 32));
  registers_.write(block + RDLEN, rings_[queue]->ring_bytes());
  registers_.write(block + RDH, at);
  registers_.write(block + RDT, at);
}

// Datasheet, "Transmit Initialization".
void IntelPort::write_transmit_ring() {
  const uint32_t block = facts_.transmit_block, at = transmit_->restart();
  registers_.write(block + TDBAL, static_cast<uint32_t>(transmit_->ring_iova()));
  registers_.write(block + TDBAH, static_cast<uint32_t>(transmit_->ring_iova() >> 32));
  registers_.write(block + TDLEN, IntelTransmitQueue::ring_bytes());
  registers_.write(block + TDH, at);
  registers_.write(block + TDT, at);
}

void IntelPort::write_moderation(uint32_t queue) {
  const Throttle throttle = throttle_of(queue);
  registers_.write(throttle.offset, throttle.value(rings_[queue]->moderation_us()));
}

bool IntelPort::absent() const { return gone_ || registers_.read(STATUS) == kAbsent; }

Error IntelPort::stuck(const std::string& what, bool quiet) const {
  return {Code::kSystem,
          fmt::format("{} (CTRL {:#010x}, STATUS {:#010x}{})", what, registers_.read(CTRL),
                      registers_.read(STATUS), quiet ? "" : ", DMA did not stop"),
          "switch the machine off and on again; a warm start may not be enough"};
}

// ---- start and stop ----------------------------------------------------------------------------------

bool IntelPort::armed() const {
  return std::ranges::all_of(rings_, [](const IntelReceive* ring) { return ring->armed(); });
}

Result<void> IntelPort::bring_up() {
  if (Result<void> done = reset(); !done) return done;
  configure();
  set_clock();
  statistics_.clear(registers_);
  Result<void> done = loop_back();
  if (done) done = start_queues();
  if (!done) static_cast<void>(reset());  // bus master off
  return done;
}

Result<void> IntelPort::start_queues() {
  const auto count = static_cast<uint32_t>(rings_.size());
  Result<void> done;
  for (uint32_t queue = 0; done && queue < count; ++queue) done = program_receive(queue);
  // Until here the device could not reach memory, whatever state it was in.
  if (done) done = function_->set_bus_master(true);
  for (uint32_t queue = 0; done && queue < count; ++queue) done = switch_on_receive(queue);
  if (done && transmit_) done = program_transmit();
  if (!done) return done;
  if (transmit_) transmit_->open();
  receive_on();
  for (IntelReceive* ring : rings_) ring->open();  // after it, or the device does not see it
  if (own_vectors_) unmask_link_interrupt();
  registers_.flush();
  return {};
}

// Addresses of rings that do not run, and of the multicast table: written anew by every start.
Result<uint32_t> IntelPort::try_registers() {
  const uint32_t kept[] = {receive_block(0) + RDBAH, facts_.transmit_block + TDBAL,
                           facts_.transmit_block + TDBAH, MTA, MTA + 4 * 127};
  constexpr uint32_t kAligned = ~0x7fu;  // the lowest bits of an address are always 0
  for (const uint32_t offset : kept) {
    for (const uint32_t pattern : {0x5a5a'5a5au, 0xa5a5'a5a5u, 0xffff'ffffu, 0u}) {
      registers_.write(offset, pattern & kAligned);
      const uint32_t read = registers_.read(offset) & kAligned;
      if (read == (pattern & kAligned)) continue;
      return fail(Code::kSystem, fmt::format("register {:#07x} was written {:#010x} and reads {:#010x}",
                                             offset, pattern & kAligned, read));
    }
  }
  return static_cast<uint32_t>(std::size(kept));
}

// ---- timestamps --------------------------------------------------------------------------------------

// The NIC's clock begins at the system's time: what was stamped before a reset, and not taken yet, still
// means the same after it.
void IntelPort::set_clock() {
  if (!clock_) return;
  for (int i = 0; i < kClockTries; ++i) {
    const uint64_t now = realtime_ns();
    start_clock(now);
    if (realtime_ns() - now < kClockSetNs) break;  // else we were taken off the processor meanwhile
  }
  clock_->restart();
  note_clock();
}

void IntelPort::note_clock() {
  if (!clock_) return;
  AdapterClock::Reading best{.apart_ns = ~uint64_t{0}};
  for (int i = 0; i < kClockTries && best.apart_ns > kClockNearNs; ++i) {
    const uint64_t before = realtime_ns(), device = read_clock(), apart = realtime_ns() - before;
    if (apart < best.apart_ns) best = {device, before + apart / 2, apart};
  }
  if (!absent()) clock_->note(best);
}

void IntelPort::quiesce() {
  mask_interrupts();
  traffic_off();
  registers_.flush();
  std::this_thread::sleep_for(kDrain);  // what is in the chip still finds its way into memory
  update_statistics();
  registers_.clear(CTRL_EXT, ctrl_ext::DRV_LOAD);
  static_cast<void>(reset());
}

// ---- counting ------------------------------------------------------------------------------------------

QueueCounters IntelPort::counters() {
  update_statistics();
  if (running_) note_clock();
  for (size_t queue = 0; queue < moderated_; ++queue)
    statistics_.set(moderation_at_ + queue, rings_[queue]->moderation_us());
  return count_all();
}

// One queue has what the port has. Several share the chip's counters, but for what each had no descriptor
// for.
QueueCounters IntelPort::count_queue(uint32_t queue) {
  if (rings_.size() == 1) return counters();
  return {.missed = dropped_by(queue)};
}

uint64_t IntelPort::dropped() const {
  uint64_t sum = 0;
  for (uint32_t queue = 0; queue < queue_count(); ++queue) {
    const uint64_t drops = dropped_by(queue);
    if (drops != layout::kNotCounted) sum += drops;
  }
  return sum;
}

uint64_t IntelPort::bad_delivered() const {
  uint64_t sum = 0;
  for (const IntelReceive* ring : rings_) sum += ring->bad_delivered();
  return sum;
}

std::string IntelPort::remark() const {
  return rings_.size() > 1 ? pci::rss_remark(rss_key_, static_cast<uint32_t>(rings_.size())) : "";
}

}  // namespace ringcap::intel

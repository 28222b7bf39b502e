#include "driver/intel/port.h"

#include <fmt/format.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

#include <algorithm>
#include <chrono>
#include <thread>

#include "driver/intel/registers.h"

namespace ringcap::intel {
namespace {

using std::chrono::milliseconds;

constexpr uint64_t kBarBytes = 128 << 10;
constexpr uint32_t kLeastMtu = 68;  // RFC 791
constexpr uint32_t kUsualMtu = 1500;
constexpr uint32_t kLeastDescriptors = 64, kMostDescriptors = 4096;
constexpr uint32_t kShortBuffer = 2048, kJumboBuffer = 16384;
constexpr int64_t kAutoModerationUs = 20;
constexpr milliseconds kPhyDeadline{20}, kDrain{10};

std::unexpected<Error> refuse(std::string what, std::string mend = {}) {
  return fail(Code::kUsage, std::move(what), std::move(mend));
}

}  // namespace

// ---- open --------------------------------------------------------------------------------------------

GigabitPort::GigabitPort(std::unique_ptr<pci::Function> function, const pci::NicOptions& options,
                         const ChipFacts& facts, std::span<const Counter> counters)
    : facts_(facts),
      address_("vfio:" + function->address()),
      options_(options),
      function_(std::move(function)),
      statistics_(counters) {}

void GigabitPort::close() {
  stop();
  function_->release();
}

Result<void> GigabitPort::check() const {
  const pci::NicOptions& o = options_;
  if (o.queues == 0 || o.queues > facts_.queues) {
    return refuse(
        fmt::format("queues={}: {} ({}) has {} receive queue{}", o.queues, facts_.chip, facts_.driver,
                    facts_.queues, facts_.queues == 1 ? "" : "s"),
        facts_.queues == 1 ? "use queues=1" : fmt::format("use queues=1 to queues={}", facts_.queues));
  }
  if (o.mtu < kLeastMtu || o.mtu > facts_.greatest_mtu) {
    return refuse(
        fmt::format("mtu={}: {} takes {} to {}", o.mtu, facts_.driver, kLeastMtu, facts_.greatest_mtu));
  }
  if (o.descriptors < kLeastDescriptors || o.descriptors > kMostDescriptors || o.descriptors % 8 != 0) {
    return refuse(fmt::format("descriptors={}: {} takes a multiple of 8 from {} to {}", o.descriptors,
                              facts_.driver, kLeastDescriptors, kMostDescriptors));
  }
  return {};
}

Result<void> GigabitPort::initialise() {
  if (Result<void> possible = check(); !possible) return possible;
  Result<std::unique_ptr<pci::Bar>> bar = function_->bar(0);
  if (!bar) return std::unexpected(bar.error());
  if ((*bar)->bytes() < kBarBytes) {
    return fail(Code::kSystem,
                fmt::format("BAR 0 has {} bytes, an {}'s has {}", (*bar)->bytes(), facts_.chip, kBarBytes));
  }
  bar_ = std::move(*bar);
  registers_ = Registers(bar_.get());
  if (Result<void> done = reset(); !done) return done;
  if (Result<void> armed = arm_interrupts(); !armed) return armed;
  if (Result<void> watched = watch_events(); !watched) return watched;
  return make_queues();
}

// With MSI-X each queue has a vector, and link changes have the last. Queues beyond that can only be polled.
Result<void> GigabitPort::arm_interrupts() {
  const uint32_t vectors = std::min(options_.queues + 1, facts_.vectors);
  Result<pci::Interrupt> interrupt = function_->enable_interrupts(vectors);
  if (!interrupt) return std::unexpected(interrupt.error());
  link_vector_ = vectors - 1;
  own_vectors_ = *interrupt == pci::Interrupt::kMsix && function_->interrupt_fd(link_vector_) >= 0;
  if (options_.queues > 1 && *interrupt != pci::Interrupt::kNone && !own_vectors_) {
    return refuse(fmt::format("queues={}: several queues need MSI-X interrupts, and there are none here",
                              options_.queues),
                  "use queues=1");
  }
  return {};
}

Result<void> GigabitPort::watch_events() {
  link_event_ = Fd(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
  events_ = Fd(::epoll_create1(EPOLL_CLOEXEC));
  if (!link_event_ || !events_) return fail_system("cannot make the descriptors for events");
  for (const int fd : {link_event_.get(), own_vectors_ ? function_->interrupt_fd(link_vector_) : -1,
                       function_->event_fd()}) {
    if (fd < 0) continue;
    epoll_event event{.events = EPOLLIN, .data = {.fd = fd}};
    if (::epoll_ctl(events_.get(), EPOLL_CTL_ADD, fd, &event) != 0)
      return fail_system("cannot watch for events");
  }
  return {};
}

bool GigabitPort::jumbo() const { return options_.mtu > kUsualMtu; }

uint32_t GigabitPort::longest_frame() const {
  return (jumbo() ? options_.mtu : kUsualMtu) + facts_.longest_overhead;
}

uint32_t GigabitPort::buffer_need() const { return jumbo() ? kJumboBuffer : kShortBuffer; }

int64_t GigabitPort::moderation_us() const {
  return options_.moderation_us == pci::kModerationAuto ? kAutoModerationUs : options_.moderation_us;
}

// Colouring: the device drops what is longer than 1,518 or 1,522 bytes, so that behind the last start, 448,
// everything ends before byte 1,976 of 2,048. Not with bad=1 (SBP lets longer frames in), and not with a
// larger MTU: then the device might write a long frame beyond the buffer's end.
Result<void> GigabitPort::make_queues() {
  QueueCounting& counting = *this;
  for (uint32_t number = 0; number < options_.queues; ++number) {
    auto memory = function_->dma_allocate(uint64_t{options_.descriptors} * sizeof(Descriptor));
    if (!memory) return std::unexpected(memory.error());
    Wake wake = own_vectors_ ? wake_of(number) : Wake{.link_event_fd = link_event_.get()};
    wake.function = function_.get();
    if (own_vectors_ && !has_vector(number)) wake.vector = -1;
    const ReceiveSettings settings{.driver = facts_.driver,
                                   .number = number,
                                   .descriptors = options_.descriptors,
                                   .buffer_need = buffer_need(),
                                   .longest_good = longest_frame(),
                                   .bad = options_.bad,
                                   .colour = !jumbo() && !options_.bad,
                                   .tail = receive_block(number) + RDT};
    auto ring = std::make_unique<ReceiveRing>(settings, registers_, *memory, counting, wake);
    rings_.push_back(ring.get());
    queues_.push_back(std::move(ring));
  }
  if (!options_.transmit) return {};
  auto memory = function_->dma_allocate(IntelTransmitQueue::ring_bytes());
  if (!memory) return std::unexpected(memory.error());
  transmit_ = make_transmit(*memory);
  return {};
}

// Received frames are the device's to write and never to read; frames to send the other way round. So the
// same memory is mapped once for each.
Result<void> GigabitPort::prepare(const PortNeeds& needs) {
  if (gone_) return context(function_->address(), lost());
  Result<pci::Iova> writable =
      function_->dma_map(needs.arena, needs.arena_bytes, pci::DmaAccess::kDeviceWrites);
  if (!writable) return context(function_->address(), writable.error());
  for (ReceiveRing* ring : rings_) ring->set_arena(*writable);
  if (!transmit_) return {};
  Result<pci::Iova> readable =
      function_->dma_map(needs.arena, needs.arena_bytes, pci::DmaAccess::kDeviceReads);
  if (!readable) return context(function_->address(), readable.error());
  transmit_->set_arena(*readable);
  return {};
}

// ---- for the families -------------------------------------------------------------------------------

// Datasheet, "Receive Initialization". The ring need not start at slot 0.
void GigabitPort::write_ring(uint32_t queue) {
  const uint32_t block = receive_block(queue), at = rings_[queue]->resume_at();
  registers_.write(block + RDBAL, static_cast<uint32_t>(rings_[queue]->ring_iova()));
  registers_.write(block + RDBAH, static_cast<uint32_t>(rings_[queue]->ring_iova() >> 32));
  registers_.write(block + RDLEN, rings_[queue]->ring_bytes());
  registers_.write(block + RDH, at);
  registers_.write(block + RDT, at);
}

// Datasheet, "Transmit Initialization".
void GigabitPort::write_transmit_ring() {
  const uint32_t block = facts_.transmit_block, at = transmit_->restart();
  registers_.write(block + TDBAL, static_cast<uint32_t>(transmit_->ring_iova()));
  registers_.write(block + TDBAH, static_cast<uint32_t>(transmit_->ring_iova() >> 32));
  registers_.write(block + TDLEN, IntelTransmitQueue::ring_bytes());
  registers_.write(block + TDH, at);
  registers_.write(block + TDT, at);
}

Result<uint32_t> GigabitPort::phy(uint32_t command) const {
  registers_.write(MDIC, command | mdic::PHY_1);
  const bool ready = wait_for(kPhyDeadline, [&] { return registers_.read(MDIC) & mdic::READY; });
  const uint32_t result = registers_.read(MDIC);
  if (!ready || result == kAbsent || (result & mdic::ERROR)) {
    return fail(Code::kSystem, fmt::format("the NIC's PHY does not answer (MDIC {:#010x})", result));
  }
  return result & 0xffff;
}

Result<uint32_t> GigabitPort::read_phy(uint32_t reg) const {
  return phy(mdic::READ | reg << mdic::REGISTER_SHIFT);
}

Result<void> GigabitPort::write_phy(uint32_t reg, uint32_t value) const {
  Result<uint32_t> done = phy(mdic::WRITE | reg << mdic::REGISTER_SHIFT | value);
  if (!done) return std::unexpected(done.error());
  return {};
}

bool GigabitPort::absent() const { return gone_ || registers_.read(STATUS) == kAbsent; }

Error GigabitPort::lost() const {
  return {Code::kGone, "it does not answer: it was unbound, unplugged, or lost power",
          "ringcap devices shows what is there"};
}

Error GigabitPort::stuck(const std::string& what, bool quiet) const {
  return {Code::kSystem,
          fmt::format("{} (CTRL {:#010x}, EECD {:#010x}{})", what, registers_.read(CTRL),
                      registers_.read(EECD), quiet ? "" : ", DMA did not stop"),
          "switch the machine off and on again; a warm start may not be enough"};
}

// ---- start and stop ----------------------------------------------------------------------------------

Result<void> GigabitPort::start() {
  if (gone_) return context(function_->address(), lost());
  if (running_) return {};
  for (const ReceiveRing* ring : rings_)
    if (!ring->armed()) return fail(Code::kUsage, address_ + ": its queue has no buffers yet");
  if (Result<void> done = reset(); !done) return context(function_->address(), done.error());
  configure();
  statistics_.clear(registers_);
  if (Result<void> done = start_queues(); !done) {
    static_cast<void>(reset());  // bus master off
    return context(function_->address(), done.error());
  }
  running_ = true;
  return {};
}

Result<void> GigabitPort::start_queues() {
  const auto count = static_cast<uint32_t>(rings_.size());
  Result<void> done;
  for (uint32_t queue = 0; done && queue < count; ++queue) done = program_receive(queue);
  // Until here the device could not reach memory, whatever state it was in.
  if (done) done = function_->set_bus_master(true);
  for (uint32_t queue = 0; done && queue < count; ++queue) done = switch_on_receive(queue);
  if (done && transmit_) done = program_transmit();
  if (!done) return done;
  if (transmit_) transmit_->open();
  registers_.write(RCTL, receive_control());
  for (ReceiveRing* ring : rings_) ring->open();  // after RCTL.EN, or the device does not see it
  if (own_vectors_) unmask_link_interrupt();
  registers_.flush();
  return {};
}

void GigabitPort::stop() {
  if (!running_) return;
  running_ = false;
  quiesce();
}

void GigabitPort::quiesce() {
  if (gone_) return;
  mask_interrupts();
  registers_.write(RCTL, 0);
  registers_.write(TCTL, 0);
  registers_.flush();
  std::this_thread::sleep_for(kDrain);  // what is in the chip still finds its way into memory
  update_statistics();
  registers_.clear(CTRL_EXT, ctrl_ext::DRV_LOAD);
  static_cast<void>(reset());
}

// ---- link, events, loss --------------------------------------------------------------------------------

Link GigabitPort::link() {
  if (!gone_ && absent()) leave();
  if (gone_) return {.up = false, .present = false, .mbps = 0};
  constexpr uint32_t kMbps[] = {10, 100, 1000, 1000};
  const uint32_t state = registers_.read(STATUS);
  if (!(state & status::LU)) return {.up = false, .present = true, .mbps = 0};
  return {.up = true, .present = true, .mbps = kMbps[(state >> status::SPEED_SHIFT) & 3]};
}

void GigabitPort::handle_event() {
  if (gone_) return;
  const pci::Function::Events events = function_->consume_events();
  if (events.removal || function_->gone() || absent()) return leave();
  if (events.error && running_) recover();
  eventfd_t ignored;
  ::eventfd_read(link_event_.get(), &ignored);
  if (!own_vectors_ || gone_) return;
  // Cleared before STATUS is read (by link(), after this), so that no change falls between.
  function_->consume_interrupt(link_vector_);
  clear_link_interrupt();
  if (running_) unmask_link_interrupt();
}

// After a PCIe error the device's state is not to be trusted. The workers may go on polling meanwhile: the
// rings stay where they are, and the device goes on where each worker is.
void GigabitPort::recover() {
  running_ = false;
  quiesce();
  static_cast<void>(function_->reset());
  if (!start()) leave();
}

// Somebody takes the device away, or did. Whoever unbinds it waits for us: be quick.
void GigabitPort::leave() {
  if (gone_) return;
  const bool answers = !absent() && !function_->gone();
  if (answers) stop();
  gone_ = true;
  running_ = false;
  function_->release();
}

// ---- counting ------------------------------------------------------------------------------------------

QueueCounters GigabitPort::counters() {
  update_statistics();
  return count_all();
}

// One queue has what the port has. Several share the chip's counters, but for what each had no descriptor
// for.
QueueCounters GigabitPort::count_queue(uint32_t queue) {
  if (rings_.size() == 1) return counters();
  return {.missed = dropped_by(queue)};
}

QueueCounters GigabitPort::count_all() const {
  const uint64_t good = statistics_.of(GPRC), full = statistics_.of(MPC);
  uint64_t bad = 0, delivered = 0;
  for (const uint32_t counter : {CRCERRS, RUC, RFC, ROC, RJC}) bad += statistics_.of(counter);
  for (const ReceiveRing* ring : rings_) delivered += ring->bad_delivered();
  if (options_.bad) return {.received = good + full + delivered, .missed = full + dropped(), .bad = 0};
  return {.received = good + full + bad, .missed = full + dropped(), .bad = bad};
}

std::string GigabitPort::remark() const {
  return rings_.size() > 1 ? rss_remark(rss_key_, static_cast<uint32_t>(rings_.size())) : "";
}

}  // namespace ringcap::intel

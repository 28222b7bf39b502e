#include "driver/vmxnet3/port.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cstring>

namespace ringcap::vmxnet3 {
namespace {

constexpr uint32_t kTwoTags = 22;  // header and two VLAN tags: what a frame has beside its MTU
constexpr uint32_t kGreatestMtu = 9000;
constexpr uint32_t kRevision1 = 1;  // the bit in VRRS and UVRS
// Interrupts, where there is more than one: the receive queue's 0, the events' 1; nobody waits for this one.
constexpr uint8_t kTransmitVector = 2;
constexpr uint32_t kGuest64Bits = 2, kGuestLinux = 1 << 2;  // DriverInfo::gos
constexpr uint32_t kVersion = 1;                            // DriverInfo::version: nobody looks at it
constexpr uint32_t kEverything = mode::UCAST | mode::MCAST | mode::BCAST | mode::ALL_MULTI | mode::PROMISC;

Result<std::unique_ptr<pci::Bar>> open_bar(pci::Function& function, uint32_t index, uint64_t least) {
  Result<std::unique_ptr<pci::Bar>> bar = function.bar(index);
  if (bar && (*bar)->bytes() < least) {
    return fail(Code::kSystem,
                fmt::format("BAR {} has {} bytes, a vmxnet3's has {}", index, (*bar)->bytes(), least));
  }
  return bar;
}

}  // namespace

// ---- open --------------------------------------------------------------------------------------------

Result<std::unique_ptr<Port>> Vmxnet3Port::open(std::unique_ptr<pci::Function> function,
                                                const pci::NicOptions& options) {
  const std::string address = function->address();
  std::unique_ptr<Vmxnet3Port> port(new Vmxnet3Port(std::move(function), options));
  if (Result<void> ready = port->initialise(); !ready) return context(address, ready.error());
  return port;
}

Result<void> Vmxnet3Port::initialise() {
  if (Result<void> possible = check(); !possible) return possible;
  if (Result<void> opened = open_bars(); !opened) return opened;
  if (Result<void> done = reset(); !done) return done;
  if (Result<void> armed = arm_interrupts(options_.queues + 1); !armed) return armed;
  if (Result<void> watched = watch_events(); !watched) return watched;
  if (Result<void> allocated = allocate(); !allocated) return allocated;
  return make_queues();
}

Result<void> Vmxnet3Port::check() {
  const pci::NicLimits limits{.driver = "vmxnet3",
                              .chip = "this vmxnet3 device",
                              .queues = 1,
                              .greatest_mtu = kGreatestMtu,
                              .most_descriptors = kGreatestRing - kRingStep,
                              .descriptors_step = kRingStep};
  if (Result<void> possible = check_options(limits); !possible) return possible;
  if (options_.crc)
    return pci::refuse("crc=1: frames come to vmxnet3 without a CRC that could be kept", "leave crc=1 out");
  if (options_.moderation_us > 0)
    return pci::refuse(fmt::format("moderation={}: vmxnet3 moderates its interrupts as it sees fit, or not "
                                   "at all: the revision of its interface that ringcap speaks knows no times",
                                   options_.moderation_us),
                       "use moderation=auto or moderation=off");
  return {};
}

Result<void> Vmxnet3Port::open_bars() {
  Result<std::unique_ptr<pci::Bar>> first = open_bar(*function_, 0, pt::BYTES);
  if (!first) return std::unexpected(first.error());
  Result<std::unique_ptr<pci::Bar>> second = open_bar(*function_, 1, vd::BYTES);
  if (!second) return std::unexpected(second.error());
  bar0_ = std::move(*first);
  bar1_ = std::move(*second);
  pt_ = pci::Registers(bar0_.get());
  vd_ = pci::Registers(bar1_.get());
  return {};
}

Result<void> Vmxnet3Port::allocate() {
  auto memory = function_->dma_allocate(kSharedBytes);
  if (!memory) return std::unexpected(memory.error());
  memory_ = *memory;
  return {};
}

Result<void> Vmxnet3Port::make_queues() {
  const bool alone = interrupt_ == pci::Interrupt::kNone || (own_vectors_ && !has_vector(0));
  const ReceiveSettings settings{.descriptors = options_.descriptors,
                                 .buffer_need = buffer_need(),
                                 .bad = options_.bad,
                                 .function = function_.get(),
                                 .pt = pt_,
                                 .vd = vd_,
                                 .counting = this,
                                 .control = &receive_description(),
                                 .vector = alone ? -1 : 0,
                                 .line = interrupt_ == pci::Interrupt::kIntx,
                                 .events = own_vectors_ ? nullptr : &shared(),
                                 .event_fd = link_event_.get()};
  auto receive = Vmxnet3ReceiveQueue::make(settings);
  if (!receive) return std::unexpected(receive.error());
  receive_ = receive->get();
  queues_.push_back(std::move(*receive));
  // There is always one: a device without is nothing that anybody has tried.
  auto transmit = Vmxnet3TransmitQueue::make({.longest = kGreatestMtu + kTwoTags,
                                              .function = function_.get(),
                                              .pt = pt_,
                                              .event_fd = link_event_.get()});
  if (!transmit) return std::unexpected(transmit.error());
  transmit_ = std::move(*transmit);
  return {};
}

uint32_t Vmxnet3Port::buffer_need() const {
  return std::max(2048u, std::bit_ceil(options_.mtu + kTwoTags + Vmxnet3ReceiveQueue::kLastStart));
}

// ---- commands ----------------------------------------------------------------------------------------

uint32_t Vmxnet3Port::ask(uint32_t command) const {
  vd_.write(vd::CMD, command);
  return vd_.read(vd::CMD);
}

// For commands that have no result. Returns once the device has done it.
void Vmxnet3Port::tell(uint32_t command) const {
  vd_.write(vd::CMD, command);
  static_cast<void>(vd_.read(vd::VRRS));
}

// ---- bring up ----------------------------------------------------------------------------------------

Result<void> Vmxnet3Port::bring_up() {
  Result<void> done = reset();
  if (!done) return done;
  describe();
  done = activate();
  if (!done) {
    static_cast<void>(reset());
    return done;
  }
  let_in();
  return {};
}

// Always done before bus mastering is switched on: VFIO cannot reset such a function, and it may still have
// the rings of whoever had it before.
Result<void> Vmxnet3Port::reset() {
  if (absent()) return std::unexpected(lost());
  const uint32_t result = ask(command::RESET_DEV);
  if (Result<void> off = function_->set_bus_master(false); !off) return off;
  if (absent()) return std::unexpected(lost());
  if (result != 0) return fail(Code::kSystem, fmt::format("it refuses to be reset (result {:#x})", result));
  return choose_revision();
}

Result<void> Vmxnet3Port::choose_revision() {
  const uint32_t device = vd_.read(vd::VRRS), upt = vd_.read(vd::UVRS);
  if (!(device & kRevision1) || !(upt & kRevision1)) {
    return fail(Code::kSystem, fmt::format("it has no revision 1, which this driver knows (VRRS {:#x}, UVRS "
                                           "{:#x})",
                                           device, upt));
  }
  vd_.write(vd::VRRS, kRevision1);
  vd_.write(vd::UVRS, kRevision1);
  return {};
}

// Nobody comes in yet (rxMode 0), so that nothing is counted before statistics_ looks.
void Vmxnet3Port::describe() {
  Shared& to = shared();
  to.magic = kMagic;
  to.misc = {};
  to.misc.driverInfo = {.version = kVersion,
                        .gos = kGuest64Bits | kGuestLinux,
                        .vmxnet3RevSpt = kRevision1,
                        .uptVerSpt = kRevision1};
  to.misc.queueDescPA = static_cast<uint64_t>(memory_.iova) + kQueuesOffset;
  to.misc.queueDescLen = sizeof(TxQueueDesc) + sizeof(RxQueueDesc);
  to.misc.mtu = options_.mtu;
  to.misc.maxNumRxSG = 1;
  to.misc.numTxQueues = to.misc.numRxQueues = 1;
  to.rxFilterConf = {};
  std::ranges::fill(to.rxFilterConf.vfTable, ~0u);
  std::atomic_ref(to.ecr).store(0, std::memory_order_relaxed);
  describe_interrupts();
  describe_queues();
}

void Vmxnet3Port::describe_interrupts() {
  IntrConf& to = shared().intrConf;
  to = {};
  to.autoMask = (ask(command::GET_CONF_INTR) >> kMaskModeShift & 3) == kMaskAuto;
  to.numIntrs = own_vectors_ ? kTransmitVector + 1 : 1;
  to.eventIntrIdx = own_vectors_ ? static_cast<uint8_t>(link_vector_) : 0;
  const uint8_t level = options_.moderation_us == 0 ? moderation::NONE : moderation::ADAPTIVE;
  std::ranges::fill(to.modLevels, level);
  statistics_.set_moderation(level);
}

void Vmxnet3Port::describe_queues() {
  const RingAddresses sent = transmit_->prepare(), received = receive_->prepare();
  TxQueueDesc& transmit = transmit_description();
  transmit.txNumDeferred = 0;
  transmit.txRingBasePA = sent.ring;
  transmit.compRingBasePA = sent.completion;
  transmit.txRingSize = sent.ring_size;
  transmit.compRingSize = sent.completion_size;
  transmit.intrIdx = own_vectors_ ? kTransmitVector : 0;
  RxQueueDesc& receive = receive_description();
  receive.rxRingBasePA[0] = received.ring;
  receive.rxRingBasePA[1] = received.second;
  receive.compRingBasePA = received.completion;
  receive.rxRingSize[0] = received.ring_size;
  receive.rxRingSize[1] = received.second_size;
  receive.compRingSize = received.completion_size;
  receive.intrIdx = 0;
}

Result<void> Vmxnet3Port::activate() {
  const auto iova = static_cast<uint64_t>(memory_.iova);
  vd_.write(vd::DSAL, static_cast<uint32_t>(iova));
  vd_.write(vd::DSAH, static_cast<uint32_t>(iova >> 32));
  // Until here the device could not reach memory, whatever state it was in.
  if (Result<void> on = function_->set_bus_master(true); !on) return on;
  pci::publish_to_device();
  if (const uint32_t result = ask(command::ACTIVATE_DEV); result != 0) {
    if (absent()) return std::unexpected(lost());
    return fail(Code::kSystem, fmt::format("it refuses to start (result {:#x})", result));
  }
  mask_all();
  tell(command::GET_STATS);
  statistics_.skip(transmit_description(), receive_description());
  return {};
}

void Vmxnet3Port::mask_all() const {
  for (uint32_t interrupt = 0; interrupt < shared().intrConf.numIntrs; ++interrupt)
    pt_.write(pt::IMR + pt::STRIDE * interrupt, 1);
}

// Promiscuous, all VLANs, tags in place.
void Vmxnet3Port::let_in() {
  receive_->offer();
  transmit_->offer();
  shared().rxFilterConf.rxMode = kEverything;
  pci::publish_to_device();
  tell(command::UPDATE_VLAN_FILTERS);
  tell(command::UPDATE_RX_MODE);
  if (own_vectors_) unmask_link_interrupt();
}

// ---- the end -----------------------------------------------------------------------------------------

void Vmxnet3Port::shut_out() {
  shared().rxFilterConf.rxMode = 0;
  pci::publish_to_device();
  tell(command::UPDATE_RX_MODE);
}

void Vmxnet3Port::quiesce() {
  mask_all();
  shut_out();
  tell(command::GET_STATS);
  if (!absent()) statistics_.update(transmit_description(), receive_description());
  tell(command::QUIESCE_DEV);
  static_cast<void>(reset());
}

// ---- link, events, counting ----------------------------------------------------------------------------

// Events are acknowledged before the state is read, so that no change falls between.
Link Vmxnet3Port::read_link() {
  if (const uint32_t seen = events() & ~(event::RQERR | event::TQERR); running_ && seen != 0)
    vd_.write(vd::ECR, seen);
  const uint32_t state = ask(command::GET_LINK);
  if (!(state & kLinkUp)) return {.up = false, .present = true, .mbps = 0};
  return {.up = true, .present = true, .mbps = state >> kLinkSpeedShift};
}

// The device has stopped a queue of ours, or told nonsense.
bool Vmxnet3Port::broken() const {
  return transmit_->broken() || (running_ && (events() & (event::RQERR | event::TQERR)));
}

// Frames with errors that came to us are taken; the others are the device's bad ones. What a filter refuses
// is counted nowhere, and there is none.
QueueCounters Vmxnet3Port::count() {
  if (running_ && !absent()) {
    tell(command::GET_STATS);
    if (!absent()) statistics_.update(transmit_description(), receive_description());
  }
  const uint64_t errors = statistics_.errors(), seen = receive_->errors_seen();
  return {.received = statistics_.good() + statistics_.no_buffer() + errors,
          .missed = statistics_.no_buffer(),
          .bad = errors - std::min(errors, seen)};
}

// ---- registers, for people -------------------------------------------------------------------------------

// CMD and ICR change by being read; DSAL, DSAH and ECR are for writing.
Result<std::vector<pci::RegisterValue>> dump(pci::Function& function) {
  constexpr pci::RegisterName kInterrupts[] = {
      {"IMR[0]", pt::IMR}, {"IMR[1]", pt::IMR + pt::STRIDE}, {"IMR[2]", pt::IMR + 2 * pt::STRIDE}};
  constexpr pci::RegisterName kSetUp[] = {
      {"VRRS", vd::VRRS}, {"UVRS", vd::UVRS}, {"MACL", vd::MACL}, {"MACH", vd::MACH}};
  auto values = pci::read_registers(function, kInterrupts);
  if (!values) return values;
  auto rest = pci::read_registers(function, kSetUp, 1);
  if (!rest) return rest;
  values->insert(values->end(), rest->begin(), rest->end());
  return values;
}

}  // namespace ringcap::vmxnet3

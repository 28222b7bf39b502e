#include "driver/e1000/port.h"

#include <fmt/format.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

#include <chrono>
#include <functional>
#include <thread>

namespace ringcap::e1000 {
namespace {

using std::chrono::milliseconds;

constexpr uint64_t kBarBytes = 128 << 10;
constexpr uint32_t kLeastMtu = 68;  // RFC 791
constexpr uint32_t kUsualMtu = 1500;
constexpr uint32_t kGreatestMtu = 9212;  // the device takes frames of 9,234 bytes, VLAN tag and CRC included
constexpr uint32_t kLeastDescriptors = 64, kMostDescriptors = 4096;
constexpr uint32_t kShortBuffer = 2048, kJumboBuffer = 16384;
constexpr uint32_t kHeaderAndTag = 18;

// KiB of the chip's 40 that buffer received frames; the rest is for sending, which needs room for one frame.
constexpr uint32_t kReceiveKib = 32, kJumboReceiveKib = 28;

constexpr uint32_t kAutoModerationUs = 20;
constexpr milliseconds kResetDeadline{200}, kMasterDeadline{100}, kPhyDeadline{20}, kDrain{10};

// False if `done` did not hold before the deadline.
bool wait_for(milliseconds deadline, const std::function<bool()>& done) {
  const auto end = std::chrono::steady_clock::now() + deadline;
  while (!done()) {
    if (std::chrono::steady_clock::now() > end) return false;
    std::this_thread::sleep_for(std::chrono::microseconds(200));
  }
  return true;
}

Result<void> check(const pci::NicOptions& options) {
  if (options.queues != 1) {
    return fail(
        Code::kUsage,
        fmt::format("queues={}: more than one receive queue is not supported yet on e1000e", options.queues),
        "use queues=1");
  }
  if (options.mtu < kLeastMtu || options.mtu > kGreatestMtu) {
    return fail(Code::kUsage,
                fmt::format("mtu={}: e1000e takes {} to {}", options.mtu, kLeastMtu, kGreatestMtu));
  }
  const uint32_t n = options.descriptors;
  if (n < kLeastDescriptors || n > kMostDescriptors || n % 8 != 0) {
    return fail(Code::kUsage, fmt::format("descriptors={}: e1000e takes a multiple of 8 from {} to {}", n,
                                          kLeastDescriptors, kMostDescriptors));
  }
  return {};
}

// RCTL.BSIZE and BSEX.
uint32_t buffer_size_bits(uint32_t bytes) {
  switch (bytes) {
    case 4096:
      return rctl::BSEX | 3u << rctl::BSIZE_SHIFT;
    case 8192:
      return rctl::BSEX | 2u << rctl::BSIZE_SHIFT;
    case 16384:
      return rctl::BSEX | 1u << rctl::BSIZE_SHIFT;
    default:
      return 0;  // 2048
  }
}

uint32_t throttle_interval(const pci::NicOptions& options) {
  const int64_t us =
      options.moderation_us == pci::kModerationAuto ? kAutoModerationUs : options.moderation_us;
  return static_cast<uint32_t>(std::clamp<int64_t>(us * 1000 / 256, 0, 0xffff));
}

}  // namespace

// ---- open --------------------------------------------------------------------------------------------

Result<std::unique_ptr<Port>> E1000Port::open(std::unique_ptr<pci::Function> function,
                                              const pci::NicOptions& options) {
  const std::string address = function->address();
  if (Result<void> possible = check(options); !possible) return context(address, possible.error());
  std::unique_ptr<E1000Port> port(new E1000Port(std::move(function), options));
  if (Result<void> ready = port->initialise(); !ready) return context(address, ready.error());
  return port;
}

E1000Port::E1000Port(std::unique_ptr<pci::Function> function, const pci::NicOptions& options)
    : address_("vfio:" + function->address()),
      options_(options),
      function_(std::move(function)),
      statistics_(options.bad) {}

E1000Port::~E1000Port() {
  stop();
  function_->release();
}

Result<void> E1000Port::initialise() {
  Result<std::unique_ptr<pci::Bar>> bar = function_->bar(0);
  if (!bar) return std::unexpected(bar.error());
  if ((*bar)->bytes() < kBarBytes) {
    return fail(Code::kSystem,
                fmt::format("BAR 0 has {} bytes, an 82574L's has {}", (*bar)->bytes(), kBarBytes));
  }
  bar_ = std::move(*bar);
  registers_ = Registers(bar_.get());
  if (Result<void> done = reset(); !done) return done;
  Result<pci::Interrupt> interrupt = function_->enable_interrupts(2);
  if (!interrupt) return std::unexpected(interrupt.error());
  interrupt_ = *interrupt;
  own_vectors_ = interrupt_ == pci::Interrupt::kMsix && function_->interrupt_fd(1) >= 0;
  if (Result<void> watched = watch_events(); !watched) return watched;
  return make_queues();
}

Result<void> E1000Port::watch_events() {
  link_event_ = Fd(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
  events_ = Fd(::epoll_create1(EPOLL_CLOEXEC));
  if (!link_event_ || !events_) return fail_system("cannot make the descriptors for events");
  for (const int fd :
       {link_event_.get(), own_vectors_ ? function_->interrupt_fd(1) : -1, function_->event_fd()}) {
    if (fd < 0) continue;
    epoll_event event{.events = EPOLLIN, .data = {.fd = fd}};
    if (::epoll_ctl(events_.get(), EPOLL_CTL_ADD, fd, &event) != 0)
      return fail_system("cannot watch for events");
  }
  return {};
}

bool E1000Port::jumbo() const { return options_.mtu > kUsualMtu; }

uint32_t E1000Port::buffer_need() const { return jumbo() ? kJumboBuffer : kShortBuffer; }

// Colouring: without LPE the device drops what is longer than 1,522 bytes with its CRC, so that behind the
// last start, 448, everything ends before byte 1,970 of 2,048. Not with bad=1 (SBP lets longer frames in),
// and not with LPE: then the device would write a long frame beyond the buffer's end.
Result<void> E1000Port::make_queues() {
  const E1000ReceiveQueue::Settings settings{
      .descriptors = options_.descriptors,
      .buffer_need = buffer_need(),
      .longest_good = (jumbo() ? options_.mtu : kUsualMtu) + kHeaderAndTag,
      .bad = options_.bad,
      .colour = !jumbo() && !options_.bad,
  };
  const Wake wake{
      .function = function_.get(), .own_vector = own_vectors_, .link_event_fd = link_event_.get()};
  auto ring = function_->dma_allocate(uint64_t{options_.descriptors} * sizeof(ReceiveDescriptor));
  if (!ring) return std::unexpected(ring.error());
  auto queue = std::make_unique<E1000ReceiveQueue>(settings, registers_, *ring, statistics_, wake);
  receive_ = queue.get();
  queues_.push_back(std::move(queue));
  if (!options_.transmit) return {};
  ring = function_->dma_allocate(E1000TransmitQueue::kDescriptors * sizeof(TransmitDescriptor));
  if (!ring) return std::unexpected(ring.error());
  transmit_ = std::make_unique<E1000TransmitQueue>(registers_, *ring);
  return {};
}

// Received frames are the device's to write and never to read; frames to send the other way round. So the
// same memory is mapped once for each.
Result<void> E1000Port::prepare(const PortNeeds& needs) {
  if (gone_) return context(function_->address(), lost());
  Result<pci::Iova> writable =
      function_->dma_map(needs.arena, needs.arena_bytes, pci::DmaAccess::kDeviceWrites);
  if (!writable) return context(function_->address(), writable.error());
  receive_->set_arena(*writable);
  if (!transmit_) return {};
  Result<pci::Iova> readable =
      function_->dma_map(needs.arena, needs.arena_bytes, pci::DmaAccess::kDeviceReads);
  if (!readable) return context(function_->address(), readable.error());
  transmit_->set_arena(*readable);
  return {};
}

// ---- reset (datasheet, "Software Reset") -------------------------------------------------------------

// Always done before bus mastering is switched on: many functions cannot be reset from outside, and this
// one may still be running for whoever had it before.
Result<void> E1000Port::reset() {
  if (absent()) return std::unexpected(lost());
  registers_.write(IMC, interrupt::ALL);
  registers_.write(RCTL, 0);
  registers_.write(TCTL, 0);
  registers_.set(CTRL, ctrl::GIO_MASTER_DISABLE);
  const bool quiet =
      wait_for(kMasterDeadline, [&] { return !(registers_.read(STATUS) & status::GIO_MASTER_ENABLE); });
  if (Result<void> off = function_->set_bus_master(false); !off) return off;
  registers_.write(PBA, jumbo() ? kJumboReceiveKib : kReceiveKib);  // takes effect by the reset
  registers_.write(CTRL, registers_.read(CTRL) | ctrl::RST);
  std::this_thread::sleep_for(milliseconds(1));  // no access for a microsecond, says the datasheet
  const bool done = wait_for(kResetDeadline, [&] {
    return !(registers_.read(CTRL) & ctrl::RST) && (registers_.read(EECD) & eecd::AUTO_RD);
  });
  if (absent()) return std::unexpected(lost());
  if (!done) {
    return fail(
        Code::kSystem,
        fmt::format("the NIC does not come out of reset within {} ms (CTRL {:#010x}, EECD {:#010x}{})",
                    kResetDeadline.count(), registers_.read(CTRL), registers_.read(EECD),
                    quiet ? "" : ", DMA did not stop"),
        "switch the machine off and on again; a warm start may not be enough");
  }
  registers_.write(IMC, interrupt::ALL);
  static_cast<void>(registers_.read(ICR));
  return power_up_phy();
}

// A kernel driver powers the PHY down when it lets go of an idle interface.
Result<void> E1000Port::power_up_phy() {
  registers_.set(EXTCNF_CTRL, extcnf_ctrl::MDIO_SW_OWNERSHIP);
  const bool owned = wait_for(kPhyDeadline, [&] {
    registers_.set(EXTCNF_CTRL, extcnf_ctrl::MDIO_SW_OWNERSHIP);
    return registers_.read(EXTCNF_CTRL) & extcnf_ctrl::MDIO_SW_OWNERSHIP;
  });
  Result<uint32_t> control = phy(mdic::READ);
  if (control && (*control & mdic::POWER_DOWN)) control = phy(mdic::WRITE | (*control & ~mdic::POWER_DOWN));
  if (owned) registers_.clear(EXTCNF_CTRL, extcnf_ctrl::MDIO_SW_OWNERSHIP);
  if (!control) return std::unexpected(control.error());
  return {};
}

// Reads or writes the PHY's control register; its 16 bits.
Result<uint32_t> E1000Port::phy(uint32_t command) const {
  registers_.write(MDIC, command | mdic::PHY_1 | mdic::PHY_CONTROL << mdic::REGISTER_SHIFT);
  const bool ready = wait_for(kPhyDeadline, [&] { return registers_.read(MDIC) & mdic::READY; });
  const uint32_t result = registers_.read(MDIC);
  if (!ready || result == kAbsent || (result & mdic::ERROR)) {
    return fail(Code::kSystem, fmt::format("the NIC's PHY does not answer (MDIC {:#010x})", result));
  }
  return result & 0xffff;
}

// ---- configure (datasheet, "General Configuration") --------------------------------------------------

void E1000Port::configure() {
  // Set link up, speed by negotiation, no flow control (a capture port holds nobody up), VLAN tags stay.
  const uint32_t off =
      ctrl::FRCSPD | ctrl::FRCDPX | ctrl::RFCE | ctrl::TFCE | ctrl::VME | ctrl::GIO_MASTER_DISABLE;
  registers_.write(CTRL, (registers_.read(CTRL) & ~off) | ctrl::SLU);
  // Bits 22 and 23 and GCR's 27 as Linux's e1000e sets them for this chip; the datasheet does not say why.
  const uint32_t extended = (registers_.read(CTRL_EXT) & ~(1u << 23)) | 1u << 22 | ctrl_ext::DRV_LOAD;
  registers_.write(CTRL_EXT, extended | (own_vectors_ ? ctrl_ext::PBA_CLR : 0));
  registers_.set(GCR, 1u << 27);
  for (uint32_t word = 0; word < 128; ++word) registers_.write(MTA + 4 * word, 0);
  registers_.write(RXCSUM, 0);
  registers_.write(MRQC, 0);
  registers_.write(RFCTL,
                   rfctl::EXTEN | rfctl::ACK_DIS | rfctl::ISCSI_DIS | rfctl::NFSW_DIS | rfctl::NFSR_DIS);
  configure_interrupts();
}

void E1000Port::configure_interrupts() {
  if (!own_vectors_) {
    registers_.write(ITR, throttle_interval(options_));
    return;
  }
  registers_.write(IVAR, ivar::VALID << ivar::RXQ0_SHIFT | (ivar::VALID | 1) << ivar::OTHER_SHIFT);
  registers_.write(EIAC, interrupt::RXQ0 | interrupt::OTHER);
  registers_.write(EITR0, throttle_interval(options_));
}

void E1000Port::configure_transmit() {
  registers_.set(TARC0, 1u << 26);  // as Linux's e1000e, for an erratum
  transmit_->program();
  registers_.write(TIPG, 8 | 8 << 10 | 6 << 20);  // the datasheet's values for copper
  registers_.write(
      TCTL, tctl::EN | tctl::PSP | tctl::RTLC | tctl::MULR | 15u << tctl::CT_SHIFT | 63u << tctl::COLD_SHIFT);
  transmit_->open();
}

// Promiscuous, broadcasts too, CRC stripped, VLAN filter off (VFE stays 0).
uint32_t E1000Port::receive_control() const {
  return rctl::EN | rctl::UPE | rctl::MPE | rctl::BAM | rctl::SECRC |
         buffer_size_bits(receive_->buffer_bytes()) | (jumbo() ? rctl::LPE : 0) |
         (options_.bad ? rctl::SBP : 0);
}

// ---- start and stop ----------------------------------------------------------------------------------

Result<void> E1000Port::start() {
  if (gone_) return context(function_->address(), lost());
  if (running_) return {};
  if (!receive_->armed()) return fail(Code::kUsage, address_ + ": its queue has no buffers yet");
  if (Result<void> done = reset(); !done) return context(function_->address(), done.error());
  configure();
  receive_->program();
  Statistics::clear(registers_);
  // Last: until here the device could not reach memory, whatever state it was in.
  if (Result<void> on = function_->set_bus_master(true); !on) return on;
  if (transmit_) configure_transmit();
  registers_.write(RCTL, receive_control());
  receive_->open();  // after RCTL.EN, or the device does not see it
  if (own_vectors_) registers_.write(IMS, interrupt::OTHER | interrupt::LSC);
  registers_.flush();
  running_ = true;
  return {};
}

void E1000Port::stop() {
  if (!running_) return;
  running_ = false;
  quiesce();
}

void E1000Port::quiesce() {
  if (gone_) return;
  registers_.write(IMC, interrupt::ALL);
  registers_.write(RCTL, 0);
  registers_.write(TCTL, 0);
  registers_.flush();
  std::this_thread::sleep_for(kDrain);  // what is in the chip still finds its way into memory
  statistics_.update(registers_);
  registers_.clear(CTRL_EXT, ctrl_ext::DRV_LOAD);
  static_cast<void>(reset());
}

// ---- link, events, loss --------------------------------------------------------------------------------

Link E1000Port::link() {
  if (!gone_ && absent()) leave();
  if (gone_) return {.up = false, .present = false, .mbps = 0};
  constexpr uint32_t kMbps[] = {10, 100, 1000, 1000};
  const uint32_t state = registers_.read(STATUS);
  if (!(state & status::LU)) return {.up = false, .present = true, .mbps = 0};
  return {.up = true, .present = true, .mbps = kMbps[(state >> status::SPEED_SHIFT) & 3]};
}

void E1000Port::handle_event() {
  if (gone_) return;
  const pci::Function::Events events = function_->consume_events();
  if (events.removal || function_->gone() || absent()) return leave();
  if (events.error && running_) recover();
  eventfd_t ignored;
  ::eventfd_read(link_event_.get(), &ignored);
  if (!own_vectors_ || gone_) return;
  // Cleared before STATUS is read (by link(), after this), so that no change falls between.
  function_->consume_interrupt(1);
  registers_.write(ICR, interrupt::LSC | interrupt::OTHER);
  if (running_) registers_.write(IMS, interrupt::OTHER | interrupt::LSC);
}

// After a PCIe error the device's state is not to be trusted. The worker may go on polling meanwhile: the
// rings stay where they are, and the device goes on where the worker is.
void E1000Port::recover() {
  running_ = false;
  quiesce();
  static_cast<void>(function_->reset());
  if (!start()) leave();
}

// Somebody takes the device away, or did. Whoever unbinds it waits for us: be quick.
void E1000Port::leave() {
  if (gone_) return;
  const bool answers = !absent() && !function_->gone();
  if (answers) stop();
  gone_ = true;
  running_ = false;
  function_->release();
}

Error E1000Port::lost() const {
  return {Code::kGone, "it does not answer: it was unbound, unplugged, or lost power",
          "ringcap devices shows what is there"};
}

}  // namespace ringcap::e1000

#include "driver/pci/nic_port.h"

#include <fmt/format.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

#include <algorithm>

namespace ringcap::pci {
namespace {

constexpr uint32_t kLeastMtu = 68;  // RFC 791

}  // namespace

std::unexpected<Error> refuse(std::string what, std::string mend) {
  return fail(Code::kUsage, std::move(what), std::move(mend));
}

// ---- open --------------------------------------------------------------------------------------------

NicPort::NicPort(std::unique_ptr<Function> function, const NicOptions& options)
    : address_("vfio:" + function->address()), options_(options), function_(std::move(function)) {}

void NicPort::close() {
  stop();
  function_->release();
}

Result<void> NicPort::check_options(const NicLimits& limits) {
  const NicOptions& o = options_;
  limits_ = limits;
  if (o.queues == 0 || o.queues > limits.queues) {
    return refuse(
        fmt::format("queues={}: {} ({}) has {} receive queue{}", o.queues, limits.chip, limits.driver,
                    limits.queues, limits.queues == 1 ? "" : "s"),
        limits.queues == 1 ? "use queues=1" : fmt::format("use queues=1 to queues={}", limits.queues));
  }
  if (o.mtu < kLeastMtu || o.mtu > limits.greatest_mtu) {
    return refuse(
        fmt::format("mtu={}: {} takes {} to {}", o.mtu, limits.driver, kLeastMtu, limits.greatest_mtu));
  }
  if (o.descriptors < limits.least_descriptors || o.descriptors > limits.most_descriptors ||
      o.descriptors % limits.descriptors_step != 0) {
    return refuse(fmt::format("descriptors={}: {} takes a multiple of {} from {} to {}", o.descriptors,
                              limits.driver, limits.descriptors_step, limits.least_descriptors,
                              limits.most_descriptors));
  }
  if (o.adapter_time && !limits.stamps) {
    return refuse(fmt::format("timestamps=adapter: {} ({}) has no timestamp for every frame", limits.chip,
                              limits.driver),
                  "use timestamps=host");
  }
  return {};
}

Result<void> NicPort::arm_interrupts(uint32_t vectors) {
  vectors_ = vectors;
  vectors = std::min(options_.queues + 1, vectors);
  Result<Interrupt> interrupt = function_->enable_interrupts(vectors);
  if (!interrupt) return std::unexpected(interrupt.error());
  interrupt_ = *interrupt;
  link_vector_ = vectors - 1;
  own_vectors_ = *interrupt == Interrupt::kMsix && function_->interrupt_fd(link_vector_) >= 0;
  if (options_.queues > 1 && *interrupt != Interrupt::kNone && !own_vectors_) {
    return refuse(fmt::format("queues={}: several queues need MSI-X interrupts, and there are none here",
                              options_.queues),
                  "use queues=1");
  }
  return {};
}

Result<void> NicPort::watch_events() {
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

// Received frames are the device's to write and never to read; frames to send the other way round. So the
// same memory is mapped once for each.
Result<void> NicPort::prepare(const PortNeeds& needs) {
  if (gone_) return context(function_->address(), lost());
  Result<Iova> writable = function_->dma_map(needs.arena, needs.arena_bytes, DmaAccess::kDeviceWrites);
  if (!writable) return context(function_->address(), writable.error());
  set_receive_arena(*writable);
  if (!options_.transmit) return {};
  Result<Iova> readable = function_->dma_map(needs.arena, needs.arena_bytes, DmaAccess::kDeviceReads);
  if (!readable) return context(function_->address(), readable.error());
  set_transmit_arena(*readable);
  return {};
}

Error NicPort::lost() const {
  return {Code::kGone, "it does not answer: it was unbound, unplugged, or lost power",
          "ringcap devices shows what is there"};
}

// ---- start and stop ----------------------------------------------------------------------------------

Result<void> NicPort::start() {
  if (gone_) return context(function_->address(), lost());
  if (running_) return {};
  if (!armed()) return fail(Code::kUsage, address_ + ": its queue has no buffers yet");
  if (Result<void> up = bring_up(); !up) return context(function_->address(), up.error());
  running_ = true;
  return {};
}

void NicPort::stop() {
  if (!running_) return;
  running_ = false;
  if (!gone_) quiesce();
}

// ---- link, events, loss --------------------------------------------------------------------------------

Link NicPort::link() {
  if (!gone_ && absent()) leave();
  if (gone_) return {.up = false, .present = false, .mbps = 0};
  return read_link();
}

void NicPort::handle_event() {
  if (gone_) return;
  const Function::Events events = function_->consume_events();
  if (events.removal || function_->gone() || broken() || absent()) return leave();
  if (events.error && running_) recover();
  eventfd_t ignored;
  ::eventfd_read(link_event_.get(), &ignored);
  if (!own_vectors_ || gone_) return;
  // Cleared before the state is read (by link(), after this), so that no change falls between.
  function_->consume_interrupt(link_vector_);
  clear_link_interrupt();
  if (running_) unmask_link_interrupt();
}

// After a PCIe error the device's state is not to be trusted. The workers may go on polling meanwhile: the
// rings stay where they are, and the device goes on where each worker is.
void NicPort::recover() {
  running_ = false;
  quiesce();
  static_cast<void>(function_->reset());
  if (!start()) leave();
}

// Somebody takes the device away, or did. Whoever unbinds it waits for us: be quick.
void NicPort::leave() {
  if (gone_) return;
  const bool answers = !absent() && !function_->gone();
  if (answers) stop();
  gone_ = true;
  running_ = false;
  function_->release();
}

}  // namespace ringcap::pci

// Control messages from a hostile client or engine: every parser on any bytes. What parses as a hello must
// come out again as it went in, and its filter must be judged without a fault.
#include <cstdlib>
#include <cstring>
#include <span>

#include "capture/filter/program.h"
#include "capture/message/message.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  namespace message = ringcap::message;
  const std::span packet(reinterpret_cast<const std::byte*>(data), size);
  if (const auto hello = message::parse_hello(packet)) {
    const auto again = message::parse_hello(message::encode(*hello));
    if (!again || again->ring_slots != hello->ring_slots || again->filter.size() != hello->filter.size())
      std::abort();
    [[maybe_unused]] const auto program = ringcap::filter::validate(hello->filter);
  }
  [[maybe_unused]] const auto set_filter = message::parse_set_filter(packet);
  if (const auto open = message::parse_send_open(packet)) {
    const auto again = message::parse_send_open(message::encode(*open));
    if (!again || again->port != open->port || again->slots != open->slots || again->cpu != open->cpu)
      std::abort();
  }
  if (const auto granted = message::parse_send_granted(packet)) {
    const auto again = message::parse_send_granted(message::encode(*granted));
    if (!again || again->id != granted->id || again->entry != granted->entry ||
        again->slot_bytes != granted->slot_bytes)
      std::abort();
  }
  [[maybe_unused]] const auto closed = message::parse_send_close(packet);
  [[maybe_unused]] const auto header = message::parse_header(packet);
  [[maybe_unused]] const auto attached = message::parse_attached(packet);
  [[maybe_unused]] const auto observing = message::parse_observing(packet);
  [[maybe_unused]] const auto error = message::parse_error(packet);
  return 0;
}

#include "capture/pcapfile/format.h"

#include <fmt/format.h>

namespace ringcap::pcapfile {

std::string link_type_text(uint32_t link_type) {
  struct Name {
    uint32_t value;
    const char* text;
  };
  static constexpr Name kNames[] = {
      {0, "BSD loopback"}, {1, "Ethernet"},   {9, "PPP"},        {101, "raw IP"},
      {104, "Cisco HDLC"}, {105, "802.11"},   {108, "loopback"}, {113, "Linux cooked"},
      {127, "radiotap"},   {228, "raw IPv4"}, {229, "raw IPv6"}, {276, "Linux cooked v2"},
  };
  for (const Name& name : kNames)
    if (name.value == link_type) return fmt::format("{} ({})", link_type, name.text);
  return fmt::format("{}", link_type);
}

}  // namespace ringcap::pcapfile

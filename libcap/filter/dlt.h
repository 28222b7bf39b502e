// Link types: files and ringcap have LINKTYPE_ values, libpcap's functions take DLT_ ones. They are the same
// but for a few old types whose DLT_ values differ from system to system
// (https://www.tcpdump.org/linktypes.html). Whoever calls libpcap; any thread.
#pragma once

#include <pcap/dlt.h>

#include <cstdint>

namespace ringcap {

inline int dlt_of(uint32_t link_type) {
  switch (link_type) {
    case 100:
      return DLT_ATM_RFC1483;
    case 101:
      return DLT_RAW;
    case 102:
      return DLT_SLIP_BSDOS;
    case 103:
      return DLT_PPP_BSDOS;
    case 106:
      return DLT_ATM_CLIP;
    default:
      return static_cast<int>(link_type);
  }
}

}  // namespace ringcap

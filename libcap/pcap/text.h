// Error buffers as libpcap has them: PCAP_ERRBUF_SIZE bytes, one sentence, no newline. Any thread.
#pragma once

#include <pcap/pcap.h>

#include <algorithm>
#include <cstring>
#include <string_view>

namespace ringcap::shim {

// `errbuf` may be null.
inline void put_text(char* errbuf, std::string_view text) {
  if (errbuf == nullptr) return;
  const size_t bytes = std::min<size_t>(text.size(), PCAP_ERRBUF_SIZE - 1);
  std::memmove(errbuf, text.data(), bytes);
  errbuf[bytes] = 0;
  std::replace(errbuf, errbuf + bytes, '\n', ' ');
}

}  // namespace ringcap::shim

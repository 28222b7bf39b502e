// The filter words "inbound", "outbound" and "ifindex" ask for what the kernel says of a frame, not for bytes
// of it. An engine's filters know them, but libpcap from 1.11 on compiles them for its own live captures
// only. To others it gives the same code for a load from the offset that stands for the same thing in Linux's
// packet filters (linux/filter.h, SKF_AD_OFF), if it optimizes. Whoever calls pcap_compile(); any thread.
#pragma once

#include <cctype>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>

namespace ringcap {

// What stands for a word of these; any other word as it is.
inline std::string_view without_live_word(std::string_view word) {
  if (word == "inbound") return "(link[0xfffff004:2] != 4)";  // SKF_AD_PKTTYPE, PACKET_OUTGOING
  if (word == "outbound") return "(link[0xfffff004:2] = 4)";
  if (word == "ifindex") return "link[0xfffff008:4] =";  // SKF_AD_IFINDEX
  return word;
}

// The expression without these words, if `error`, pcap_geterr()'s, is about them.
inline std::optional<std::string> without_live_words(std::string_view expression, std::string_view error) {
  if (!error.starts_with("not a live capture")) return std::nullopt;
  // What may stand in names, so that the host inbound.example stays one; a backslash makes a name of a word.
  const auto in_word = [](unsigned char c) {
    return std::isalnum(c) != 0 || std::strchr("_-.:\\", c) != nullptr;
  };
  std::string replaced;
  while (!expression.empty()) {
    size_t length = 0;
    while (length < expression.size() && in_word(static_cast<unsigned char>(expression[length]))) ++length;
    replaced += without_live_word(expression.substr(0, length));
    if (length < expression.size()) replaced += expression[length++];
    expression.remove_prefix(length);
  }
  return replaced;
}

}  // namespace ringcap

// Handle: a pcap_t that is an engine's. Made by pcap_create() for a device of ours, and found again by the
// tag in its first word; the real library's handles are not wrapped. One thread at a time, as libpcap has
// it, but for pcap_breakloop() (any thread, signal handlers) and pcap_stats() (signal handlers).
//
// All descriptors and mappings are made in pcap_activate(): programs change user and root directory after
// it. A child of fork() may go on with the handle in its parent's place; only the last copy's end is the
// consumer's end.
#pragma once

#include <pcap/pcap.h>

#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "libcap/client/client.h"
#include "libcap/client/ringcap.h"
#include "libcap/client/sender.h"
#include "libcap/pcap/frame_filter.h"
#include "libcap/pcap/ringcap_pcap.h"
#include "libcap/pcap/text.h"

namespace ringcap::shim {

inline constexpr int kMaxSnaplen = 262'144;  // libpcap's MAXIMUM_SNAPLEN
// One slot of a ring for as much of pcap_set_buffer_size(): about what libpcap's own ring needs for a small
// frame.
inline constexpr uint32_t kBufferBytesPerSlot = 128;

// What pcap_set_...() says before pcap_activate().
struct Options {
  int snaplen = 0;
  int timeout_ms = 0;
  int buffer_bytes = 0;
  int tstamp_precision = PCAP_TSTAMP_PRECISION_MICRO;
  bool rfmon = false;
  bool immediate = false;
  bool nonblock = false;
};

// A real pcap_t that reads nothing: what the real library needs to compile filters and to write files for us.
struct Dead {
  pcap_t* handle = nullptr;
  Dead() = default;
  Dead(const Dead&) = delete;
  Dead& operator=(const Dead&) = delete;
  ~Dead();
};

struct Handle {
  ringcap_pcap_head head;  // first: the tag
  char error[PCAP_ERRBUF_SIZE] = "";
  std::string device;    // as the program named it
  std::string consumed;  // NAME[@CLUSTER[/MEMBER]]
  Options options;
  bool copy = false;  // RINGCAP_PCAP_COPY

  // Since pcap_activate().
  std::unique_ptr<client::Client> client;
  std::unique_ptr<client::Sender> sender;  // goes before the client, over whose connection it sends
  Dead dead;
  int dlt = 0;
  uint32_t caplen_limit = 0;
  bool nano = false;
  uint64_t missed_before = 0;  // by the ports, when we attached
  FrameFilter filter;
  bool engine_filters = false;  // the engine has a program of ours
  bool filter_here = false;     // `filter` is evaluated here: the engine cannot, or not all of it
  bool filter_burst = false;    // the burst was taken before the filter: evaluated here until it is used up
  std::atomic<uint64_t> not_matched{0};  // by `filter`

  // Reading (read.cc).
  client::FrameBurst burst;
  const layout::Descriptor* next = nullptr;  // of the burst, what was not handed out: next .. end
  const layout::Descriptor* end = nullptr;
  bool selectable = false;
  bool kept_ready = false;
  bool said_end = false;
  bool flowing = false;  // frames came, and since then we did not wait in vain for many
  std::atomic<bool> break_loop{false};
  uint64_t second_ns = 0;  // the second that the last frame's timestamp was in
  pcap_pkthdr header{};    // of pcap_next_ex()
  std::vector<u_char> copied;

  explicit Handle(std::string device, std::string consumed);

  pcap_t* pcap() { return reinterpret_cast<pcap_t*>(this); }
  bool activated() const { return client != nullptr; }
  // Keeps a text for pcap_geterr(), and returns `code`.
  int fail(int code, std::string_view text) {
    put_text(error, text);
    return code;
  }
  int not_activated() { return fail(PCAP_ERROR_NOT_ACTIVATED, "This handle hasn't been activated yet"); }
};

// Null where `p` is a handle of the real library.
inline Handle* ours(pcap_t* p) {
  if (p == nullptr || reinterpret_cast<const ringcap_pcap_head*>(p)->tag != RINGCAP_PCAP_TAG) return nullptr;
  return reinterpret_cast<Handle*>(p);
}

}  // namespace ringcap::shim

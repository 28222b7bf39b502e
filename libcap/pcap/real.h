// The real libpcap: found and opened at the first call that needs it, never in a constructor, and all its
// functions looked up then. Any thread, and whatever the program does afterwards (chroot, setuid): nothing
// is opened later. It stays open for the process's life.
//
// Opened by absolute path with plain dlopen (RTLD_LOCAL): a second C library in a namespace of its own
// (dlmopen) would not share stdio's buffers with the program, and RTLD_DEEPBIND breaks sanitizers.
#pragma once

// clang-format off: namedb.h needs what pcap.h defines
#include <netdb.h>
#include <pcap/pcap.h>
#include <pcap/namedb.h>
// clang-format on

#include <atomic>
#include <string>

#include "libcap/pcap/functions.h"

namespace ringcap::shim {

struct Real {
  std::string error;  // why there is none; "": it is loaded
  std::string path;
  void* library = nullptr;  // of dlopen()
#define RINGCAP_POINTER(ret, name, lacking, params, ...) ret(*name) params = nullptr;
  RINGCAP_PCAP_FORWARDED(RINGCAP_POINTER)
  RINGCAP_PCAP_HANDLED(RINGCAP_POINTER)
  RINGCAP_PCAP_NAMED(RINGCAP_POINTER)
#undef RINGCAP_POINTER
};

extern std::atomic<const Real*> loaded_real;  // null: not loaded yet
const Real& load_real();
inline const Real& real() {
  const Real* known = loaded_real.load(std::memory_order_acquire);  // pairs with load_real()
  return known != nullptr ? *known : load_real();
}

// Writes why `name` cannot be called into `errbuf` (PCAP_ERRBUF_SIZE bytes): "NAME: not in this libpcap".
void tell_lacking(char* errbuf, const char* name);

template <typename T>
T lacking(char* errbuf, const char* name, T value) {
  tell_lacking(errbuf, name);
  return value;
}

}  // namespace ringcap::shim

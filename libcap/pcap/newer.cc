// The options of libpcap's main branch (pcap.h there, "PCAP_AVAILABLE_1_11"). None of them takes a handle:
// they only go to the real library. Where it lacks them: null, or PCAP_ERROR.
#include "libcap/pcap/newer.h"

#define RINGCAP_EXPORT extern "C" __attribute__((visibility("default")))

// No macro of functions.h's kind: pcap.h declares the same names with types of its own where it knows them.
namespace {

constexpr int kError = -1;  // PCAP_ERROR

template <typename F, typename Lacking, typename... Arguments>
Lacking forward(const char* name, Lacking lacking, Arguments... arguments) {
  const auto function = reinterpret_cast<F>(ringcap::shim::find_in_real(name));
  return function != nullptr ? function(arguments...) : lacking;
}

}  // namespace

RINGCAP_EXPORT void* pcap_alloc_option() {
  return forward<void* (*)()>("pcap_alloc_option", static_cast<void*>(nullptr));
}

RINGCAP_EXPORT void pcap_free_option(void* options) {
  const auto function = reinterpret_cast<void (*)(void*)>(ringcap::shim::find_in_real("pcap_free_option"));
  if (function != nullptr) function(options);
}

RINGCAP_EXPORT int pcap_set_option_string(void* options, int name, const char* value) {
  return forward<int (*)(void*, int, const char*)>("pcap_set_option_string", kError, options, name, value);
}

RINGCAP_EXPORT int pcap_set_option_int(void* options, int name, int value) {
  return forward<int (*)(void*, int, int)>("pcap_set_option_int", kError, options, name, value);
}

RINGCAP_EXPORT const char* pcap_get_option_string(void* options, int name) {
  return forward<const char* (*)(void*, int)>("pcap_get_option_string", static_cast<const char*>(nullptr),
                                              options, name);
}

RINGCAP_EXPORT int pcap_get_option_int(void* options, int name) {
  return forward<int (*)(void*, int)>("pcap_get_option_int", kError, options, name);
}

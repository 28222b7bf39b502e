// The functions that the shim exports: each looks whose handle it was given, and goes there.
#include "libcap/pcap/own.h"
#include "libcap/pcap/real.h"

using ringcap::shim::Handle;
using ringcap::shim::lacking;
using ringcap::shim::ours;
using ringcap::shim::real;

#define RINGCAP_EXPORT extern "C" __attribute__((visibility("default")))

#define RINGCAP_FORWARD(ret, name, lacks, params, ...) \
  RINGCAP_EXPORT ret name params {                     \
    if (const auto function = real().name) [[likely]]  \
      return function(__VA_ARGS__);                    \
    return lacks;                                      \
  }

#define RINGCAP_HANDLE(ret, name, lacks, params, ...)                                                  \
  RINGCAP_EXPORT ret name params {                                                                     \
    if (Handle* handle = ours(p)) return ringcap::shim::own::name(*handle __VA_OPT__(, ) __VA_ARGS__); \
    if (const auto function = real().name) [[likely]]                                                  \
      return function(p __VA_OPT__(, ) __VA_ARGS__);                                                   \
    return lacks;                                                                                      \
  }

#define RINGCAP_NAME(ret, name, lacks, params, ...) \
  RINGCAP_EXPORT ret name params { return ringcap::shim::named::name(__VA_ARGS__); }

RINGCAP_PCAP_FORWARDED(RINGCAP_FORWARD)
RINGCAP_PCAP_HANDLED(RINGCAP_HANDLE)
RINGCAP_PCAP_NAMED(RINGCAP_NAME)

// The two variables that libpcap exports, with the sizes that they have in the libpcap we are built with: a
// program that was linked against them has a copy of that size.
#include <sys/types.h>

#define RINGCAP_EXPORT __attribute__((visibility("default")))

struct eproto {
  const char* s;
  u_short p;
};

extern "C" {

RINGCAP_EXPORT extern char pcap_version[7];
RINGCAP_EXPORT extern eproto eproto_db[];

char pcap_version[7] = "1.10.3";

// Names of Ethernet types.
eproto eproto_db[] = {{"aarp", 0x80f3},     {"arp", 0x0806},   {"atalk", 0x809b}, {"decnet", 0x6003},
                      {"ip", 0x0800},       {"ip6", 0x86dd},   {"lat", 0x6004},
#if RINGCAP_ETHERNET_NAMES > 13  // libpcap 1.11
                      {"lldp", 0x88cc},
#endif
                      {"loopback", 0x9000}, {"mopdl", 0x6001}, {"moprc", 0x6002}, {"rarp", 0x8035},
                      {"sca", 0x6007},
#if RINGCAP_ETHERNET_NAMES > 13
                      {"slow", 0x8809},
#endif
                      {nullptr, 0}};
}

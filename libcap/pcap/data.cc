// The two variables that libpcap exports. They have the sizes of Debian's 1.10: a program that was linked
// against them has a copy of that size.
#include <sys/types.h>

#define RINGCAP_EXPORT __attribute__((visibility("default")))

struct eproto {
  const char* s;
  u_short p;
};

extern "C" {

RINGCAP_EXPORT extern char pcap_version[7];
RINGCAP_EXPORT extern eproto eproto_db[13];

char pcap_version[7] = "1.10.3";

// Names of Ethernet types.
eproto eproto_db[13] = {{"aarp", 0x80f3},  {"arp", 0x0806},   {"atalk", 0x809b}, {"decnet", 0x6003},
                        {"ip", 0x0800},    {"ip6", 0x86dd},   {"lat", 0x6004},   {"loopback", 0x9000},
                        {"mopdl", 0x6001}, {"moprc", 0x6002}, {"rarp", 0x8035},  {"sca", 0x6007},
                        {nullptr, 0}};
}

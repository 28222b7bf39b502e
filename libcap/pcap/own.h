// What each libpcap function does with a handle, or a device name, of ours. Called by exports.cc; the list
// of functions is functions.h. Parameters, results and error texts are as libpcap's man pages have them.
#pragma once

#include "libcap/pcap/functions.h"
#include "libcap/pcap/handle.h"

namespace ringcap::shim {

namespace own {
// `own::pcap_stats(Handle&, pcap_stat*)`; defined in create.cc, read.cc, filter.cc, query.cc.
int pcap_set_snaplen(Handle& h, int snaplen);
int pcap_set_promisc(Handle& h, int promiscuous);
int pcap_can_set_rfmon(Handle& h);
int pcap_set_rfmon(Handle& h, int rfmon);
int pcap_set_timeout(Handle& h, int timeout_ms);
int pcap_set_tstamp_type(Handle& h, int type);
int pcap_set_immediate_mode(Handle& h, int immediate);
int pcap_set_buffer_size(Handle& h, int bytes);
int pcap_set_tstamp_precision(Handle& h, int precision);
int pcap_get_tstamp_precision(Handle& h);
int pcap_set_protocol_linux(Handle& h, int protocol);
int pcap_activate(Handle& h);
int pcap_list_tstamp_types(Handle& h, int** list);
void pcap_close(Handle& h);

int pcap_loop(Handle& h, int count, pcap_handler callback, u_char* user);
int pcap_dispatch(Handle& h, int count, pcap_handler callback, u_char* user);
const u_char* pcap_next(Handle& h, pcap_pkthdr* header);
int pcap_next_ex(Handle& h, pcap_pkthdr** header, const u_char** packet);
void pcap_breakloop(Handle& h);
int pcap_getnonblock(Handle& h, char* errbuf);
int pcap_setnonblock(Handle& h, int nonblock, char* errbuf);
int pcap_fileno(Handle& h);
int pcap_get_selectable_fd(Handle& h);
const timeval* pcap_get_required_select_timeout(Handle& h);

int pcap_compile(Handle& h, bpf_program* program, const char* text, int optimize, bpf_u_int32 mask);
int pcap_setfilter(Handle& h, bpf_program* program);
int pcap_setdirection(Handle& h, pcap_direction_t direction);

int pcap_stats(Handle& h, pcap_stat* stats);
int pcap_inject(Handle& h, const void* packet, size_t bytes);
int pcap_sendpacket(Handle& h, const u_char* packet, int bytes);
char* pcap_geterr(Handle& h);
void pcap_perror(Handle& h, const char* prefix);
int pcap_datalink(Handle& h);
int pcap_datalink_ext(Handle& h);
int pcap_list_datalinks(Handle& h, int** list);
int pcap_set_datalink(Handle& h, int type);
int pcap_snapshot(Handle& h);
int pcap_is_swapped(Handle& h);
int pcap_major_version(Handle& h);
int pcap_minor_version(Handle& h);
int pcap_bufsize(Handle& h);
FILE* pcap_file(Handle& h);
pcap_dumper_t* pcap_dump_open(Handle& h, const char* name);
pcap_dumper_t* pcap_dump_fopen(Handle& h, FILE* file);
pcap_dumper_t* pcap_dump_open_append(Handle& h, const char* name);
pcap_samp* pcap_setsampling(Handle& h);
}  // namespace own

// A handle of ours got this dumper from the real library.
void note_dumper(pcap_dumper_t* dumper);

namespace named {
// For any device; what is not ours goes to the real library.
pcap_t* pcap_create(const char* device, char* errbuf);
pcap_t* pcap_open_live(const char* device, int snaplen, int promiscuous, int timeout_ms, char* errbuf);
int pcap_lookupnet(const char* device, bpf_u_int32* net, bpf_u_int32* mask, char* errbuf);
int pcap_findalldevs(pcap_if_t** list, char* errbuf);
// For any dumper.
void pcap_dump(u_char* dumper, const pcap_pkthdr* header, const u_char* packet);
void pcap_dump_close(pcap_dumper_t* dumper);
}  // namespace named

}  // namespace ringcap::shim

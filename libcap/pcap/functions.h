// libpcap's public functions, one line each: those of 1.10, and those of its remote capture, which is
// compiled into some builds only. real.h makes a table of pointers from the list, exports.cc the exported
// functions. pcap.map names the same symbols, and newer.h's (tests/system/pcap/symbols_test.cc compares
// them).
//
//   FORWARDED(return type, name, value where the real library lacks it, parameters, arguments...)
//     only goes to the real library
//   HANDLED(... the same ...)
//     its first parameter is `p`, a pcap_t*: a handle of ours goes to own::NAME(Handle&, arguments...),
//     every other to the real library. `arguments` leaves p out.
//   NAMED(... the same as FORWARDED ...)
//     goes to named::NAME(arguments...), which decides by a device's name, or by a dumper
//
// `lacking(errbuf, name, value)` fills an error buffer and yields the value.
#pragma once

// clang-format off
#define RINGCAP_PCAP_FORWARDED(FORWARDED) \
  FORWARDED(int, pcap_init, lacking(errbuf, "pcap_init", PCAP_ERROR), (unsigned options, char* errbuf), options, errbuf) \
  FORWARDED(char*, pcap_lookupdev, lacking(errbuf, "pcap_lookupdev", static_cast<char*>(nullptr)), (char* errbuf), errbuf) \
  FORWARDED(void, pcap_free_tstamp_types, void(), (int* list), list) \
  FORWARDED(int, pcap_tstamp_type_name_to_val, PCAP_ERROR, (const char* name), name) \
  FORWARDED(const char*, pcap_tstamp_type_val_to_name, nullptr, (int value), value) \
  FORWARDED(const char*, pcap_tstamp_type_val_to_description, nullptr, (int value), value) \
  FORWARDED(pcap_t*, pcap_open_dead, nullptr, (int type, int snaplen), type, snaplen) \
  FORWARDED(pcap_t*, pcap_open_dead_with_tstamp_precision, nullptr, (int type, int snaplen, u_int precision), type, snaplen, precision) \
  FORWARDED(pcap_t*, pcap_open_offline_with_tstamp_precision, lacking(errbuf, "pcap_open_offline_with_tstamp_precision", static_cast<pcap_t*>(nullptr)), (const char* name, u_int precision, char* errbuf), name, precision, errbuf) \
  FORWARDED(pcap_t*, pcap_open_offline, lacking(errbuf, "pcap_open_offline", static_cast<pcap_t*>(nullptr)), (const char* name, char* errbuf), name, errbuf) \
  FORWARDED(pcap_t*, pcap_fopen_offline_with_tstamp_precision, lacking(errbuf, "pcap_fopen_offline_with_tstamp_precision", static_cast<pcap_t*>(nullptr)), (FILE* file, u_int precision, char* errbuf), file, precision, errbuf) \
  FORWARDED(pcap_t*, pcap_fopen_offline, lacking(errbuf, "pcap_fopen_offline", static_cast<pcap_t*>(nullptr)), (FILE* file, char* errbuf), file, errbuf) \
  FORWARDED(const char*, pcap_statustostr, "the real libpcap cannot be loaded", (int status), status) \
  FORWARDED(const char*, pcap_strerror, "the real libpcap cannot be loaded", (int number), number) \
  FORWARDED(int, pcap_compile_nopcap, PCAP_ERROR, (int snaplen, int type, bpf_program* program, const char* text, int optimize, bpf_u_int32 mask), snaplen, type, program, text, optimize, mask) \
  FORWARDED(void, pcap_freecode, void(), (bpf_program* program), program) \
  FORWARDED(int, pcap_offline_filter, 0, (const bpf_program* program, const pcap_pkthdr* header, const u_char* packet), program, header, packet) \
  FORWARDED(void, pcap_free_datalinks, void(), (int* list), list) \
  FORWARDED(int, pcap_datalink_name_to_val, -1, (const char* name), name) \
  FORWARDED(const char*, pcap_datalink_val_to_name, nullptr, (int type), type) \
  FORWARDED(const char*, pcap_datalink_val_to_description, nullptr, (int type), type) \
  FORWARDED(const char*, pcap_datalink_val_to_description_or_dlt, "DLT", (int type), type) \
  FORWARDED(FILE*, pcap_dump_file, nullptr, (pcap_dumper_t* dumper), dumper) \
  FORWARDED(long, pcap_dump_ftell, -1, (pcap_dumper_t* dumper), dumper) \
  FORWARDED(int64_t, pcap_dump_ftell64, -1, (pcap_dumper_t* dumper), dumper) \
  FORWARDED(int, pcap_dump_flush, PCAP_ERROR, (pcap_dumper_t* dumper), dumper) \
  FORWARDED(void, pcap_freealldevs, void(), (pcap_if_t* list), list) \
  FORWARDED(const char*, pcap_lib_version, "libpcap (the real one cannot be loaded)", ()) \
  FORWARDED(u_int, bpf_filter, 0, (const bpf_insn* program, const u_char* packet, u_int length, u_int captured), program, packet, length, captured) \
  FORWARDED(int, bpf_validate, 0, (const bpf_insn* program, int length), program, length) \
  FORWARDED(char*, bpf_image, nullptr, (const bpf_insn* instruction, int number), instruction, number) \
  FORWARDED(void, bpf_dump, void(), (const bpf_program* program, int option), program, option) \
  FORWARDED(pcap_etherent*, pcap_next_etherent, nullptr, (FILE* file), file) \
  FORWARDED(u_char*, pcap_ether_hostton, nullptr, (const char* name), name) \
  FORWARDED(u_char*, pcap_ether_aton, nullptr, (const char* name), name) \
  FORWARDED(bpf_u_int32**, pcap_nametoaddr, nullptr, (const char* name), name) \
  FORWARDED(addrinfo*, pcap_nametoaddrinfo, nullptr, (const char* name), name) \
  FORWARDED(bpf_u_int32, pcap_nametonetaddr, 0, (const char* name), name) \
  FORWARDED(int, pcap_nametoport, 0, (const char* name, int* port, int* proto), name, port, proto) \
  FORWARDED(int, pcap_nametoportrange, 0, (const char* name, int* first, int* last, int* proto), name, first, last, proto) \
  FORWARDED(int, pcap_nametoproto, PROTO_UNDEF, (const char* name), name) \
  FORWARDED(int, pcap_nametoeproto, PROTO_UNDEF, (const char* name), name) \
  FORWARDED(int, pcap_nametollc, PROTO_UNDEF, (const char* name), name) \
  FORWARDED(pcap_t*, pcap_open, lacking(errbuf, "pcap_open", static_cast<pcap_t*>(nullptr)), (const char* source, int snaplen, int flags, int timeout, pcap_rmtauth* auth, char* errbuf), source, snaplen, flags, timeout, auth, errbuf) \
  FORWARDED(int, pcap_createsrcstr, lacking(errbuf, "pcap_createsrcstr", PCAP_ERROR), (char* source, int type, const char* host, const char* port, const char* name, char* errbuf), source, type, host, port, name, errbuf) \
  FORWARDED(int, pcap_parsesrcstr, lacking(errbuf, "pcap_parsesrcstr", PCAP_ERROR), (const char* source, int* type, char* host, char* port, char* name, char* errbuf), source, type, host, port, name, errbuf) \
  FORWARDED(int, pcap_findalldevs_ex, lacking(errbuf, "pcap_findalldevs_ex", PCAP_ERROR), (const char* source, pcap_rmtauth* auth, pcap_if_t** list, char* errbuf), source, auth, list, errbuf) \
  FORWARDED(int, pcap_remoteact_accept, lacking(errbuf, "pcap_remoteact_accept", PCAP_ERROR), (const char* address, const char* port, const char* hosts, char* host, pcap_rmtauth* auth, char* errbuf), address, port, hosts, host, auth, errbuf) \
  FORWARDED(int, pcap_remoteact_accept_ex, lacking(errbuf, "pcap_remoteact_accept_ex", PCAP_ERROR), (const char* address, const char* port, const char* hosts, char* host, pcap_rmtauth* auth, int ssl, char* errbuf), address, port, hosts, host, auth, ssl, errbuf) \
  FORWARDED(int, pcap_remoteact_list, lacking(errbuf, "pcap_remoteact_list", PCAP_ERROR), (char* hosts, char separator, int size, char* errbuf), hosts, separator, size, errbuf) \
  FORWARDED(int, pcap_remoteact_close, lacking(errbuf, "pcap_remoteact_close", PCAP_ERROR), (const char* host, char* errbuf), host, errbuf) \
  FORWARDED(void, pcap_remoteact_cleanup, void(), ())

#define RINGCAP_PCAP_HANDLED(HANDLED) \
  HANDLED(int, pcap_set_snaplen, PCAP_ERROR, (pcap_t* p, int snaplen), snaplen) \
  HANDLED(int, pcap_set_promisc, PCAP_ERROR, (pcap_t* p, int promiscuous), promiscuous) \
  HANDLED(int, pcap_can_set_rfmon, PCAP_ERROR, (pcap_t* p)) \
  HANDLED(int, pcap_set_rfmon, PCAP_ERROR, (pcap_t* p, int rfmon), rfmon) \
  HANDLED(int, pcap_set_timeout, PCAP_ERROR, (pcap_t* p, int timeout_ms), timeout_ms) \
  HANDLED(int, pcap_set_tstamp_type, PCAP_ERROR, (pcap_t* p, int type), type) \
  HANDLED(int, pcap_set_immediate_mode, PCAP_ERROR, (pcap_t* p, int immediate), immediate) \
  HANDLED(int, pcap_set_buffer_size, PCAP_ERROR, (pcap_t* p, int bytes), bytes) \
  HANDLED(int, pcap_set_tstamp_precision, PCAP_ERROR, (pcap_t* p, int precision), precision) \
  HANDLED(int, pcap_get_tstamp_precision, PCAP_ERROR, (pcap_t* p)) \
  HANDLED(int, pcap_set_protocol_linux, PCAP_ERROR, (pcap_t* p, int protocol), protocol) \
  HANDLED(int, pcap_activate, PCAP_ERROR, (pcap_t* p)) \
  HANDLED(int, pcap_list_tstamp_types, PCAP_ERROR, (pcap_t* p, int** list), list) \
  HANDLED(void, pcap_close, void(), (pcap_t* p)) \
  HANDLED(int, pcap_loop, PCAP_ERROR, (pcap_t* p, int count, pcap_handler callback, u_char* user), count, callback, user) \
  HANDLED(int, pcap_dispatch, PCAP_ERROR, (pcap_t* p, int count, pcap_handler callback, u_char* user), count, callback, user) \
  HANDLED(const u_char*, pcap_next, nullptr, (pcap_t* p, pcap_pkthdr* header), header) \
  HANDLED(int, pcap_next_ex, PCAP_ERROR, (pcap_t* p, pcap_pkthdr** header, const u_char** packet), header, packet) \
  HANDLED(void, pcap_breakloop, void(), (pcap_t* p)) \
  HANDLED(int, pcap_stats, PCAP_ERROR, (pcap_t* p, pcap_stat* stats), stats) \
  HANDLED(int, pcap_setfilter, PCAP_ERROR, (pcap_t* p, bpf_program* program), program) \
  HANDLED(int, pcap_setdirection, PCAP_ERROR, (pcap_t* p, pcap_direction_t direction), direction) \
  HANDLED(int, pcap_getnonblock, lacking(errbuf, "pcap_getnonblock", PCAP_ERROR), (pcap_t* p, char* errbuf), errbuf) \
  HANDLED(int, pcap_setnonblock, lacking(errbuf, "pcap_setnonblock", PCAP_ERROR), (pcap_t* p, int nonblock, char* errbuf), nonblock, errbuf) \
  HANDLED(int, pcap_inject, PCAP_ERROR, (pcap_t* p, const void* packet, size_t bytes), packet, bytes) \
  HANDLED(int, pcap_sendpacket, PCAP_ERROR, (pcap_t* p, const u_char* packet, int bytes), packet, bytes) \
  HANDLED(char*, pcap_geterr, nullptr, (pcap_t* p)) \
  HANDLED(void, pcap_perror, void(), (pcap_t* p, const char* prefix), prefix) \
  HANDLED(int, pcap_compile, PCAP_ERROR, (pcap_t* p, bpf_program* program, const char* text, int optimize, bpf_u_int32 mask), program, text, optimize, mask) \
  HANDLED(int, pcap_datalink, PCAP_ERROR, (pcap_t* p)) \
  HANDLED(int, pcap_datalink_ext, PCAP_ERROR, (pcap_t* p)) \
  HANDLED(int, pcap_list_datalinks, PCAP_ERROR, (pcap_t* p, int** list), list) \
  HANDLED(int, pcap_set_datalink, PCAP_ERROR, (pcap_t* p, int type), type) \
  HANDLED(int, pcap_snapshot, PCAP_ERROR, (pcap_t* p)) \
  HANDLED(int, pcap_is_swapped, PCAP_ERROR, (pcap_t* p)) \
  HANDLED(int, pcap_major_version, PCAP_ERROR, (pcap_t* p)) \
  HANDLED(int, pcap_minor_version, PCAP_ERROR, (pcap_t* p)) \
  HANDLED(int, pcap_bufsize, PCAP_ERROR, (pcap_t* p)) \
  HANDLED(FILE*, pcap_file, nullptr, (pcap_t* p)) \
  HANDLED(int, pcap_fileno, PCAP_ERROR, (pcap_t* p)) \
  HANDLED(pcap_dumper_t*, pcap_dump_open, nullptr, (pcap_t* p, const char* name), name) \
  HANDLED(pcap_dumper_t*, pcap_dump_fopen, nullptr, (pcap_t* p, FILE* file), file) \
  HANDLED(pcap_dumper_t*, pcap_dump_open_append, nullptr, (pcap_t* p, const char* name), name) \
  HANDLED(int, pcap_get_selectable_fd, PCAP_ERROR, (pcap_t* p)) \
  HANDLED(const timeval*, pcap_get_required_select_timeout, nullptr, (pcap_t* p)) \
  HANDLED(pcap_samp*, pcap_setsampling, nullptr, (pcap_t* p))

#define RINGCAP_PCAP_NAMED(NAMED) \
  NAMED(void, pcap_dump, void(), (u_char* dumper, const pcap_pkthdr* header, const u_char* packet), dumper, header, packet) \
  NAMED(void, pcap_dump_close, void(), (pcap_dumper_t* dumper), dumper) \
  NAMED(pcap_t*, pcap_create, nullptr, (const char* device, char* errbuf), device, errbuf) \
  NAMED(pcap_t*, pcap_open_live, nullptr, (const char* device, int snaplen, int promiscuous, int timeout_ms, char* errbuf), device, snaplen, promiscuous, timeout_ms, errbuf) \
  NAMED(int, pcap_lookupnet, PCAP_ERROR, (const char* device, bpf_u_int32* net, bpf_u_int32* mask, char* errbuf), device, net, mask, errbuf) \
  NAMED(int, pcap_findalldevs, PCAP_ERROR, (pcap_if_t** list, char* errbuf), list, errbuf)
// clang-format on

// pcap_sanitized DEVICE FILE: built with the address and the undefined sanitizer, it filters, captures into a
// file, reads that, and lists devices; prints how many frames there were. The sanitizers' word is its status.
#include <pcap/pcap.h>

#include <cstdio>

namespace {

int give_up(const char* what) {
  std::fprintf(stderr, "pcap_sanitized: %s\n", what);
  return 1;
}

}  // namespace

int main(int argc, char** argv) {
  char errbuf[PCAP_ERRBUF_SIZE] = "";
  if (argc != 3) return give_up("DEVICE FILE");
  pcap_t* p = pcap_create(argv[1], errbuf);
  if (p == nullptr || pcap_activate(p) < 0) return give_up("cannot open the device");
  bpf_program program{};
  if (pcap_compile(p, &program, "udp and inbound", 1, PCAP_NETMASK_UNKNOWN) != 0 ||
      pcap_setfilter(p, &program) != 0)
    return give_up(pcap_geterr(p));
  pcap_freecode(&program);
  pcap_dumper_t* dumper = pcap_dump_open(p, argv[2]);
  if (dumper == nullptr) return give_up(pcap_geterr(p));
  if (pcap_loop(p, 1000, pcap_dump, reinterpret_cast<u_char*>(dumper)) != 0) return give_up(pcap_geterr(p));
  pcap_dump_close(dumper);
  pcap_stat stats{};
  if (pcap_stats(p, &stats) != 0) return give_up(pcap_geterr(p));
  pcap_close(p);

  pcap_if_t* devices = nullptr;
  if (pcap_findalldevs(&devices, errbuf) != 0) return give_up(errbuf);
  pcap_freealldevs(devices);
  pcap_t* file = pcap_open_offline(argv[2], errbuf);
  if (file == nullptr) return give_up(errbuf);
  pcap_pkthdr* header = nullptr;
  const u_char* packet = nullptr;
  int frames = 0;
  while (pcap_next_ex(file, &header, &packet) == 1) frames += header->caplen == header->len ? 1 : 0;
  pcap_close(file);
  std::printf("frames %d, counted %d\n", frames, stats.ps_recv >= 1000);
  return 0;
}

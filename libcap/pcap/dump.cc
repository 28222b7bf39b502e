// Writing frames of ours into savefiles. The real library opens the file, writes its header and owns the
// FILE; a frame's record is written here, since two locked fwrite() calls cost more than all the rest of
// `tcpdump -w`. The record is the one that every libpcap writes (pcap-savefile(5)).
#include <sys/single_threaded.h>

#include <atomic>
#include <cstdio>
#include <cstring>

#include "libcap/pcap/own.h"
#include "libcap/pcap/real.h"

namespace ringcap::shim {
namespace {

struct Record {
  uint32_t seconds, fraction, captured, length;
};

// The dumper that was opened last for a handle of ours, and its FILE. Frames for any other go to the real
// library, which writes the same.
std::atomic<const void*> known{nullptr};
std::atomic<FILE*> known_file{nullptr};

// Straight into the FILE's buffer where there is room, as putc_unlocked() does in <bits/stdio.h>; false:
// there is none, or this is another C library. (A copy of record and packet on the stack, written by one
// call, is slower than two calls: its bytes are read back before they have left the processor's store queue.)
bool put_in_buffer([[maybe_unused]] FILE* file, [[maybe_unused]] const Record& record,
                   [[maybe_unused]] const u_char* packet) {
#ifdef __GLIBC__
  const size_t bytes = sizeof record + record.captured;
  if (file->_IO_write_ptr >= file->_IO_write_end ||
      static_cast<size_t>(file->_IO_write_end - file->_IO_write_ptr) < bytes)
    return false;
  std::memcpy(file->_IO_write_ptr, &record, sizeof record);
  std::memcpy(file->_IO_write_ptr + sizeof record, packet, record.captured);
  file->_IO_write_ptr += bytes;
  return true;
#else
  return false;
#endif
}

// As in libpcap: no packet without its header, and errors are found by who flushes or closes.
void write_record(FILE* file, const pcap_pkthdr& header, const u_char* packet) {
  const Record record{static_cast<uint32_t>(header.ts.tv_sec), static_cast<uint32_t>(header.ts.tv_usec),
                      header.caplen, header.len};
  if (put_in_buffer(file, record, packet)) return;
  if (::fwrite_unlocked(&record, sizeof record, 1, file) != 1) return;
  [[maybe_unused]] const auto written = ::fwrite_unlocked(packet, header.caplen, 1, file);
}

}  // namespace

void note_dumper(pcap_dumper_t* dumper) {
  known.store(nullptr, std::memory_order_relaxed);
  FILE* file = real().pcap_dump_file == nullptr ? nullptr : real().pcap_dump_file(dumper);
  if (file == nullptr) return;
  known_file.store(file, std::memory_order_relaxed);
  known.store(dumper, std::memory_order_release);  // pairs with pcap_dump()
}

namespace named {

void pcap_dump(u_char* dumper, const pcap_pkthdr* header, const u_char* packet) {
  if (known.load(std::memory_order_acquire) != dumper || dumper == nullptr) {
    if (real().pcap_dump != nullptr) real().pcap_dump(dumper, header, packet);
    return;
  }
  FILE* file = known_file.load(std::memory_order_relaxed);
  if (__libc_single_threaded != 0) return write_record(file, *header, packet);
  ::flockfile(file);
  write_record(file, *header, packet);
  ::funlockfile(file);
}

void pcap_dump_close(pcap_dumper_t* dumper) {
  if (known.load(std::memory_order_relaxed) == dumper) known.store(nullptr, std::memory_order_relaxed);
  if (real().pcap_dump_close != nullptr) real().pcap_dump_close(dumper);
}

}  // namespace named
}  // namespace ringcap::shim

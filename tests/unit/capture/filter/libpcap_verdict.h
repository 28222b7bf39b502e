// What libpcap says of a frame, for tests that compare. No gtest here: the fuzzers use it, too.
#pragma once

#include <pcap/pcap.h>

#include <cstdint>
#include <span>

#include "capture/filter/program.h"

namespace ringcap::test {

// How many bytes of the frame its interpreter accepts; 0: refused.
inline uint32_t libpcap_verdict(std::span<const filter::Instruction> program, const void* frame,
                                uint32_t length_on_wire, uint32_t captured) {
  // pcap_offline_filter() only reads the program.
  auto* instructions = const_cast<bpf_insn*>(reinterpret_cast<const bpf_insn*>(program.data()));
  const bpf_program theirs{static_cast<u_int>(program.size()), instructions};
  const pcap_pkthdr header{{}, captured, length_on_wire};
  return static_cast<uint32_t>(pcap_offline_filter(&theirs, &header, static_cast<const u_char*>(frame)));
}

}  // namespace ringcap::test

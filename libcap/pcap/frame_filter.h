// FrameFilter: a filter program as libpcap compiles it for a live capture, evaluated in this process. Such
// programs may read what is not in the frame, by loads at the Linux kernel's negative offsets: which way it
// went (`inbound`, `outbound`) and by which interface (`ifindex`). One thread.
//
// A program is specialised for each direction, with those loads made constants; the VLAN tag is in our
// frames, so programs that ask the kernel for it are told that there is none beside the frame.
#pragma once

#include <pcap/pcap.h>

#include <cstdint>
#include <optional>
#include <vector>

#include "capture/filter/program.h"
#include "capture/layout/layout.h"
#include "capture/message/message.h"

namespace ringcap::shim {

class FrameFilter {
 public:
  // kFilter: the program is not valid.
  static Result<FrameFilter> make(const bpf_program& program, uint32_t ifindex);

  // What of it the engine can evaluate: all but programs that jump backwards. Its programs are empty where
  // every frame is wanted.
  message::SetFilter for_engine() const;
  // Whether that is all there is to say of a frame handed out up to `caplen_limit` bytes.
  bool engine_suffices(uint32_t caplen_limit) const;

  void set_direction(pcap_direction_t direction) { direction_ = direction; }
  pcap_direction_t direction() const { return direction_; }

  // How many bytes of the frame are wanted; 0: it is not.
  uint32_t run(const layout::Descriptor& d, const std::byte* frame) const;

 private:
  struct Side {
    std::optional<filter::Program> program;
    std::vector<bpf_insn>
        loops;  // a program that jumps backwards (`ip protochain`): the real library runs it
  };
  static Result<Side> specialise(const bpf_program& program, bool outgoing, uint32_t ifindex);

  const Side& side(bool outgoing) const { return outgoing ? outgoing_ : incoming_; }
  bool excluded(bool outgoing) const {
    return direction_ != PCAP_D_INOUT && outgoing != (direction_ == PCAP_D_OUT);
  }
  std::vector<filter::Instruction> program(bool outgoing) const;

  bool set_ = false;
  pcap_direction_t direction_ = PCAP_D_INOUT;
  Side incoming_, outgoing_;
};

}  // namespace ringcap::shim

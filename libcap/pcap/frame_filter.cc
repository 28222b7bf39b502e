#include "libcap/pcap/frame_filter.h"

#include <fmt/format.h>
#include <linux/filter.h>
#include <linux/if_packet.h>

#include <algorithm>

#include "libcap/pcap/real.h"

namespace ringcap::shim {
namespace {

constexpr uint32_t kAncillary = static_cast<uint32_t>(SKF_AD_OFF);

bool absolute_load(const bpf_insn& i) { return BPF_CLASS(i.code) == BPF_LD && BPF_MODE(i.code) == BPF_ABS; }

// What an ancillary load yields for our frames; nullopt: libpcap does not use it, and neither do we.
std::optional<uint32_t> ancillary(uint32_t offset, bool outgoing, uint32_t ifindex) {
  switch (offset - kAncillary) {
    case SKF_AD_PKTTYPE:
      return outgoing ? PACKET_OUTGOING : PACKET_HOST;
    case SKF_AD_IFINDEX:
      return ifindex;
    case SKF_AD_VLAN_TAG:
    case SKF_AD_VLAN_TAG_PRESENT:
      return 0;
    default:
      return std::nullopt;
  }
}

}  // namespace

Result<FrameFilter::Side> FrameFilter::specialise(const bpf_program& program, bool outgoing,
                                                  uint32_t ifindex) {
  std::vector<bpf_insn> code(program.bf_insns, program.bf_insns + program.bf_len);
  for (bpf_insn& i : code) {
    if (!absolute_load(i) || i.k < kAncillary) continue;
    const auto value = ancillary(i.k, outgoing, ifindex);
    if (!value)
      return fail(Code::kFilter, fmt::format("BPF program loads what ringcap does not have beside a frame "
                                             "(the kernel's ancillary offset {})",
                                             i.k - kAncillary));
    i = {.code = BPF_LD | BPF_IMM, .jt = 0, .jf = 0, .k = *value};
  }
  Side side;
  std::vector<filter::Instruction> instructions;
  for (const bpf_insn& i : code) instructions.push_back({i.code, i.jt, i.jf, i.k});
  if (auto valid = filter::validate(instructions)) {
    side.program = std::move(*valid);
    return side;
  }
  const auto validate = real().bpf_validate;
  if (validate == nullptr || real().bpf_filter == nullptr ||
      validate(code.data(), static_cast<int>(code.size())) == 0)
    return fail(Code::kFilter, "BPF program is not valid");
  side.loops = std::move(code);
  return side;
}

Result<FrameFilter> FrameFilter::make(const bpf_program& program, uint32_t ifindex) {
  FrameFilter filter;
  if (program.bf_len == 0 || program.bf_insns == nullptr)
    return fail(Code::kFilter, "BPF program is not valid");
  auto incoming = specialise(program, false, ifindex);
  if (!incoming) return std::unexpected(incoming.error());
  auto outgoing = specialise(program, true, ifindex);
  if (!outgoing) return std::unexpected(outgoing.error());
  filter.incoming_ = std::move(*incoming);
  filter.outgoing_ = std::move(*outgoing);
  filter.set_ = true;
  return filter;
}

// The program of an empty filter text.
bool FrameFilter::takes_everything() const {
  if (!set_) return true;
  if (!incoming_.program) return false;
  const auto code = incoming_.program->instructions();
  return code.size() == 1 && code[0].code == (BPF_RET | BPF_K) && code[0].k != 0;
}

std::vector<filter::Instruction> FrameFilter::for_engine() const {
  if (takes_everything() || !incoming_.program || incoming_.program != outgoing_.program) return {};
  const auto instructions = incoming_.program->instructions();
  return {instructions.begin(), instructions.end()};
}

// A program's result is also how many bytes are wanted; the engine looks only whether that is 0.
bool FrameFilter::engine_suffices(uint32_t caplen_limit) const {
  if (direction_ != PCAP_D_INOUT) return false;
  if (!set_) return true;
  if (!incoming_.program || incoming_.program != outgoing_.program) return false;
  return std::ranges::all_of(incoming_.program->instructions(), [&](const filter::Instruction& i) {
    if (BPF_CLASS(i.code) != BPF_RET) return true;
    return BPF_RVAL(i.code) == BPF_K && (i.k == 0 || i.k >= caplen_limit);
  });
}

uint32_t FrameFilter::run(const layout::Descriptor& d, const std::byte* frame) const {
  const bool outgoing = (d.flags & layout::kOutgoing) != 0;
  if (direction_ != PCAP_D_INOUT && outgoing != (direction_ == PCAP_D_OUT)) return 0;
  if (!set_) return ~uint32_t{0};
  const Side& side = outgoing ? outgoing_ : incoming_;
  if (side.program) return filter::run(*side.program, frame, d.length, d.captured);
  return real().bpf_filter(side.loops.data(), reinterpret_cast<const u_char*>(frame), d.length, d.captured);
}

}  // namespace ringcap::shim

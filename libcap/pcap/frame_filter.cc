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
  instructions.reserve(code.size());
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

// For the frames of one direction; empty: all of them.
std::vector<filter::Instruction> FrameFilter::program(bool outgoing) const {
  if (excluded(outgoing)) return {{BPF_RET | BPF_K, 0, 0, 0}};
  const Side& wanted = side(outgoing);
  if (!set_ || !wanted.program) return {};
  const auto code = wanted.program->instructions();
  const bool everything = code.size() == 1 && code[0].code == (BPF_RET | BPF_K) && code[0].k != 0;
  if (everything) return {};  // what an empty text compiles to
  return {code.begin(), code.end()};
}

message::SetFilter FrameFilter::for_engine() const {
  message::SetFilter both{.filter = program(false)};
  if (auto outgoing = program(true); outgoing != both.filter) both.outgoing = std::move(outgoing);
  return both;
}

// A program's result is also how many bytes are wanted; the engine looks only whether that is 0.
bool FrameFilter::engine_suffices(uint32_t caplen_limit) const {
  if (!set_) return true;
  const auto all_or_nothing = [&](const filter::Instruction& i) {
    if (BPF_CLASS(i.code) != BPF_RET) return true;
    return BPF_RVAL(i.code) == BPF_K && (i.k == 0 || i.k >= caplen_limit);
  };
  for (const bool outgoing : {false, true}) {
    if (excluded(outgoing)) continue;
    const auto& wanted = side(outgoing).program;
    if (!wanted || !std::ranges::all_of(wanted->instructions(), all_or_nothing)) return false;
  }
  return true;
}

uint32_t FrameFilter::run(const layout::Descriptor& d, const std::byte* frame) const {
  const bool outgoing = (d.flags & layout::kOutgoing) != 0;
  if (excluded(outgoing)) return 0;
  if (!set_) return ~uint32_t{0};
  const Side& wanted = side(outgoing);
  if (wanted.program) return filter::run(*wanted.program, frame, d.length, d.captured);
  return real().bpf_filter(wanted.loops.data(), reinterpret_cast<const u_char*>(frame), d.length, d.captured);
}

}  // namespace ringcap::shim

#include "capture/filter/flow.h"

#include <linux/filter.h>

#include <algorithm>

namespace ringcap::filter {
namespace {

constexpr uint32_t kNone = ~0U;

// What works on a value in the frame's byte order as well, with a constant in that order.
bool works_on_wire(const Instruction& i) {
  return i.code == (BPF_JMP | BPF_JEQ | BPF_K) || i.code == (BPF_JMP | BPF_JSET | BPF_K) ||
         i.code == (BPF_ALU | BPF_AND | BPF_K);
}

bool relative_to_x(const Instruction& i) {
  return BPF_CLASS(i.code) == BPF_LD && BPF_MODE(i.code) == BPF_IND;
}

uint32_t jump_target(const Instruction& i, uint32_t at, bool yes) {
  if (i.code == (BPF_JMP | BPF_JA)) return at + 1 + i.k;
  return at + 1 + (yes ? i.jt : i.jf);
}

// Where blocks begin: where jumps lead, and behind them.
std::vector<bool> find_leaders(std::span<const Instruction> program) {
  std::vector<bool> leads(program.size() + 1);
  leads[0] = true;
  for (uint32_t i = 0; i < program.size(); ++i) {
    if (returns(program[i]) || jumps(program[i])) leads[i + 1] = true;
    if (!jumps(program[i])) continue;
    leads[jump_target(program[i], i, true)] = true;
    leads[jump_target(program[i], i, false)] = true;
  }
  return leads;
}

class Analysis {
 public:
  explicit Analysis(std::span<const Instruction> program) : program_(program) {
    const size_t count = program.size() + 1;
    flow_.need.resize(count);
    flow_.wanted.resize(count);
    flow_.form.resize(count);
    flow_.block_of.resize(count, kNone);
    wire_ok_.resize(count);
    wire_ok_after_.resize(count);
  }

  Flow run() {
    find_blocks();
    find_ways();
    for (uint32_t b = block_count(); b-- > 0;) {
      find_need(flow_.blocks[b]);
      find_wanted(flow_.blocks[b]);
    }
    find_known();
    do find_wire();
    while (!find_forms());
    return std::move(flow_);
  }

 private:
  uint32_t block_count() const { return static_cast<uint32_t>(flow_.blocks.size()); }
  bool ends(const Block& b) const { return returns(program_[b.last]); }

  void find_blocks() {
    const std::vector<bool> leads = find_leaders(program_);
    for (uint32_t i = 0; i < program_.size(); ++i) {
      if (leads[i]) {
        flow_.block_of[i] = block_count();
        flow_.blocks.emplace_back().first = i;
      }
      flow_.blocks.back().last = i;
    }
    for (Block& b : flow_.blocks) {
      if (ends(b)) continue;
      const Instruction& last = program_[b.last];
      b.yes = flow_.block_of[jumps(last) ? jump_target(last, b.last, true) : b.last + 1];
      b.no = flow_.block_of[jumps(last) ? jump_target(last, b.last, false) : b.last + 1];
    }
  }

  void find_ways() {
    flow_.blocks.front().ways_in = 1;
    for (const Block& b : flow_.blocks) {
      if (b.ways_in == 0 || ends(b)) continue;
      ++flow_.blocks[b.yes].ways_in;
      if (b.yes != b.no) ++flow_.blocks[b.no].ways_in;
    }
  }

  static Need never() { return {Need::kNever, Need::kNever}; }
  static Need normal(Need n) { return std::max(n.total, n.behind_x) > UINT32_MAX ? never() : n; }

  Need need_at_end(const Block& b) const {
    const Instruction& last = program_[b.last];
    if (ends(b)) return last.code == (BPF_RET | BPF_K) && last.k == 0 ? never() : Need{};
    const Need yes = flow_.need[flow_.blocks[b.yes].first];
    const Need no = flow_.need[flow_.blocks[b.no].first];
    return {std::min(yes.total, no.total), std::min(yes.behind_x, no.behind_x)};
  }

  void find_need(const Block& b) {
    Need need = need_at_end(b);
    for (uint32_t i = b.last + 1; i-- > b.first;) {
      const Instruction& instruction = program_[i];
      const uint64_t reach = uint64_t{instruction.k} + load_bytes(instruction);
      // X is not negative: what must lie behind it must be there at all.
      if (writes(instruction) & kX) need = {std::max(need.total, need.behind_x), 0};
      if (relative_to_x(instruction))
        need.behind_x = std::max(need.behind_x, reach);
      else if (load_bytes(instruction) != 0)
        need.total = std::max(need.total, reach);
      flow_.need[i] = need = normal(need);
    }
  }

  void find_wanted(Block& b) {
    Values wanted = 0;
    if (!ends(b)) wanted = flow_.blocks[b.yes].wanted | flow_.blocks[b.no].wanted;
    for (uint32_t i = b.last + 1; i-- > b.first;) {
      flow_.wanted[i] = wanted;
      if (idle(program_[i], wanted)) {
        if (relative_to_x(program_[i])) wanted |= kX;  // for the check that stays
        continue;
      }
      wanted = (wanted & ~writes(program_[i])) | reads(program_[i]);
    }
    b.wanted = wanted;
  }

  Need known_at_end(const Block& b) const {
    Need known{std::max(b.known.total, flow_.need[b.first].total),
               std::max(b.known.behind_x, flow_.need[b.first].behind_x)};
    for (uint32_t i = b.first; i <= b.last; ++i)
      if (writes(program_[i]) & kX)
        known.behind_x = std::max(known_behind_x(program_[i], known.total), flow_.need[i + 1].behind_x);
    return known;
  }

  // Of blocks that refuse nobody asks.
  void find_known() {
    for (Block& b : flow_.blocks) b.known = never();
    flow_.blocks.front().known = {};
    for (const Block& b : flow_.blocks) {
      if (b.ways_in == 0 || ends(b) || flow_.refuses(b)) continue;
      const Need known = known_at_end(b);
      for (Block* next : {&flow_.blocks[b.yes], &flow_.blocks[b.no]})
        next->known = {std::min(next->known.total, known.total),
                       std::min(next->known.behind_x, known.behind_x)};
    }
  }

  // Whether all that may follow an instruction works on A in the frame's order, until A is written.
  void find_wire() {
    for (uint32_t n = block_count(); n-- > 0;) {
      const Block& b = flow_.blocks[n];
      bool ok = ends(b) || (wire_ok_[flow_.blocks[b.yes].first] && wire_ok_[flow_.blocks[b.no].first]);
      for (uint32_t i = b.last + 1; i-- > b.first;) {
        wire_ok_after_[i] = ok;
        if (idle(program_[i], flow_.wanted[i])) continue;
        if ((reads(program_[i]) & kA) != 0)
          ok = works_on_wire(program_[i]) && ok;
        else if ((writes(program_[i]) & kA) != 0)
          ok = true;
      }
      wire_ok_[b.first] = (ok && !b.number_wanted) || (b.wanted & kA) == 0;
    }
  }

  Form form_after(uint32_t i, Form before) const {
    const Instruction& instruction = program_[i];
    if ((writes(instruction) & kA) == 0 || works_on_wire(instruction)) return before;
    if (!wire_ok_after_[i]) return Form::kNumber;
    const uint32_t bytes = BPF_CLASS(instruction.code) == BPF_LD ? load_bytes(instruction) : 0;
    return bytes == 4 ? Form::kWireWord : bytes == 2 ? Form::kWireHalf : Form::kNumber;
  }

  // False: blocks were found that are entered with A in several forms; they want the number.
  bool find_forms() {
    std::vector<bool> entered(block_count());
    bool agreed = true;
    for (const Block& b : flow_.blocks) {
      if (b.ways_in == 0) continue;
      Form form = b.form;
      for (uint32_t i = b.first; i <= b.last; ++i) flow_.form[i] = form = form_after(i, form);
      if (ends(b)) continue;
      for (const uint32_t n : {b.yes, b.no}) {
        Block& next = flow_.blocks[n];
        if ((next.wanted & kA) == 0) continue;
        if (entered[n] && next.form != form && !next.number_wanted) {
          next.number_wanted = true;
          agreed = false;
        }
        next.form = form;
        entered[n] = true;
      }
    }
    return agreed;
  }

  std::span<const Instruction> program_;
  Flow flow_;
  std::vector<bool> wire_ok_;        // where a block begins
  std::vector<bool> wire_ok_after_;  // after an instruction
};

}  // namespace

Flow make_flow(std::span<const Instruction> program) { return Analysis(program).run(); }

bool idle(const Instruction& i, Values wanted) {
  const bool may_divide_by_zero =
      i.code == (BPF_ALU | BPF_DIV | BPF_X) || i.code == (BPF_ALU | BPF_MOD | BPF_X);
  return writes(i) != 0 && (writes(i) & wanted) == 0 && !may_divide_by_zero;
}

bool returns(const Instruction& i) { return BPF_CLASS(i.code) == BPF_RET; }
bool jumps(const Instruction& i) { return BPF_CLASS(i.code) == BPF_JMP; }

uint32_t load_bytes(const Instruction& i) {
  if (i.code == (BPF_LDX | BPF_B | BPF_MSH)) return 1;
  if (BPF_CLASS(i.code) != BPF_LD || (BPF_MODE(i.code) != BPF_ABS && BPF_MODE(i.code) != BPF_IND)) return 0;
  return BPF_SIZE(i.code) == BPF_W ? 4 : BPF_SIZE(i.code) == BPF_H ? 2 : 1;
}

uint64_t known_behind_x(const Instruction& i, uint64_t total) {
  constexpr uint64_t kLongestHeader = 60;
  const uint64_t x = i.code == (BPF_LDX | BPF_B | BPF_MSH) ? kLongestHeader
                     : i.code == (BPF_LDX | BPF_IMM)       ? i.k
                                                           : Need::kNever;
  return total - std::min(total, x);
}

Values reads(const Instruction& i) {
  const bool with_x = BPF_SRC(i.code) == BPF_X && BPF_OP(i.code) != BPF_NEG && i.code != (BPF_JMP | BPF_JA);
  switch (BPF_CLASS(i.code)) {
    case BPF_LD:
      return BPF_MODE(i.code) == BPF_IND ? kX : BPF_MODE(i.code) == BPF_MEM ? memory_word(i.k) : 0;
    case BPF_LDX:
      return BPF_MODE(i.code) == BPF_MEM ? memory_word(i.k) : 0;
    case BPF_ST:
      return kA;
    case BPF_STX:
      return kX;
    case BPF_ALU:
      return with_x ? kA | kX : kA;
    case BPF_JMP:
      return i.code == (BPF_JMP | BPF_JA) ? 0 : with_x ? kA | kX : kA;
    case BPF_RET:
      return i.code == (BPF_RET | BPF_A) ? kA : 0;
    default:
      return i.code == (BPF_MISC | BPF_TAX) ? kA : kX;
  }
}

Values writes(const Instruction& i) {
  switch (BPF_CLASS(i.code)) {
    case BPF_LD:
    case BPF_ALU:
      return kA;
    case BPF_LDX:
      return kX;
    case BPF_ST:
    case BPF_STX:
      return memory_word(i.k);
    case BPF_MISC:
      return i.code == (BPF_MISC | BPF_TAX) ? kX : kA;
    default:
      return 0;
  }
}

}  // namespace ringcap::filter

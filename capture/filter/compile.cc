// The compiler: classic BPF to x86-64. Straight from the program's blocks, in their order; flow.h says
// what need not be written. The code is a leaf function that keeps everything in registers, and memory
// words in the red zone below the stack pointer:
//
//   rdi frame   rsi captured   rdx length on the wire   eax A   ecx X   r8 to r10 scratch
//
// All instructions are those that every x86-64 processor has.
#ifdef __x86_64__

#include <linux/filter.h>
#include <xbyak/xbyak.h>

#include <algorithm>
#include <bit>
#include <deque>
#include <map>
#include <optional>

#include "capture/filter/flow.h"
#include "capture/filter/key_table.h"
#include "capture/filter/machine_code.h"

namespace ringcap::filter {
namespace {

// What a jump asks of the flags, as an unsigned comparison leaves them.
enum class Condition : uint8_t { kEqual, kAbove, kAboveOrEqual, kNotZero };

constexpr size_t kFewestKeys = 4;    // below it comparisons in a row are as good as a table
constexpr size_t kBytesEach = 64;    // more than any instruction takes, checks included
constexpr uint32_t kCacheLine = 64;  // tables begin at one

// A row of blocks that each compare A with a constant and go to the same place if it is equal.
struct Row {
  std::vector<uint32_t> keys;  // all different; none: no row
};

uint32_t to_form(uint32_t k, Form form) {
  if (form == Form::kWireWord) return __builtin_bswap32(k);
  if (form == Form::kWireHalf) return __builtin_bswap16(static_cast<uint16_t>(k));
  return k;
}

// A constant to be compared with, which may be beyond 16 bits: then nothing is equal.
uint32_t key_in_form(uint32_t k, Form form) {
  return form == Form::kWireHalf && k > 0xffff ? ~0U : to_form(k, form);
}

int32_t as_signed(uint32_t k) { return static_cast<int32_t>(k); }
bool fits_displacement(uint64_t k) { return k <= INT32_MAX; }

class Compiler : Xbyak::CodeGenerator {
 public:
  Compiler(std::span<const Instruction> program, uint8_t* room, size_t room_bytes)
      : CodeGenerator(room_bytes, room), program_(program), flow_(make_flow(program)) {
    setDefaultJmpNEAR(true);
    labels_.resize(flow_.blocks.size());
    rows_.resize(flow_.blocks.size());
    swallowed_.resize(flow_.blocks.size());
    for (uint32_t b = 0; b < flow_.blocks.size(); ++b) find_row(b);
  }

  void compile() {
    mark(MachineCode::kEntry);
    clear_what_is_wanted(flow_.blocks.front().wanted);
    const std::vector<uint32_t> order = blocks_to_write();
    next_ = order.empty() ? 0 : order.front();
    if (verdict(0)) go_to(0);
    for (size_t i = 0; i < order.size(); ++i) {
      next_ = i + 1 < order.size() ? order[i + 1] : 0;  // nothing jumps to block 0
      write_block(order[i]);
    }
    write_verdicts();
    write_tables();
    if (hasUndefinedLabel()) throw Xbyak::Error(Xbyak::ERR_LABEL_IS_NOT_FOUND);  // a jump to nowhere
  }

  std::span<const uint8_t> bytes() const { return {getCode(), getSize()}; }
  std::vector<MachineCode::Mark> take_marks() { return std::move(marks_); }

 private:
  const Block& block(uint32_t b) const { return flow_.blocks[b]; }
  const Instruction& last_of(uint32_t b) const { return program_[block(b).last]; }
  void mark(int32_t what) { marks_.push_back({static_cast<uint32_t>(getSize()), what}); }

  // --- the shape of the program ---

  // What a block that only decides decides; nothing for one that does more.
  std::optional<uint32_t> verdict(uint32_t b) const {
    if (flow_.refuses(block(b))) return 0;
    if (block(b).first != block(b).last || last_of(b).code != (BPF_RET | BPF_K)) return {};
    return last_of(b).k;
  }

  bool compares_with_constant(uint32_t b) const {
    return last_of(b).code == (BPF_JMP | BPF_JEQ | BPF_K) && block(b).yes != block(b).no;
  }

  // Whether block b does nothing but the next comparison of a row that goes to `yes`.
  bool continues_row(uint32_t b, uint32_t yes) const {
    return block(b).first == block(b).last && block(b).ways_in == 1 && !flow_.refuses(block(b)) &&
           compares_with_constant(b) && block(b).yes == yes;
  }

  // The blocks of a row need the same length (each can go to `yes`, or to the row's end), so that the
  // first one's check is enough.
  void find_row(uint32_t first) {
    if (block(first).ways_in == 0 || swallowed_[first] || !compares_with_constant(first)) return;
    std::vector<uint32_t> blocks{first};
    while (continues_row(block(blocks.back()).no, block(first).yes))
      blocks.push_back(block(blocks.back()).no);
    if (blocks.size() < kFewestKeys) return;
    std::vector<uint32_t>& keys = rows_[first].keys;
    for (const uint32_t b : blocks) keys.push_back(key_in_form(last_of(b).k, flow_.form[block(b).last]));
    std::ranges::sort(keys);
    keys.erase(std::ranges::unique(keys).begin(), keys.end());
    for (size_t i = 1; i < blocks.size(); ++i) swallowed_[blocks[i]] = true;
    flow_.blocks[first].no = block(blocks.back()).no;
  }

  std::vector<uint32_t> blocks_to_write() const {
    std::vector<uint32_t> order;
    for (uint32_t b = 0; b < flow_.blocks.size(); ++b)
      if (block(b).ways_in != 0 && !swallowed_[b] && !verdict(b)) order.push_back(b);
    return order;
  }

  // --- where control goes ---

  Xbyak::Label& place(uint32_t b) {
    const auto decided = verdict(b);
    if (!decided) return labels_[b];
    return *decided == 0 ? refuse_ : accept_[*decided];
  }

  void decide(uint32_t verdict) {
    if (verdict == 0)
      xor_(eax, eax);
    else
      mov(eax, verdict);
    ret();
  }

  void go_to(uint32_t b) {
    if (const auto decided = verdict(b))
      decide(*decided);
    else if (b != next_)
      jmp(labels_[b]);
  }

  void jump_if(Condition condition, Xbyak::Label& to) {
    switch (condition) {
      case Condition::kEqual:
        return je(to);
      case Condition::kAbove:
        return ja(to);
      case Condition::kAboveOrEqual:
        return jae(to);
      case Condition::kNotZero:
        return jnz(to);
    }
  }

  void jump_unless(Condition condition, Xbyak::Label& to) {
    switch (condition) {
      case Condition::kEqual:
        return jne(to);
      case Condition::kAbove:
        return jbe(to);
      case Condition::kAboveOrEqual:
        return jb(to);
      case Condition::kNotZero:
        return jz(to);
    }
  }

  void move_if(Condition condition) {
    switch (condition) {
      case Condition::kEqual:
        return cmove(eax, ecx);
      case Condition::kAbove:
        return cmova(eax, ecx);
      case Condition::kAboveOrEqual:
        return cmovae(eax, ecx);
      case Condition::kNotZero:
        return cmovnz(eax, ecx);
    }
  }

  // By the flags to one of two blocks. The last decision of a program is no jump, because nothing
  // foretells how frames of all kinds fall out.
  void branch(Condition condition, uint32_t yes, uint32_t no) {
    const auto verdict_yes = verdict(yes);
    const auto verdict_no = verdict(no);
    if (yes == no || (verdict_yes && verdict_yes == verdict_no)) return go_to(yes);
    if (verdict_yes && verdict_no) {
      mov(ecx, *verdict_yes);
      mov(eax, *verdict_no);
      move_if(condition);
      return ret();
    }
    if (yes == next_) return jump_unless(condition, place(no));
    jump_if(condition, place(yes));
    go_to(no);
  }

  // --- blocks ---

  void write_block(uint32_t b) {
    L(labels_[b]);
    const Need& need = flow_.need[block(b).first];
    mark(static_cast<int32_t>(block(b).first));
    if (need.total > block(b).known.total) {
      cmp(esi, static_cast<uint32_t>(need.total));
      jb(refuse_);
    }
    if (need.behind_x > block(b).known.behind_x) check_behind_x(need.behind_x);
    for (uint32_t i = block(b).first; i <= block(b).last; ++i) {
      if (idle(program_[i], flow_.wanted[i])) continue;
      if (i != block(b).first) mark(static_cast<int32_t>(i));
      write_instruction(b, i);
      if ((writes(program_[i]) & kX) != 0) check_new_x(b, i);
    }
    if (!returns(last_of(b)) && !jumps(last_of(b))) go_to(block(b).yes);
  }

  void check_new_x(uint32_t b, uint32_t i) {
    const uint64_t total = std::max(block(b).known.total, flow_.need[block(b).first].total);
    const uint64_t wanted = flow_.need[i + 1].behind_x;
    if (wanted > known_behind_x(program_[i], total)) check_behind_x(wanted);
  }

  void check_behind_x(uint64_t bytes) {
    if (fits_displacement(bytes)) {
      lea(r8, ptr[rcx + static_cast<int32_t>(bytes)]);
    } else {
      mov(r8d, static_cast<uint32_t>(bytes));
      add(r8, rcx);
    }
    cmp(r8, rsi);
    ja(refuse_);
  }

  void clear_what_is_wanted(Values wanted) {
    if ((wanted & kA) != 0) xor_(eax, eax);
    if ((wanted & kX) != 0) xor_(ecx, ecx);
    for (uint32_t m = 0; m < kMemoryWords; ++m)
      if ((wanted & memory_word(m)) != 0) mov(memory_at(m), 0);
  }

  void write_verdicts() {
    mark(MachineCode::kReturn);
    for (auto& [verdict, label] : accept_) {
      L(label);
      decide(verdict);
    }
    L(refuse_);
    decide(0);
  }

  // --- instructions ---

  Xbyak::Address memory_at(uint32_t m) { return dword[rsp + (4 * static_cast<int>(m) - 64)]; }

  void write_instruction(uint32_t b, uint32_t at) {
    const Instruction& i = program_[at];
    switch (BPF_CLASS(i.code)) {
      case BPF_LD:
      case BPF_LDX:
        return write_load(i, flow_.form[at]);
      case BPF_ST:
        return mov(memory_at(i.k), eax);
      case BPF_STX:
        return mov(memory_at(i.k), ecx);
      case BPF_ALU:
        return BPF_SRC(i.code) == BPF_X && BPF_OP(i.code) != BPF_NEG ? calculate_with_x(i)
                                                                     : calculate(i, flow_.form[at]);
      case BPF_JMP:
        return write_jump(b, i, flow_.form[at]);
      case BPF_RET:
        return write_return(i);
      default:
        return i.code == (BPF_MISC | BPF_TAX) ? mov(ecx, eax) : mov(eax, ecx);
    }
  }

  void write_return(const Instruction& i) {
    if (i.code == (BPF_RET | BPF_K)) return decide(i.k);
    ret();
  }

  void write_load(const Instruction& i, Form form) {
    const bool into_x = BPF_CLASS(i.code) == BPF_LDX;
    const Xbyak::Reg32& into = into_x ? ecx : eax;
    if (load_bytes(i) != 0) return into_x ? load_header_bytes(i) : load_from_frame(i, form);
    switch (BPF_MODE(i.code)) {
      case BPF_LEN:
        return mov(into, edx);
      case BPF_MEM:
        return mov(into, memory_at(i.k));
      default:
        return i.k == 0 ? xor_(into, into) : mov(into, i.k);
    }
  }

  // Where a load reads. The length has been checked.
  Xbyak::RegExp address_of(const Instruction& i) {
    const bool relative = BPF_CLASS(i.code) == BPF_LD && BPF_MODE(i.code) == BPF_IND;
    if (fits_displacement(i.k)) {
      const auto offset = static_cast<int32_t>(i.k);
      return relative ? rdi + rcx + offset : rdi + offset;
    }
    mov(r8d, i.k);
    if (relative) add(r8, rcx);
    return rdi + r8;
  }

  void load_from_frame(const Instruction& i, Form form) {
    const Xbyak::RegExp address = address_of(i);
    switch (load_bytes(i)) {
      case 4:
        mov(eax, dword[address]);
        if (form == Form::kNumber) bswap(eax);
        return;
      case 2:
        movzx(eax, word[address]);
        if (form == Form::kNumber) rol(ax, 8);
        return;
      default:
        movzx(eax, byte[address]);
    }
  }

  void load_header_bytes(const Instruction& i) {
    movzx(ecx, byte[address_of(i)]);
    and_(ecx, 0xf);
    shl(ecx, 2);
  }

  void calculate(const Instruction& i, Form form) {
    switch (BPF_OP(i.code)) {
      case BPF_ADD:
        return add(eax, i.k);
      case BPF_SUB:
        return sub(eax, i.k);
      case BPF_MUL:
        return imul(eax, eax, as_signed(i.k));
      case BPF_DIV:
      case BPF_MOD:
        return divide_by_constant(i.k, BPF_OP(i.code) == BPF_MOD);
      case BPF_AND:
        return and_(eax, to_form(i.k, form));
      case BPF_OR:
        return or_(eax, i.k);
      case BPF_XOR:
        return xor_(eax, i.k);
      case BPF_LSH:
        return shl(eax, static_cast<int>(i.k));
      case BPF_RSH:
        return shr(eax, static_cast<int>(i.k));
      default:
        return neg(eax);
    }
  }

  void calculate_with_x(const Instruction& i) {
    switch (BPF_OP(i.code)) {
      case BPF_ADD:
        return add(eax, ecx);
      case BPF_SUB:
        return sub(eax, ecx);
      case BPF_MUL:
        return imul(eax, ecx);
      case BPF_DIV:
      case BPF_MOD:
        test(ecx, ecx);
        jz(refuse_);
        return divide(ecx, BPF_OP(i.code) == BPF_MOD);
      case BPF_AND:
        return and_(eax, ecx);
      case BPF_OR:
        return or_(eax, ecx);
      case BPF_XOR:
        return xor_(eax, ecx);
      case BPF_LSH:
        shl(eax, cl);
        return clear_unless_x_below_32();
      default:
        shr(eax, cl);
        return clear_unless_x_below_32();
    }
  }

  // The processor shifts by X modulo 32, classic BPF by X.
  void clear_unless_x_below_32() {
    cmp(ecx, 32);
    sbb(r8d, r8d);  // all ones if X is below 32, else 0
    and_(eax, r8d);
  }

  void divide_by_constant(uint32_t k, bool remainder) {
    if (std::has_single_bit(k) && remainder) return and_(eax, k - 1);
    if (std::has_single_bit(k)) return shr(eax, std::countr_zero(k));
    mov(r9d, k);
    divide(r9d, remainder);
  }

  void divide(const Xbyak::Reg32& by, bool remainder) {
    mov(r8d, edx);  // the length on the wire stands where the division wants room
    xor_(edx, edx);
    div(by);
    if (remainder) mov(eax, edx);
    mov(edx, r8d);
  }

  // --- comparisons ---

  void write_jump(uint32_t b, const Instruction& i, Form form) {
    const uint32_t yes = block(b).yes;
    const uint32_t no = block(b).no;
    if (yes == no) return go_to(yes);
    if (!rows_[b].keys.empty()) return look_up(rows_[b].keys, yes, no);
    branch(compare(i, form), yes, no);
  }

  Condition compare(const Instruction& i, Form form) {
    const bool with_x = BPF_SRC(i.code) == BPF_X;
    if (BPF_OP(i.code) == BPF_JSET) {
      if (with_x)
        test(eax, ecx);
      else
        test_bits(to_form(i.k, form));
      return Condition::kNotZero;
    }
    if (with_x)
      cmp(eax, ecx);
    else
      compare_with(BPF_OP(i.code) == BPF_JEQ ? key_in_form(i.k, form) : i.k);
    return BPF_OP(i.code) == BPF_JEQ   ? Condition::kEqual
           : BPF_OP(i.code) == BPF_JGT ? Condition::kAbove
                                       : Condition::kAboveOrEqual;
  }

  void compare_with(uint32_t k) { k == 0 ? test(eax, eax) : cmp(eax, k); }

  void test_bits(uint32_t mask) { mask <= 0xff ? test(al, mask) : test(eax, mask); }

  // --- rows of comparisons ---

  void look_up(std::span<const uint32_t> keys, uint32_t yes, uint32_t no) {
    for (; keys.size() > KeyTable::kMaxKeys; keys = keys.subspan(KeyTable::kMaxKeys)) {
      look_up_some(keys.first(KeyTable::kMaxKeys), yes);
      je(place(yes));
    }
    look_up_some(keys, yes);
    branch(Condition::kEqual, yes, no);
  }

  // Leaves the flags at equal if A is one of them, or goes there.
  void look_up_some(std::span<const uint32_t> keys, uint32_t yes) {
    auto table = keys.size() < kFewestKeys ? std::nullopt : make_key_table(keys);
    if (!table) return compare_one_by_one(keys, yes);
    tables_.emplace_back().slots = std::move(table->slots);
    imul(r8d, eax, as_signed(table->multiplier));
    shr(r8d, static_cast<int>(table->shift));
    lea(r9, ptr[rip + tables_.back().label]);
    cmp(eax, dword[r9 + r8 * 4]);
  }

  void compare_one_by_one(std::span<const uint32_t> keys, uint32_t yes) {
    for (size_t i = 0; i < keys.size(); ++i) {
      compare_with(keys[i]);
      if (i + 1 < keys.size()) je(place(yes));
    }
  }

  void write_tables() {
    mark(MachineCode::kTable);
    for (Table& table : tables_) {
      while (getSize() % kCacheLine != 0) db(0xcc);
      L(table.label);
      for (const uint32_t slot : table.slots) dd(slot);
    }
  }

  struct Table {
    Xbyak::Label label;
    std::vector<uint32_t> slots;
  };

  std::span<const Instruction> program_;
  Flow flow_;
  std::vector<Xbyak::Label> labels_;  // by block
  std::map<uint32_t, Xbyak::Label> accept_;
  Xbyak::Label refuse_;
  std::vector<Row> rows_;        // by block, the first of a row
  std::vector<bool> swallowed_;  // blocks that are in a row and not the first
  std::deque<Table> tables_;
  uint32_t next_ = 0;  // the block that is written behind this one
  std::vector<MachineCode::Mark> marks_;
};

size_t most_bytes(size_t instructions) {
  const size_t tables = instructions / kFewestKeys + 1;
  const size_t largest = (sizeof(uint32_t) << KeyTable::kMaxBits) + kCacheLine;
  return (instructions + 16) * kBytesEach + tables * largest;
}

}  // namespace

Result<std::shared_ptr<const MachineCode>> make_code(std::span<const Instruction> program) {
  const size_t room_bytes = most_bytes(program.size());
  const auto room = std::make_unique_for_overwrite<uint8_t[]>(room_bytes);
  try {
    Compiler compiler(program, room.get(), room_bytes);
    compiler.compile();
    return MachineCode::make(compiler.bytes(), compiler.take_marks());
  } catch (const Xbyak::Error& error) {
    return fail(Code::kSystem, std::string("cannot compile a filter: ") + error.what(),
                "this is a mistake in ringcap; the filter is interpreted instead");
  }
}

}  // namespace ringcap::filter

#endif

// The interpreter: what every processor runs, and what the compiled code is held against.
#include <linux/filter.h>

#include "capture/filter/program.h"

namespace ringcap::filter {
namespace {

template <typename T>
T load(const std::byte* at) {
  T value;
  __builtin_memcpy(&value, at, sizeof value);
  return value;
}

// A frame as the loads see it. Offsets are 64 bits wide, so that sums of two 32-bit ones do not wrap.
struct View {
  const std::byte* frame;
  uint64_t captured;

  bool word(uint64_t offset, uint32_t& out) const {
    if (offset + 4 > captured) return false;
    out = __builtin_bswap32(load<uint32_t>(frame + offset));
    return true;
  }
  bool half(uint64_t offset, uint32_t& out) const {
    if (offset + 2 > captured) return false;
    out = __builtin_bswap16(load<uint16_t>(frame + offset));
    return true;
  }
  bool byte(uint64_t offset, uint32_t& out) const {
    if (offset >= captured) return false;
    out = load<uint8_t>(frame + offset);
    return true;
  }
};

}  // namespace

// Every instruction in one place: the validator has seen to it that each is known, that memory indexes
// are in range and that each path ends with `ret`.
uint32_t interpret(const Program& program, const std::byte* frame, uint32_t length_on_wire,
                   uint32_t captured) {
  const View view{frame, captured};
  uint32_t a = 0;
  uint32_t x = 0;
  uint32_t memory[kMemoryWords] = {};
  for (const Instruction* i = program.instructions().data();; ++i) {
    const uint32_t k = i->k;
    switch (i->code) {
      case BPF_RET | BPF_K:
        return k;
      case BPF_RET | BPF_A:
        return a;

      case BPF_LD | BPF_W | BPF_ABS:
        if (!view.word(k, a)) return 0;
        continue;
      case BPF_LD | BPF_H | BPF_ABS:
        if (!view.half(k, a)) return 0;
        continue;
      case BPF_LD | BPF_B | BPF_ABS:
        if (!view.byte(k, a)) return 0;
        continue;
      case BPF_LD | BPF_W | BPF_IND:
        if (!view.word(uint64_t{x} + k, a)) return 0;
        continue;
      case BPF_LD | BPF_H | BPF_IND:
        if (!view.half(uint64_t{x} + k, a)) return 0;
        continue;
      case BPF_LD | BPF_B | BPF_IND:
        if (!view.byte(uint64_t{x} + k, a)) return 0;
        continue;
      case BPF_LDX | BPF_B | BPF_MSH:
        if (!view.byte(k, x)) return 0;
        x = (x & 0xf) << 2;
        continue;
      case BPF_LD | BPF_W | BPF_LEN:
        a = length_on_wire;
        continue;
      case BPF_LDX | BPF_W | BPF_LEN:
        x = length_on_wire;
        continue;
      case BPF_LD | BPF_IMM:
        a = k;
        continue;
      case BPF_LDX | BPF_IMM:
        x = k;
        continue;
      case BPF_LD | BPF_MEM:
        a = memory[k];
        continue;
      case BPF_LDX | BPF_MEM:
        x = memory[k];
        continue;
      case BPF_ST:
        memory[k] = a;
        continue;
      case BPF_STX:
        memory[k] = x;
        continue;

      case BPF_JMP | BPF_JA:
        i += k;
        continue;
      case BPF_JMP | BPF_JEQ | BPF_K:
        i += a == k ? i->jt : i->jf;
        continue;
      case BPF_JMP | BPF_JGT | BPF_K:
        i += a > k ? i->jt : i->jf;
        continue;
      case BPF_JMP | BPF_JGE | BPF_K:
        i += a >= k ? i->jt : i->jf;
        continue;
      case BPF_JMP | BPF_JSET | BPF_K:
        i += (a & k) != 0 ? i->jt : i->jf;
        continue;
      case BPF_JMP | BPF_JEQ | BPF_X:
        i += a == x ? i->jt : i->jf;
        continue;
      case BPF_JMP | BPF_JGT | BPF_X:
        i += a > x ? i->jt : i->jf;
        continue;
      case BPF_JMP | BPF_JGE | BPF_X:
        i += a >= x ? i->jt : i->jf;
        continue;
      case BPF_JMP | BPF_JSET | BPF_X:
        i += (a & x) != 0 ? i->jt : i->jf;
        continue;

      case BPF_ALU | BPF_ADD | BPF_K:
        a += k;
        continue;
      case BPF_ALU | BPF_SUB | BPF_K:
        a -= k;
        continue;
      case BPF_ALU | BPF_MUL | BPF_K:
        a *= k;
        continue;
      case BPF_ALU | BPF_DIV | BPF_K:
        a /= k;
        continue;
      case BPF_ALU | BPF_MOD | BPF_K:
        a %= k;
        continue;
      case BPF_ALU | BPF_AND | BPF_K:
        a &= k;
        continue;
      case BPF_ALU | BPF_OR | BPF_K:
        a |= k;
        continue;
      case BPF_ALU | BPF_XOR | BPF_K:
        a ^= k;
        continue;
      case BPF_ALU | BPF_LSH | BPF_K:
        a <<= k;
        continue;
      case BPF_ALU | BPF_RSH | BPF_K:
        a >>= k;
        continue;
      case BPF_ALU | BPF_ADD | BPF_X:
        a += x;
        continue;
      case BPF_ALU | BPF_SUB | BPF_X:
        a -= x;
        continue;
      case BPF_ALU | BPF_MUL | BPF_X:
        a *= x;
        continue;
      case BPF_ALU | BPF_DIV | BPF_X:
        if (x == 0) return 0;
        a /= x;
        continue;
      case BPF_ALU | BPF_MOD | BPF_X:
        if (x == 0) return 0;
        a %= x;
        continue;
      case BPF_ALU | BPF_AND | BPF_X:
        a &= x;
        continue;
      case BPF_ALU | BPF_OR | BPF_X:
        a |= x;
        continue;
      case BPF_ALU | BPF_XOR | BPF_X:
        a ^= x;
        continue;
      case BPF_ALU | BPF_LSH | BPF_X:
        a = x < 32 ? a << x : 0;
        continue;
      case BPF_ALU | BPF_RSH | BPF_X:
        a = x < 32 ? a >> x : 0;
        continue;
      case BPF_ALU | BPF_NEG:
        a = 0 - a;
        continue;

      case BPF_MISC | BPF_TAX:
        x = a;
        continue;
      case BPF_MISC | BPF_TXA:
        a = x;
        continue;

      default:
        return 0;
    }
  }
}

}  // namespace ringcap::filter

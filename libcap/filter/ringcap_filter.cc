#include "libcap/filter/ringcap_filter.h"

#include <pcap/pcap.h>

#include <climits>
#include <cstdio>
#include <cstring>
#include <memory>
#include <mutex>
#include <string>

#include "libcap/filter/dlt.h"
#include "libcap/filter/live_words.h"

namespace {

static_assert(sizeof(ringcap_filter_instruction) == sizeof(bpf_insn));
static_assert(offsetof(ringcap_filter_instruction, jt) == offsetof(bpf_insn, jt) &&
              offsetof(ringcap_filter_instruction, jf) == offsetof(bpf_insn, jf) &&
              offsetof(ringcap_filter_instruction, k) == offsetof(bpf_insn, k));

// libpcap before 1.8 compiles in static variables.
std::mutex compiling;

struct Pcap {
  void operator()(pcap_t* handle) const { pcap_close(handle); }
};
using PcapHandle = std::unique_ptr<pcap_t, Pcap>;

struct Compiled : bpf_program {
  Compiled() : bpf_program{} {}
  Compiled(const Compiled&) = delete;
  Compiled& operator=(const Compiled&) = delete;
  ~Compiled() { pcap_freecode(this); }
};

void tell(const char* text, char* error, size_t error_bytes) {
  if (error_bytes != 0) std::snprintf(error, error_bytes, "%s", text);
}

bool makes_sense(const char* expression, int link_type, uint32_t snaplen,
                 const ringcap_filter_instruction* out, const size_t* count) {
  return expression != nullptr && link_type >= 0 && link_type <= UINT16_MAX && snaplen >= 1 &&
         snaplen <= INT_MAX && count != nullptr && (out != nullptr || *count == 0);
}

// 0, or -1 with libpcap's words.
int compile(pcap_t* handle, Compiled& program, const char* expression, int optimize) {
  const int status = pcap_compile(handle, &program, expression, optimize, PCAP_NETMASK_UNKNOWN);
  if (status == 0) return 0;
  const std::string error = pcap_geterr(handle);
  const auto other = ringcap::without_live_words(expression, error);
  return other ? pcap_compile(handle, &program, other->c_str(), 1, PCAP_NETMASK_UNKNOWN) : status;
}

// Copies the program out if there is room.
int give(const bpf_program& program, ringcap_filter_instruction* out, size_t* count, char* error,
         size_t error_bytes) {
  const size_t room = *count;
  *count = program.bf_len;
  if (program.bf_len > room) {
    tell("the filter needs more instructions than there is room for", error, error_bytes);
    return RINGCAP_FILTER_E_SPACE;
  }
  std::memcpy(out, program.bf_insns, program.bf_len * sizeof *out);
  return RINGCAP_FILTER_OK;
}

}  // namespace

extern "C" int ringcap_filter_compile(const char* expression, int link_type, uint32_t snaplen, int optimize,
                                      ringcap_filter_instruction* out, size_t* count, char* error,
                                      size_t error_bytes) {
  tell("", error, error_bytes);
  if (!makes_sense(expression, link_type, snaplen, out, count)) {
    tell(
        "ringcap_filter_compile: an argument makes no sense: a null pointer, a link type beyond 16 bits, "
        "or a snap length that is not 1 to 2147483647",
        error, error_bytes);
    return RINGCAP_FILTER_E_USAGE;
  }
  const std::lock_guard lock(compiling);
  const PcapHandle handle(
      pcap_open_dead(ringcap::dlt_of(static_cast<uint32_t>(link_type)), static_cast<int>(snaplen)));
  if (!handle) {
    tell("out of memory", error, error_bytes);
    return RINGCAP_FILTER_E_MEMORY;
  }
  Compiled program;
  if (compile(handle.get(), program, expression, optimize) != 0) {
    tell(pcap_geterr(handle.get()), error, error_bytes);
    return RINGCAP_FILTER_E_EXPRESSION;
  }
  return give(program, out, count, error, error_bytes);
}

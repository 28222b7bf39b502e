#include "libcap/pcap/real.h"

#include <dlfcn.h>
#include <fmt/format.h>

#include <mutex>

#include "libcap/pcap/newer.h"
#include "libcap/pcap/search.h"
#include "libcap/pcap/text.h"

namespace ringcap::shim {
namespace {

void look_up(void* library, Real& real) {
#define RINGCAP_LOOK_UP(ret, name, lacking, params, ...) \
  real.name = reinterpret_cast<ret(*) params>(::dlsym(library, #name));
  RINGCAP_PCAP_FORWARDED(RINGCAP_LOOK_UP)
  RINGCAP_PCAP_HANDLED(RINGCAP_LOOK_UP) RINGCAP_PCAP_NAMED(RINGCAP_LOOK_UP)
#undef RINGCAP_LOOK_UP
}

// Whether this file is the real library, and could be loaded.
bool load_from(const std::string& path, Real& real) {
  if (!is_real(path)) return false;
  void* library = ::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    real.error = fmt::format("cannot load the real libpcap: {}", ::dlerror());
    return false;
  }
  real.error.clear();
  real.path = path;
  real.library = library;
  look_up(library, real);
  return true;
}

Real* load() {
  auto* real = new Real;  // for the process's life: programs call libpcap from their own destructors
  real->error = "cannot find the real libpcap: install libpcap0.8, or set RINGCAP_PCAP_REAL to its path";
  for (const auto candidates : {known_candidates, other_candidates})
    for (const auto& path : candidates())
      if (load_from(path, *real)) return real;
  return real;
}

}  // namespace

std::atomic<const Real*> loaded_real{nullptr};

const Real& load_real() {
  static std::mutex loading;
  const std::lock_guard lock(loading);
  if (loaded_real.load(std::memory_order_acquire) == nullptr)
    loaded_real.store(load(), std::memory_order_release);
  return *loaded_real.load(std::memory_order_acquire);
}

void* find_in_real(const char* name) {
  void* library = real().library;
  return library == nullptr ? nullptr : ::dlsym(library, name);
}

void tell_lacking(char* errbuf, const char* name) {
  const std::string& error = real().error;
  put_text(errbuf, error.empty() ? fmt::format("{}: not in this libpcap ({})", name, real().path) : error);
}

}  // namespace ringcap::shim

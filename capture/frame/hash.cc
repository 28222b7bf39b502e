#include "capture/frame/hash.h"

#include <sys/random.h>

#include <cerrno>
#include <cstdlib>

namespace ringcap {

HashKey HashKey::random() {
  std::byte bytes[16];
  // At most 256 bytes come whole or not at all; only a signal while the pool fills interrupts it.
  while (::getrandom(bytes, sizeof bytes, 0) != sizeof bytes)
    if (errno != EINTR) std::abort();  // a kernel without getrandom, older than any that this runs on
  return from_bytes(bytes);
}

}  // namespace ringcap

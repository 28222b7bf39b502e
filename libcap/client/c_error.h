// Errors as ringcap.h gives them. For the files that make up the C ABI.
#pragma once

#include <cstring>

#include "capture/base/error.h"
#include "libcap/client/ringcap.h"

namespace ringcap::client {

// `to` may be null. Texts that are too long are cut.
inline void put(ringcap_error* to, const Error& error) {
  if (to == nullptr) return;
  *to = {};
  to->code = -static_cast<int>(error.code);
  std::strncpy(to->text, error.text.c_str(), sizeof to->text - 1);
  std::strncpy(to->mend, error.mend.c_str(), sizeof to->mend - 1);
}

}  // namespace ringcap::client

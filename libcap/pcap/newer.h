// Functions of libpcap that the headers we are built with need not know: those that its main branch added
// after 1.10. Exported by newer.cc, which must not see them declared.
#pragma once

namespace ringcap::shim {

// Where the real library has a function; null: it lacks it, or cannot be loaded. Any thread.
void* find_in_real(const char* name);

}  // namespace ringcap::shim

// Giving up root once everything that needs it is open: devices, memory, sockets, lock. Main thread, before
// any other is started.
#pragma once

#include <string>

#include "capture/base/error.h"

namespace ringcap::tools {

// Becomes `user`, with that user's groups, and for good (no new privileges). Does nothing where this process
// is not root. `user` "" keeps root; a user that does not exist is an error only if `asked` for.
Result<void> become_user(const std::string& user, bool asked);

}  // namespace ringcap::tools

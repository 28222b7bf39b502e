// An engine in the foreground, as `up` and `bridge` have it: until a signal, `ringcap down`, or its end. Main
// thread.
#pragma once

#include <string>

#include "tools/engine_options.h"

namespace ringcap::tools {

// Blocks SIGINT and SIGTERM until the engine can be asked to end: before the engine is made, so that whoever
// sees its socket can end it.
void hold_signals();

struct RunAs {
  std::string user = "ringcap";  // "": stays root
  bool asked = false;            // a user that there is not is an error then
};

// Gives up root, runs the engine, says at the end what was lost; returns the exit status.
int run_engine(const MadeEngine& made, const RunAs& as);

}  // namespace ringcap::tools
